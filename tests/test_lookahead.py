"""What particles look ahead to: plain and tilted estimates of the likelihood of a noisy signal."""

import math

import pyro
import pytest
import torch

import bayes1bit as b1
from bayes1bit.bench.exact import ExactPosterior
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import LookaheadSMC, Target
from bayes1bit.infer.annealing import path_of
from bayes1bit.infer.lookahead import Lookahead, plain_lookahead, tilted_lookahead
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.operators import Hadamard

SIGMA = 1.5


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def one_bit_target(prior, operator, y):
    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", b1.OneBit(operator(x), 0.5).to_event(1), obs=y)

    return Target.from_model(model, y)


def normal_target():
    prior = GaussianMixturePrior(torch.zeros(1, 4), 0.7)
    return one_bit_target(prior, Hadamard((4,), m=3, seed=1), torch.tensor([1.0, -1.0, 1.0]))


def clusters():
    """Two groups of three components, and data that tell one group from the other."""
    centres = torch.randn(2, 1, 64).repeat(1, 3, 1) + 0.3 * torch.randn(2, 3, 64)
    prior = GaussianMixturePrior(centres.view(6, 64), 0.25)
    operator = Hadamard((64,), m=16, seed=2)
    return prior, one_bit_target(prior, operator, operator(centres[0, 0]).sign())


def log_likelihood_of_noisy(target, likelihood, x, sigma):
    """Log h in closed form: a sum over components, whose outputs are independent."""
    prior, structure = target.prior, target.structure
    share = sigma**2 / (sigma**2 + prior.scale**2)
    variance = share * prior.scale**2 * structure.row_gram
    total = []
    for k, mean in enumerate(prior.means):
        outputs = structure.apply(torch.lerp(x, mean.expand_as(x), share))
        value = likelihood.soft.log_likelihood(outputs, likelihood.softening, variance).sum(1)
        total.append(prior.component_log_probs(x, sigma)[:, k] + value)
    return torch.stack(total).logsumexp(0)


def test_a_tilted_normal_is_moved_by_its_covariance():
    """There the divergence is quadratic, and the expression for it exact."""
    target = normal_target()
    prior, likelihood = target.prior, SmoothedLikelihood(target, 0.3)
    x = prior.sample((5,)) + SIGMA * torch.randn(5, 4)
    clean, error = prior.denoise(x, SIGMA), float(prior.error(SIGMA))
    variance = 0.49 * SIGMA**2 / (0.49 + SIGMA**2)
    gradient = torch.func.grad(lambda d: likelihood(d, error).sum())(clean)
    look = tilted_lookahead(prior, likelihood, x, clean, SIGMA, 0.4)
    theta = 0.4 * gradient
    torch.testing.assert_close(look.shift, variance * theta, atol=1e-5, rtol=1e-4)
    divergence = 0.5 * variance * theta.square().sum(1)
    torch.testing.assert_close(look.cost, divergence, atol=1e-5, rtol=1e-4)
    expected = likelihood(clean + variance * theta, error) - divergence
    torch.testing.assert_close(look.value(likelihood), expected, atol=1e-5, rtol=1e-4)


def test_a_tilt_leads_to_the_mean_of_the_tilted_law():
    """Weights exp(theta x) on draws of the clean signal, in place of another noisy signal."""
    prior, target = clusters()
    likelihood = SmoothedLikelihood(target, 1.0)
    x = prior.sample((1,)) + 3.0 * torch.randn(1, 64)
    clean, error = prior.denoise(x, 3.0), float(prior.error(3.0))
    look = tilted_lookahead(prior, likelihood, x, clean, 3.0, 0.15)
    theta = 0.15 * torch.func.grad(lambda d: likelihood(d, error).sum())(clean)
    draws = prior.sample_given(x.expand(100_000, -1), 3.0)
    weights = (draws @ theta[0]).double().softmax(0)
    error = (weights.square().sum().sqrt() * draws.std(0)).max().item()
    assert error < 0.02
    tilted = weights @ draws.double()
    assert (tilted - (clean + look.shift)[0]).abs().max() < 5 * error
    assert look.shift.norm() > 0.1


def test_a_tilted_estimate_follows_the_likelihood_closer():
    """Held against log h itself, for noisy copies of posterior draws."""
    prior, target = clusters()
    likelihood = SmoothedLikelihood(target, 1.0)
    sigma = 3.0
    x = ExactPosterior.from_target(target).sample(2000) + sigma * torch.randn(2000, 64)
    clean = prior.denoise(x, sigma)
    exact = log_likelihood_of_noisy(target, likelihood, x, sigma)
    plain = plain_lookahead(prior, likelihood, x, clean, sigma, 1.0).value(likelihood)
    tilted = tilted_lookahead(prior, likelihood, x, clean, sigma, 0.15).value(likelihood)
    assert (tilted - exact).var() < 0.5 * (plain - exact).var()


def test_the_sharpest_likelihood_that_keeps_enough_is_chosen():
    target = normal_target()
    sharp = SmoothedLikelihood(target, 0.01)
    ladder = [sharp, sharp.softened(1.0), sharp.softened(100.0)]
    x = target.prior.sample((200,))
    look = Lookahead(sharp.features(x), 0.1, 0.1)
    before = x.new_zeros(200)
    shares = []
    for likelihood in ladder:
        weights = look.value(likelihood).softmax(0)
        shares.append(1 / (200 * float(weights.square().sum())))
    assert shares == sorted(shares)
    for floor, chosen in ((0.0, 0), (0.5 * sum(shares[:2]), 1), (2.0, 2)):
        likelihood, value = look.choose(ladder, before, floor)
        assert likelihood is ladder[chosen]
        torch.testing.assert_close(value, look.value(likelihood))


@pytest.mark.parametrize("tilt", [0.0, 0.15, 0.6])
def test_weights_make_up_for_where_a_tilt_leads(tilt, monkeypatch):
    """Reverse steps of a normal prior are exact, so that the evidence is unbiased at any tilt."""
    target = normal_target()
    levels = [20.0, 3.0, 1.5, 0.8, 0.4]
    monkeypatch.setattr(LookaheadSMC, "_levels", lambda self, prior: levels)
    exact = float(ExactPosterior.from_target(target).log_evidence)
    algorithm = LookaheadSMC(None, 16, lookahead=1.0, tilt=tilt, progress=False)
    path, estimates = path_of(target), []
    for _ in range(200):
        _, u, estimate = algorithm.first_cloud(target, path)
        estimates.append(estimate)
        assert u == 0.0
    ratios = (torch.tensor(estimates, dtype=torch.float64) - exact).exp()
    error = ratios.std() / math.sqrt(len(ratios))
    assert error < 0.05
    assert abs(ratios.mean() - 1) < 4 * error
