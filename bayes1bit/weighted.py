r"""Statistics of weighted samples.

Particle methods answer with draws :math:`x_1, \dots, x_N` and weights :math:`w_1, \dots, w_N` that
sum to one; chains answer with equal weights. Everything a user asks of a posterior (mean, spread,
quantiles, an equally weighted set) is a statistic of such a weighted sample, written here once.

Two choices deserve a word. The variance divides by :math:`1 - \sum_i w_i^2`, which is the familiar
:math:`N - 1` correction when the weights are equal. Quantiles follow Akinshin ("Weighted quantile
estimators", arXiv:2304.07265, 2023) with Weibull's plotting positions :math:`i/(N+1)`: these make
the interval between two quantiles hold an exchangeable new value with exactly the stated
probability, where the usual interpolation is too narrow (0.87 in place of 0.90 for 64 draws).

Resampling turns weights into copies. Every scheme here is unbiased, N w_i copies of draw i on
average, and all read the inverse of the cumulative weights at N points: independent ones
(multinomial), one in each of N equal strata (stratified), or equidistant ones with one random
offset (systematic). Residual resampling keeps the whole part of N w_i for sure and draws the rest
independently. Stratified and residual resampling never add more variance than multinomial; no such
theorem holds for systematic resampling, although its numbers of copies vary least of all (Douc,
Cappe and Moulines, "Comparison of resampling schemes for particle filtering", ISPA 2005).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from bayes1bit.errors import InputError

Scheme = Literal["systematic", "stratified", "residual", "multinomial"]
"""Names of resampling schemes."""

_BLOCK = 2**21
"""Most sample values that are sorted at once: bounds the memory of a quantile to about 100 MB."""


def normalize_weights(weights: Tensor) -> Tensor:
    """Scale non-negative weights to sum to one, in double precision.

    Weights that already sum to one, to rounding, come back bit for bit.

    Args:
        weights: Relative weights, shape (num_samples,).

    Returns:
        Weights of the same shape, dtype float64.

    Raises:
        InputError: If the weights are not one-dimensional, hold NaN, infinite or negative values,
            or are all zero.
    """
    if weights.dim() != 1:
        raise InputError(
            f"weights have shape {tuple(weights.shape)}; give one per sample, shape (num_samples,)"
        )
    if weights.is_complex() or not torch.isfinite(weights).all() or (weights < 0).any():
        raise InputError("weights must be finite and non-negative; give exp(log_weight)")
    weights = weights.detach().to(torch.float64)
    total = weights.sum()
    if total <= 0:
        raise InputError("all weights are zero; at least one sample needs a positive weight")
    return weights if abs(total - 1) <= 1e-12 else weights / total


def effective_sample_size(weights: Tensor) -> float:
    r"""Kish's effective sample size :math:`1 / \sum_i w_i^2` of normalised weights.

    Args:
        weights: Weights that sum to one, shape (num_samples,).

    Returns:
        A number between 1 (one sample carries everything) and num_samples (equal weights).
    """
    return 1.0 / float(weights.square().sum())


def weighted_mean(samples: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the leading dimension.

    Args:
        samples: Draws, shape (num_samples, *event).
        weights: Weights that sum to one, shape (num_samples,); None means equal weights.

    Returns:
        The mean, shape event.
    """
    if weights is None:
        return samples.mean(0)
    return torch.tensordot(weights.to(samples), samples, dims=1)


