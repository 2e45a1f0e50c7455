"""Figures as bytes of PNG files, each with words for those who cannot see it."""

import io
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue, orange, green and grey of Okabe and Ito, which every kind of colour vision tells apart.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#595959"


class Drawing(NamedTuple):
    """A figure of the page.

    Attributes:
        png: The picture.
        alt: What it shows, for those who cannot see it.
        caption: What stands below it.
        pixels: Whether it is a small picture of pixels that a page enlarges.
    """

    png: bytes
    alt: str
    caption: str
    pixels: bool = False


def encode_figure(figure: "Figure") -> bytes:
    """A matplotlib figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def encode_picture(picture: Tensor, limits: tuple[float, float]) -> bytes:
    """A picture as a PNG file with one pixel for each of its own.

    Args:
        picture: Shape (H, W), (1, H, W) or (3, H, W).
        limits: Values of black and white; values outside are drawn so, too.
    """
    from PIL import Image

    low, high = limits
    levels = ((picture.detach().cpu().double() - low) * (255 / (high - low))).round().clamp(0, 255)
    levels = levels.to(torch.uint8)
    array = levels.movedim(0, -1) if levels.dim() == 3 else levels
    buffer = io.BytesIO()
    Image.fromarray(array.squeeze(-1).numpy() if array.dim() == 3 else array.numpy()).save(
        buffer, format="PNG"
    )
    return buffer.getvalue()


def new_axes(height: float = 3.0, width: float = 5.6) -> tuple["Figure", "Axes"]:
    """A figure with one plain pair of axes; sizes are inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def add_legend(figure: "Figure") -> None:
    """A legend above the axes, where it hides nothing."""
    figure.legend(loc="outside upper center", ncols=4, fontsize=8, frameon=False)


def tidy(axes: "Axes") -> None:
    """A light grid, and no frame above and to the right."""
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
