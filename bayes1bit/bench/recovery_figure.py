"""The figure of a recovery benchmark: what every method answers, and how well with fewer bits.

Above, a column for each method: mean, standard deviation and one sample for the first pictures,
under one condition, beside the truth; signals of one dimension are drawn as lines over it. A mean
that is sharp where it is wrong, or a deviation that is small there, shows at a glance what
averages hide. Below, PSNR or SNR against n/m for each link and noise.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bayes1bit.bench import recovery_lines
from bayes1bit.bench.figure_parts import FONT, add_deviation_bar, add_legend, tidy, wrapped
from bayes1bit.bench.recovery import BASELINES, SHOWN, Condition, Problem
from bayes1bit.bench.shown import ShownPictures
from bayes1bit.diagnostics.waveforms import is_waveform
from bayes1bit.errors import InputError
from bayes1bit.pictures import is_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_SIDE, _EDGE, _PANEL = 0.95, 1.0, 2.9
"""Inches: side of a picture, what labels and colour bar take, and height of the lower part."""
_HIGHEST = 0.995
"""Quantile of deviations at which their colours end: a few wild pixels would darken the rest."""
# the palette of Okabe and Ito, which every kind of colour vision tells apart
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "osD^vP*X"


def plot_recovery(
    problem: Problem,
    methods: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    shown: ShownPictures,
) -> "Figure":
    """Draw the outcome of a recovery benchmark.

    Above are the first signals under the first link and noise, at the middle of the ratios.

    Args:
        problem: Signals and measurements.
        methods: Names of the methods, as they were given to
            :func:`~bayes1bit.bench.recovery.run_recovery`.
        rows: What it returned.
        shown: What it kept, :func:`~bayes1bit.bench.recovery.shown_pictures`. A panel stays empty
            where nothing was.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If signals are neither grey or colour pictures nor of one dimension, or there
            is no method.
    """
    from matplotlib.figure import Figure

    check_drawable(problem.pictures)
    if not methods:
        raise InputError("there is no method to draw")
    count = min(SHOWN, len(problem.pictures))
    panels = len(problem.links) * len(problem.noises)
    shape = problem.pictures.shape[1:]
    if is_picture(shape):
        above = 3 * count * (_SIDE * shape[1] / shape[2] + 0.05)
        across = _SIDE * (len(methods) + 1)
    else:
        above = 2 * count * recovery_lines.HEIGHT
        across = recovery_lines.WIDTH * len(methods)
    heights = (above + 0.7, _PANEL)
    width = max(across + _EDGE, 3.2 * panels + 1.0, 6.0)
    figure = Figure(figsize=(width, sum(heights)), dpi=150, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=heights)
    _draw_signals(halves[0], problem, methods, shown, count)
    _draw_curves(halves[1], problem, methods, rows)
    return figure


def check_drawable(signals: Tensor) -> None:
    """Refuse signals that cannot be drawn.

    Args:
        signals: Shape (count, *event).

    Raises:
        InputError: If an event is neither a picture (1 or 3, H, W) nor a line (L,) or (1, L).
    """
    shape = signals.shape[1:]
    if not is_picture(shape) and not is_waveform(shape):
        raise InputError(
            f"signals of shape {tuple(shape)} cannot be drawn; expected pictures (1, H, W) or "
            "(3, H, W), or lines (L,) or (1, L)"
        )


def _draw_signals(
    figure: "SubFigure",
    problem: Problem,
    methods: Sequence[str],
    shown: ShownPictures,
    count: int,
) -> None:
    condition = Condition(
        problem.links[0], problem.noises[0], problem.ratios[(len(problem.ratios) - 1) // 2]
    )
    kept = [
        [shown.load(problem.key(method, condition, i)) for method in methods] for i in range(count)
    ]
    truths = problem.pictures[:count]
    figure.suptitle(
        f"n/m = {condition.ratio:g}, {condition.link} noise {condition.noise:g}",
        fontsize=FONT + 2,
    )
    if is_picture(truths.shape[1:]):
        _draw_pictures(figure, methods, truths, kept, problem.data_range)
    else:
        recovery_lines.draw_lines(figure, methods, truths, kept)


def _draw_pictures(
    figure: "SubFigure",
    methods: Sequence[str],
    truths: Tensor,
    kept: Sequence[Sequence[dict[str, Tensor]]],
    data_range: tuple[float, float],
) -> None:
    deviations = [_spread(x["std"]) for row in kept for x in row if "std" in x]
    # one scale for all, so that deviations can be compared
    pixels = torch.cat([x.flatten() for x in deviations]) if deviations else torch.ones(1)
    highest = float(np.quantile(pixels.numpy(), _HIGHEST))
    grid = figure.subplots(3 * len(truths), len(methods) + 1, squeeze=False)
    maps = {"vmin": 0.0, "vmax": highest or 1.0, "cmap": "viridis"}
    for axes in grid.flatten():
        axes.set_axis_off()
    image = None
    for i, truth in enumerate(truths):
        mean_row, std_row, sample_row = grid[3 * i : 3 * i + 3]
        _show(mean_row[0], truth, data_range)
        for j, parts in enumerate(kept[i], start=1):
            if parts:
                _show(mean_row[j], parts["mean"], data_range)
                _show(sample_row[j], parts["sample"], data_range)
            if "std" in parts:
                image = std_row[j].imshow(_spread(parts["std"]).numpy(), **maps)
            elif parts:
                std_row[j].text(0.5, 0.5, "one\nestimate", ha="center", va="center", fontsize=FONT)
                _frame(std_row[j])
        for axes, label in zip(grid[3 * i : 3 * i + 3, 1], ("mean", "std", "sample"), strict=True):
            axes.text(
                *(-0.06, 0.5, label),
                ha="right",
                va="center",
                rotation=90,
                fontsize=FONT,
                transform=axes.transAxes,
            )
    grid[0, 0].set_title("truth", fontsize=FONT)
    for axes, method in zip(grid[0, 1:], methods, strict=True):
        axes.set_title(wrapped(method), fontsize=FONT)
    if image is not None:
        add_deviation_bar(figure, image, grid, shrink=0.4, aspect=40)


def _draw_curves(
    figure: "SubFigure",
    problem: Problem,
    methods: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    conditions = list(itertools.product(problem.links, problem.noises))
    panels = figure.subplots(1, len(conditions), sharex=True, sharey=True, squeeze=False)[0]
    lines: dict[str, Any] = {}
    quality = problem.scorer.quality
    for axes, (link, noise) in zip(panels, conditions, strict=True):
        curves = {
            (method, score): [
                (row["n/m"], row[score])
                for row in rows
                if (row["method"], row["link"], row["noise"]) == (method, link, noise)
                and row[score] is not None
            ]
            for method in [*BASELINES, *methods]
            for score in (f"mean {quality}", f"sample {quality}")
        }
        for (method, score), points in curves.items():
            style = _style(method, methods) | {"linestyle": "-" if score[0] == "m" else ":"}
            (line,) = axes.plot(*zip(*points, strict=True) if points else ([], []), **style)
            if score[0] == "m":
                lines[method] = line
        axes.set_title(f"{link} noise {noise:g}", fontsize=FONT + 1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(problem.ratios, [f"{ratio:g}" for ratio in problem.ratios])
        axes.minorticks_off()
        axes.set_xlabel("n/m", fontsize=FONT)
        tidy(axes)
    panels[0].set_ylabel(f"{quality} in dB: mean (line), sample (dots)", fontsize=FONT)
    add_legend(figure, lines.values(), lines)


def _style(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a method; baselines are grey."""
    if method not in methods:
        grey = "0.45" if list(BASELINES).index(method) else "0.7"
        return {"color": grey, "linewidth": 1.0}
    i = methods.index(method)
    marker = _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)]
    colour = _COLOURS[i % len(_COLOURS)]
    return {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.2}


def _show(axes: "Axes", picture: Tensor, data_range: tuple[float, float]) -> None:
    low, high = data_range
    values = ((picture - low) / (high - low)).clamp(0, 1)
    array = values[0] if len(values) == 1 else values.permute(1, 2, 0)
    axes.imshow(array.cpu().numpy(), cmap="gray", vmin=0, vmax=1)


def _frame(axes: "Axes") -> None:
    """Give an empty panel the outline of a picture."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], box_aspect=1)
    for spine in axes.spines.values():
        spine.set_color("0.8")


def _spread(std: Tensor) -> Tensor:
    """Standard deviation of a pixel, over the channels its root mean square."""
    return torch.sqrt(std.square().mean(0))