def weighted_std(samples: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Standard deviation over the leading dimension.

    The square root of :math:`\sum_i w_i (x_i - \bar x)^2 / (1 - \sum_i w_i^2)`, unbiased before
    the root; ``samples.std(0)`` when weights are equal.

    Args:
        samples: Draws, shape (num_samples, *event).
        weights: Weights that sum to one, shape (num_samples,); None means equal weights.

    Returns:
        The standard deviation, shape event; NaN where a single sample carries all the weight,
        because one draw says nothing of the spread.
    """
    if weights is None:
        weights = samples.new_full((len(samples),), 1.0 / len(samples), dtype=torch.float64)
    deviations = samples - weighted_mean(samples, weights)
    variance = weighted_mean(deviations.square_(), weights)
    freedom = 1.0 - float(weights.square().sum())
    if freedom <= 0 or len(samples) == 1:
        return torch.full_like(variance, torch.nan)
    return (variance / freedom).sqrt()


def weighted_quantile(samples: Tensor, q: float | Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Quantiles over the leading dimension, element by element.

    With :math:`n = 1 / \sum_i w_i^2` and :math:`h = (n + 1) q` kept within [1, n], the quantile
    is the average of the inverse weighted distribution function over
    :math:`[(h - 1)/n, h/n]`. Equal weights give ``numpy.quantile(..., method="weibull")``;
    samples of zero weight have no say.

    Args:
        samples: Draws, shape (num_samples, *event).
        q: Level or levels in [0, 1]: a number or a tensor of shape (levels,).
        weights: Weights that sum to one, shape (num_samples,); None means equal weights.

    Returns:
        Quantiles in the dtype of ``samples``: shape event for one level, (levels, *event) for
        several.

    Raises:
        InputError: If a level is outside [0, 1], or ``q`` has more than one dimension.
    """
    levels = torch.as_tensor(q, dtype=torch.float64, device=samples.device)
    if levels.dim() > 1 or not bool(((levels >= 0) & (levels <= 1)).all()):
        raise InputError(
            f"q must be a level in [0, 1] or a one-dimensional tensor of them, got {q}"
        )
    num_samples, event_shape = len(samples), samples.shape[1:]
    if weights is None:
        weights = levels.new_full((num_samples,), 1.0 / num_samples)
    size = effective_sample_size(weights)
    flat = samples.reshape(num_samples, -1)
    positions = ((size + 1) * levels.reshape(-1)).clamp(min=1.0).clamp(max=size)
    result = samples.new_empty((len(positions), flat.shape[1]))
    width = max(1, _BLOCK // num_samples)
    for start in range(0, flat.shape[1], width):
        block = slice(start, start + width)
        values, order = flat[:, block].sort(dim=0)
        cumulative = weights[order].cumsum(0)
        for row, position in enumerate(positions):
            covered = (size * cumulative - (position - 1)).clamp_(0.0, 1.0)
            share = covered.diff(dim=0, prepend=torch.zeros_like(covered[:1]))
            # Cumulative weights end at one only to rounding.
            total = (share * values).sum(0) / share.sum(0)
            result[row, block] = total.to(samples.dtype)
    return result.reshape(levels.shape + event_shape)


def systematic_indices(weights: Tensor, num_samples: int, offset: float | Tensor) -> Tensor:
    """Indices that systematic resampling keeps (Kitagawa, JCGS 1996).

    Sample i appears floor(N w_i) or ceil(N w_i) times, and N w_i times on average over a uniform
    ``offset``.

    Args:
        weights: Weights that sum to one, shape (len,).
        num_samples: Number N of indices to return.
        offset: Position in [0, 1) of the comb of N equidistant points.

    Returns:
        Indices in increasing order, shape (num_samples,).
    """
    comb = (torch.arange(num_samples, dtype=torch.float64, device=weights.device) + offset) / (
        num_samples
    )
    return _indices_at(comb, weights)


def stratified_indices(weights: Tensor, num_samples: int) -> Tensor:
    """Indices that stratified resampling keeps (Kitagawa, JCGS 1996).

    Sample i appears N w_i times on average, and less than 2 away from that always.

    Args:
        weights: Weights that sum to one, shape (len,).
        num_samples: Number N of indices to return.

    Returns:
        Indices in increasing order, shape (num_samples,).
    """
    offsets = torch.rand(num_samples, dtype=torch.float64, device=weights.device)
    strata = torch.arange(num_samples, dtype=torch.float64, device=weights.device)
    return _indices_at((strata + offsets) / num_samples, weights)


def multinomial_indices(weights: Tensor, num_samples: int) -> Tensor:
    """Indices of independent draws (Gordon, Salmond and Smith, IEE Proceedings F 1993).

    Args:
        weights: Weights that sum to one, shape (len,).
        num_samples: Number N of indices to return.

    Returns:
        Indices in increasing order, shape (num_samples,).
    """
    points = torch.rand(num_samples, dtype=torch.float64, device=weights.device)
    return _indices_at(points.sort().values, weights)


def residual_indices(weights: Tensor, num_samples: int) -> Tensor:
    """Indices that residual resampling keeps (Liu and Chen, JASA 1998).

    Sample i appears floor(N w_i) times for sure; the rest is drawn independently, in proportion to
    what the floors leave over.

    Args:
        weights: Weights that sum to one, shape (len,).
        num_samples: Number N of indices to return.

    Returns:
        Indices in increasing order, shape (num_samples,).
    """
    expected = num_samples * weights.to(torch.float64)
    # Equal weights must keep one copy each although N * (1 / N) may round to just below one.
    kept = (expected + 1e-9).floor()
    indices = torch.arange(len(weights), device=weights.device).repeat_interleave(kept.long())
    missing = num_samples - len(indices)
    if missing == 0:
        return indices
    left = (expected - kept).clamp(min=0.0)
    drawn = multinomial_indices(left / left.sum(), missing)
    return torch.cat([indices, drawn]).sort().values


def resample(weights: Tensor, num_samples: int, scheme: Scheme = "systematic") -> Tensor:
    """Indices of samples that stand for a weighted set when weighted equally.

    Randomness is that of torch's global generator.

    Args:
        weights: Relative weights, shape (len,), finite and non-negative.
        num_samples: Number N of indices to return.
        scheme: "systematic", "stratified", "residual" or "multinomial".

    Returns:
        Indices in increasing order, shape (num_samples,); index i appears N w_i times on average.

    Raises:
        InputError: If a weight is negative, NaN or infinite, all are zero, ``num_samples`` is
            less than 1, or the scheme is unknown.
    """
    weights = normalize_weights(weights)
    if num_samples < 1:
        raise InputError(f"num_samples must be at least 1, got {num_samples}")
    if scheme == "systematic":
        offset = torch.rand((), dtype=torch.float64, device=weights.device)
        return systematic_indices(weights, num_samples, offset)
    if scheme == "stratified":
        return stratified_indices(weights, num_samples)
    if scheme == "residual":
        return residual_indices(weights, num_samples)
    if scheme == "multinomial":
        return multinomial_indices(weights, num_samples)
    raise InputError(f'unknown scheme "{scheme}"; schemes are {", ".join(get_args(Scheme))}')


def merge_copies(samples: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weights that count the copies of one draw as one draw.

    Resampling leaves copies, which say nothing more than the draw they are copies of. The first of
    equal draws gets the weight of all, the others get none. Statistics stay what they are, but the
    effective sample size, and with it quantiles and ranks, no longer takes copies for independent
    draws. It is meant for continuous signals, where equal draws can only be copies.

    Args:
        samples: Draws, shape (num_samples, *event).
        weights: Weights that sum to one, shape (num_samples,); None means equal weights.

    Returns:
        Weights that sum to one, shape (num_samples,), float64.
    """
    count = len(samples)
    if weights is None:
        weights = torch.full((count,), 1.0 / count, dtype=torch.float64, device=samples.device)
    _, group = samples.reshape(count, -1).unique(dim=0, return_inverse=True)
    index = torch.arange(count, device=samples.device)
    first = torch.full_like(index, count).scatter_reduce(0, group, index, "amin")
    merged = torch.zeros_like(weights, dtype=torch.float64)
    return merged.index_add_(0, first[group], weights.to(torch.float64))


def _indices_at(points: Tensor, weights: Tensor) -> Tensor:
    """Inverse of the cumulative weights at increasing points in [0, 1)."""
    cumulative = weights.cumsum(0)
    # Rounding must lead neither past the end nor onto trailing samples of zero weight.
    last = int(weights.nonzero()[-1])
    return torch.searchsorted(cumulative, points, right=True).clamp(max=last)
