"""Averages of weights, and the choice of the next level."""

import math

import pytest
import torch

from bayes1bit.infer.particles import (
    antithetic_noise,
    efficiency,
    log_mean_exp,
    log_step_ratio,
    next_level,
    similarity_order,
)
from bayes1bit.weighted import resample

INFINITE = float("inf")


def test_log_mean_exp_is_the_log_of_the_mean():
    values = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    assert log_mean_exp(values) == pytest.approx(math.log(values.exp().mean()))
    assert log_mean_exp(torch.full((7,), 3.0)) == pytest.approx(3.0)


def test_log_mean_exp_neither_overflows_nor_drops_the_impossible():
    assert log_mean_exp(torch.tensor([-5000.0, -5000.0 + math.log(3)])) == pytest.approx(
        -5000 + math.log(2), abs=1e-3
    )
    assert log_mean_exp(torch.tensor([-INFINITE, 0.0])) == pytest.approx(math.log(0.5))


def test_log_mean_exp_of_single_precision_weights_is_summed_in_double():
    values = 1e-3 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    exact = math.log(math.fsum(values.double().exp().tolist()) / len(values))
    assert log_mean_exp(values) == pytest.approx(exact, abs=1e-11)


def test_efficiency_is_the_share_of_particles_that_count():
    assert efficiency(torch.full((8,), -700.0)) == pytest.approx(1)
    assert efficiency(torch.tensor([0.0, -INFINITE, -INFINITE, -INFINITE])) == pytest.approx(1 / 4)
    assert efficiency(torch.tensor([5.0, 5.0, -INFINITE, -INFINITE])) == pytest.approx(1 / 2)
    # weights 1 and 3: (1 + 3)^2 / (2 (1 + 9))
    assert efficiency(torch.tensor([0.0, math.log(3)])) == pytest.approx(0.8)


def tempered(log_likelihood, unit, u):
    """Log weights of going from u to a new point, when the data count with 1 / (1 + u / unit)."""
    return lambda new: (1 / (1 + new / unit) - 1 / (1 + u / unit)) * log_likelihood


@pytest.mark.parametrize("unit", [1.0, 0.04])
@pytest.mark.parametrize("fraction", [0.5, 0.8, 0.95])
def test_every_level_but_the_last_keeps_the_share_asked_for(unit, fraction):
    log_likelihood = 30 * torch.randn(500, generator=torch.Generator().manual_seed(1))
    u, levels = INFINITE, []
    while u > 0:
        log_weights = tempered(log_likelihood, unit, u)
        new = next_level(log_weights, u, unit, fraction)
        assert new < u
        # never less; bisection leaves the logarithm of the weight a relative error below 1e-4
        assert efficiency(log_weights(new)) >= fraction
        if new > 0:
            assert efficiency(log_weights(new)) < fraction + 0.002
        u = new
        levels.append(u)
    assert levels[-1] == 0.0
    assert len(levels) > 10


def test_the_end_is_taken_as_soon_as_it_keeps_the_share():
    log_likelihood = torch.linspace(0, 1, 50)
    for u in (1e-3, 2.0, INFINITE):
        assert next_level(tempered(log_likelihood, 1.0, u), u, 1.0, 0.5) == 0.0
    # data that say nothing
    assert next_level(tempered(torch.zeros(50), 1.0, INFINITE), INFINITE, 1.0, 0.99) == 0.0


def test_a_larger_share_takes_shorter_steps():
    log_weights = tempered(torch.linspace(-40, 0, 50), 1.0, INFINITE)
    levels = [next_level(log_weights, INFINITE, 1.0, f) for f in (0.3, 0.6, 0.9)]
    assert levels == sorted(levels)
    assert levels[0] < levels[2]


@pytest.mark.parametrize("num", [1, 6, 7])
def test_antithetic_noise_is_opposite_for_neighbours(num):
    torch.manual_seed(0)
    noise = antithetic_noise(torch.empty(num, 2, 3, dtype=torch.float64))
    assert noise.shape == (num, 2, 3)
    assert noise.dtype == torch.float64
    pairs = noise[: num // 2 * 2].unflatten(0, (-1, 2))
    assert torch.equal(pairs[:, 0], -pairs[:, 1])
    assert len(noise.unique()) == noise.numel()


def test_antithetic_noise_is_standard_normal_for_each_particle():
    torch.manual_seed(1)
    noise = torch.stack([antithetic_noise(torch.empty(3, 2)) for _ in range(40_000)])
    for particle in noise.unbind(1):
        assert particle.mean(0).abs().max() < 0.025
        torch.testing.assert_close(particle.T.cov(), torch.eye(2), atol=0.04, rtol=0)


def test_antithetic_noise_makes_shares_more_certain():
    """Undecided particles turn right or left: half of every pair turns each way."""
    torch.manual_seed(2)
    start = torch.linspace(-0.5, 0.5, 100)
    shares = [[float((start + noise > 0).float().mean()) for noise in pair] for pair in (
        (torch.randn_like(start), antithetic_noise(start)) for _ in range(500)
    )]  # fmt: skip
    independent, antithetic = torch.tensor(shares).var(0)
    assert antithetic < 0.3 * independent


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (40, 2), (333, 1, 8, 8), (40, 3000)])
def test_similarity_order_has_every_particle_once(shape):
    torch.manual_seed(3)
    order = similarity_order(torch.randn(shape))
    assert torch.equal(order.sort().values, torch.arange(len(order)))


def test_particles_of_one_mode_are_neighbours_in_the_order_of_similarity():
    torch.manual_seed(4)
    mode = torch.randint(8, (1000,))
    x = torch.randn(8, 500)[mode] + 0.3 * torch.randn(1000, 500)
    ordered = mode[similarity_order(x)]
    # eight modes in a row change seven times; halves of a mode may lie apart
    assert (ordered[1:] != ordered[:-1]).sum() < 20


def test_resampling_in_order_of_similarity_keeps_shares():
    torch.manual_seed(5)
    mode = torch.randint(8, (1000,))
    x = torch.randn(8, 60)[mode] + 0.3 * torch.randn(1000, 60)
    weights = torch.rand(1000, dtype=torch.float64)
    weights = weights / weights.sum()
    share = torch.zeros(8, dtype=torch.float64).index_add(0, mode, weights)
    order = similarity_order(x)

    def error(kept):
        return float((mode[kept].bincount(minlength=8) / 64 - share).abs().sum())

    by_chance = [error(resample(weights, 64)) for _ in range(200)]
    in_order = [error(order[resample(weights[order], 64)]) for _ in range(200)]
    assert sum(in_order) < 0.6 * sum(by_chance)


def test_the_ratio_of_steps_is_that_of_their_densities():
    torch.manual_seed(0)
    shift, noise = torch.randn(2, 5, 1, 3, dtype=torch.float64)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    point = shift + noise
    expected = (normal.log_prob(point) - normal.log_prob(noise)).flatten(1).sum(1)
    torch.testing.assert_close(log_step_ratio(shift, noise), expected)
