r"""Calibration: whether posteriors are as wide as they should be, over many runs.

If a truth is drawn from the prior and data from the model, truth and exact posterior draws are
exchangeable. Whatever scalar is computed of them, the rank of the truth's among those of L draws
is then uniform on 0, ..., L. This is simulation-based calibration (Talts et al., "Validating
Bayesian inference algorithms with simulation-based calibration", arXiv:1804.06788, 2018). Ranks
that heap up at both ends mean posteriors that are too narrow, in the middle too wide, at one end
biased. A posterior that ignores the data passes with every scalar of the signal alone; a scalar
that depends on the data, such as the log-likelihood, finds it (Modrák et al., "Simulation-based
calibration checking for Bayesian computation: the choice of test quantities shapes sensitivity",
Bayesian Analysis 2023).

TARP (Lemos et al., "Sampling-based accuracy testing of posterior estimators for general
inference", arXiv:2302.03026, 2023) looks at the whole signal at once: its scalar is the distance
to a random reference point. The share of draws nearer to that point than the truth is the
credibility level at which a ball about it, taken as credible region, just holds the truth;
expected coverage is the distribution function of that level, and should be the diagonal.
Reference points may depend on the data, and have to if a posterior that ignores them is to be
found, but not on the truth.

Weighted and dependent draws
    Draws of particle methods have weights and share ancestors, those of chains follow each other:
    their ranks are uniform only as the effective number n of draws grows. With weights w, L is
    replaced by n = 1 / sum w^2, which gives ranks the mean and variance of uniform ones if the
    weights are independent of the draws, and nearly so if n is large; merge the copies that
    resampling leaves first (:func:`bayes1bit.weighted.merge_copies`). Dependence that
    weights do not show, with N draws worth only n, adds (1 / n - 1 / N) / 6 to the variance of the
    rank over N, which is 1/12 otherwise: a tendency to both ends, as of posteriors that are too
    narrow. M runs notice it once 2 (1 / n - 1 / N) is above the noise sqrt(0.8 / M) of that
    variance: 100 runs need 25 effective draws to be indifferent, 1000 runs 70. Ranking among a
    random subset of the particles does not help, for the subset shares what made them dependent;
    thinning a chain does.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.diagnostics.intervals import (
    IntervalCoverage,
    interval_coverage,
    interval_hits,
    pooled_coverage,
)
from bayes1bit.diagnostics.runs import Runs, RunWeights, check_run, each_run
from bayes1bit.diagnostics.uniformity import (
    count_below,
    largest_deviation_test,
    local_level_test,
    rank_edges,
    simultaneous_band,
)
from bayes1bit.errors import InputError
from bayes1bit.weighted import effective_sample_size, normalize_weights

__all__ = [
    "CoverageCurve",
    "IntervalCoverage",
    "SBCTest",
    "coverage_curve",
    "expected_coverage",
    "interval_coverage",
    "interval_hits",
    "pooled_coverage",
    "sbc_ranks",
    "sbc_test",
    "tarp_rank",
]


class SBCTest(NamedTuple):
    """Outcome of :func:`sbc_test`.

    Attributes:
        p_value: p-value that all statistics are calibrated.
        p_values: p-value of each statistic by itself, shape (num_statistics,).
    """

    p_value: float
    p_values: Tensor


class CoverageCurve(NamedTuple):
    """Expected coverage against credibility level, at the edges between ranks.

    Attributes:
        levels: Credibility levels, shape (num_levels,).
        coverage: Share of truths inside their region of that level.
        lower: Lower end of a band that holds the whole curve of a calibrated posterior.
        upper: Upper end of that band.
        deviation: Largest distance of coverage from level.
        p_value: Probability of such a deviation, or a larger one, with calibrated posteriors.
    """

    levels: Tensor
    coverage: Tensor
    lower: Tensor
    upper: Tensor
    deviation: float
    p_value: float


def sbc_ranks(
    samples: Tensor,
    truth: Tensor,
    statistics: Callable[[Tensor], Tensor] | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Rank a truth among posterior draws, for one run.

    With W the weight of the draws below the truth and T that of draws equal to it, n the effective
    number of draws and U uniform, the rank is

    .. math:: \left\lfloor (L + 1)\, \frac{n W + U (n T + 1)}{n + 1} \right\rfloor,

    which for equal weights is the number of draws below, with ties broken at random. U comes from
    torch's global generator.

    Args:
        samples: Posterior draws, shape (L, *event).
        truth: The truth, shape event.
        statistics: Map from signals (count, *event) to the scalars to rank, (count,) or
            (count, num_statistics); it may know the data but not the truth. None ranks every
            element of the signal.
        weights: Relative weights of the draws, shape (L,); None means equal ones.

    Returns:
        Integers from 0 to L, shape (num_statistics,).

    Raises:
        InputError: If shapes disagree, a weight is negative or infinite, or a value or statistic
            is NaN.
    """
    check_run(samples, truth, weights)
    signals = torch.cat([truth.to(samples)[None], samples])
    values = signals.reshape(len(signals), -1) if statistics is None else statistics(signals)
    values = values[:, None] if values.dim() == 1 else values
    if values.dim() != 2 or len(values) != len(signals) or values.shape[1] == 0:
        raise InputError(
            f"statistics made shape {tuple(values.shape)} of {len(signals)} signals; expected "
            f"({len(signals)},) or ({len(signals)}, num_statistics)"
        )
    if values.isnan().any():
        raise InputError("a statistic of the truth or of a draw is NaN; rank finite scalars")
    num_samples = len(samples)
    # In units of draws, equal weights give whole numbers without rounding.
    if weights is None:
        shares, size = values.new_ones(num_samples, dtype=torch.float64), float(num_samples)
    else:
        normalized = normalize_weights(weights).to(values.device)
        size = effective_sample_size(normalized)
        shares = size * normalized
    below = shares @ (values[1:] < values[0]).double()
    equal = shares @ (values[1:] == values[0]).double()
    uniform = torch.rand(values.shape[1], dtype=torch.float64).to(values.device)
    position = (below + uniform * (equal + 1.0)) * ((num_samples + 1) / (size + 1.0))
    return position.floor().long().clamp(max=num_samples)


