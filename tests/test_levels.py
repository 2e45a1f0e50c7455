"""Noise levels against their defining equations."""

import itertools
import math

import pytest
import torch

from bayes1bit.diffusion.error_table import ErrorTable
from bayes1bit.diffusion.levels import (
    adapted_levels,
    geometric_levels,
    informative_below,
    karras_levels,
    levels_to_normal,
    normal_below,
)
from bayes1bit.diffusion.mixture import GaussianMixturePrior
from bayes1bit.errors import InputError

BAD_RANGES = [
    (1.0, 0.0, 5),
    (1.0, -1.0, 5),
    (0.1, 1.0, 5),
    (math.inf, 1.0, 5),
    (1.0, math.nan, 5),
    (math.nan, 0.1, 5),
]


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(actual, expected, rtol=1e-12, atol=1e-15):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def test_karras_levels_are_evenly_spaced_in_the_seventh_root():
    levels = karras_levels(80, 0.002, 18)
    assert levels.shape == (18,)
    assert levels.dtype == torch.float64
    roots = levels ** (1 / 7)
    step = (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17
    # the differences lose two digits to rounding
    assert_close(roots.diff(), torch.full((17,), step, dtype=torch.float64), rtol=1e-10)
    assert_close(levels[[0, -1]], float64(80.0, 0.002), rtol=1e-6)
    # the first step of the published schedule of 18 levels
    assert levels[1].item() == pytest.approx(57.586, abs=1e-3)


def test_karras_levels_with_exponent_one_are_a_line():
    assert_close(karras_levels(5, 1, 5, rho=1), float64(5.0, 4, 3, 2, 1))


def test_geometric_levels_have_a_constant_ratio():
    levels = geometric_levels(16, 1, 5)
    assert levels.dtype == torch.float64
    assert_close(levels, float64(16.0, 8, 4, 2, 1))


@pytest.mark.parametrize("spacing", [karras_levels, geometric_levels])
def test_a_single_level_is_the_highest_and_equal_ends_are_allowed(spacing):
    assert spacing(3, 1, 1).tolist() == pytest.approx([3])
    assert spacing(3, 3, 2).tolist() == pytest.approx([3, 3])


@pytest.mark.parametrize("spacing", [karras_levels, geometric_levels])
@pytest.mark.parametrize(("high", "low", "num"), BAD_RANGES)
def test_levels_refuse_an_empty_range(spacing, high, low, num):
    with pytest.raises(InputError, match="0 < sigma_min <= sigma_max"):
        spacing(high, low, num)


@pytest.mark.parametrize("spacing", [karras_levels, geometric_levels])
@pytest.mark.parametrize("num", [0, -3])
def test_levels_refuse_a_count_below_one(spacing, num):
    with pytest.raises(InputError, match="at least 1"):
        spacing(1, 0.1, num)


@pytest.mark.parametrize("rho", [0, -1, math.nan])
def test_karras_levels_refuse_an_exponent_that_is_not_positive(rho):
    with pytest.raises(InputError, match="rho must be positive"):
        karras_levels(1, 0.1, 5, rho=rho)


def constant_variance(sigma, variance=0.49):
    """Denoising error of a normal prior."""
    squared = torch.as_tensor(sigma).square()
    return variance * squared / (variance + squared)


def growing_variance(sigma, low=0.01, high=1.0, change=0.7):
    """Error of a prior that looks like one of variance ``low``, far below the level ``change``."""
    squared = torch.as_tensor(sigma).square()
    share = 1 / (1 + (change**2 / squared) ** 4)
    variance = low + (high - low) * share
    return variance * squared / (variance + squared)


def test_adapted_levels_of_a_normal_prior_are_geometric():
    levels = adapted_levels(constant_variance, 20.0, 0.05, 12)
    assert levels.dtype == torch.float64
    assert_close(levels, geometric_levels(20.0, 0.05, 12), rtol=1e-6)


def test_adapted_levels_lie_where_the_variance_changes():
    levels = adapted_levels(growing_variance, 100.0, 0.001, 40)

    # the range is 11.5 in the logarithm, of which the change takes some 1.4
    def near(levels):
        return int(((levels > 0.35) & (levels < 1.4)).sum())

    assert near(geometric_levels(100.0, 0.001, 40)) < 6
    assert near(levels) > 30
    steps = levels.log().diff().abs()
    assert min(steps[0], steps[-1]) > 100 * steps.min()


def test_adapted_levels_are_equidistant_in_the_time_of_the_change():
    floor = 0.3
    levels = adapted_levels(growing_variance, 10.0, 0.1, 15, floor=floor)
    error, squared = growing_variance(levels), levels.square()
    time = (error * squared / (squared - error)).log() + floor * levels.log()
    # a table of 513 levels, between which the time is interpolated
    assert_close(time.diff(), time.diff().mean().expand(14), rtol=0.02)


@pytest.mark.parametrize("error", [constant_variance, growing_variance])
@pytest.mark.parametrize("num", [2, 3, 16])
def test_adapted_levels_fall_from_the_first_to_the_last(error, num):
    levels = adapted_levels(error, 30.0, 0.02, num)
    assert levels.shape == (num,)
    assert levels[[0, -1]].tolist() == [30.0, 0.02]
    assert (levels.diff() < 0).all()


def test_more_floor_spreads_adapted_levels_more_evenly():
    def evenness(floor):
        steps = adapted_levels(growing_variance, 10.0, 0.01, 20, floor=floor).log().diff().abs()
        return steps.max() / steps.min()

    assert evenness(0.02) > evenness(0.2) > evenness(2.0) > 1
    assert evenness(1e4) == pytest.approx(1, rel=0.01)


def test_adapted_levels_bear_a_rough_table():
    """Errors that exceed the noise, and a variance that falls by the noise of measurement."""
    table = ErrorTable([0.01, 0.1, 0.3, 1.0, 10.0], [1.2e-4, 0.009, 0.02, 0.018, 0.02])
    levels = adapted_levels(table, 50.0, 0.001, 10)
    assert levels.isfinite().all()
    assert (levels.diff() < 0).all()


def test_adapted_levels_of_a_mixture_lie_between_its_components():
    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    prior = GaussianMixturePrior(means, 0.1)
    levels = adapted_levels(prior.error, 40.0, 0.001, 20)
    # the noise at which one component is taken for the other, three times up and down
    between = (levels > 4 / 2 / 3) & (levels < 4 / 2 * 3)
    assert between.sum() >= 12


def test_a_single_adapted_level_is_the_highest():
    assert adapted_levels(constant_variance, 3.0, 1.0, 1).tolist() == [3.0]
    assert adapted_levels(constant_variance, 3.0, 3.0, 2).tolist() == pytest.approx([3.0, 3.0])


def test_a_normal_prior_is_normal_from_the_top():
    assert normal_below(constant_variance, 20.0, 0.05) == pytest.approx(20.0)


def test_a_prior_is_normal_below_the_change_of_its_variance():
    """Where log(low + (high - low) share) has grown by the tolerance, solved by hand."""
    for tolerance in (0.05, 0.5):
        share = 0.01 * math.expm1(tolerance) / 0.99
        change = 0.7 * (share / (1 - share)) ** (1 / 8)
        found = normal_below(growing_variance, 100.0, 0.001, tolerance)
        # the grid of 513 levels is 2% wide
        assert change / 1.03 < found <= change


def test_noisy_signals_of_a_normal_prior_say_something_below_their_share():
    """A share s of the variance is explained at the noise sqrt(v (1 - s) / s)."""

    def error(sigma):
        return 2.0 * sigma**2 / (2.0 + sigma**2)

    for share in (0.03, 0.3):
        level = math.sqrt(2.0 * (1 - share) / share)
        found = informative_below(error, 1000.0, 0.001, share)
        # the grid of 513 levels is 3% wide
        assert level / 1.03 < found <= level * 1.0001
    assert informative_below(error, 1000.0, 50.0) == 50.0


@pytest.mark.parametrize(("high", "low", "num"), BAD_RANGES)
def test_adapted_levels_refuse_an_empty_range(high, low, num):
    with pytest.raises(InputError, match="0 < sigma_min <= sigma_max"):
        adapted_levels(constant_variance, high, low, num)


def test_adapted_levels_refuse_a_wrong_count_or_floor():
    with pytest.raises(InputError, match="at least 1"):
        adapted_levels(constant_variance, 1.0, 0.1, 0)
    for floor in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="floor must be positive"):
            adapted_levels(constant_variance, 1.0, 0.1, 5, floor=floor)


