"""Figures of calibration: ranks of simulation-based calibration, and coverage.

Both draw distribution functions rather than histograms: a histogram depends on its bins, and its
bars scatter too much to see a trend. A band shows what calibrated posteriors would give, and holds
a whole curve at once, so that one excursion already counts.

As in :mod:`bayes1bit.diagnostics.plots`, figures are made without pyplot; save them with
``figure.savefig``.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from bayes1bit.diagnostics.calibration import CoverageCurve, IntervalCoverage, sbc_test
from bayes1bit.diagnostics.uniformity import count_below, rank_edges, simultaneous_band
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CURVE, _BAND, _FONT = "#0b3c7d", "#c9dcec", 8


def plot_sbc(
    ranks: Tensor,
    num_samples: int,
    names: Sequence[str] | None = None,
    prob: float = 0.95,
    columns: int = 5,
) -> "Figure":
    """Draw how far the distribution of ranks is from uniform, one panel per statistic.

    The curve is the share of ranks below minus that of uniform ranks. It rises first and then
    falls below zero when posteriors are too narrow, does the opposite when they are too wide, and
    stays on one side when they are biased: above zero when draws are too large.

    Args:
        ranks: Ranks of :func:`~bayes1bit.diagnostics.calibration.sbc_ranks`, shape
            (num_runs, num_statistics) or (num_runs,).
        num_samples: Number of draws in every run.
        names: Names of the statistics; None numbers them.
        prob: Probability that the band holds a whole curve, in (0, 1).
        columns: Panels in a row.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If the shape is another, a rank is not an integer from 0 to ``num_samples``,
            names and statistics differ in number, or a number is out of range.
    """
    from matplotlib.figure import Figure

    ranks = ranks[:, None] if ranks.dim() == 1 else ranks
    counts, p_values = count_below(ranks, num_samples), sbc_test(ranks, num_samples).p_values
    if names is None:
        names = [f"statistic {i + 1}" for i in range(len(counts))]
    if len(names) != len(counts):
        raise InputError(f"{len(names)} names for {len(counts)} statistics; give one each")
    if columns < 1:
        raise InputError(f"columns must be at least 1, got {columns}")
    levels = rank_edges(num_samples).double() / (num_samples + 1)
    lower, upper = (
        _closed(end - levels) for end in simultaneous_band(len(ranks), num_samples, prob)
    )
    differences = [_closed(row.double() / len(ranks) - levels) for row in counts]
    reach = 1.1 * max(abs(value) for curve in [lower, upper, *differences] for value in curve)
    columns = min(columns, len(counts))
    rows = math.ceil(len(counts) / columns)
    figure = Figure(
        figsize=(max(2.0 * columns, 3.2), 1.7 * rows + 0.6), dpi=150, layout="constrained"
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    at = [0.0, *levels.tolist(), 1.0]
    for axes, name, curve, p_value in zip(panels, names, differences, p_values, strict=False):
        label = f"{100 * prob:.3g}% of calibrated curves"
        axes.fill_between(at, lower, upper, color=_BAND, linewidth=0, label=label)
        axes.axhline(0.0, color="0.5", linewidth=0.6)
        axes.plot(at, curve, color=_CURVE, linewidth=1.2, label="ranks minus uniform")
        axes.set_title(f"{name}, {_p(float(p_value))}", fontsize=_FONT)
        axes.set(xlim=(0, 1), ylim=(-reach, reach), xticks=[0, 0.5, 1])
        _tidy(axes)
    for axes in panels[len(counts) :]:
        axes.set_visible(False)
    for axes in panels[len(counts) - columns : len(counts)]:
        axes.set_xlabel("rank / number of draws", fontsize=_FONT)
        axes.tick_params(labelbottom=True)
    figure.supylabel("share below, minus uniform", fontsize=_FONT)
    _legend(figure, 2, panels[0])
    return figure


def plot_coverage(curve: CoverageCurve, intervals: IntervalCoverage | None = None) -> "Figure":
    """Draw expected coverage and, if given, the coverage of intervals against the diagonal.

    Below the diagonal, intervals hold the truth less often than they promise: the posteriors are
    too narrow. A TARP curve can leave the diagonal on either side for a bias, too.

    Args:
        curve: What :func:`~bayes1bit.diagnostics.calibration.expected_coverage` gave.
        intervals: What :func:`~bayes1bit.diagnostics.calibration.interval_coverage` gave.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    count = 1 if intervals is None else 2
    figure = Figure(figsize=(3.1 * count + 0.2, 3.8), dpi=150, layout="constrained")
    panels = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False).flatten()
    at = [0.0, *curve.levels.tolist(), 1.0]
    ends = [[0.0, *end.tolist(), 1.0] for end in (curve.lower, curve.upper)]
    left = panels[0]
    left.fill_between(at, *ends, color=_BAND, linewidth=0, label="band of calibrated curves")
    coverage = [0.0, *curve.coverage.tolist(), 1.0]
    left.plot(at, coverage, color=_CURVE, linewidth=1.2, label="expected coverage")
    left.set_title(
        f"TARP, largest deviation {curve.deviation:.3f}, {_p(curve.p_value)}", fontsize=_FONT
    )
    left.set_ylabel("share of truths inside", fontsize=_FONT)
    if intervals is not None:
        right = panels[1]
        right.errorbar(
            intervals.probs,
            intervals.coverage.tolist(),
            yerr=(2 * intervals.standard_error).tolist(),
            fmt="o",
            markersize=3.5,
            color=_CURVE,
            elinewidth=1.0,
            capsize=2,
            label="intervals, two standard errors",
        )
        right.set_title("central intervals of elements", fontsize=_FONT)
    for axes in panels:
        axes.plot([0, 1], [0, 1], "--", color="0.5", linewidth=0.8, zorder=1.5)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.set_xlabel("promised probability", fontsize=_FONT)
        _tidy(axes)
    _legend(figure, 1 + count, *panels)
    return figure


def _closed(curve: Tensor) -> list[float]:
    """The curve with its ends, where every distribution function is 0 and 1."""
    return [0.0, *curve.tolist(), 0.0]


def _p(value: float) -> str:
    return "p < 1e-6" if value < 1e-6 else f"p = {value:.2g}"


def _tidy(axes: "Axes") -> None:
    axes.tick_params(labelsize=_FONT - 1, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: "Figure", columns: int, *panels: "Axes") -> None:
    entries = [axes.get_legend_handles_labels() for axes in panels]
    figure.legend(
        [handle for handles, _ in entries for handle in handles],
        [label for _, labels in entries for label in labels],
        loc="outside lower center",
        ncols=columns,
        fontsize=_FONT - 1,
        frameon=False,
    )
