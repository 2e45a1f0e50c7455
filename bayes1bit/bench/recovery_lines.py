"""The upper half of the figure of a recovery benchmark for signals of one dimension.

A column for each method and two rows for each signal: the mean with a band of two standard
deviations, and one sample, each under the dashed truth.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bayes1bit.bench.figure_parts import FONT, LEGEND, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

WIDTH, HEIGHT = 2.1, 1.0
"""Inches of one panel."""
_BAND, _MEAN, _SAMPLE = "#bcd9ee", "#0072b2", "#d55e00"


def draw_lines(
    figure: "SubFigure",
    methods: Sequence[str],
    truths: Tensor,
    kept: Sequence[Sequence[dict[str, Tensor]]],
) -> None:
    """Draw what every method made of some signals.

    Args:
        figure: Where to draw.
        methods: Names of the methods.
        truths: True signals, shape (count, L) or (count, 1, L).
        kept: For each signal and method "mean", "sample" and "std" of the posterior, without "std"
            if it is one estimate, and empty if nothing was kept.
    """
    grid = figure.subplots(2 * len(truths), len(methods), sharex=True, sharey="row", squeeze=False)
    handles: dict[str, Any] = {}
    for i, (truth, row) in enumerate(zip(truths, kept, strict=True)):
        for j, parts in enumerate(row):
            mean_axes, sample_axes = grid[2 * i : 2 * i + 2, j]
            if parts:
                mean = _line(parts["mean"])
                if "std" in parts:
                    std = _line(parts["std"])
                    handles["mean ± 2 std"] = mean_axes.fill_between(
                        range(len(mean)), mean - 2 * std, mean + 2 * std, color=_BAND, linewidth=0
                    )
                (handles["mean"],) = mean_axes.plot(mean, color=_MEAN, linewidth=1.2)
                (handles["sample"],) = sample_axes.plot(
                    _line(parts["sample"]), color=_SAMPLE, linewidth=1.0
                )
            for axes in (mean_axes, sample_axes):
                (handles["truth"],) = axes.plot(
                    _line(truth), color="black", linewidth=0.7, linestyle=(0, (3, 2))
                )
        for axes, label in zip(grid[2 * i : 2 * i + 2, 0], ("mean", "sample"), strict=True):
            axes.set_ylabel(f"{label}, signal {i + 1}", fontsize=FONT)
    for axes in grid.flatten():
        axes.margins(x=0)
        axes.tick_params(labelsize=FONT, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(wrapped(method, LEGEND), fontsize=FONT)
    for axes in grid[-1]:
        axes.set_xlabel("index", fontsize=FONT)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside right upper",
        fontsize=FONT,
        frameon=False,
    )


def _line(value: Tensor) -> Any:
    return value.reshape(-1).cpu().numpy()
