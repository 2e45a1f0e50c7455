"""Reverse solvers against the two laws that they approximate, both known for normal priors.

For ``N(mu, S^2)`` the probability-flow ODE carries a state at level a to
``mu + (x - mu) sqrt((S^2 + b^2) / (S^2 + a^2))`` at level b, and the reverse process has variance
``S^2 + b^2`` at level b.
"""

import itertools
import math

import pytest
import torch

from bayes1bit.diffusion import (
    DDIM,
    Ancestral,
    DiffusionPrior,
    GaussianMixturePrior,
    Heun,
    Multistep,
    StochasticMultistep,
    Tweedie,
    VarianceCorrected,
    count_evaluations,
    geometric_levels,
    karras_levels,
)
from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.errors import InputError

MU, S = torch.tensor([0.7, -1.2], dtype=torch.float64), 0.5
ALL = [
    Tweedie(),
    DDIM(),
    DDIM(0.5),
    Ancestral(),
    VarianceCorrected(),
    Heun(),
    Multistep(),
    StochasticMultistep(),
]
DETERMINISTIC = [DDIM(), Heun(), Multistep()]


@pytest.fixture
def gaussian():
    return GaussianMixturePrior(MU[None], S)


def with_zero(levels):
    return torch.cat([levels, levels.new_zeros(1)])


def flow(x, a, b):
    """The exact probability-flow map from level a to level b."""
    return MU + (x - MU) * math.sqrt((S**2 + b**2) / (S**2 + a**2))


@pytest.mark.parametrize("spacing", [karras_levels, geometric_levels])
@pytest.mark.parametrize(
    ("solver", "order"), [(DDIM(), 1), (Heun(), 2), (Multistep(), 2)], ids=str
)
def test_order_of_convergence_to_the_probability_flow(gaussian, solver, order, spacing):
    x = torch.tensor([[3.0, -4.0], [2.0, 1.0], [10.0, -7.0]], dtype=torch.float64)
    a, b = 20.0, 0.05
    errors = [
        (solver(gaussian, x, spacing(a, b, steps + 1)) - flow(x, a, b)).abs().max().item()
        for steps in (32, 64, 128)
    ]
    # doubling the steps divides the error by 2**order, up to terms of the next order (3% here)
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.05)
    assert errors[-1] < {1: 5e-3, 2: 2e-4}[order]


@pytest.mark.parametrize("solver", DETERMINISTIC, ids=str)
def test_deterministic_solvers_draw_no_random_numbers(gaussian, solver):
    state = torch.random.get_rng_state()
    assert not solver.stochastic
    solver(gaussian, torch.ones(3, 2, dtype=torch.float64), with_zero(karras_levels(9, 0.1, 5)))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("solver", [DDIM(), Ancestral(), Heun(), Multistep()], ids=str)
