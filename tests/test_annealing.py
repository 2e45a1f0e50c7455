"""Sweeps along a path leave every point of it invariant, and reach it from elsewhere."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import NoiseSplitting, SampleGiven, Target, Tempering, path_of
from bayes1bit.infer.gibbs_step import gram_matrix
from bayes1bit.observation import OneBit, Quantized
from bayes1bit.operators import Dense, Hadamard

DOUBLE = {"dtype": torch.float64}
LIMITS = (-5.0, 5.0)
INFINITE = float("inf")
DAMPED = 25.0
"""A softening at which large outputs are damped."""


def rows(*values):
    return torch.tensor(values, **DOUBLE)


def spread_over(low, high, t):
    return torch.linspace(low, high, len(t), **DOUBLE)


PRIOR = GaussianMixturePrior(
    rows([1.1, 0.4], [-0.9, 0.8], [0.1, -1.2]), 0.5, torch.tensor([0.5, 0.3, 0.2])
)
OPERATORS = {
    "Hadamard m=1": Hadamard((2,), 1, seed=0),
    "Hadamard m=2": Hadamard((2,), 2, seed=0),
    "Dense 3x2": Dense(rows([1.0, 0.5], [-0.3, 1.2], [0.8, -0.9])),
}
BITS = rows(1.0, -1.0, 1.0)
LIKELIHOODS = {
    "probit": lambda t: OneBit(t, 0.6),
    "scales and thresholds": lambda t: OneBit(
        t, spread_over(0.9, 0.4, t), spread_over(-0.5, 0.4, t)
    ),
    "logistic": lambda t: OneBit(t, 0.7, -0.2, link="logistic"),
    "flips": lambda t: OneBit(-t, 0.6, flip=0.1),
    "logistic flips": lambda t: OneBit(t, spread_over(0.6, 0.9, t), link="logistic", flip=0.05),
}
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def make_target(likelihood, operator, y=None):
    def model(y):
        x = pyro.sample("x", PRIOR)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    return Target.from_model(model, BITS[: operator.m] if y is None else y)


class Softened:
    """The target of a point on a path, as far as a grid needs one."""

    def __init__(self, target, path, u):
        self.prior, self.path, self.u = target.prior, path, u

    def log_likelihood(self, x):
        return self.path.log_likelihood(self.path.features(x), self.u)


def sweep(path, x, u, times):
    for _ in range(times):
        x = SampleGiven()(PRIOR, path.noisy_copy(x, u), path.coupling(u))
    return x


def functions(x):
    """First and second moments, and which component is the nearest."""
    nearest = torch.cdist(x, PRIOR.means).argmin(1)
    return torch.cat([x, x.square(), x[:, :1] * x[:, 1:], torch.eye(3, **DOUBLE)[nearest]], dim=1)


def assert_agrees(x, grid):
    """Within five standard errors of independent chains; the grid's own error is far smaller."""
    mean = grid.expectation(functions)
    variance = grid.expectation(lambda points: functions(points).square()) - mean.square()
    error = (variance / len(x)).sqrt()
    assert ((functions(x).mean(0) - mean).abs() < 5 * error).all()


@every_likelihood
@every_operator
@pytest.mark.parametrize("u", [0.0, 0.5, DAMPED])
def test_sweeps_leave_the_path_invariant(likelihood, operator, u):
    """From exact draws; three sweeps would add up an error of one."""
    torch.manual_seed(0)
    target = make_target(likelihood, operator)
    path = path_of(target)
    assert isinstance(path, NoiseSplitting)
    assert u < DAMPED or path.softening.damping(u) is not None
    # at its end the path must be the model's own posterior
    grid = GridPosterior(target if u == 0 else Softened(target, path, u), LIMITS, 150)
    assert_agrees(sweep(path, grid.sample(30_000), u, times=3), grid)


