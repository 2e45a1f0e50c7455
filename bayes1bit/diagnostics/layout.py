"""Rows and grids of equally large picture panels.

matplotlib's layout engines resize a panel to make room for its colour bar, so that one panel of a
row comes out smaller than its neighbours. Here every panel has the same size in inches, set before
anything is drawn, and the figure grows with what has to fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayes1bit.diagnostics.waveforms import is_waveform
from bayes1bit.errors import InputError
from bayes1bit.pictures import is_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP, _TITLE, _FOOT, _BAR = 0.12, 0.24, 0.22, 0.55
"""Inches between panels, above them, below them, and beside one that has a colour bar."""
_FONT = 8


def can_be_drawn(event_shape: Sequence[int]) -> bool:
    """Whether signals of a shape are pictures (H, W), (1 or 3, H, W) or lines (L,), (1, L)."""
    return is_waveform(event_shape) or is_picture(event_shape) or len(event_shape) == 2


def check_drawable(event_shape: Sequence[int]) -> None:
    """Refuse signals that are neither pictures nor lines.

    Raises:
        InputError: If :func:`can_be_drawn` says no.
    """
    if not can_be_drawn(event_shape):
        raise InputError(
            f"signals of shape {tuple(event_shape)} cannot be drawn; expected pictures (H, W), "
            f"(1, H, W), (3, H, W) or lines (L,), (1, L)"
        )


@dataclass
class _Panel:
    """One panel: its title, how to draw it, and what it needs around it."""

    title: str
    draw: Callable[["Axes"], None]
    has_bar: bool = False
    has_legend: bool = False


class PictureRow:
    """Panels of one picture size, laid out in rows.

    Args:
        size: Height and width of the pictures in pixels.
        columns: Panels in a row; None puts all in one row.
        limits: Values (low, high) of black and white.
        side: Side in inches of a square panel; others have the same area.
    """

    def __init__(
        self, size: Sequence[int], columns: int | None, limits: tuple[float, float], side: float
    ) -> None:
        scale = side / (size[0] * size[1]) ** 0.5
        self.height, self.width = size[0] * scale, size[1] * scale
        self.columns, self.limits = columns, limits
        self.panels: list[_Panel] = []

    def add_picture(self, picture: Tensor, title: str) -> None:
        """Add a picture of shape (H, W), (1, H, W) or (3, H, W).

        Values outside the limits are drawn as black or white.
        """
        low, high = self.limits
        values = ((picture.detach().double() - low) / (high - low)).clamp(0, 1).cpu()
        values = values[0] if values.dim() == 3 and values.shape[0] == 1 else values
        array = (values.permute(1, 2, 0) if values.dim() == 3 else values).numpy()

        def draw(axes: "Axes") -> None:
            axes.imshow(array, cmap="gray", vmin=0, vmax=1, interpolation="nearest")

        self.panels.append(_Panel(title, draw))

    def add_map(self, values: Tensor, title: str, top: float | None = None) -> None:
        """Add a non-negative map of shape (H, W) or (1, H, W) with a colour bar from zero.

        A map of NaN (the spread of a single sample) is left blank and says so.

        Args:
            values: The map.
            title: Title of the panel.
            top: Value at the upper end of the colour bar; None takes the largest one.
        """
        array = values.detach().double().reshape(values.shape[-2:]).cpu()
        known = bool(torch.isfinite(array).all())
        if top is None:
            top = max(float(array.max()), 1e-12) if known else 1.0

        def draw(axes: "Axes") -> None:
            if not known:
                axes.set_facecolor("0.93")
                axes.text(
                    0.5,
                    0.5,
                    "unknown from\none sample",
                    fontsize=_FONT,
                    ha="center",
                    va="center",
                    transform=axes.transAxes,
                )
                return
            image = axes.imshow(
                array.numpy(), cmap="viridis", vmin=0, vmax=top, interpolation="nearest"
            )
            bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.06, 1.0)))
            bar.ax.tick_params(labelsize=_FONT - 1, length=2, pad=1.5)
            bar.outline.set_linewidth(0.5)

        self.panels.append(_Panel(title, draw, has_bar=known))

    def add_misses(
        self, above: Tensor, below: Tensor, title: str, colours: Mapping[str, str]
    ) -> None:
        """Add a map of where a truth lies above and below an interval, with a legend.

        Args:
            above: Booleans of shape (H, W).
            below: Booleans of shape (H, W).
            title: Title of the panel.
            colours: Colour of pixels above and of pixels below, by their names in the legend;
                the others are white.
        """
        codes = (above.long() + 2 * below.long()).cpu().numpy()

        def draw(axes: "Axes") -> None:
            from matplotlib.colors import ListedColormap
            from matplotlib.patches import Patch

            axes.imshow(
                codes,
                cmap=ListedColormap(["white", *colours.values()]),
                vmin=-0.5,
                vmax=2.5,
                interpolation="nearest",
            )
            axes.legend(
                handles=[Patch(color=colour, label=name) for name, colour in colours.items()],
                loc="upper center",
                bbox_to_anchor=(0.5, -0.01),
                ncols=2,
                fontsize=_FONT - 1,
                frameon=False,
                handlelength=0.8,
                handletextpad=0.3,
                columnspacing=0.8,
                borderpad=0.1,
            )

        self.panels.append(_Panel(title, draw, has_legend=True))

    def figure(self) -> "Figure":
        """Lay out all panels and draw them."""
        from matplotlib.figure import Figure

        columns = self.columns or len(self.panels)
        rows = -(-len(self.panels) // columns)
        lefts, edge = [], _GAP
        for column in range(columns):
            lefts.append(edge)
            has_bar = any(panel.has_bar for panel in self.panels[column::columns])
            edge += self.width + _GAP + (_BAR if has_bar else 0.0)
        top = _TITLE if any(panel.title for panel in self.panels) else 0.0
        foot = _FOOT if any(panel.has_legend for panel in self.panels) else 0.0
        pitch = top + self.height + foot + _GAP
        total_width, total_height = edge, rows * pitch + _GAP
        figure = Figure(figsize=(total_width, total_height), dpi=150)
        for i, panel in enumerate(self.panels):
            bottom = total_height - (i // columns + 1) * pitch + foot
            axes = figure.add_axes(
                (
                    lefts[i % columns] / total_width,
                    bottom / total_height,
                    self.width / total_width,
                    self.height / total_height,
                )
            )
            panel.draw(axes)
            axes.set_title(panel.title, fontsize=_FONT, pad=4)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(linewidth=0.5, color="0.5")
        return figure
