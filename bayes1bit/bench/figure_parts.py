"""What the figures of benchmarks share: small letters, wrapped names, plain axes, a colour bar."""

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

FONT = 7
TITLE, LEGEND = 18, 32
"""Characters in a line of a title over a picture, and of a legend."""


def wrapped(name: str, width: int = TITLE) -> str:
    """The name of a method, in lines of at most so many characters."""
    return "\n".join(textwrap.wrap(name, width))


def tidy(axes: "Axes") -> None:
    """Small ticks, a light grid, and no frame above and to the right."""
    axes.tick_params(labelsize=FONT, length=2)
    axes.grid(color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: "SubFigure", handles: Iterable[Any], names: Iterable[str]) -> None:
    """A legend of methods to the right of the axes."""
    figure.legend(
        handles,
        [wrapped(name, LEGEND) for name in names],
        loc="outside right upper",
        fontsize=FONT,
        frameon=False,
    )


def add_deviation_bar(
    figure: "SubFigure", image: Any, axes: Any, *, shrink: float, aspect: float
) -> None:
    """The colours of standard deviations, which may go on beyond the end."""
    bar = figure.colorbar(image, ax=axes, shrink=shrink, aspect=aspect, pad=0.01, extend="max")
    bar.set_label("standard deviation", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
