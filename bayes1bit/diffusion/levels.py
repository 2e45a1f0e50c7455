r"""Noise levels: where a reverse diffusion stops on its way down.

A reverse diffusion walks down a finite list of levels
:math:`\sigma_0 > \sigma_1 > \dots > \sigma_{T-1} > 0`. Where the levels lie decides how few of
them suffice. Some of the rules below ask how wrong the prior's denoiser is at each level
(:class:`~bayes1bit.diffusion.error_table.ErrorTable`).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from bayes1bit.errors import InputError

Spacing = Literal["adapted", "geometric"]
"""Where the levels of a walk lie."""

_GRID = 513


def _check(sigma_max: float, sigma_min: float, num: int) -> None:
    if not 0 < sigma_min <= sigma_max < float("inf"):
        raise InputError(
            f"levels need 0 < sigma_min <= sigma_max, got sigma_min={sigma_min:g}, "
            f"sigma_max={sigma_max:g}"
        )
    if num < 1:
        raise InputError(f"the number of levels must be at least 1, got {num}")


def karras_levels(sigma_max: float, sigma_min: float, num: int, rho: float = 7.0) -> Tensor:
    r"""Levels of Karras et al. (NeurIPS 2022), equation 5, without the final zero.

    .. math::

        \sigma_i = \left(\sigma_{max}^{1/\rho}
            + \tfrac{i}{T-1} (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\right)^\rho

    Args:
        sigma_max: First level.
        sigma_min: Last level.
        num: Number of levels T; a single level is ``sigma_max``.
        rho: Exponent; larger values put more levels near ``sigma_min``.

    Returns:
        Levels from high to low, shape (num,), float64.

    Raises:
        InputError: If the range is empty, ``num`` is less than 1 or ``rho`` is not positive.
    """
    _check(sigma_max, sigma_min, num)
    if not rho > 0:
        raise InputError(f"rho must be positive, got {rho}")
    ramp = torch.linspace(0, 1, num, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels: Tensor = (high + ramp * (low - high)) ** rho
    return levels


def geometric_levels(sigma_max: float, sigma_min: float, num: int) -> Tensor:
    r"""Levels with a constant ratio between neighbours, without the final zero.

    Args:
        sigma_max: First level.
        sigma_min: Last level.
        num: Number of levels; a single level is ``sigma_max``.

    Returns:
        Levels from high to low, shape (num,), float64.

    Raises:
        InputError: If the range is empty or ``num`` is less than 1.
    """
    _check(sigma_max, sigma_min, num)
    ramp = torch.linspace(0, 1, num, dtype=torch.float64)
    levels: Tensor = sigma_max * (sigma_min / sigma_max) ** ramp
    return levels


def adapted_levels(
    error: Callable[[float | Tensor], Tensor],
    sigma_max: float,
    sigma_min: float,
    num: int,
    floor: float = 0.02,
) -> Tensor:
    r"""Levels that lie where the prior is least normal, without the final zero.

    At noise level :math:`\sigma` a normal prior of variance v has the denoising error
    :math:`r^2 = v \sigma^2 / (v + \sigma^2)`. So the measured error of any prior defines the
    variance that a normal prior of the same error would have,

    .. math:: v(\sigma) = \frac{r^2(\sigma)\, \sigma^2}{\sigma^2 - r^2(\sigma)}.

    Where it is constant a reverse step is exact, however long. Where it changes with
    :math:`\sigma`, the denoiser is deciding between alternatives, and steps must be short. The
    levels are equidistant in :math:`\log v(\sigma) + f \log\sigma`, with a small f that keeps
    some of them everywhere.

    Args:
        error: Mean squared denoising error per dimension, such as ``prior.error``.
        sigma_max: First level.
        sigma_min: Last level.
        num: Number of levels; a single level is ``sigma_max``.
        floor: The f above.

    Returns:
        Levels from high to low, shape (num,), float64.

    Raises:
        InputError: If the range is empty, ``num`` is less than 1 or ``floor`` is not positive.
    """
    _check(sigma_max, sigma_min, num)
    if not floor > 0:
        raise InputError(f"floor must be positive, got {floor}")
    if sigma_max == sigma_min:
        return torch.full((num,), sigma_max, dtype=torch.float64)
    grid, log_variance = _log_variance(error, sigma_max, sigma_min)
    time = log_variance + floor * grid.log()
    ramp = torch.linspace(0, 1, num, dtype=torch.float64)
    query = time[-1] + ramp * (time[0] - time[-1])
    right = torch.searchsorted(time, query).clamp(1, _GRID - 1)
    left = right - 1
    fraction = ((query - time[left]) / (time[right] - time[left])).clamp(0, 1)
    logs = grid.log()
    levels: Tensor = (logs[left] + fraction * (logs[right] - logs[left])).exp()
    levels[0], levels[-1] = sigma_max, sigma_min if num > 1 else sigma_max
    return levels


def normal_below(
    error: Callable[[float | Tensor], Tensor],
    sigma_max: float,
    sigma_min: float,
    tolerance: float = 0.01,
) -> float:
    """The level from which one reverse step suffices, because below it the prior acts as a normal.

    Args:
        error: Mean squared denoising error per dimension, such as ``prior.error``.
        sigma_max: Largest level.
        sigma_min: Smallest level.
        tolerance: How much the variance of the normal prior of :func:`adapted_levels` may change,
            in its logarithm.

    Returns:
        The largest level whose variance is still that of ``sigma_min``.
    """
    grid, log_variance = _log_variance(error, sigma_max, sigma_min)
    return float(grid[log_variance < log_variance[0] + tolerance][-1])


def informative_below(
    error: Callable[[float | Tensor], Tensor],
    sigma_max: float,
    sigma_min: float,
    share: float = 0.03,
) -> float:
    """The level from which on a noisy signal says something about the clean one.

    Above it a denoiser answers with the prior's mean, whatever it is given, and one reverse step
    suffices.

    Args:
        error: Mean squared denoising error per dimension, such as ``prior.error``.
        sigma_max: Largest level.
        sigma_min: Smallest level.
        share: Share of the prior's variance that the denoiser has to explain.

    Returns:
        The largest level at which it does, or ``sigma_min``.
    """
    grid = geometric_levels(sigma_max, sigma_min, _GRID)
    known = error(grid) <= (1 - share) * error(sigma_max)
    return float(grid[known.cpu()][0]) if known.any() else sigma_min


def levels_to_normal(
    error: Callable[[float | Tensor], Tensor],
    sigma_max: float,
    sigma_min: float,
    num: int,
    spacing: Spacing = "geometric",
) -> list[float]:
    """Levels of a reverse walk from pure noise to where one more step, to zero, suffices.

    Args:
        error: Mean squared denoising error per dimension, such as ``prior.error``.
        sigma_max: The first level, pure noise.
        sigma_min: Smallest level; the last of the walk is :func:`normal_below`.
        num: Number of levels.
        spacing: ``"geometric"``, with a constant ratio from :func:`informative_below` on, or
            ``"adapted"``, as :func:`adapted_levels` has them.

    Returns:
        Different levels from high to low, ``num`` or, where the prior is normal, less.

    Raises:
        InputError: If the range is empty or ``num`` is less than 1.
    """
    last = normal_below(error, sigma_max, sigma_min)
    if spacing == "adapted" or num <= 1:
        levels = adapted_levels(error, sigma_max, last, num).tolist()
    else:
        first = max(informative_below(error, sigma_max, sigma_min), last)
        levels = [sigma_max, *geometric_levels(first, last, num - 1).tolist()]
    return list(dict.fromkeys(levels))


def _log_variance(
    error: Callable[[float | Tensor], Tensor], sigma_max: float, sigma_min: float
) -> tuple[Tensor, Tensor]:
    """Levels from low to high, and log v(sigma) of :func:`adapted_levels` at each of them."""
    grid = geometric_levels(sigma_max, sigma_min, _GRID).flip(0)
    squared, measured = grid.square(), error(grid).double().cpu()
    # a denoiser is never worse than its input, but a measured error may be by rounding
    variance = measured * squared / (squared - measured).clamp(min=1e-6 * squared)
    # the variance of a true prior grows with sigma; noise of a measured table must not count
    return grid, variance.cummax(0).values.log()