def sbc_test(ranks: Tensor, num_samples: int) -> SBCTest:
    """Test that ranks are uniform, for all statistics together.

    Each statistic has an exact p-value (:mod:`bayes1bit.diagnostics.uniformity`). Statistics of
    one run depend on each other in unknown ways; Bonferroni's bound, the smallest p-value times
    their number, holds whatever that dependence is.

    Args:
        ranks: Ranks of :func:`sbc_ranks`, shape (num_runs, num_statistics) or (num_runs,).
        num_samples: Number L of draws in every run.

    Raises:
        InputError: If the shape is another, or a rank is not an integer from 0 to L.
    """
    p_values = local_level_test(ranks[:, None] if ranks.dim() == 1 else ranks, num_samples)
    return SBCTest(min(1.0, len(p_values) * float(p_values.min())), p_values)


def tarp_rank(
    samples: Tensor, truth: Tensor, reference: Tensor, weights: Tensor | None = None
) -> int:
    """Rank of the truth's distance to a reference point among those of posterior draws.

    Args:
        samples: Posterior draws, shape (L, *event).
        truth: The truth, shape event.
        reference: The reference point, shape event; it may depend on the data, not on the truth.
        weights: Relative weights of the draws, shape (L,); None means equal ones.

    Returns:
        An integer from 0 to L; see :func:`sbc_ranks`.

    Raises:
        InputError: If shapes disagree, a weight is negative or infinite, or a value is NaN.
    """
    if reference.shape != truth.shape:
        raise InputError(
            f"reference has shape {tuple(reference.shape)}, the truth {tuple(truth.shape)}"
        )

    def distance(signals: Tensor) -> Tensor:
        difference = (signals - reference.to(signals)).reshape(len(signals), -1)
        return difference.double().norm(dim=1)

    return int(sbc_ranks(samples, truth, distance, weights))


def coverage_curve(ranks: Tensor, num_samples: int, prob: float = 0.95) -> CoverageCurve:
    """Expected coverage from ranks that :func:`tarp_rank` gave.

    Args:
        ranks: One rank per run, shape (num_runs,).
        num_samples: Number L of draws in every run.
        prob: Probability that the band holds the whole curve, in (0, 1).

    Raises:
        InputError: If the shape is another, a rank is not an integer from 0 to L, or ``prob`` is
            outside (0, 1).
    """
    if ranks.dim() != 1:
        raise InputError(f"ranks have shape {tuple(ranks.shape)}; expected (num_runs,)")
    counts = count_below(ranks[:, None], num_samples)[0]
    deviation, p_value = largest_deviation_test(ranks[:, None], num_samples)
    return CoverageCurve(
        rank_edges(num_samples).double() / (num_samples + 1),
        counts.double() / len(ranks),
        *simultaneous_band(len(ranks), num_samples, prob),
        float(deviation),
        float(p_value),
    )


def expected_coverage(
    samples: Runs,
    truths: Runs,
    references: Runs | None = None,
    weights: RunWeights = None,
    prob: float = 0.95,
) -> CoverageCurve:
    """Expected coverage by TARP, with one reference point per run.

    Args:
        samples: Posterior draws of each run, shape (L, *event), the same L in all.
        truths: Truth of each run, shape event.
        references: Reference point of each run, shape event; None takes the truth of another run,
            at random. Such points know nothing of the run's data: see the module's text.
        weights: Relative weights of each run's draws.
        prob: Probability that the band holds the whole curve, in (0, 1).

    Raises:
        InputError: If numbers of runs or shapes disagree, runs differ in their number of draws,
            fewer than two runs are given, or ``prob`` is outside (0, 1).
    """
    runs = list(each_run(samples, truths, weights))
    num_samples = len(runs[0][0])
    if any(len(draws) != num_samples for draws, _, _ in runs):
        raise InputError("runs differ in their number of draws; resample them to the same number")
    if references is None:
        order = torch.randperm(len(runs)).tolist()
        other = dict(zip(order, order[1:] + order[:1], strict=True))
        references = [truths[other[i]] for i in range(len(runs))]
    if len(references) != len(runs):
        raise InputError(f"{len(references)} references for {len(runs)} runs; give one each")
    ranks = [
        tarp_rank(draws, truth, reference, weight)
        for (draws, truth, weight), reference in zip(runs, references, strict=True)
    ]
    return coverage_curve(torch.tensor(ranks), num_samples, prob)
