"""QCS-SGM: its inflated likelihood, and what is left of its error when steps are small."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer.qcs_sgm import QCSSGM
from bayes1bit.infer.steps import ProximalStep
from bayes1bit.observation import OneBit
from bayes1bit.operators import Dense

MEAN, SCALE = 0.5, 0.8
LEVELS = 50


def make_model(likelihood, operator):
    prior = GaussianMixturePrior(torch.tensor([[MEAN]]), SCALE, sigma_min=0.02, sigma_max=30.0)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    return prior, model


def draw(model, y, count, **settings):
    pyro.set_rng_seed(0)
    algorithm = QCSSGM(
        model, count, num_levels=LEVELS, num_steps=10, step_size=0.1, progress=False, **settings
    )
    return algorithm.run(y).samples.flatten()


def test_one_normal_measurement_of_a_normal_signal():
    """Moreau envelope and inflated noise agree, so the whole path can be followed by hand."""
    operator = Dense(torch.tensor([[2.0]]), row_gram=4.0)
    prior, model = make_model(lambda t: dist.Normal(t, 0.7), operator)
    y = torch.tensor([3.0])
    count = 2000
    samples = draw(model, y, count, data_step=ProximalStep())
    mean, variance = torch.tensor(0.0, dtype=torch.float64), prior.sigma_max**2
    ratio = (prior.sigma_min / prior.sigma_max) ** (1 / (LEVELS - 1))
    for level in range(LEVELS):
        sigma = prior.sigma_max * ratio**level
        # slopes of the two scores, linear in x
        pull, push = 1 / (SCALE**2 + sigma**2), 4 / (0.7**2 + 4 * sigma**2)
        step = 0.1 * sigma**2
        for _ in range(10):
            mean = mean + step * (pull * (MEAN - mean) + push * (1.5 - mean))
            variance = (1 - step * (pull + push)) ** 2 * variance + 2 * step
    # four standard errors
    deviation = variance**0.5
    assert samples.mean().item() == pytest.approx(mean.item(), abs=4 * deviation / count**0.5)
    assert samples.std().item() == pytest.approx(deviation, abs=4 * deviation / (2 * count) ** 0.5)


@pytest.mark.parametrize("link", ["probit", "logistic"])
def test_small_steps_come_close_to_the_posterior(link):
    operator = Dense(torch.tensor([[1.0], [0.5], [-1.5]]))
    threshold = torch.tensor([0.2, 0.8, -1.0])
    _, model = make_model(lambda t: OneBit(t, 0.4, threshold, link=link), operator)
    y = torch.tensor([1.0, -1.0, 1.0])
    samples = draw(model, y, 500)
    axis = torch.linspace(-5, 5, 2001)[:, None]
    likelihood = OneBit(operator(axis), 0.4, threshold, link=link).log_prob(y).sum(1)
    prior = GaussianMixturePrior(torch.tensor([[MEAN]]), SCALE)
    weights = (prior.log_prob(axis) + likelihood).softmax(0)
    mean = (weights * axis[:, 0]).sum()
    deviation = (weights * (axis[:, 0] - mean).square()).sum().sqrt()
    # the flat prior behind the inflated likelihood, and a chain that the last levels freeze
    assert abs(samples.mean() - mean) < 0.35 * deviation
    assert 0.7 < samples.std() / deviation < 1.3
    # which is still far from the prior's own answer
    assert (mean - MEAN).abs() > 0.35 * deviation or deviation < 0.7 * SCALE
