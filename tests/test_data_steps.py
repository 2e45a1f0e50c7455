"""Data steps that draw leave p(y | z) N(z; x, rho^2 I) invariant, or say how far they are off."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import (
    AugmentedGibbsStep,
    ExactStep,
    LangevinStep,
    Target,
    best_draw_step,
)
from bayes1bit.infer.gibbs_step import conjugate_gradients, gram_matrix, gram_product
from bayes1bit.infer.langevin_step import largest_curvature
from bayes1bit.observation import OneBit, Quantized
from bayes1bit.operators import DCT, Dense, Downsample, Gaussian, Hadamard

DOUBLE = {"dtype": torch.float64}
CENTRE = torch.tensor([0.4, -0.7], **DOUBLE)
RHO = 0.8

LIKELIHOODS = {
    "probit": lambda t: OneBit(t, 0.3, 0.1),
    "scales and thresholds": lambda t: OneBit(
        t, torch.linspace(0.2, 0.9, len(t)).double(), torch.linspace(-0.5, 0.4, len(t)).double()
    ),
    "logistic": lambda t: OneBit(t, 0.25, -0.2, link="logistic"),
    "flips": lambda t: OneBit(-t, 0.6, flip=0.1),
    "logistic flips": lambda t: OneBit(t, 0.2, 0.1, link="logistic", flip=0.05),
}
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)


def make_target(likelihood, operator, y, dtype=torch.float64):
    prior = GaussianMixturePrior(torch.zeros(1, *operator.event_shape, dtype=dtype), 1.0)

    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    return Target.from_model(model, y)


def grid_moments(target, rho=RHO):
    """Mean and covariance of p(y | z) N(z; CENTRE, rho^2 I) by quadrature in two dimensions."""
    axis = torch.linspace(-6, 6, 241, **DOUBLE)
    grid = CENTRE + rho * torch.cartesian_prod(axis, axis)
    log_density = target.log_likelihood(grid) - (grid - CENTRE).square().sum(1) / (2 * rho**2)
    weight = log_density.softmax(0)
    mean = weight @ grid
    return mean, torch.einsum("k,ki,kj->ij", weight, grid - mean, grid - mean)


def assert_moments(draws, mean, covariance):
    """Within five standard errors of independent draws."""
    deviation = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / len(draws) ** 0.5).all()
    products = torch.einsum("ki,kj->kij", draws - mean, draws - mean)
    error = products.std(0) / len(draws) ** 0.5
    assert ((products.mean(0) - covariance).abs() < 5 * error).all()


def rows(*values):
    return torch.tensor(values, **DOUBLE)


ROTATION = 1.7 * rows([math.cos(0.6), math.sin(0.6)], [-math.sin(0.6), math.cos(0.6)])
ORTHOGONAL = Dense(ROTATION, row_gram=1.7**2)
ONE_ROW = Dense(ROTATION[:1], row_gram=1.7**2)
GENERAL = Dense(rows([1.0, 0.5], [-0.3, 1.2], [0.8, -0.9]))


@every_likelihood
@pytest.mark.parametrize("operator", [ORTHOGONAL, ONE_ROW], ids=["m = n", "m < n"])
def test_exact_step(likelihood, operator):
    torch.manual_seed(0)
    target = make_target(likelihood, operator, rows(1.0, 1.0)[: operator.m])
    step = best_draw_step(target)
    assert isinstance(step, ExactStep)
    step.prepare(target)
    draws = step(target, CENTRE.expand(40_000, 2), RHO)
    assert_moments(draws, *grid_moments(target))


@every_likelihood
@pytest.mark.parametrize("solver", ["auto", "cg"])
def test_gibbs_step_with_a_general_matrix(likelihood, solver):
    """More rows than columns, so that A A^T is singular."""
    torch.manual_seed(1)
    target = make_target(likelihood, GENERAL, rows(1.0, -1.0, 1.0))
    step = AugmentedGibbsStep(num_sweeps=50, solver=solver)
    step.prepare(target)
    draws = step(target, CENTRE.expand(6_000, 2), RHO)
    assert_moments(draws, *grid_moments(target))


@pytest.mark.parametrize("solver", ["auto", "cg"])
@pytest.mark.parametrize("name", ["scales and thresholds", "logistic flips"])
def test_gibbs_step_keeps_the_law_sweep_by_sweep(name, solver):
    """On orthogonal rows the start is exact already, so that any number of sweeps is."""
    torch.manual_seed(2)
    target = make_target(LIKELIHOODS[name], ORTHOGONAL, rows(1.0, -1.0))
    moments = grid_moments(target)
    for num_sweeps in (1, 2):
        step = AugmentedGibbsStep(num_sweeps, solver)
        step.prepare(target)
        assert_moments(step(target, CENTRE.expand(40_000, 2), RHO), *moments)


@every_likelihood
def test_metropolis_langevin(likelihood):
    torch.manual_seed(3)
    target = make_target(likelihood, GENERAL, rows(1.0, -1.0, 1.0))
    step = LangevinStep(num_steps=160, metropolis=True)
    step.prepare(target)
    draws = step(target, CENTRE.expand(4_000, 2), RHO)
    assert_moments(draws, *grid_moments(target))


def test_metropolis_corrects_a_large_step():
    torch.manual_seed(4)
    target = make_target(LIKELIHOODS["probit"], GENERAL, rows(1.0, -1.0, 1.0))
    x = CENTRE.expand(4_000, 2)
    mean, covariance = grid_moments(target)
    assert_moments(LangevinStep(100, 0.15, metropolis=True)(target, x, RHO), mean, covariance)
    uncorrected = LangevinStep(100, 0.15)(target, x, RHO).var(0)
    assert (uncorrected > 1.1 * covariance.diagonal()).any()


@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
def test_unadjusted_langevin_has_the_bias_of_its_step_size(share):
    """A normal law of variance v comes out with v / (1 - step / (2 v))."""
    torch.manual_seed(5)
    target = make_target(lambda t: dist.Normal(t, 0.5), ONE_ROW, rows(0.6))
    precision = RHO**-2 + 1.7**2 / 0.5**2
    size = share / precision
    draws = LangevinStep(num_steps=100, step_size=size)(target, CENTRE.expand(10_000, 2), RHO)
    along = draws @ ROTATION[0] / 1.7
    expected = 1 / (precision * (1 - share / 2))
    # five standard errors of a normal sample's variance
    assert abs(along.var() / expected - 1) < 5 * (2 / len(along)) ** 0.5
    mean = (RHO**-2 * CENTRE @ ROTATION[0] / 1.7 + 1.7 * 0.6 / 0.25) / precision
    assert abs(along.mean() - mean) < 5 * (expected / len(along)) ** 0.5


def test_curvature_and_the_step_size_it_gives():
    torch.manual_seed(6)
    target = make_target(lambda t: dist.Normal(t, 0.5), ONE_ROW, rows(0.6))
    curvature = largest_curvature(target, CENTRE.expand(7, 2), RHO)
    # a normal likelihood has one curvature, and this one only one direction
    torch.testing.assert_close(
        curvature, torch.full((7,), 1.7**2 / 0.25, **DOUBLE), rtol=1e-6, atol=0
    )
    draws = LangevinStep()(target, CENTRE.expand(20_000, 2), RHO) @ ROTATION[0] / 1.7
    expected = 1 / (RHO**-2 + 1.7**2 / 0.25) / 0.9
    assert abs(draws.var() / expected - 1) < 5 * (2 / len(draws)) ** 0.5
    flat = make_target(lambda t: OneBit(t, 1e-3), ONE_ROW, rows(1.0))
    assert LangevinStep(20)(flat, CENTRE.expand(7, 2) + 50, 0.1).isfinite().all()


@pytest.mark.parametrize("metropolis", [False, True])
def test_langevin_is_stable_where_the_coupling_is_wide(metropolis):
    torch.manual_seed(7)
    operator = Hadamard((1, 8, 8), 16, seed=3)
    y = torch.ones(16)
    target = make_target(lambda t: OneBit(t, 0.05), operator, y, torch.float32)
    x = -3 * operator.T(y).expand(4, 1, 8, 8)
    z = LangevinStep(200, metropolis=metropolis)(target, x, 50.0)
    assert z.isfinite().all()
    assert (target.log_likelihood(z) > target.log_likelihood(x)).all()


@pytest.mark.parametrize("link", ["probit", "logistic"])
@pytest.mark.parametrize("step", [ExactStep(), AugmentedGibbsStep(3), AugmentedGibbsStep(3, "cg")])
def test_far_tail_in_single_precision(step, link):
    """Forty deviations on the wrong side: z lands where the bits say, within a deviation."""
    torch.manual_seed(8)
    rho, scale = 0.1, 0.002
    operator = Hadamard((1, 8, 8), 16, seed=3)
    y = torch.ones(16)
    target = make_target(lambda t: OneBit(t, scale, link=link), operator, y, torch.float32)
    deviation = (operator.row_gram * rho**2 + scale**2) ** 0.5
    x = -40 * deviation * operator.T(y).expand(8, 1, 8, 8) / operator.row_gram
    step.prepare(target)
    z = step(target, x, rho)
    assert z.isfinite().all()
    margin = operator(z)
    # the law of t beyond zero is exponential with mean deviation / 40, blurred by the noise
    assert (margin.abs() < deviation).all()
    assert (margin > -0.1).all()


def test_gibbs_step_on_a_larger_general_problem():
    """Both solvers, and Langevin with correction, agree on a problem without quadrature."""
    torch.manual_seed(9)
    operator = Gaussian(24, 12, seed=1).to(dtype=torch.float64)
    y = torch.randn(12, **DOUBLE).sign()
    target = make_target(lambda t: OneBit(t, 0.7, 0.1), operator, y)
    x = torch.randn(24, **DOUBLE).expand(2_000, 24)
    steps = [
        AugmentedGibbsStep(30, "eigen"),
        AugmentedGibbsStep(30, "cg"),
        LangevinStep(300, metropolis=True),
    ]
    draws = []
    for step in steps:
        step.prepare(target)
        draws.append(step(target, x, RHO))
    for other in draws[1:]:
        difference = draws[0].mean(0) - other.mean(0)
        error = (draws[0].var(0) + other.var(0)).div(len(x)).sqrt()
        # five standard errors
        assert (difference.abs() < 5 * error).all()
        ratio = draws[0].var(0) / other.var(0)
        assert ((ratio - 1).abs() < 5 * (4 / len(x)) ** 0.5).all()


def test_conjugate_gradients_against_a_direct_solution():
    torch.manual_seed(10)
    root = torch.randn(20, 20, **DOUBLE)
    variance = 0.1 + torch.rand(3, 20, **DOUBLE)
    matrices = root @ root.T + torch.diag_embed(variance)
    right = torch.randn(3, 20, **DOUBLE)
    right[1] = 0
    found = conjugate_gradients(
        lambda u: u @ (root @ root.T) + variance * u,
        right,
        matrices.diagonal(dim1=1, dim2=2),
    )
    missed = torch.einsum("bij,bj->bi", matrices, found) - right
    assert (missed.norm(dim=1) <= 1.01e-5 * right.norm(dim=1)).all()
    with pytest.raises(FloatingPointError, match="have not converged in 1000 iterations"):
        conjugate_gradients(lambda u: u * torch.nan, right, variance)


@pytest.mark.parametrize(
    "operator",
    [
        DCT((4, 4), 6, seed=1),
        Gaussian((4, 4), 6, seed=1),
        Gaussian((4, 4), 20, seed=1),
        Downsample((1, 4, 4), 2, "bicubic"),
    ],
    ids=repr,
)
def test_gram(operator):
    n = operator.n
    matrix = operator(torch.eye(n, **DOUBLE).reshape(n, *operator.event_shape)).T
    torch.testing.assert_close(gram_matrix(operator), matrix @ matrix.T, rtol=1e-6, atol=1e-6)
    v = torch.randn(5, operator.m, **DOUBLE)
    product = gram_product(operator, torch.float64)(v)
    torch.testing.assert_close(product, v @ matrix @ matrix.T, rtol=1e-6, atol=1e-6)


def test_best_step_for_a_model():
    quantized = make_target(
        lambda t: Quantized(t, 0.3, rows(-0.5, 0.5)), ORTHOGONAL, torch.tensor([0, 2])
    )
    step = best_draw_step(quantized)
    assert repr(step) == "LangevinStep(num_steps=100, step_size=None, metropolis=True)"
    step.prepare(quantized)
    assert_moments(
        LangevinStep(160, metropolis=True)(quantized, CENTRE.expand(4_000, 2), RHO),
        *grid_moments(quantized),
    )
    general = make_target(LIKELIHOODS["logistic"], GENERAL, rows(1.0, 1.0, 1.0))
    assert repr(best_draw_step(general)) == "AugmentedGibbsStep(num_sweeps=10, solver='auto')"
    assert repr(ExactStep()) == "ExactStep()"
    with pytest.raises(
        InputError, match=r"one-bit data of one row-ortho.* use LangevinStep, or an"
    ):
        ExactStep().prepare(quantized)
    with pytest.raises(InputError, match=r"but this model has: .* use AugmentedGibbsStep, or an"):
        ExactStep().prepare(general)
    with pytest.raises(InputError, match=r"a Gibbs step needs one-bit data.* use LangevinStep"):
        AugmentedGibbsStep().prepare(quantized)
    with pytest.raises(InputError, match=r"logistic noise changes .* use solver='cg'"):
        AugmentedGibbsStep(solver="eigen").prepare(general)


def test_errors_in_arguments():
    with pytest.raises(InputError, match="num_steps of at least 1, got 0"):
        LangevinStep(0)
    with pytest.raises(InputError, match=r"step_size must be positive, .* got -0\.1"):
        LangevinStep(step_size=-0.1)
    with pytest.raises(InputError, match="num_sweeps of at least 1, got 0"):
        AugmentedGibbsStep(0)
    with pytest.raises(InputError, match="'auto', 'eigen' or 'cg', not 'lu'"):
        AugmentedGibbsStep(solver="lu")
