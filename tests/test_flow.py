"""The probability-flow density against laws whose density is known."""

import math

import pytest
import torch

from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.diffusion.flow import log_density

MEANS_2D = torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
SCALE = 0.4


class LinearDenoiser(Denoiser):
    """Posterior mean of a normal prior ``N(mean, covariance)``."""

    def __init__(self, mean, covariance):
        super().__init__()
        self.register_buffer("mean", mean)
        values, vectors = torch.linalg.eigh(covariance)
        self.register_buffer("values", values)
        self.register_buffer("vectors", vectors)

    def forward(self, x, sigma):
        gain = self.values / (self.values + sigma**2)
        return self.mean + ((x - self.mean) @ self.vectors * gain) @ self.vectors.T


@pytest.fixture
def mixture():
    return GaussianMixturePrior(MEANS_2D, SCALE, WEIGHTS)


@pytest.fixture
def prior(mixture):
    return DiffusionPrior(mixture.denoiser, (2,), 0.004, 40.0)


def normal_prior(n, spread, sigma_min=0.002, sigma_max=200.0, **settings):
    generator = torch.Generator().manual_seed(0)
    root = spread * torch.randn(n, n, generator=generator, dtype=torch.float64) / n**0.5
    covariance = 0.2 * torch.eye(n, dtype=torch.float64) + root @ root.T
    mean = torch.randn(n, generator=generator, dtype=torch.float64)
    prior = DiffusionPrior(
        LinearDenoiser(mean, covariance), (n,), sigma_min, sigma_max, **settings
    )
    smoothed = covariance + sigma_min**2 * torch.eye(n, dtype=torch.float64)
    return prior, torch.distributions.MultivariateNormal(mean, smoothed)


def points(mixture, count=12, far=2.0):
    """Draws of the prior, stretched about their mean component by up to twice their distance."""
    torch.manual_seed(0)
    x = mixture.sample((count,))
    nearest = mixture.means[mixture.component_log_probs(x).argmax(1)]
    return nearest + torch.linspace(0.5, far, count)[:, None].double() * (x - nearest)


def test_density_of_a_mixture_within_a_hundredth_of_a_nat(prior, mixture):
    x = points(mixture)
    assert (prior.log_prob(x) - mixture.log_prob(x)).abs().max() < 0.01


