r"""Operators on the pixel grid: every pixel, or fewer and larger ones.

Super-resolution measures a picture through :class:`Downsample`. A linear resize is separable: with
one small matrix per axis, :math:`L` (h/f x h) and :math:`R` (w/f x w), each channel :math:`X`
becomes :math:`L X R^T`, and the adjoint is :math:`L^T Y R`.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.operators.arguments import positive_integer, shape_of_event
from bayes1bit.operators.base import LinearOperator


class Identity(LinearOperator, kind="Identity"):
    """Every element of the signal is measured: m = n and A A^T = I.

    Args:
        event_shape: Shape of one signal.

    Raises:
        InputError: If a size is not a positive integer.
    """

    _arguments: ClassVar[tuple[str, ...]] = ("event_shape",)

    def __init__(self, event_shape: int | Sequence[int]) -> None:
        shape = shape_of_event(event_shape)
        super().__init__(shape, shape.numel(), row_gram=1.0)

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, v: Tensor) -> Tensor:
        return v.clone()


class Downsample(LinearOperator, kind="Downsample"):
    r"""A picture at a lower resolution, flattened to m measurements.

    The kernel "box" averages blocks of f x f pixels; its rows are orthogonal with
    :math:`A A^T = f^{-2} I`. The kernel "bicubic" is that of image libraries (MATLAB's
    ``imresize``, Pillow): the cubic convolution of Keys (IEEE Trans. ASSP 1981) with a = -1/2,
    stretched by the factor so that it removes what the coarse grid cannot hold, with weights that
    are normalised again where it reaches over the border.

    Args:
        event_shape: Shape of one picture, (height, width) or (channels, height, width).
        factor: The factor f, which divides height and width.
        kernel: "box" or "bicubic".

    Attributes:
        output_shape: Shape of the small picture: ``A(x).unflatten(-1, A.output_shape)``.

    Raises:
        InputError: If the shape is not that of a picture, the factor does not divide it, or the
            kernel is unknown.
    """

    _arguments: ClassVar[tuple[str, ...]] = ("event_shape", "factor", "kernel")

    def __init__(self, event_shape: Sequence[int], factor: int, kernel: str = "box") -> None:
        shape = shape_of_event(event_shape)
        self.factor = positive_integer("factor", factor)
        if len(shape) not in (2, 3):
            raise InputError(
                "event_shape must be (height, width) or (channels, height, width), "
                f"got {tuple(shape)}"
            )
        if any(size % self.factor for size in shape[-2:]):
            raise InputError(f"factor {factor} does not divide the picture {tuple(shape[-2:])}")
        if not isinstance(kernel, str) or kernel not in _KERNELS:
            raise InputError(f"unknown kernel {kernel!r}; known are {', '.join(_KERNELS)}")
        self.kernel = kernel
        self.output_shape = torch.Size(
            [*shape[:-2], shape[-2] // self.factor, shape[-1] // self.factor]
        )
        row_gram = self.factor**-2.0 if kernel == "box" else None
        super().__init__(shape, self.output_shape.numel(), row_gram)
        weights = _KERNELS[kernel]
        self._vertical = weights(shape[-2], self.factor)
        self._horizontal = weights(shape[-1], self.factor)

    def _forward(self, x: Tensor) -> Tensor:
        pictures = x.reshape(-1, *self.event_shape)
        narrow = pictures @ self._horizontal.to(x.dtype).T
        return (self._vertical.to(x.dtype) @ narrow).flatten(1)

    def _adjoint(self, v: Tensor) -> Tensor:
        pictures = v.reshape(-1, *self.output_shape)
        tall = self._vertical.to(v.dtype).T @ pictures
        return (tall @ self._horizontal.to(v.dtype)).flatten(1)

    @property
    def row_norms_squared(self) -> Tensor:
        """Squared norm of each row, the diagonal of A A^T, shape (m,); computed at each access."""
        vertical, horizontal = (w.square().sum(1) for w in (self._vertical, self._horizontal))
        one_channel = torch.outer(vertical, horizontal).to(self.dtype)
        return one_channel.expand(self.output_shape).flatten()

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._move(device, dtype)
        self._vertical = self._vertical.to(device)
        self._horizontal = self._horizontal.to(device)


def _box_weights(size: int, factor: int) -> Tensor:
    """Averages over runs of ``factor`` pixels, shape (size / factor, size), double precision."""
    return torch.eye(size // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


def _bicubic_weights(size: int, factor: int) -> Tensor:
    """Stretched cubic weights, shape (size / factor, size), double precision; rows sum to one."""
    centres = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor
    pixels = torch.arange(size, dtype=torch.float64) + 0.5
    distance = ((pixels - centres[:, None]) / factor).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


_KERNELS = {"box": _box_weights, "bicubic": _bicubic_weights}