@every_likelihood
@every_operator
def test_sweeps_converge_from_the_prior(likelihood, operator):
    """From where they are told apart from it."""
    torch.manual_seed(1)
    target = make_target(likelihood, operator)
    grid = GridPosterior(target, LIMITS, 150)
    prior_draws = SampleGiven().start(PRIOR, 2_500)
    with pytest.raises(AssertionError):
        assert_agrees(prior_draws, grid)
    assert_agrees(sweep(path_of(target), prior_draws, 0.0, times=60), grid)


@every_likelihood
def test_noise_is_added_to_that_of_the_measurements(likelihood):
    """Against quadrature of the likelihood over the noise that u adds."""
    target = make_target(likelihood, OPERATORS["Dense 3x2"])
    path, u = path_of(target), 0.3
    x = PRIOR.sample((20,))
    axis = torch.linspace(-9, 9, 2001, **DOUBLE)
    weights = (-0.5 * axis.square()).softmax(0)
    t = path.features(x)
    noisy = t[:, None, :] + u**0.5 * axis[:, None]
    likelihoods = path.softening.form.log_likelihood(noisy.flatten(0, 1)).exp().view(noisy.shape)
    expected = torch.einsum("k,pkm->pm", weights, likelihoods).log().sum(1)
    # the error of the mixture of normals that stands for logistic noise
    torch.testing.assert_close(path.log_likelihood(t, u), expected, rtol=0, atol=1e-6)


@every_likelihood
def test_the_end_of_the_path_is_the_likelihood(likelihood):
    target = make_target(likelihood, OPERATORS["Dense 3x2"])
    path, x = path_of(target), PRIOR.sample((20,))
    value = path.log_likelihood(path.features(x), 0.0)
    torch.testing.assert_close(value, target.log_likelihood(x), rtol=0, atol=1e-6)


@every_likelihood
def test_the_start_of_the_path_is_its_limit(likelihood):
    target = make_target(likelihood, OPERATORS["Dense 3x2"])
    path, x = path_of(target), PRIOR.sample((20,))
    features = path.features(x)
    value = path.log_likelihood(features, INFINITE)
    assert value.shape == (20,)
    # the probability of a sign differs from a half by t / sqrt(2 pi u)
    far = path.log_likelihood(features, 1e16)
    torch.testing.assert_close(value, far, rtol=0, atol=1e-6)
    torch.testing.assert_close(value, torch.full((20,), 3 * math.log(0.5), **DOUBLE))


@every_likelihood
@every_operator
@pytest.mark.parametrize("u", [0.0, 0.5])
def test_coupling_is_what_the_noise_can_supply(likelihood, operator, u):
    """V - rho^2 A A^T is positive semidefinite; with V = v I the least of it is zero."""
    path = path_of(make_target(likelihood, operator))
    smallest = path.softening.form.smallest_noise_variance + u
    rest = smallest.diag() - path.coupling(u) ** 2 * gram_matrix(operator)
    least = torch.linalg.eigvalsh(rest)[0]
    assert least > -1e-12
    if smallest.max() == smallest.min():
        assert least < 1e-12


def test_coupling_falls_with_u_and_the_unit_is_the_mean_noise_variance():
    path = path_of(make_target(LIKELIHOODS["probit"], OPERATORS["Hadamard m=1"]))
    assert path.unit == pytest.approx(0.36)
    # c = n / m = 2
    assert path.coupling(0.0) == pytest.approx((0.36 / 2) ** 0.5)
    assert path.coupling(0.64) == pytest.approx((1 / 2) ** 0.5)


def test_the_copy_has_the_joint_law_of_the_split_noise():
    """Given the truth, z is as far from x as the coupling says, whatever the bits."""
    torch.manual_seed(2)
    operator = OPERATORS["Dense 3x2"]
    x = PRIOR.sample((1,)).expand(40_000, 2)
    y = OneBit(operator(x), 0.6).sample()
    copies = torch.zeros_like(x)
    for bits in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], **DOUBLE)] * 3):
        seen = (y == bits).all(1)
        if seen.any():
            path = path_of(make_target(LIKELIHOODS["probit"], operator, bits))
            copies[seen] = path.noisy_copy(x[seen], 0.0)
    noise = (copies - x) / path.coupling(0.0)
    # means and products of standard normals: five standard errors
    assert (noise.mean(0).abs() < 5 / len(noise) ** 0.5).all()
    covariance = noise.T @ noise / len(noise)
    assert ((covariance - torch.eye(2, **DOUBLE)).abs() < 5 * (2 / len(noise)) ** 0.5).all()


