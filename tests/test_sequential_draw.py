"""Signals drawn given one-bit data of a general operator, held against a grid and closed forms."""

import pyro
import pytest
import torch

import bayes1bit as b1
from bayes1bit.bench.exact_general import GibbsReference
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import Target
from bayes1bit.infer.particles import efficiency
from bayes1bit.infer.sequential_draw import draw_in_turn
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.operators import Dense, Hadamard

DOUBLE = {"dtype": torch.float64}
MATRIX = torch.tensor([[1.0, 0.3], [0.8, -0.4], [0.5, 1.2]], **DOUBLE)
Y = torch.tensor([1.0, -1.0, 1.0], **DOUBLE)
LIKELIHOODS = {
    "probit": lambda t: b1.OneBit(t, 0.6),
    "nearly sharp": lambda t: b1.OneBit(t, 0.05),
    "thresholds": lambda t: b1.OneBit(t, t.new_tensor([0.9, 0.4, 0.2]), Y * 0.4),
    "logistic": lambda t: b1.OneBit(t, 0.4, -0.2, link="logistic"),
    "flips": lambda t: b1.OneBit(t, 0.3, flip=torch.tensor([0.1, 0.02, 0.1], **DOUBLE)),
}


def target_of(likelihood, operator, y, prior):
    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    return Target.from_model(model, y)


def plane_likelihood(name, u):
    prior = GaussianMixturePrior(torch.tensor([[1.1, 0.4], [-0.9, 0.8]], **DOUBLE), 0.5)
    target = target_of(LIKELIHOODS[name], Dense(MATRIX, (2,)), Y, prior)
    return SmoothedLikelihood(target, u)


@pytest.mark.parametrize("u", [0.0, 0.4, 40.0])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_weighted_draws_have_the_moments_of_a_grid(name, u):
    torch.manual_seed(0)
    likelihood, num = plane_likelihood(name, u), 100_000
    assert (likelihood.soft.damping(u) is None) == (u < 40)
    mean, variance = torch.tensor([0.7, -0.5], **DOUBLE), 1.3
    axis = torch.linspace(-7, 7, 701, **DOUBLE)
    grid = mean + variance**0.5 * torch.cartesian_prod(axis, axis)
    prior = (-0.5 * (grid - mean).square().sum(1) / variance).softmax(0)
    weight = prior * likelihood(grid, 0.0).exp()
    x, log_weight = likelihood.draw(mean.expand(num, 2), variance)
    drawn = log_weight.exp()
    # the evidence, and moments with the weights of evidence
    functions = (
        lambda x: torch.ones(len(x), **DOUBLE),
        lambda x: x[:, 0],
        lambda x: x[:, 1],
        lambda x: x[:, 0] * x[:, 1],
        lambda x: x[:, 1].square(),
    )
    for function in functions:
        values = drawn * function(x)
        expected = (weight * function(grid)).sum()
        error = values.std() / num**0.5
        assert error < 0.02 * weight.sum()
        assert abs(values.mean() - expected) < 4.5 * error + 1e-4 * weight.sum()


def test_orthogonal_rows_leave_nothing_to_weigh():
    """One with orthogonal rows has the weights of its closed form, taken for general or not."""
    torch.manual_seed(1)
    for u in (0.0, 2.0, 900.0):
        prior = GaussianMixturePrior(torch.randn(2, 16, **DOUBLE), 0.5)
        operator = Hadamard((16,), m=12, seed=1)
        y = torch.randn(12, **DOUBLE).sign()
        target = target_of(LIKELIHOODS["probit"], operator, y, prior)
        likelihood = SmoothedLikelihood(target, u)
        mean = torch.randn(50, 16, **DOUBLE)
        gram = operator.row_gram * torch.eye(12, **DOUBLE)
        _, log_weight = draw_in_turn(likelihood.soft, gram, mean, 0.7, u)
        torch.testing.assert_close(log_weight, likelihood(mean, 0.7))
        torch.testing.assert_close(likelihood.draw(mean, 0.7)[1], likelihood(mean, 0.7))


def test_many_outputs_have_even_weights_and_the_evidence_of_expectation_propagation():
    torch.manual_seed(2)
    operator = Dense(torch.randn(40, 320) / 40**0.5)
    prior = GaussianMixturePrior(torch.randn(1, 320), 0.2)
    y = (operator(prior.sample()) + 0.5 * torch.randn(40)).sign()
    target = target_of(lambda t: b1.OneBit(t, 0.5), operator, y, prior)
    reference = GibbsReference.from_target(target)
    mean = prior.means.expand(4000, 320)
    _, log_weight = SmoothedLikelihood(target).draw(mean, 0.2**2)
    weight = (log_weight.double() - reference.log_evidence).exp()
    error = (weight.var() / 4000 + reference.log_evidence_error**2) ** 0.5
    assert error < 0.01
    assert abs(weight.mean() - 1) < 4 * error
    plain = target.log_likelihood(prior.sample((4000,)))
    assert efficiency(plain) < 0.2
    assert efficiency(log_weight) > 0.9


def test_other_likelihoods_weigh_draws_of_the_normal_law():
    torch.manual_seed(3)
    prior = GaussianMixturePrior(torch.zeros(1, 2), 0.7)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", pyro.distributions.Normal(x.sum(), 0.5), obs=y)

    likelihood = SmoothedLikelihood(Target.from_model(model, torch.tensor(0.8)), 1.0)
    assert not likelihood.is_one_bit
    x, log_weight = likelihood.draw(torch.full((20_000, 2), 0.3), 0.5)
    torch.testing.assert_close(log_weight, likelihood(x, 0.0))
    assert x.mean().item() == pytest.approx(0.3, abs=0.02)
    assert x.var().item() == pytest.approx(0.5, rel=0.03)
