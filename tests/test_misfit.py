"""One-bit data as linear ones: pseudo-observations and the exact least-squares step."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer.misfit import (
    LeastSquaresStep,
    LeastSquaresTarget,
    expected_bits,
    least_squares,
    prior_moments,
)
from bayes1bit.infer.steps import GradientStep, ProximalStep
from bayes1bit.infer.target import Target
from bayes1bit.observation import OneBit
from bayes1bit.operators import DCT, Gaussian

SHAPE = (1, 4, 4)


def make_target(operator, prior=None, **settings):
    torch.manual_seed(0)
    prior = prior or GaussianMixturePrior(torch.randn(3, *SHAPE, dtype=torch.float64), 0.5)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), **settings).to_event(1), obs=y)

    y = pyro.condition(model, {"x": prior.sample()})()
    return Target.from_model(model, y), y


def normal_target(operator=None):
    prior = GaussianMixturePrior(torch.randn(3, *SHAPE, dtype=torch.float64), 0.5)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(operator(x), 0.5).to_event(1), obs=y)

    return Target.from_model(model, torch.ones(operator.m, dtype=torch.float64))


@pytest.mark.parametrize("link", ["probit", "logistic"])
def test_unit_scaling_takes_bits_for_values(link):
    threshold = torch.linspace(-1, 1, 8, dtype=torch.float64)
    target, y = make_target(DCT(SHAPE, 8), scale=0.5, threshold=threshold, link=link)
    linear = least_squares(target)
    assert isinstance(linear, LeastSquaresTarget)
    torch.testing.assert_close(linear.data.value, y + threshold)
    # variances of 0.5 times a normal and a logistic variable
    variance = 0.25 * (1.0 if link == "probit" else math.pi**2 / 3)
    torch.testing.assert_close(linear.data.variance, torch.full((8,), variance).double())


@pytest.mark.parametrize("settings", [{}, {"link": "logistic"}, {"flip": 0.1}], ids=str)
def test_expected_bits_and_slope_by_simulation(settings):
    threshold = torch.linspace(-1, 1, 8, dtype=torch.float64)
    target, _ = make_target(DCT(SHAPE, 8), scale=0.5, threshold=threshold, **settings)
    mean = torch.linspace(0.5, -0.3, 8, dtype=torch.float64)
    variance = torch.full((8,), 0.7, dtype=torch.float64)
    expected, slope = expected_bits(target.structure.one_bit, mean, variance)
    count = 200_000
    t = mean + variance.sqrt() * torch.randn(count, 8, dtype=torch.float64)
    y = OneBit(t, 0.5, threshold, **settings).sample()
    # four standard errors of a mean of signs; by Stein's lemma slope = cov(y, t) / variance
    torch.testing.assert_close(y.mean(0), expected, rtol=0, atol=4 / count**0.5)
    product = (y * (t - mean)).mean(0) / variance
    torch.testing.assert_close(product, slope, rtol=0, atol=4 / (0.7 * count) ** 0.5)


def test_matched_pseudo_observations_are_unbiased():
    """Over signals of the prior, u - A x has mean zero, variance v, and no part linear in A x."""
    prior = GaussianMixturePrior(torch.full((1, *SHAPE), 0.3, dtype=torch.float64), 0.5)
    operator = DCT(SHAPE, 8, seed=1).to(dtype=torch.float64)
    x = prior.sample((100_000,))
    t = operator(x)
    y = OneBit(t, 0.4, 0.2).sample()
    target, _ = make_target(operator, prior, scale=0.4, threshold=0.2)
    form = target.structure.one_bit
    mean = t.mean(0)
    expected, slope = expected_bits(form, mean, t.var(0))
    linear = least_squares(target, "matched")
    u = mean + (y - expected) / slope
    torch.testing.assert_close(
        linear.data.value, mean + (form.y - expected) / slope, rtol=0.02, atol=0.02
    )
    error = u - t
    # 1e5 draws give variances to 0.5%, and u by its division by the slope some times that
    torch.testing.assert_close(error.var(0), linear.data.variance, rtol=0.05, atol=0)
    correlation = (error * (t - mean)).mean(0) / t.var(0)
    torch.testing.assert_close(correlation, torch.zeros(8).double(), rtol=0, atol=0.03)


def test_extreme_thresholds_stay_finite():
    threshold = torch.tensor([-50.0, -5, 0, 1, 2, 5, 50, 500], dtype=torch.float64)
    target, _ = make_target(DCT(SHAPE, 8), scale=0.1, threshold=threshold)
    data = least_squares(target, "matched").data
    assert data.value.isfinite().all()
    assert (data.variance > 0).all()


@pytest.mark.parametrize("rho", [0.05, 0.7, 20.0])
@pytest.mark.parametrize("operator", [DCT(SHAPE, 8), Gaussian(SHAPE, 12), Gaussian(SHAPE, 40)])
def test_step_solves_its_subproblem(operator, rho):
    operator = operator.to(dtype=torch.float64)
    target, _ = make_target(operator, scale=0.5, threshold=0.1)
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    step = LeastSquaresStep(max_iterations=200, tolerance=1e-10)
    step.prepare(target)
    z = step(target, x, rho)
    linear = least_squares(target)
    _, gradient = linear.value_and_gradient(z)
    # where the objective is smallest its two gradients cancel
    torch.testing.assert_close(gradient, (z - x) / rho**2, rtol=1e-6, atol=1e-6)


def test_step_agrees_with_the_proximal_step():
    target, _ = make_target(DCT(SHAPE, 8), scale=0.5)
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    step = LeastSquaresStep("matched")
    step.prepare(target)
    expected = ProximalStep()(least_squares(target, "matched"), x, 0.7)
    torch.testing.assert_close(step(target, x, 0.7), expected)


def test_other_likelihoods_keep_their_own():
    target = normal_target(DCT(SHAPE, 8).to(dtype=torch.float64))
    assert least_squares(target) is target
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    step, gradient = LeastSquaresStep(), GradientStep()
    step.prepare(target)
    gradient.prepare(target)
    assert torch.equal(step(target, x, 0.7), gradient(target, x, 0.7))


def test_linear_target_scores_and_differentiates():
    target, _ = make_target(Gaussian(SHAPE, 12), scale=0.5, threshold=0.1)
    linear = least_squares(target)
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    t = target.structure.apply(x)
    expected = dist.Normal(t, linear.data.variance.sqrt()).log_prob(linear.data.value).sum(1)
    torch.testing.assert_close(linear.log_likelihood(x), expected)
    with pytest.raises(InputError, match="signals must have shape"):
        linear.log_likelihood(x[0])


def test_moments_of_a_prior():
    exact = GaussianMixturePrior(torch.tensor([[1.0, 1, 1], [3.0, 3, 3]]), 0.5)
    mean, variance = prior_moments(exact)
    torch.testing.assert_close(mean, torch.full((3,), 2.0), rtol=0, atol=0.05)
    # 0.25 within the components and 1 between them; the table is tested elsewhere
    assert variance == pytest.approx(1.25, rel=0.1)
    torch.manual_seed(0)
    untabulated = DiffusionPrior(exact.denoiser, (3,), exact.sigma_min, exact.sigma_max)
    mean, variance = prior_moments(untabulated)
    # 64 draws, in which the three entries move together: four standard errors are 0.56
    torch.testing.assert_close(mean, torch.full((3,), 2.0), rtol=0, atol=0.56)
    assert variance == pytest.approx(1.25, rel=0.3)


def test_errors():
    with pytest.raises(InputError, match='scaling must be "unit" or "matched"'):
        LeastSquaresStep("natural")
    with pytest.raises(InputError, match="max_iterations"):
        LeastSquaresStep(max_iterations=0)
