"""The figure of a regression benchmark: templates, and how well they predict.

Above, a row for each number of trials and a column for each method: the first observer's template
as each method sees it. Coefficients without a diffusion prior have no scale of pictures, and each
panel of them is drawn over its own range. Below, log loss against the number of trials, and the
reliability curves at one of them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.bench.figure_parts import FONT, add_deviation_bar, add_legend, tidy, wrapped
from bayes1bit.bench.regression_methods import BASELINES
from bayes1bit.bench.regression_problem import Problem
from bayes1bit.bench.regression_scores import NUM_BINS
from bayes1bit.bench.shown import ShownPictures
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_SIDE, _PANEL = 1.05, 2.8
"""Inches: side of a picture, and height of the lower part."""
_SMALLEST_SHARE = 0.005
"""Bins with fewer of the answers are left out of reliability curves: they scatter."""
_COLOURS = ("#000000", "#e69f00", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#0072b2")
_MARKERS = ".osD^vP"


def check_drawable(pictures: Tensor) -> None:
    """Refuse templates that cannot be drawn.

    Args:
        pictures: Shape (count, *event).

    Raises:
        InputError: If they are not grey pictures (1, H, W).
    """
    shape = tuple(pictures.shape[1:])
    if len(shape) != 3 or shape[0] != 1:
        raise InputError(f"templates of shape {shape} cannot be drawn; expected (1, H, W)")


def plot_regression(
    problem: Problem,
    methods: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    shown: ShownPictures,
) -> "Figure":
    """Draw the outcome of a regression benchmark.

    Args:
        problem: Observers.
        methods: Names of the methods, as they were given to
            :func:`~bayes1bit.bench.regression.run_regression`.
        rows: What it returned.
        shown: What it kept, :func:`~bayes1bit.bench.regression.shown_templates`.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If templates are not grey pictures.
    """
    from matplotlib.figure import Figure

    check_drawable(problem.pictures)
    names = [*BASELINES, *methods]
    columns = len(BASELINES) + 2 * len(methods)
    heights = (_SIDE * len(problem.trials) + 0.4, _PANEL)
    width = max(_SIDE * columns + 1.0, 7.5)
    figure = Figure(figsize=(width, sum(heights)), dpi=150, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=heights)
    _draw_templates(halves[0], problem, names, columns, shown)
    _draw_scores(halves[1], problem, names, rows)
    return figure


def _draw_templates(
    figure: "SubFigure",
    problem: Problem,
    names: Sequence[str],
    columns: int,
    shown: ShownPictures,
) -> None:
    low, high = problem.prior.data_range or (
        float(problem.pictures.min()),
        float(problem.pictures.max()),
    )
    grid = figure.subplots(len(problem.trials), columns, squeeze=False)
    for axes in grid.flatten():
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    image = None
    for row, trials in zip(grid, problem.trials, strict=True):
        row[0].set_ylabel(f"{trials:,} trials", fontsize=FONT)
        panels = iter(row)
        for name in names:
            parts = shown.load(problem.key(name, trials, 0))
            own_range = name in BASELINES and name != "observer"
            axes = next(panels)
            if parts:
                limits = {} if own_range else {"vmin": low, "vmax": high}
                axes.imshow(parts["mean"][0].numpy(), cmap="gray", **limits)
            axes = axes if name in BASELINES else next(panels)
            if name not in BASELINES and "std" in parts:
                deviation = parts["std"][0].numpy()
                image = axes.imshow(deviation, cmap="viridis", vmin=0, vmax=(high - low) / 4)
    titles: list[str] = []
    for name in names:
        titles += [name] if name in BASELINES else [f"{name} mean", f"{name} std"]
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(wrapped(title), fontsize=FONT)
    if image is not None:
        add_deviation_bar(figure, image, grid, shrink=0.5, aspect=30)


def _draw_scores(
    figure: "SubFigure",
    problem: Problem,
    names: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    loss, reliability = figure.subplots(1, 2)
    middle = problem.trials[(len(problem.trials) - 1) // 2]
    lines = []
    for i, name in enumerate(names):
        style: dict[str, Any] = {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)],
            "markersize": 3.5,
            "linewidth": 1.2,
            "linestyle": "--" if name == "observer" else "-",
        }
        own = [row for row in rows if row["method"] == name and row["log loss"] is not None]
        lines += loss.plot([r["trials"] for r in own], [r["log loss"] for r in own], **style)
        for row in own:
            if row["trials"] == middle:
                reliability.plot(*_curve(row), **style)
    loss.set_xscale("log")
    loss.set_xlabel("trials", fontsize=FONT)
    loss.set_ylabel("held-out log loss, nats", fontsize=FONT)
    reliability.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    reliability.set_xlabel(f"predicted probability, {middle:,} trials", fontsize=FONT)
    reliability.set_ylabel("observed share", fontsize=FONT)
    for axes in (loss, reliability):
        tidy(axes)
    add_legend(figure, lines, names)


def _curve(row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Predicted and observed shares in the bins that hold enough of the answers."""
    points = [
        (row[f"predicted {k}"], row[f"observed {k}"])
        for k in range(1, NUM_BINS + 1)
        if (row[f"share {k}"] or 0.0) >= _SMALLEST_SHARE
    ]
    predicted, observed = torch.tensor(points).T
    return predicted, observed
