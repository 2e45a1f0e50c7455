r"""Redistribution and activation that know the noise level: BI-DiffSR's TaR and TaA.

A sign keeps of an activation only on which side of zero it lies, so where zero lies decides what
is kept. In a diffusion network the activations drift with the noise level, and one learnt zero
cannot suit all levels. BI-DiffSR cuts the range of levels into K bins and learns, for every
binary convolution, one shift in front (time-aware redistribution, TaR) and one RPReLU behind
(time-aware activation, TaA) per bin. Only the constants multiply, not the operations.

The bin is chosen for every sample of the batch by itself. Chen et al., "Binarized diffusion model
for image super-resolution", NeurIPS 2024; RPReLU is from Liu et al., "ReActNet", ECCV 2020.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

INITIAL_SLOPE = 0.25


class TaR(nn.Module):
    r"""Time-aware redistribution: :math:`x + b_k`, a learnt shift per channel and bin.

    Args:
        channels: Channels of the activations.
        pairs: Number K of bins.
    """

    def __init__(self, channels: int, pairs: int = 1) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(pairs, channels))

    def forward(self, x: Tensor, bins: Tensor) -> Tensor:
        """Shift every sample by the shifts of its bin.

        Args:
            x: Activations, shape (batch, channels, *space).
            bins: Bin of each sample, shape (batch,), in 0 .. K - 1.

        Returns:
            Shifted activations, shape and type of ``x``.
        """
        return x + rows(self.shift, bins, x)


class TaA(nn.Module):
    r"""Time-aware activation: an RPReLU per channel and bin.

    .. math::

        t = y + b_k, \qquad \mathrm{TaA}(y) = \max(t, 0) + a_k \min(t, 0) + c_k

    Args:
        channels: Channels of the activations.
        pairs: Number K of bins.
    """

    def __init__(self, channels: int, pairs: int = 1) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.zeros(pairs, channels))
        self.slope = nn.Parameter(torch.full((pairs, channels), INITIAL_SLOPE))
        self.after = nn.Parameter(torch.zeros(pairs, channels))

    def forward(self, y: Tensor, bins: Tensor) -> Tensor:
        """Apply to every sample the RPReLU of its bin.

        Args:
            y: Responses of a convolution, shape (batch, channels, *space).
            bins: Bin of each sample, shape (batch,), in 0 .. K - 1.

        Returns:
            Activations, shape and type of ``y``.
        """
        before, slope, after = (rows(p, bins, y) for p in (self.before, self.slope, self.after))
        return rprelu(y, before, slope, after)


class RPReLU(TaA):
    """ReActNet's activation, the same at all noise levels: a :class:`TaA` of one bin."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, pairs=1)


def rows(table: Tensor, bins: Tensor, like: Tensor) -> Tensor:
    """Row of a (pairs, channels) table for every sample, ready to broadcast.

    Args:
        table: Constants, shape (pairs, channels).
        bins: Bin of each sample, shape (batch,); not looked at if there is one pair.
        like: Activations, shape (batch, channels, *space), whose type the rows take.

    Returns:
        Shape (batch or 1, channels, 1, ...).
    """
    chosen = table if len(table) == 1 else table[bins]
    return chosen.to(like.dtype).view(-1, table.shape[1], *[1] * (like.ndim - 2))


def rprelu(y: Tensor, before: Tensor, slope: Tensor, after: Tensor) -> Tensor:
    """Shift, PReLU, shift, in one step that keeps one tensor for the backward pass.

    Args:
        y: Shape (batch, channels, *space).
        before: Shift in front, shape (batch or 1, channels, 1, ...).
        slope: Slope of negative values, same shape as ``before``.
        after: Shift behind, same shape as ``before``.

    Returns:
        Activations, shape of ``y``.
    """
    return _RPReLU.apply(y, before, slope, after)[0]


class _RPReLU(Function):
    """The shifted input is returned as well, as that is how intermediates may be kept."""

    @staticmethod
    def forward(y: Tensor, before: Tensor, slope: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        t = y + before
        positive = F.relu(t)
        # max(t, 0) + slope * min(t, 0): exactly t or exactly slope * t, without a slow select
        return (t - positive).mul_(slope).add_(positive).add_(after), t

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        t = output[1]
        ctx.mark_non_differentiable(t)
        ctx.save_for_backward(t, inputs[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        t, slope = ctx.saved_tensors
        positive = torch.ops.aten.threshold_backward(gradient, t, 0)
        negative = gradient - positive
        into_slope = (negative * t).sum_to_size(slope.shape)
        into_y = negative.mul_(slope).add_(positive)
        return (
            into_y,
            into_y.sum_to_size(slope.shape),
            into_slope,
            gradient.sum_to_size(slope.shape),
        )
