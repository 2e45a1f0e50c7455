"""Figures as bytes of PNG files, each with words for those who cannot see it."""

import io
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