@pytest.mark.parametrize("spacing", ["geometric", "adapted"])
def test_a_walk_goes_from_pure_noise_to_where_the_prior_is_normal(spacing):
    prior = GaussianMixturePrior(torch.tensor([[-1.0], [1.0]]), 0.1, sigma_max=80.0)
    levels = levels_to_normal(prior.error, 80.0, 0.01, 9, spacing)
    last = normal_below(prior.error, 80.0, 0.01)
    assert levels == sorted(levels, reverse=True)
    assert len(levels) == 9
    assert levels[0] == 80.0
    assert levels[-1] == pytest.approx(last)
    assert levels_to_normal(prior.error, 80.0, 0.01, 1, spacing) == [80.0]
    if spacing == "geometric":
        assert levels[1] == pytest.approx(informative_below(prior.error, 80.0, 0.01))
        ratios = [low / high for high, low in itertools.pairwise(levels[1:])]
        assert ratios == pytest.approx([ratios[0]] * 7)


def test_a_normal_prior_needs_one_level():
    normal = GaussianMixturePrior(torch.zeros(1, 3), 0.5, sigma_max=80.0)
    for spacing in ("geometric", "adapted"):
        assert levels_to_normal(normal.error, 80.0, 0.01, 9, spacing) == [80.0]


def test_a_walk_names_the_number_of_levels_that_it_was_given():
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        levels_to_normal(constant_variance, 20.0, 0.05, 0)