def test_gradient_of_the_density_of_a_mixture(prior, mixture):
    x = points(mixture, count=6).requires_grad_()
    (exact,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    (ours,) = torch.autograd.grad(prior.log_prob(x).sum(), x)
    # the gradients are as long as 5; a thousandth of that is for smoothing at sigma_min, for the
    # end of the path and for Runge-Kutta
    assert exact.norm(dim=1).max() > 3
    torch.testing.assert_close(ours, exact, rtol=0, atol=0.005)


def test_density_is_that_of_the_prior_smoothed_at_the_smallest_level(mixture):
    prior = DiffusionPrior(mixture.denoiser, (2,), SCALE, 40.0)
    smoothed = GaussianMixturePrior(MEANS_2D, SCALE * 2**0.5, WEIGHTS)
    x = points(mixture)
    assert (prior.log_prob(x) - smoothed.log_prob(x)).abs().max() < 0.01
    assert (prior.log_prob(x) - mixture.log_prob(x)).abs().max() > 0.1


def test_density_of_a_correlated_normal_far_from_the_origin():
    prior, exact = normal_prior(5, spread=1.0)
    torch.manual_seed(1)
    x = exact.sample((8,))
    # the end of the path is exact to the order (variance / sigma_max^2)^2 = 1e-8; Runge-Kutta's
    # fourth-order error is what is left
    torch.testing.assert_close(prior.log_prob(x), exact.log_prob(x), rtol=0, atol=5e-5)


def test_end_of_the_path_uses_the_normal_that_the_denoiser_implies():
    """A path cut where the prior is still visible: N(0, sigma_max^2) would be far off."""
    mean = torch.tensor([3.0, -2.0], dtype=torch.float64)
    prior = DiffusionPrior(
        LinearDenoiser(mean, 0.25 * torch.eye(2, dtype=torch.float64)), (2,), 0.005, 10.0
    )
    x = mean + torch.tensor([[0.0, 0.0], [0.5, -0.3]], dtype=torch.float64)
    exact = torch.distributions.Normal(mean, 0.5).log_prob(x).sum(1)
    # of order |mean| variance / sigma_max^2 ~ 0.0025 per dimension and (variance / sigma_max^2)^2
    assert (prior.log_prob(x) - exact).abs().max() < 0.005


def test_more_steps_are_closer(prior, mixture):
    x = points(mixture)
    errors = [
        (prior.log_prob(x, num_steps=steps) - mixture.log_prob(x)).abs().max().item()
        for steps in (10, 20, 100)
    ]
    assert errors[0] > 3 * errors[1]
    assert errors[1] > errors[2]


def test_density_integrates_to_one():
    mixture = GaussianMixturePrior(torch.tensor([[-1.0], [1.5]], dtype=torch.float64), 0.5)
    prior = DiffusionPrior(mixture.denoiser, (1,), 0.005, 40.0)
    x = torch.linspace(-5, 5, 401, dtype=torch.float64)
    total = torch.trapezoid(prior.log_prob(x[:, None], num_steps=100).exp(), x).item()
    assert total == pytest.approx(1, abs=0.005)


def test_shapes_of_values_batches_and_events(mixture):
    means = MEANS_2D.view(3, 1, 2, 1)
    shaped = GaussianMixturePrior(means, SCALE, WEIGHTS)
    prior = DiffusionPrior(shaped.denoiser, (1, 2, 1), 0.004, 40.0)
    flat = DiffusionPrior(mixture.denoiser, (2,), 0.004, 40.0)
    x = points(mixture, count=6)
    expected = flat.log_prob(x, num_steps=20)
    answer = prior.log_prob(x.view(2, 3, 1, 2, 1), num_steps=20)
    torch.testing.assert_close(answer, expected.view(2, 3))
    single = prior.log_prob(x[0].view(1, 2, 1), num_steps=20)
    assert single.shape == ()
    torch.testing.assert_close(single, expected[0])
    assert prior.expand([4]).log_prob(x[0].view(1, 2, 1), num_steps=2).shape == (4,)
    # a view with other strides
    swapped = x.view(2, 3, 2).transpose(0, 1)
    torch.testing.assert_close(
        flat.log_prob(swapped, num_steps=20), expected.view(2, 3).transpose(0, 1)
    )


def test_denoisers_may_return_any_memory_layout(mixture):
    class Transposed(Denoiser):
        def forward(self, x, sigma):
            return mixture.denoise(x.flatten(1), sigma).view(-1, 2, 1).mT.contiguous().mT

    prior = DiffusionPrior(Transposed(), (2, 1), 0.004, 40.0)
    assert torch.isfinite(prior.log_prob(torch.zeros(3, 2, 1).double(), num_steps=2)).all()


def test_no_graph_is_kept_without_need(prior, mixture):
    x = points(mixture, count=2)
    assert not prior.log_prob(x, num_steps=2).requires_grad
    leaf = x.clone().requires_grad_()
    assert prior.log_prob(leaf, num_steps=2).requires_grad
    with torch.no_grad():
        quiet = prior.log_prob(leaf, num_steps=2)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, prior.log_prob(x, num_steps=2))
    assert not x.requires_grad


def test_trace_is_exact_up_to_64_dimensions_and_estimated_above():
    small, _ = normal_prior(64, spread=1.0, probes=1)
    large, _ = normal_prior(65, spread=1.0, probes=1)
    for prior, exact in ((small, True), (large, False)):
        x = torch.zeros(1, prior.event_shape.numel(), dtype=torch.float64)
        state = torch.random.get_rng_state()
        prior.log_prob(x, num_steps=2)
        assert torch.equal(torch.random.get_rng_state(), state) is exact


def test_hutchinsons_estimate_is_unbiased_and_averages_its_probes():
    spreads = []
    torch.manual_seed(2)
    for probes in (1, 8):
        prior, exact = normal_prior(65, spread=1.0, probes=probes)
        x = exact.sample().expand(200, 65)
        errors = prior.log_prob(x, num_steps=60) - exact.log_prob(x)
        spreads.append(errors.std().item())
        # rows of a batch have probes of their own: 200 independent estimates
        assert errors.mean().item() == pytest.approx(0, abs=4 * spreads[-1] / 200**0.5)
    assert spreads[1] > 0.1
    # the standard deviation of 200 draws is known to 5%
    assert spreads[0] / spreads[1] == pytest.approx(8**0.5, rel=0.25)


def test_function_without_a_distribution_around_it():
    """A point mass at zero: only the noise of the smallest level is left."""
    x = torch.tensor([[0.3, -0.1]], dtype=torch.float64)

    def denoise(state, sigma):
        return 0.0 * state

    answer = log_density(denoise, x, 0.5, 20.0, 50, None)
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(x).sum(1)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-6)
    assert math.isfinite(answer.item())
