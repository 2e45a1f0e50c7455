"""What all binary convolution units share: latent weights, the identity, and what a packer needs.

The weights of a unit are *latent*: full-precision numbers that an optimizer moves, and of which
only the signs are convolved. A latent weight that has wandered far from zero has a confident sign;
one near zero flips. The latent weights are thrown away when a trained network is packed.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.errors import InputError

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d}


class PackedTensors(NamedTuple):
    """All that evaluates a unit whose response is a scaled integer, detached.

    Attributes:
        weight: Weights whose signs are convolved, shape (out_channels, in_channels, *kernel).
        scale: Scale of each output channel, shape (out_channels,).
        shift: Shift in front of the sign, shape (pairs, in_channels).
        before: Shift in front of the PReLU, shape (pairs, out_channels).
        slope: Slope of the PReLU for negative values, shape (pairs, out_channels).
        after: Shift behind the PReLU, shape (pairs, out_channels).
    """

    weight: Tensor
    scale: Tensor
    shift: Tensor
    before: Tensor
    slope: Tensor
    after: Tensor


class BinaryUnit(nn.Module, ABC):
    """A convolution of binary activations with binary weights, and its repairs.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Side of the kernel, odd; borders are padded to keep the size.
        dim: Number of spatial dimensions, 1 or 2.
        pairs: Number K of constants to choose from by noise level. Only units that are
            ``time_aware`` have more than one.
        identity: Whether the input is added to the response where the channels agree.

    Raises:
        InputError: If ``kernel_size`` is even, ``dim`` is not 1 or 2, or a number of channels or
            pairs is not positive.
    """

    time_aware: ClassVar[bool] = False
    real_weights = False
    """Whether the weights are not binary yet; see :func:`use_real_weights`."""

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
        super().__init__()
        if dim not in CONVOLUTIONS:
            raise InputError(f"a binary unit works in 1 or 2 dimensions, got dim {dim}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be odd, to keep the size, got {kernel_size}")
        if min(in_channels, out_channels, pairs) < 1:
            raise InputError(
                "a binary unit needs at least one channel in, one out and one pair, got "
                f"{in_channels}, {out_channels} and {pairs}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.dim = kernel_size, dim
        self.pairs = pairs if self.time_aware else 1
        self.identity = identity and in_channels == out_channels
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, *[kernel_size] * dim),
        )
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor, bins: Tensor) -> Tensor:
        """Response of the unit, with the identity if it has one.

        Args:
            x: Activations, shape (batch, in_channels, *space).
            bins: Bin of the noise level of each sample, int64, shape (batch,).

        Returns:
            Shape (batch, out_channels, *space).
        """
        response = self.respond(x, bins)
        return response + x if self.identity else response

    @abstractmethod
    def respond(self, x: Tensor, bins: Tensor) -> Tensor:
        """Response without the identity; arguments and shape as in :meth:`forward`."""

    def packable(self) -> PackedTensors | None:
        """Constants of the unit for a packed kernel, or None if it needs more than bits."""
        return None

    def anneal(self, progress: float) -> None:
        """Tell the unit how far training has come, in [0, 1]; most do not care."""

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"dim={self.dim}, pairs={self.pairs}, identity={self.identity}"
        )

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolution with zero padding that keeps the size.

        Args:
            x: Input, shape (batch, in_channels, *sizes).
            weight: Weights, shape (out_channels, in_channels, *kernel).
        """
        return CONVOLUTIONS[self.dim](x, weight, padding=self.kernel_size // 2)

    def per_channel(self, scale: Tensor, like: Tensor) -> Tensor:
        """Scales of the output channels, shape (out_channels,), ready to multiply ``like``."""
        return scale.to(like.dtype).view(-1, *[1] * self.dim)

    def bare(self, weight: Tensor, scale: Tensor) -> PackedTensors:
        """Constants of a unit that has neither shifts nor an activation.

        Args:
            weight: Weights, shape (out_channels, in_channels, *kernel).
            scale: Scales of the output channels, shape (out_channels,).
        """
        zeros = weight.new_zeros(1, self.out_channels)
        return PackedTensors(
            weight.detach(),
            scale,
            weight.new_zeros(1, self.in_channels),
            zeros,
            torch.ones_like(zeros),
            zeros,
        )


def anneal(network: nn.Module, progress: float) -> None:
    """Tell all binary units of a network how far training has come.

    Args:
        network: Any module.
        progress: Fraction of training that is done, in [0, 1].

    Raises:
        InputError: If ``progress`` lies outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise InputError(f"progress is a fraction in [0, 1], got {progress}")
    for module in network.modules():
        if isinstance(module, BinaryUnit):
            module.anneal(progress)


def use_real_weights(network: nn.Module, real: bool) -> None:
    """Let units that can convolve with real weights do so, or with binary ones again.

    Training in two steps binarizes the activations first and the weights later, from where the
    first step has brought them: Martinez et al., "Training binary neural networks with
    real-to-binary convolutions", ICLR 2020, and ReActNet.

    Args:
        network: Any module; its :class:`~bayes1bit.networks.bit_unit.BitUnit` can.
        real: Whether the weights are real.
    """
    for module in network.modules():
        if isinstance(module, BinaryUnit):
            module.real_weights = real
