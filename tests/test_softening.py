"""Softened one-bit likelihoods against quadrature, and where damping puts their maximum."""

import math

import pyro
import pytest
import torch

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import Target
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.infer.softening import Softening
from bayes1bit.observation import OneBit
from bayes1bit.operators import Hadamard

DOUBLE = {"dtype": torch.float64}
PRIOR = GaussianMixturePrior(torch.tensor([[1.1, 0.4], [-0.9, 0.8]], **DOUBLE), 0.5)
OPERATOR = Hadamard((2,), 2, seed=0)
Y = torch.tensor([1.0, -1.0], **DOUBLE)
LIKELIHOODS = {
    "probit": lambda t: OneBit(t, 0.6),
    "thresholds": lambda t: OneBit(t, t.new_tensor([0.9, 0.4]), t.new_tensor([-0.5, 0.4])),
    "logistic": lambda t: OneBit(t, 0.7, -0.2, link="logistic"),
    "flips": lambda t: OneBit(t, 0.6, flip=0.1),
}
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)
SOFTENINGS = [0.4, 25.0, 900.0]


def target_of(likelihood, prior=PRIOR):
    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(OPERATOR(x)).to_event(1), obs=y)

    return Target.from_model(model, Y)


def grid(mean, variance):
    """Points and probabilities of a normal law, shapes (points, m)."""
    axis = torch.linspace(-9, 9, 4001, **DOUBLE)[:, None]
    return mean + variance**0.5 * axis, (-0.5 * axis.square()).softmax(0).expand(-1, len(mean))


@every_likelihood
@pytest.mark.parametrize("u", SOFTENINGS)
def test_an_error_is_averaged_over(likelihood, u):
    soft = Softening.of(target_of(likelihood))
    mean, variance = torch.tensor([0.7, 2.1], **DOUBLE), 1.7
    t, probability = grid(mean, variance)
    expected = (soft.log_likelihood(t, u).exp() * probability).sum(0).log()
    value = soft.log_likelihood(mean[None], u, variance)[0]
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-7)


@every_likelihood
@pytest.mark.parametrize("u", SOFTENINGS)
def test_outputs_follow_the_softened_law(likelihood, u):
    torch.manual_seed(0)
    soft = Softening.of(target_of(likelihood))
    mean, variance = torch.tensor([0.7, 2.1], **DOUBLE), 1.7
    t, probability = grid(mean, variance)
    weights = probability * soft.log_likelihood(t, u).exp()
    weights = weights / weights.sum(0)
    draws = soft.draw_output(mean.expand(40_000, 2), variance, u)
    for function in (lambda t: t, torch.square):
        expected = (weights * function(t)).sum(0)
        error = ((weights * function(t).square()).sum(0) - expected.square()).sqrt() / 200
        assert ((function(draws).mean(0) - expected).abs() < 5 * error).all()


@every_likelihood
@pytest.mark.parametrize("u", SOFTENINGS)
def test_the_likelihood_is_the_probability_of_noisy_outputs(likelihood, u):
    """p(w | t) is proportional to N(w; t, V') times a function of w that does not know t."""
    torch.manual_seed(1)
    soft = Softening.of(target_of(likelihood))
    kappa = soft.damping(u)
    t = torch.tensor([0.7, -0.4], **DOUBLE)
    w, variance = soft.draw_latent(t.expand(40_000, 2), u)
    smallest = soft.smallest_variance(u)
    assert float(variance.min()) >= smallest * (1 - 1e-9)
    # the latent variable's first moment by the score of L_u: E[w - (t - tau)] / V' = d log L / dt,
    # where V' varies with the component of the noise, so that the ratio is averaged
    t.requires_grad_()
    (score,) = torch.autograd.grad(soft.log_likelihood(t[None], u).sum(), t)
    ratio = (w - (t.detach() - soft.form.threshold)) / variance
    error = ratio.std(0) / 200
    assert ((ratio.mean(0) - score).abs() < 5 * error).all()
    assert (kappa is None) == (u == 0.4)


def test_soft_data_prefer_no_amplitude_far_above_the_prior():
    """Without damping the likelihood of a signal that fits rises without end."""
    soft = Softening.of(target_of(LIKELIHOODS["probit"]))
    gains = torch.linspace(0.1, 20, 2000, **DOUBLE)
    t = gains[:, None] * soft.amplitude * Y
    for u in (300.0, 1e4):
        best = gains[soft.log_likelihood(t, u).sum(1).argmax()]
        assert 1.5 < best < 2.1
        plain = soft.form.smoothed_log_likelihood(t, u).sum(1)
        assert gains[plain.argmax()] == gains[-1]


def test_amplitude_is_that_of_the_prior():
    torch.manual_seed(0)
    soft = Softening.of(target_of(LIKELIHOODS["thresholds"]))
    t = soft.structure.apply(PRIOR.sample((40_000,))) - soft.form.threshold
    assert math.isclose(soft.amplitude, float(t.square().mean().sqrt()), rel_tol=0.02)


def test_the_likelihood_itself_is_not_damped():
    """Even if its noise is far above its signal."""
    target = target_of(lambda t: OneBit(t, 50.0))
    soft, x = Softening.of(target), PRIOR.sample((5,))
    value = soft.log_likelihood(soft.structure.apply(x), 0.0).sum(1)
    torch.testing.assert_close(value, target.log_likelihood(x))


def test_priors_that_do_not_know_their_variance_damp_nothing():
    class Blind(GaussianMixturePrior):
        @property
        def has_error(self):
            return False

    soft = Softening.of(target_of(LIKELIHOODS["probit"], Blind(PRIOR.means, 0.5)))
    assert soft.damping(900.0) is None


def test_curvature_counts_the_damping():
    target = target_of(LIKELIHOODS["probit"])
    likelihood = SmoothedLikelihood(target, 900.0)
    kappa = likelihood.soft.damping(900.0)
    norms = OPERATOR.row_norms_squared.double()
    expected = (norms * (1 / (0.36 + 900.0) + kappa)).mean()
    assert likelihood.curvature == pytest.approx(float(expected))
