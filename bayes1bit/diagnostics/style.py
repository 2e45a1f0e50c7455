"""How figures look: colours, a plain pair of axes, and a legend that hides nothing.

Figures are made without pyplot: nothing is shown, no window opened, no global state changed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue, orange, green and grey of Okabe and Ito, which every kind of colour vision tells apart.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#595959"
COLOURS = (BLUE, ORANGE, GREEN, GREY)
MARKERS = "osD^vPX*"
"""Shapes that tell points apart in print, where colours do not."""

FONT = 8


def new_axes(height: float = 3.0, width: float = 5.6) -> tuple["Figure", "Axes"]:
    """A figure with one plain pair of axes; sizes are inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def new_panels(
    count: int, columns: int, width: float = 2.5, height: float = 2.0
) -> tuple["Figure", list["Axes"]]:
    """A figure with a grid of plain panels, the last ones of which may be left out.

    Args:
        count: Number of panels.
        columns: Most panels in a row.
        width: Inches of one panel.
        height: Inches of one panel.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    size = (width * columns, height * rows + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes in panels[:count]:
        tidy(axes)
    return figure, panels[:count]


def add_legend(figure: "Figure", columns: int = 4) -> None:
    """A legend above the axes, each label once."""
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=columns,
        fontsize=FONT,
        frameon=False,
    )


def tidy(axes: "Axes") -> None:
    """A light grid, and no frame above and to the right."""
    axes.tick_params(labelsize=FONT)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
