"""Statistics of weighted samples against numpy, replication and hand-computed values."""

import numpy as np
import pytest
import torch

from bayes1bit.errors import InputError
from bayes1bit.weighted import (
    effective_sample_size,
    normalize_weights,
    systematic_indices,
    weighted_mean,
    weighted_quantile,
    weighted_std,
)

SAMPLES = torch.randn(40, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COUNTS = torch.randint(0, 6, (40,), generator=torch.Generator().manual_seed(1))
WEIGHTS = normalize_weights(COUNTS)
REPLICATED = SAMPLES.repeat_interleave(COUNTS, 0)


def brute_force_quantile(values, weights, q):
    """Average the inverse distribution function over its window on a fine grid of levels."""
    order = np.argsort(values)
    values, cumulative = values[order], np.cumsum(weights[order])
    size = 1 / np.sum(weights**2)
    h = np.clip((size + 1) * q, 1, size)
    levels = (h - 1 + (np.arange(100_000) + 0.5) / 100_000) / size
    return values[np.minimum(np.searchsorted(cumulative, levels), len(values) - 1)].mean()


def test_mean_of_weights_is_mean_of_replicates():
    torch.testing.assert_close(weighted_mean(SAMPLES, WEIGHTS), REPLICATED.mean(0))
    torch.testing.assert_close(weighted_mean(SAMPLES), SAMPLES.mean(0))


def test_std_with_equal_weights_is_the_unbiased_one():
    equal = torch.full((40,), 1 / 40, dtype=torch.float64)
    torch.testing.assert_close(weighted_std(SAMPLES), SAMPLES.std(0))
    torch.testing.assert_close(weighted_std(SAMPLES, equal), SAMPLES.std(0))


def test_std_with_weights_corrects_the_replicates_for_the_effective_size():
    expected = REPLICATED.var(0, correction=0) / (1 - WEIGHTS.square().sum())
    torch.testing.assert_close(weighted_std(SAMPLES, WEIGHTS), expected.sqrt())


@pytest.mark.parametrize(
    ("samples", "weights"),
    [(torch.ones(1, 2), None), (torch.randn(3, 2), torch.tensor([0.0, 1.0, 0.0]).double())],
)
def test_std_of_a_single_effective_sample_is_unknown(samples, weights):
    assert weighted_std(samples, weights).isnan().all()


@pytest.mark.parametrize("q", [0.0, 0.05, 0.31, 0.5, 0.95, 1.0])
def test_equal_weights_give_numpys_weibull_quantile(q):
    expected = np.quantile(SAMPLES.numpy(), q, axis=0, method="weibull")
    np.testing.assert_allclose(weighted_quantile(SAMPLES, q).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("q", [0.05, 0.4, 0.5, 0.95])
def test_weighted_quantile_is_the_average_over_its_window(q):
    result = weighted_quantile(SAMPLES, q, WEIGHTS)
    for i, j in [(0, 0), (2, 4)]:
        expected = brute_force_quantile(SAMPLES[:, i, j].numpy(), WEIGHTS.numpy(), q)
        # The grid of 1e5 levels misplaces each jump (below 5) by at most 1e-5.
        assert float(result[i, j]) == pytest.approx(expected, abs=1e-4)


def test_weighted_quantile_lies_between_neighbours_of_the_replicated_quantile():
    # The averaging window is 1/n wide with n effective samples: one twentieth here, so results
    # differ from the replicated sample's by no more than its quantiles 0.06 to either side.
    for q in (0.2, 0.5, 0.8):
        result = weighted_quantile(SAMPLES, q, WEIGHTS)
        low, high = REPLICATED.quantile(q - 0.06, dim=0), REPLICATED.quantile(q + 0.06, dim=0)
        assert bool(((low <= result) & (result <= high)).all())


def test_samples_of_zero_weight_have_no_say():
    extreme = torch.cat([SAMPLES, torch.full((2, 3, 5), 100.0, dtype=torch.float64)])
    weights = torch.cat([WEIGHTS, torch.zeros(2, dtype=torch.float64)])
    q = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(
        weighted_quantile(extreme, q, weights), weighted_quantile(SAMPLES, q, WEIGHTS)
    )


def test_quantile_in_blocks_keeps_order_dtype_and_shape(monkeypatch):
    q = torch.tensor([0.1, 0.9])
    whole = weighted_quantile(SAMPLES.float(), q, WEIGHTS)
    monkeypatch.setattr("bayes1bit.weighted._BLOCK", 40 * 4)
    blocks = weighted_quantile(SAMPLES.float(), q, WEIGHTS)
    assert whole.shape == (2, 3, 5)
    assert whole.dtype == torch.float32
    assert torch.equal(whole, blocks)
    assert weighted_quantile(SAMPLES, 0.1, WEIGHTS).shape == (3, 5)


@pytest.mark.parametrize("q", [-0.1, 1.5, float("nan"), torch.zeros(2, 2)])
def test_quantile_refuses_levels_outside_the_unit_interval(q):
    with pytest.raises(InputError, match=r"level in \[0, 1\]"):
        weighted_quantile(SAMPLES, q)


def test_effective_sample_size():
    assert effective_sample_size(normalize_weights(torch.ones(8))) == pytest.approx(8)
    assert effective_sample_size(normalize_weights(torch.tensor([1.0, 1.0, 0.0]))) == 2
    assert effective_sample_size(torch.tensor([0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375)


def test_normalizing_twice_changes_nothing():
    weights = normalize_weights(torch.rand(1000, generator=torch.Generator().manual_seed(3)))
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    assert torch.equal(normalize_weights(weights), weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.tensor([0.5, -0.1]), "non-negative"),
        (torch.tensor([0.5, float("nan")]), "finite"),
        (torch.tensor([0.5, float("inf")]), "finite"),
        (torch.zeros(3), "all weights are zero"),
        (torch.ones(2, 2), "shape"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        normalize_weights(weights)


def test_systematic_indices_by_hand():
    weights = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    # Points 0.125, 0.375, 0.625, 0.875 against cumulative weights 0.1, 0.1, 0.7, 1.
    assert systematic_indices(weights, 4, 0.5).tolist() == [2, 2, 2, 3]
    assert systematic_indices(weights, 4, 0.0).tolist() == [0, 2, 2, 3]


def test_systematic_counts_are_within_one_and_right_on_average():
    offsets = (torch.arange(1000) + 0.5) / 1000
    counts = torch.stack(
        [systematic_indices(WEIGHTS, 25, o).bincount(minlength=40) for o in offsets.double()]
    ).double()
    assert bool(((counts - 25 * WEIGHTS).abs() < 1).all())
    # A grid of 1000 offsets places each end of a sample's range to 1/1000 of a count.
    torch.testing.assert_close(counts.mean(0), 25 * WEIGHTS, atol=0.003, rtol=0)


def test_systematic_resampling_never_picks_a_zero_weight():
    weights = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4 - 1e-17, 0.0, 0.0], dtype=torch.float64)
    for offset in (0.0, 0.5, 1 - 1e-16):
        assert bool((weights[systematic_indices(weights, 1000, offset)] > 0).all())
