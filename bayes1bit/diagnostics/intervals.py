r"""Coverage of central intervals over many runs.

A calibrated 90% interval holds the truth nine times in ten, on average over truths and data. The
elements of one signal are right or wrong together, so a thousand pixels of one signal are nowhere
near a thousand trials: the units that count are the runs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.diagnostics.runs import Runs, RunWeights, check_run, each_run
from bayes1bit.errors import InputError
from bayes1bit.weighted import normalize_weights, weighted_quantile


class IntervalCoverage(NamedTuple):
    """Coverage of central intervals, pooled over elements and runs.

    Attributes:
        probs: Probabilities that the intervals promise.
        coverage: Share of elements inside, shape (len(probs),).
        standard_error: Its standard error, with whole runs as the independent units.
    """

    probs: tuple[float, ...]
    coverage: Tensor
    standard_error: Tensor


def interval_hits(
    samples: Tensor,
    truth: Tensor,
    probs: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    where: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Share of one truth's elements inside their central intervals, ends included.

    Args:
        samples: Posterior draws, shape (L, *event). Fewer than about 2 / (1 - prob) draws cannot
            reach that far into the tails.
        truth: The truth, shape event.
        probs: Probabilities inside the intervals, each in (0, 1).
        where: Booleans of shape event that select elements, such as the pixels that vary at all;
            None takes all.
        weights: Relative weights of the draws, shape (L,); None means equal ones.

    Returns:
        Shares in [0, 1], shape (len(probs),), float64.

    Raises:
        InputError: If shapes disagree, a value is NaN, a probability is outside (0, 1), a weight
            is negative or infinite, or ``where`` is not boolean or selects nothing.
    """
    check_run(samples, truth, weights)
    if len(probs) == 0 or not all(0 < prob < 1 for prob in probs):
        raise InputError(f"probs must be in (0, 1), such as (0.5, 0.9), got {tuple(probs)}")
    if where is None:
        where = torch.ones_like(truth, dtype=torch.bool)
    if where.dtype != torch.bool or where.shape != truth.shape or not where.any():
        raise InputError(
            f"where must be booleans of shape {tuple(truth.shape)} with at least one True, got "
            f"{where.dtype} of shape {tuple(where.shape)}"
        )
    elements = where.flatten().to(samples.device)
    chosen = samples.reshape(len(samples), -1)[:, elements]
    value = truth.to(samples).flatten()[elements]
    inside = torch.tensor(probs, dtype=torch.float64)
    levels = torch.cat([(1 - inside) / 2, (1 + inside) / 2])
    if weights is not None:
        weights = normalize_weights(weights).to(samples.device)
    lower, upper = weighted_quantile(chosen, levels, weights).chunk(2)
    return ((lower <= value) & (value <= upper)).double().mean(1)


def interval_coverage(
    samples: Runs,
    truths: Runs,
    probs: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    where: Tensor | None = None,
    weights: RunWeights = None,
) -> IntervalCoverage:
    """Coverage of central intervals over all elements of all truths.

    Elements of one signal are right or wrong together, so the standard error is that of the
    average of the runs' shares.

    Args:
        samples: Posterior draws of each run, shape (num_samples, *event).
        truths: Truth of each run, shape event.
        probs: Probabilities inside the intervals, each in (0, 1).
        where: Booleans of shape event that select elements; None takes all.
        weights: Relative weights of each run's draws.

    Raises:
        InputError: If numbers of runs or shapes disagree, fewer than two runs are given, or see
            :func:`interval_hits`.
    """
    hits = [
        interval_hits(draws, truth, probs, where, weight)
        for draws, truth, weight in each_run(samples, truths, weights)
    ]
    return pooled_coverage(torch.stack(hits), probs)


def pooled_coverage(hits: Tensor, probs: Sequence[float]) -> IntervalCoverage:
    """Average the shares that :func:`interval_hits` gave.

    Args:
        hits: Shares, shape (num_runs, len(probs)).
        probs: Probabilities inside the intervals.

    Raises:
        InputError: If the shape is another, or there are fewer than two runs.
    """
    if hits.dim() != 2 or hits.shape[1] != len(probs) or len(hits) < 2:
        raise InputError(
            f"hits have shape {tuple(hits.shape)}; expected (num_runs, {len(probs)}) with at "
            "least 2 runs"
        )
    return IntervalCoverage(tuple(probs), hits.mean(0), hits.std(0) / math.sqrt(len(hits)))
