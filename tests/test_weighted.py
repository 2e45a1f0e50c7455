"""Statistics of weighted samples against numpy, replication and hand-computed values."""

import functools

import numpy as np
import pytest
import torch

from bayes1bit.errors import InputError
from bayes1bit.weighted import (
    effective_sample_size,
    merge_copies,
    multinomial_indices,
    normalize_weights,
    resample,
    residual_indices,
    stratified_indices,
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


SCHEMES = ("systematic", "stratified", "residual", "multinomial")


@functools.cache
def repeated_counts(scheme, repeats=3000, size=25):
    torch.manual_seed(5)
    return torch.stack(
        [resample(WEIGHTS, size, scheme).bincount(minlength=40) for _ in range(repeats)]
    ).double()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_resampling_is_unbiased(scheme):
    counts = repeated_counts(scheme)
    assert bool((counts.sum(1) == 25).all())
    # Five standard errors; a count never varies more than a binomial one does.
    error = (25 * WEIGHTS * (1 - WEIGHTS) / len(counts)).sqrt()
    assert bool(((counts.mean(0) - 25 * WEIGHTS).abs() <= 5 * error).all())


def test_schemes_differ_in_variance_as_theory_says():
    # Values in the order of the draws, so that strata hold like values.
    values = torch.linspace(0, 1, 40, dtype=torch.float64) ** 2
    variance = {scheme: float((repeated_counts(scheme) @ values / 25).var()) for scheme in SCHEMES}
    centred = values - WEIGHTS @ values
    independent = float(WEIGHTS @ centred.square()) / 25
    # The sample variance of 3000 runs has a relative standard error of 0.026.
    assert variance["multinomial"] == pytest.approx(independent, rel=0.1)
    assert variance["residual"] < 0.9 * variance["multinomial"]
    assert variance["stratified"] < 0.2 * variance["multinomial"]
    assert variance["systematic"] < 0.2 * variance["multinomial"]
    # No unbiased count varies less than one between neighbouring whole numbers.
    of_counts = {scheme: float(repeated_counts(scheme).var(0).sum()) for scheme in SCHEMES}
    part = 25 * WEIGHTS - (25 * WEIGHTS).floor()
    assert of_counts["systematic"] == pytest.approx(float((part * (1 - part)).sum()), rel=0.05)
    assert of_counts["systematic"] < of_counts["stratified"] < of_counts["multinomial"]
    assert of_counts["residual"] < of_counts["multinomial"]


@pytest.mark.parametrize("size", [25, 40, 100])
def test_residual_resampling_keeps_whole_parts_for_sure(size):
    torch.manual_seed(6)
    for _ in range(50):
        counts = residual_indices(WEIGHTS, size).bincount(minlength=40)
        assert bool((counts >= (size * WEIGHTS + 1e-9).floor()).all())


def test_residual_resampling_of_equal_weights_keeps_each_once():
    # 49 * (1 / 49) rounds to less than one.
    for size in (7, 49, 1000):
        weights = torch.full((size,), 1 / size, dtype=torch.float64)
        assert torch.equal(residual_indices(weights, size), torch.arange(size))


def test_stratified_counts_are_within_two():
    torch.manual_seed(7)
    for _ in range(100):
        counts = stratified_indices(WEIGHTS, 100).bincount(minlength=40)
        assert bool(((counts - 100 * WEIGHTS).abs() < 2).all())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [1, 3, 200])
def test_indices_are_sorted_of_the_size_asked_and_never_of_zero_weight(scheme, size):
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 3.0, 0.0])
    torch.manual_seed(8)
    for _ in range(20):
        indices = resample(weights, size, scheme)
        assert indices.shape == (size,)
        assert bool((indices.diff() >= 0).all())
        assert bool((weights[indices] > 0).all())


def test_resampling_follows_torchs_seed():
    for scheme in SCHEMES:
        torch.manual_seed(9)
        first, other = resample(WEIGHTS, 500, scheme), resample(WEIGHTS, 500, scheme)
        torch.manual_seed(9)
        assert torch.equal(resample(WEIGHTS, 500, scheme), first)
        assert not torch.equal(first, other)


def test_multinomial_draws_are_independent():
    torch.manual_seed(10)
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    counts = torch.stack([multinomial_indices(weights, 10).sum() for _ in range(4000)]).double()
    # Binomial with variance 2.5; relative standard error of the sample variance 0.022.
    assert float(counts.var()) == pytest.approx(2.5, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([1.0, -1.0]), 3), "non-negative"),
        ((torch.ones(3), 0), "num_samples"),
        ((torch.ones(3), 3, "bootstrap"), 'unknown scheme "bootstrap"; schemes are systematic'),
    ],
)
def test_bad_resampling_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        resample(*arguments)


def test_copies_are_merged_into_their_first():
    samples = torch.tensor([[3.0, 1.0], [1.0, 1.0], [3.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        merge_copies(samples, weights),
        torch.tensor([0.4, 0.2, 0.0, 0.4, 0.0], dtype=torch.float64),
    )
    merged = merge_copies(samples)
    torch.testing.assert_close(merged, torch.tensor([0.4, 0.4, 0.0, 0.2, 0.0]).double())
    torch.testing.assert_close(weighted_mean(samples, merged), samples.mean(0))


def test_distinct_draws_keep_their_weights():
    assert torch.equal(merge_copies(SAMPLES, WEIGHTS), WEIGHTS)
    assert effective_sample_size(merge_copies(SAMPLES)) == pytest.approx(40)
