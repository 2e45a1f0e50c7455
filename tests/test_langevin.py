"""The Langevin family against posteriors on a grid, and its parts against closed forms."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Target
from bayes1bit.infer.langevin import Langevin
from bayes1bit.infer.smoothed_posterior import (
    SmoothedState,
    likelihood_curvature,
    log_prior_ratio,
)
from bayes1bit.observation import OneBit
from bayes1bit.operators import DCT, Gaussian, Hadamard

PLANE_MEANS = torch.tensor([[0.6, 0.5], [-0.7, 0.4], [0.1, -0.8]])
SCALE, SIGMA_MIN = 0.4, 0.3
Y = torch.tensor([1.0, -1.0])
CHAINS = 3000


def plane(prior, **settings):
    """Two bits of a signal of two elements."""
    operator = DCT((2,), 2, seed=1)

    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.3, 0.2, **settings).to_event(1), obs=y)

    return model


def grid(**settings):
    """The posterior that Langevin is to sample: the prior smoothed at its smallest level."""
    smoothed = GaussianMixturePrior(PLANE_MEANS, (SCALE**2 + SIGMA_MIN**2) ** 0.5)
    return GridPosterior(Target.from_model(plane(smoothed, **settings), Y))


def assert_agrees(samples, reference, deviations=4.5):
    """Moments and a probability within so many standard errors of independent draws.

    Five numbers at 4.5 standard errors fail by chance once in 30,000 seeds.
    """

    def summaries(x):
        return torch.cat([x, x.square(), (x.sum(-1, keepdim=True) > 0.3).float()], -1)

    values = summaries(samples)
    error = values.mean(0) - reference.expectation(summaries)
    assert (error.abs() < deviations * values.std(0) / len(samples) ** 0.5).all(), error


def draw(model, y, num_samples, **settings):
    """Samples without the report of a run, whose predictive draws would take most of the time."""
    algorithm = Langevin(model, num_samples, progress=False, **settings)
    return algorithm.draw(Target.from_model(model, y)).samples


def unknown(prior):
    """The same prior as a denoiser of which nothing else is known."""
    return DiffusionPrior(
        prior.denoiser, prior.event_shape, prior.sigma_min, prior.sigma_max, error=prior.error
    )


@pytest.mark.parametrize(
    ("preconditioner", "link", "wrap"),
    [
        (None, "probit", lambda p: p),
        (None, "logistic", unknown),
        ("operator", "probit", unknown),
        ("operator", "logistic", lambda p: p),
        (torch.tensor([1.0, 0.3]), "probit", lambda p: p),
    ],
)
def test_metropolis_adjusted_chains_reach_the_smoothed_posterior(preconditioner, link, wrap):
    pyro.set_rng_seed(1)
    prior = wrap(GaussianMixturePrior(PLANE_MEANS, SCALE, sigma_min=SIGMA_MIN))
    settings = {"num_steps": 120, "metropolis": True, "preconditioner": preconditioner}
    samples = draw(plane(prior, link=link), Y, CHAINS, num_levels=1, **settings)
    assert_agrees(samples, grid(link=link))


def test_annealed_metropolis_ends_at_the_same_posterior():
    pyro.set_rng_seed(2)
    prior = GaussianMixturePrior(PLANE_MEANS, SCALE, sigma_min=SIGMA_MIN)
    samples = draw(plane(prior), Y, CHAINS, num_levels=4, num_steps=40, metropolis=True)
    assert_agrees(samples, grid())


def test_bias_of_unadjusted_chains_falls_with_the_step():
    prior = GaussianMixturePrior(PLANE_MEANS, SCALE, sigma_min=SIGMA_MIN)
    reference = grid()
    excess = []
    for step_size, num_steps in [(1.6, 60), (0.2, 160)]:
        pyro.set_rng_seed(3)
        settings = {"num_steps": num_steps, "step_size": step_size}
        samples = draw(plane(prior), Y, CHAINS, num_levels=1, **settings)
        excess.append((samples.var(0) / reference.std.square() - 1).mean().item())
    # a variance has a relative standard error of sqrt(2 / 3000) = 0.026
    assert excess[0] > 0.15
    assert abs(excess[1]) < 0.09


def test_gradients_alone_suffice():
    """A likelihood without structure, against the same grid."""
    prior = GaussianMixturePrior(PLANE_MEANS, SCALE, sigma_min=SIGMA_MIN)

    def model_of(prior):
        def model(y):
            x = pyro.sample("x", prior)
            return pyro.sample("y", dist.StudentT(3.0, x.square().sum(), 0.3), obs=y)

        return model

    y = torch.tensor(0.8)
    pyro.set_rng_seed(4)
    assert Target.from_model(model_of(prior), y).structure is None
    samples = draw(model_of(prior), y, 2000, num_levels=1, num_steps=100, metropolis=True)
    smoothed = GaussianMixturePrior(PLANE_MEANS, (SCALE**2 + SIGMA_MIN**2) ** 0.5)
    assert_agrees(samples, GridPosterior(Target.from_model(model_of(smoothed), y)))


SHAPE = (1, 8, 8)


def pictures(scale=0.1):
    pyro.set_rng_seed(5)
    prior = GaussianMixturePrior(torch.randn(4, *SHAPE).sign(), 0.2, sigma_min=0.05)
    operator = Hadamard(SHAPE, 64, seed=0)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), scale).to_event(1), obs=y)

    truth = prior.sample()
    return prior, model, truth, pyro.condition(model, {"x": truth})()


@pytest.mark.parametrize("preconditioner", [None, "operator"])
def test_annealing_finds_the_component(preconditioner):
    prior, model, truth, y = pictures()
    algorithm = Langevin(model, 8, preconditioner=preconditioner, progress=False)
    posterior = algorithm.run(y)
    component = prior.component_log_probs(truth).argmax()
    assert (prior.component_log_probs(posterior.samples).argmax(-1) == component).all()
    assert posterior.nfe == 200


def test_denoiser_calls_and_seed():
    _, model, _, y = pictures()
    settings = {"num_levels": 3, "num_steps": 4, "metropolis": True, "progress": False}
    runs = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        runs.append(Langevin(model, 2, **settings).run(y))
    # one call per step, and one where a level starts
    assert runs[0].nfe == 15
    assert torch.equal(runs[0].samples, runs[1].samples)
    assert not torch.equal(runs[0].samples, runs[2].samples)


def test_curvature_of_a_normal_likelihood():
    prior = GaussianMixturePrior(torch.zeros(1, 6), 1.0)
    operator = Gaussian((6,), 9, seed=2)

    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(operator(x), 0.2).to_event(1), obs=y)

    torch.manual_seed(0)
    target = Target.from_model(model, torch.zeros(9))
    root = torch.rand(1, 6) + 0.5
    found = likelihood_curvature(target, torch.randn(400, 6), 0.5, root)
    scaled = operator.matrix * root
    expected = torch.linalg.eigvalsh(scaled.T @ scaled / 0.04)[-1]
    # power iteration approaches from below, at a rate set by the gap to the next eigenvalue
    assert (found <= expected * 1.001).all()
    assert found.mean() > 0.9 * expected


def test_line_integral_of_the_score():
    mixture = GaussianMixturePrior(PLANE_MEANS.double(), SCALE, sigma_min=SIGMA_MIN)
    target = Target.from_model(plane(mixture), Y.double())
    torch.manual_seed(0)
    x = torch.randn(50, 2, dtype=torch.float64)
    moved = x + 0.2 * torch.randn_like(x)
    beta = torch.ones(50, dtype=torch.float64)
    states = [SmoothedState.at(target, point, SIGMA_MIN, beta) for point in (x, moved)]
    exact = log_prior_ratio(mixture, *states, SIGMA_MIN)
    smoothed = GaussianMixturePrior(PLANE_MEANS.double(), (SCALE**2 + SIGMA_MIN**2) ** 0.5)
    expected = smoothed.log_prob(moved) - smoothed.log_prob(x)
    torch.testing.assert_close(exact, expected)
    by_simpson = log_prior_ratio(unknown(mixture), *states, SIGMA_MIN)
    assert (by_simpson - exact).abs().max() < 2e-3
    # the trapezoidal rule would be coarser by an order of magnitude
    trapezoid = (0.5 * (states[0].score + states[1].score) * (moved - x)).sum(1)
    assert (trapezoid - exact).abs().max() > 10 * (by_simpson - exact).abs().max()


def test_errors():
    _, model, _, y = pictures()
    for setting, message in [
        ({"num_levels": 0}, "num_levels and num_steps"),
        ({"num_steps": 0}, "num_levels and num_steps"),
        ({"step_size": 0.0}, "step_size"),
        ({"sigma_max": -1.0}, "sigma_max"),
        ({"preconditioner": "diagonal"}, '"operator" or a tensor'),
        ({"preconditioner": torch.zeros(8)}, "must be positive"),
    ]:
        with pytest.raises(InputError, match=message):
            Langevin(model, **setting)
    with pytest.raises(InputError, match=r"shape \(3,\) does not broadcast"):
        Langevin(model, preconditioner=torch.ones(3), progress=False).run(y)

    prior = GaussianMixturePrior(PLANE_MEANS, SCALE)
    operator = Gaussian((2,), 2)

    def general(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.3).to_event(1), obs=y)

    with pytest.raises(InputError, match="row-orthogonal operator, but this model has"):
        Langevin(general, preconditioner="operator", progress=False).run(Y)


def test_divergence_is_an_error():
    prior = GaussianMixturePrior(PLANE_MEANS, 0.01)
    algorithm = Langevin(
        plane(prior), 2, num_levels=1, num_steps=400, step_size=1e7, progress=False
    )
    with pytest.raises(FloatingPointError, match="smaller step_size"):
        algorithm.run(Y)
