r"""A binary unit whose constants glide with the noise level.

BI-DiffSR chooses the constants around a binary convolution by the bin that the noise level falls
in, so its denoiser jumps where one bin ends and the next begins. Here the constants are given at K
knots, equally spaced in log sigma, and interpolated linearly between neighbours: as cheap, and
continuous in the level. And the scale behind the convolution, there the mean magnitude of the
latent weights, is learnt along with them (Bulat and Tzimiropoulos, "XNOR-Net++", BMVC 2019), so
that without any normalisation the size of a response can follow the level, and does not drift with
the latent weights.

A unit computes, with all constants those of the sample's level,

.. math::

    c = \operatorname{sign}(w) * \operatorname{sign}(x + b), \quad
    t = \frac{g}{\sqrt{n}}\, c + b', \quad
    u = \max(t, 0) + a \min(t, 0) + b'', \quad u + x,

where n is the number of weights behind one output, whose root is the standard deviation of an
integer c of random signs. It is the fixed order of
:mod:`~bayes1bit.networks.binary_units`, so one pass of the packed kernel computes the same.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from bayes1bit.networks.binarize import channel_scale, straight_through_sign
from bayes1bit.networks.binary_base import CONVOLUTIONS, BinaryUnit
from bayes1bit.networks.time_aware import INITIAL_SLOPE

INITIAL_GAIN = 0.5
INITIAL_AFTER = -INITIAL_GAIN * (1 - INITIAL_SLOPE) / math.sqrt(2 * math.pi)
"""Minus the mean of the PReLU of a normal variable, so that units do not shift the identity."""


class Constants(NamedTuple):
    """Constants of a unit, at the knots or at the levels of a batch.

    Attributes:
        shift: Shift in front of the sign, shape (rows, in_channels).
        scale: Scale of the response, shape (rows, out_channels), as are the others.
        before: Shift in front of the PReLU.
        slope: Slope of the PReLU for negative values.
        after: Shift behind the PReLU.
    """

    shift: Tensor
    scale: Tensor
    before: Tensor
    slope: Tensor
    after: Tensor

    def at(self, places: Tensor) -> "Constants":
        """Constants at the levels of a batch; see :func:`interpolate`."""
        rows = interpolate(torch.cat(self, dim=1), places)
        return Constants(*rows.split([part.shape[1] for part in self], dim=1))


class BitUnit(BinaryUnit):
    """A binary convolution between constants interpolated in the noise level.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the kernel, odd; borders are padded to keep the size.
        dim: Number of spatial dimensions, 1 or 2.
        pairs: Number K of knots.
        identity: Whether the input is added to the response where the channels agree.

    Raises:
        InputError: As :class:`~bayes1bit.networks.BinaryUnit`.
    """

    time_aware = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        dim: int = 2,
        pairs: int = 1,
        identity: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, dim=dim, pairs=pairs, identity=identity
        )
        self.shift = nn.Parameter(torch.zeros(pairs, in_channels))
        self.gain = nn.Parameter(torch.full((pairs, out_channels), INITIAL_GAIN))
        self.before = nn.Parameter(torch.zeros(pairs, out_channels))
        self.slope = nn.Parameter(torch.full((pairs, out_channels), INITIAL_SLOPE))
        self.after = nn.Parameter(torch.full((pairs, out_channels), INITIAL_AFTER))

    @property
    def constants(self) -> Constants:
        """The constants at the knots."""
        scale = self.gain / math.sqrt(self.weight[0].numel())
        return Constants(self.shift, scale, self.before, self.slope, self.after)

    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """Response without the identity.

        Args:
            x: Activations, shape (batch, in_channels, *space).
            bins: Place of the level of each sample among the knots, a real number in [0, K - 1],
                shape (batch,).

        Returns:
            Shape (batch, out_channels, *space).
        """
        if self.real_weights:
            weight = self.weight / self.per_output(channel_scale(self.weight))
        else:
            weight = straight_through_sign(self.weight)
        return respond(x, weight, self.constants.at(bins))

    def per_output(self, scale: Tensor) -> Tensor:
        """Scales of the output channels, shape (out_channels,), ready to divide the weights."""
        return scale.view(-1, *[1] * (self.dim + 1))


def respond(x: Tensor, weight: Tensor, constants: Constants) -> Tensor:
    """Shift, sign, convolution, scale and RPReLU, with slopes in place of the sign's derivative.

    Args:
        x: Activations, shape (batch, in_channels, *space).
        weight: What their signs are convolved with, shape (out_channels, in_channels, *kernel).
        constants: Constants of each sample, or one row for all.

    Returns:
        Shape (batch, out_channels, *space).
    """
    rows = (spread(part, x) for part in constants)
    return _Response.apply(x, weight.to(x.dtype), *rows)[0]


class _Response(Function):
    """A unit from its shift to its RPReLU, with the gradients of those that it is made of.

    That is :func:`~bayes1bit.networks.binarize.quadratic_sign` and
    :func:`~bayes1bit.networks.time_aware.rprelu`; together they take half the passes over the
    activations. What is kept for the backward pass is returned as well, as it must be.
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        shift: Tensor,
        scale: Tensor,
        before: Tensor,
        slope: Tensor,
        after: Tensor,
    ) -> tuple[Tensor, ...]:
        # a sum is -0 only if both terms are, and 0 + -0 is not: no -0 goes into the sign
        shifted = x + (shift + 0.0)
        signs = torch.copysign(shifted.new_ones(()), shifted)
        sums = CONVOLUTIONS[x.ndim - 2](signs, weight, padding=weight.shape[-1] // 2)
        t = (sums * scale).add_(before)
        positive = F.relu(t)
        # max(t, 0) + slope * min(t, 0): exactly t or exactly slope * t, without a slow select
        return (t - positive).mul_(slope).add_(positive).add_(after), shifted, signs, sums, t

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:], inputs[1], inputs[3], inputs[5])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        shifted, signs, sums, t, weight, scale, slope = ctx.saved_tensors
        # gradients come in any order of memory, and passes over two orders are slow
        gradient = torch.empty_like(t).copy_(gradient)
        positive = torch.ops.aten.threshold_backward(gradient, t, 0)
        negative = gradient - positive
        into_slope = (negative * t).sum_to_size(slope.shape)
        into_t = negative.mul_(slope).add_(positive)
        into_before = into_t.sum_to_size(slope.shape)
        into_scale = (into_t * sums).sum_to_size(slope.shape)
        dim, side = t.ndim - 2, weight.shape[-1]
        into_signs, into_weight, _ = torch.ops.aten.convolution_backward(
            into_t.mul_(scale), signs, weight, None, [1] * dim, [side // 2] * dim, [1] * dim,
            False, [0] * dim, 1, [True, True, False],
        )  # fmt: skip
        into_x = shifted.abs().mul_(-2).add_(2).clamp_(min=0).mul_(into_signs)
        into_shift = into_x.sum_to_size((slope.shape[0], *into_x.shape[1:2], *[1] * dim))
        into_after = gradient.sum_to_size(slope.shape)
        return into_x, into_weight, into_shift, into_scale, into_before, into_slope, into_after


def interpolate(table: Tensor, places: Tensor) -> Tensor:
    """Constants at the levels of a batch, linear between knots.

    Args:
        table: Constants at K knots, shape (K, channels).
        places: Real numbers in [0, K - 1], shape (batch,).

    Returns:
        A row for each sample, shape (batch, channels); the only one there is if K is 1.
    """
    knots = len(table)
    if knots == 1:
        return table
    below = places.floor().clamp(0, knots - 2)
    low, high = (F.embedding(below.long() + step, table) for step in (0, 1))
    # not a matrix product, whose rounding depends on how many samples there are
    return low + (places - below)[:, None] * (high - low)


def spread(rows: Tensor, like: Tensor) -> Tensor:
    """Rows (batch or 1, channels) ready to broadcast, in the type of ``like``."""
    return rows.to(like.dtype).view(*rows.shape, *[1] * (like.ndim - 2))