def test_a_single_step_to_zero_is_the_posterior_mean(gaussian, solver):
    x = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    answer = solver(gaussian, x, torch.tensor([2.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(answer, gaussian.denoise(x, 2.0), rtol=1e-14, atol=1e-14)


def test_tweedie_is_the_posterior_mean_whatever_the_levels(gaussian):
    x = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    expected = (4 * MU + S**2 * x) / (4 + S**2)
    answer = Tweedie()(gaussian, x, torch.tensor([2.0, 1.0, 0.3, 0.0], dtype=torch.float64))
    torch.testing.assert_close(answer, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(Tweedie().step(gaussian, x, 2.0, 1.0, {}), expected)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_step_is_its_equation(gaussian, eta):
    torch.manual_seed(1)
    x, a, b = 3 * torch.randn(4, 2, dtype=torch.float64), 1.5, 0.4
    torch.manual_seed(2)
    answer = DDIM(eta).step(gaussian, x, a, b, {})
    torch.manual_seed(2)
    clean = gaussian.denoise(x, a)
    s = eta * b / a * math.sqrt(a**2 - b**2)
    expected = clean + math.sqrt(b**2 - s**2) * (x - clean) / a + s * torch.randn_like(x)
    torch.testing.assert_close(answer, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("corrected", [False, True])
def test_ancestral_and_corrected_steps_are_their_equations(gaussian, corrected):
    torch.manual_seed(1)
    x, a, b = 3 * torch.randn(4, 2, dtype=torch.float64), 1.5, 0.4
    solver = VarianceCorrected() if corrected else Ancestral()
    torch.manual_seed(2)
    answer = solver.step(gaussian, x, a, b, {})
    torch.manual_seed(2)
    k = 1 - b**2 / a**2
    variance = b**2 * (a**2 - b**2) / a**2
    if corrected:
        variance += k**2 * a**2 * S**2 / (a**2 + S**2)
    mean = x + k * (gaussian.denoise(x, a) - x)
    expected = mean + math.sqrt(variance) * torch.randn_like(x)
    torch.testing.assert_close(answer, expected, rtol=1e-13, atol=1e-13)


def test_ddim_at_eta_one_is_ancestral(gaussian):
    x = torch.ones(5, 2, dtype=torch.float64)
    levels = with_zero(karras_levels(9, 0.1, 7))
    answers = []
    for solver in (DDIM(eta=1.0), Ancestral()):
        torch.manual_seed(3)
        answers.append(solver(gaussian, x, levels))
    assert torch.equal(*answers)


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_variance_corrected_is_exact_on_a_normal_in_any_number_of_steps(num_steps):
    torch.manual_seed(4)
    prior = GaussianMixturePrior(torch.tensor([[2.0]], dtype=torch.float64), S)
    a = 1.5
    start = 2 + math.hypot(S, a) * torch.randn(200_000, 1, dtype=torch.float64)
    levels = with_zero(karras_levels(a, 0.1, num_steps))
    x = VarianceCorrected()(prior, start, levels)
    # standard deviations of a mean and a standard deviation of N draws: S/sqrt(N), S/sqrt(2N)
    assert x.mean().item() == pytest.approx(2, abs=4 * S / 200_000**0.5)
    assert x.std().item() == pytest.approx(S, rel=4 / 400_000**0.5)
    # and each draw belongs to its noisy signal: Cov(x, x_a) = S^2
    covariance = ((x - 2) * (start - 2)).mean().item()
    assert covariance == pytest.approx(S**2, abs=4 * 1.5 * S / 200_000**0.5)


@pytest.mark.parametrize("solver", [Ancestral(), DDIM(0.5)], ids=str)
def test_stochastic_solvers_are_right_in_the_limit_of_small_steps(solver):
    torch.manual_seed(5)
    prior = GaussianMixturePrior(torch.tensor([[2.0]], dtype=torch.float64), S)
    start = 2 + math.hypot(S, 3) * torch.randn(20_000, 1, dtype=torch.float64)
    losses = []
    for num_steps in (8, 32, 128):
        x = solver(prior, start, with_zero(karras_levels(3, 0.01, num_steps)))
        losses.append(1 - x.std().item() / S)
    # first order: four times the steps, a quarter of the loss; four standard deviations are 2%
    assert losses[0] > 2 * losses[1] > 0.04
    assert losses[2] == pytest.approx(0, abs=0.02 + losses[1] / 4)


class Normal(Denoiser):
    """Posterior mean of a normal prior about zero with a variance of its own in each dimension."""

    def __init__(self, variance):
        super().__init__()
        self.variance = variance

    def forward(self, x, sigma):
        return x * self.variance / (self.variance + sigma**2)

    def error(self, sigma):
        squared = torch.as_tensor(sigma, dtype=torch.float64)[..., None] ** 2
        return (self.variance * squared / (self.variance + squared)).mean(-1)


def test_extrapolation_keeps_the_variance_of_directions_that_white_noise_misses():
    """Four directions hold most of the variance, as brightness does of a picture."""
    variance = torch.full((256,), 0.25**2, dtype=torch.float64)
    variance[:4] = 1.0
    denoiser = Normal(variance)
    prior = DiffusionPrior(denoiser, (256,), 0.01, 80.0, error=denoiser.error)
    levels = with_zero(geometric_levels(80, 0.01, 40))
    start = 80 * torch.randn(2000, 256, dtype=torch.float64)

    def wide_and_narrow(solver):
        x = solver(prior, start, levels)
        return x[:, :4].std().item(), x[:, 4:].std().item() / 0.25

    torch.manual_seed(8)
    wide, narrow = wide_and_narrow(StochasticMultistep())
    # second order leaves 1%; the standard deviation of 8,000 draws is known to 0.8%
    assert wide == pytest.approx(1, abs=0.03)
    assert narrow == pytest.approx(1, abs=0.015)
    assert wide_and_narrow(VarianceCorrected())[0] < 0.94


def test_stochastic_multistep_is_of_second_order():
    torch.manual_seed(9)
    variance = torch.ones(1, dtype=torch.float64)
    denoiser = Normal(variance)
    prior = DiffusionPrior(denoiser, (1,), 0.01, 80.0, error=denoiser.error)
    start = 80 * torch.randn(400_000, 1, dtype=torch.float64)
    errors = []
    for steps in (20, 40):
        x = StochasticMultistep()(prior, start, with_zero(geometric_levels(80, 0.01, steps)))
        errors.append(x.std().item() - 1)
    # twice the steps, a quarter of the error; a standard deviation here is known to 0.1%
    assert errors[0] > 0.025
    assert errors[1] == pytest.approx(errors[0] / 4, abs=0.004)


@pytest.mark.parametrize("n", [256, 784])
def test_ten_steps_keep_the_spread_of_a_component_only_when_corrected(n):
    torch.manual_seed(6)
    means = torch.randn(10, n, dtype=torch.float64).sign()
    prior = GaussianMixturePrior(means, 0.25)
    levels = with_zero(karras_levels(80, 0.01, 10))
    start = 80 * torch.randn(100, n, dtype=torch.float64)

    def within(solver):
        x = solver(prior, start, levels)
        component = torch.cdist(x, means).argmin(1)
        # every draw is in a component, and the draws are spread over them
        assert len(component.unique()) >= 8
        return (x - means[component]).square().mean().sqrt().item() / 0.25

    # 25,600 or more squared deviations have a standard deviation of 0.9%, their root half of it
    assert within(VarianceCorrected()) == pytest.approx(1, abs=0.02)
    assert 0.35 < 1 - within(Ancestral()) < 0.43


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_number_of_denoiser_calls(solver):
    prior = GaussianMixturePrior(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), S)
    steps, batch = 6, 5
    levels = with_zero(karras_levels(9, 0.1, steps))
    expected = {"Tweedie": 1, "Heun": 2 * steps - 1}.get(type(solver).__name__, steps)
    with count_evaluations(prior) as count:
        x = solver(prior, torch.ones(batch, 2), levels)
    assert count.signals == batch * expected
    assert x.shape == (batch, 2)
    assert x.dtype == torch.float32


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_solvers_keep_every_leading_dimension(gaussian, solver):
    x = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = with_zero(karras_levels(9, 0.1, 4))
    torch.manual_seed(7)
    together = solver(gaussian, x, levels)
    torch.manual_seed(7)
    flat = solver(gaussian, x.view(12, 2), levels)
    assert together.shape == x.shape
    torch.testing.assert_close(together.view(12, 2), flat, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_a_walk_leaves_no_memory_behind(gaussian, solver):
    levels = with_zero(karras_levels(9, 0.1, 4))
    first, other = torch.ones(2, 2).double(), -5 * torch.ones(2, 2).double()
    torch.manual_seed(8)
    expected = solver(gaussian, first, levels)
    solver(gaussian, other, levels)
    torch.manual_seed(8)
    assert torch.equal(solver(gaussian, first, levels), expected)
    assert torch.equal(first, torch.ones(2, 2).double())


@pytest.mark.parametrize("solver", [Tweedie(), DDIM(), Ancestral(), Heun(), Multistep()], ids=str)
def test_only_the_corrected_step_needs_the_error(gaussian, solver):
    prior = DiffusionPrior(gaussian.denoiser, (2,), 0.01, 10)
    levels = with_zero(karras_levels(9, 0.1, 4))
    x = torch.ones(2, 2, dtype=torch.float64)
    assert torch.isfinite(solver(prior, x, levels)).all()
    with pytest.raises(InputError, match="no table of denoising errors"):
        VarianceCorrected()(prior, x, levels)


def test_ancestral_survives_rounding_where_the_ratio_of_levels_is_tiny(gaussian):
    x = torch.ones(2, 2, dtype=torch.float64)
    for i in range(50):
        levels = torch.tensor([80.0, 1e-8 * (1 + i / 50), 0.0], dtype=torch.float64)
        answer = Ancestral()(gaussian, x, levels)
        assert answer.dtype == torch.float64
        torch.testing.assert_close(answer, gaussian.denoise(x, 80.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("eta", [-0.1, 1.5, math.nan])
def test_ddim_refuses_an_eta_outside_its_range(eta):
    with pytest.raises(InputError, match="between 0 and 1"):
        DDIM(eta)


def test_representation_names_the_settings():
    assert [repr(solver) for solver in ALL] == [
        "Tweedie()",
        "DDIM(eta=0.0)",
        "DDIM(eta=0.5)",
        "Ancestral()",
        "VarianceCorrected()",
        "Heun()",
        "Multistep()",
        "StochasticMultistep()",
    ]


def test_stochastic_says_whether_noise_is_drawn():
    drawing = [solver for solver in ALL if solver.stochastic]
    assert [type(solver).__name__ for solver in drawing] == [
        "DDIM",
        "Ancestral",
        "VarianceCorrected",
        "StochasticMultistep",
    ]