@pytest.mark.parametrize("u", [0.0, 2.0])
def test_tempering_of_normal_data_is_off_by_its_coupling_alone(u):
    """The copy smooths a normal likelihood of variance v to v (1 + share), and nothing else.

    The Langevin steps of a copy adapt their size and have not quite settled. Two hundredths of
    a standard deviation, and of the variance, leave room for that beside the Monte Carlo error
    of 40,000 chains; a share of 0.1 instead of 0.5 would be off by more than that.
    """
    torch.manual_seed(3)
    operator, share, scale = OPERATORS["Hadamard m=2"], 0.5, 0.6
    y = rows(0.8, -0.4)
    target = make_target(lambda t: dist.Normal(t, scale), operator, y)
    path = path_of(target)
    assert isinstance(path, Tempering)
    path = Tempering(target, share)

    def grid(power, smoothing):
        wide = scale * ((1 + smoothing) / power) ** 0.5
        return GridPosterior(make_target(lambda t: dist.Normal(t, wide), operator, y), LIMITS, 150)

    power = 1 / (1 + u)
    expected, unsmoothed = grid(power, share), grid(power, 0.0)
    path.features(unsmoothed.sample(100))
    x = sweep(path, expected.sample(40_000), u, times=4)
    assert ((x.mean(0) - expected.mean).abs() < 0.02 * expected.std).all()
    assert ((x.std(0) / expected.std - 1).abs() < 0.02).all()
    assert ((unsmoothed.std / expected.std - 1).abs() > 0.04).any()


def test_tempering_of_a_likelihood_without_structure():
    """The signal is squeezed before it is quantized.

    The coupling's variance is a tenth of the likelihood's narrowest, so that its standard
    deviation is wrong by a twentieth at most, and that of the posterior by less.
    """
    torch.manual_seed(4)
    operator = OPERATORS["Dense 3x2"]
    edges = rows(-0.5, 0.0, 0.5)

    def model(y):
        x = pyro.sample("x", PRIOR)
        loc = operator(torch.tanh(x))
        return pyro.sample("y", Quantized(loc, 0.4, edges).to_event(1), obs=y)

    target = Target.from_model(model, torch.tensor([3, 1, 2]))
    assert target.structure is None
    path = path_of(target)
    assert isinstance(path, Tempering)
    path.features(PRIOR.sample((200,)))
    grid = GridPosterior(target, LIMITS, 150)
    x = sweep(path, grid.sample(1_500), 0.0, times=12)
    assert ((x.mean(0) - grid.mean).abs() < 0.1 * grid.std).all()
    assert ((x.std(0) / grid.std - 1).abs() < 0.05 + 5 * (2 * len(x)) ** -0.5).all()


def test_tempering_scales_the_log_likelihood():
    target = make_target(lambda t: dist.Normal(t, 0.6), OPERATORS["Dense 3x2"])
    path, x = path_of(target), PRIOR.sample((20,))
    features = path.features(x)
    exact = target.log_likelihood(x)
    torch.testing.assert_close(path.log_likelihood(features, 0.0), exact)
    torch.testing.assert_close(path.log_likelihood(features, path.unit), exact / 2)
    assert (path.log_likelihood(features, INFINITE) == 0).all()
    # the widest coupling is that of the prior
    assert path.coupling(0.0) < path.coupling(1.0) < path.coupling(1e9) <= PRIOR.sigma_max
    assert path.coupling(INFINITE) == path.coupling(1e9)
