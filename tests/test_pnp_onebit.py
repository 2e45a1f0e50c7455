"""PnP-OneBit: exact where its parts are, and the published grid."""

import pyro
import pytest
import torch

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer.data_steps import ExactStep
from bayes1bit.infer.pnp_onebit import PnPOneBit
from bayes1bit.observation import OneBit
from bayes1bit.operators import Dense
from bayes1bit.special import log_ndtr

MEANS = torch.tensor([[1.0, 0.5], [-1.0, 0.3]])
SCALE, NOISE = 0.6, 0.4
Y = torch.tensor([1.0, -1.0])
THRESHOLD = torch.tensor([0.2, 0.1])


def rotation():
    angle = torch.tensor(0.5)
    matrix = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    return Dense(2**0.5 * matrix, row_gram=2.0)


def make_model():
    prior, operator = GaussianMixturePrior(MEANS, SCALE), rotation()

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), NOISE, THRESHOLD).to_event(1), obs=y)

    return prior, model


def moments_on_a_grid(prior, rho):
    """Mean and covariance of p(x) times the likelihood smoothed by rho, by quadrature."""
    axis = torch.linspace(-5, 5, 401)
    grid = torch.cartesian_prod(axis, axis)
    deviation = (NOISE**2 + 2 * rho**2) ** 0.5
    likelihood = log_ndtr(Y * (rotation()(grid) - THRESHOLD) / deviation).sum(1)
    weights = (prior.log_prob(grid) + likelihood).softmax(0)
    mean = weights @ grid
    centred = grid - mean
    return mean, centred.T @ (weights[:, None] * centred)


def test_exact_parts_keep_the_smoothed_posterior():
    rho = 0.8
    pyro.set_rng_seed(0)
    prior, model = make_model()
    count = 3000
    algorithm = PnPOneBit(
        model,
        count,
        num_sweeps=25,
        rho_max=4.0,
        decay=0.8,
        rho_min=rho,
        data_step=ExactStep(),
        solver=None,
        progress=False,
    )
    samples = algorithm.run(Y).samples
    mean, covariance = moments_on_a_grid(prior, rho)
    # four standard errors of means and covariances of independent chains
    tolerance = 4 * covariance.diagonal().max().item() / count**0.5
    torch.testing.assert_close(samples.mean(0), mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0, atol=2 * tolerance)
    # the posterior itself is further away than that: the test sees rho
    exact, _ = moments_on_a_grid(prior, 0.0)
    assert (exact - mean).abs().max() > tolerance


def test_calls_are_the_part_of_the_grid_below_rho():
    prior, model = make_model()
    algorithm = PnPOneBit(model, 3, num_sweeps=3, data_step=ExactStep(), progress=False)
    grid = prior.levels(num_steps=100)[:-1]
    expected = 0
    for rho in (10.0, 9.0, 8.1):
        expected += 100 - int((grid.log() - torch.tensor(rho).log()).abs().argmin())
    assert algorithm.run(Y).nfe == expected


def test_coupling_falls_to_its_floor():
    _, model = make_model()
    seen = []

    class Recording(ExactStep):
        def __call__(self, target, x, rho):
            seen.append(rho)
            return super().__call__(target, x, rho)

    PnPOneBit(model, 1, data_step=Recording(), solver=None, progress=False).run(Y)
    assert len(seen) == 100
    assert seen[:3] == pytest.approx([10.0, 9.0, 8.1])
    assert seen[33] == pytest.approx(10 * 0.9**33)
    assert set(seen[34:]) == {0.3}


def test_published_settings_are_the_defaults():
    settings = PnPOneBit(make_model()[1]).settings()
    assert settings["solver"] == "DDIM(eta=0.5)"
    assert "num_steps=100, step_size=0.01" in settings["data_step"]
