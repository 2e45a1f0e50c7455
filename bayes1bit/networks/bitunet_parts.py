"""What a BitUNet is made of besides its units: features of the input, and changes of shape.

Nothing here computes in full precision on activations of full width but sums of two of them;
everything else moves numbers about. Sums are taken in place: to touch fresh memory takes longer
than to add.
"""

import math

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.bidiffsr_parts import MakeConvolution
from bayes1bit.networks.bit_unit import interpolate, spread
from bayes1bit.networks.unet_blocks import NoiseLevel, shuffle, unshuffle


class Waves(nn.Module):
    r"""Sines and cosines of every number, in octaves, with gains interpolated in the noise level.

    A binary unit sees of a number only whether it exceeds a threshold, which is not enough to tell
    noise of a hundredth of the signal's range. Waves of short length turn such differences into
    large ones; their signs are the digits of the number in a Gray code. Noise of deviation s
    damps the mean of a wave of frequency :math:`\omega` by :math:`e^{-\omega^2 s^2 / 2}`, which
    is where the gains start. Kingma et al., "Variational diffusion models", NeurIPS 2021, use
    such features in full precision.

    Args:
        channels: Channels in.
        octaves: Number of frequencies :math:`2^j \pi`, counted from j = 0.
        sigma: Noise level at each knot, in units of the signal.
    """

    def __init__(self, channels: int, octaves: int, sigma: Tensor) -> None:
        super().__init__()
        self.octaves = octaves
        self.out_channels = 2 * octaves * channels
        frequencies = math.pi * 2.0 ** torch.arange(octaves)
        # in what the network sees, signal and noise together have unit variance
        deviation = sigma / (1 + sigma.square()).sqrt()
        damping = torch.exp(-(frequencies * deviation[:, None]).square() / 2)
        self.gain = nn.Parameter(damping.repeat_interleave(channels, 1).repeat(1, 2))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Shape (batch, channels, *space) to (batch, 2 * octaves * channels, *space)."""
        angles = torch.cat([math.pi * 2.0**j * x for j in range(self.octaves)], dim=1)
        return torch.cat((angles.sin(), angles.cos()), dim=1) * spread(
            interpolate(self.gain, places), x
        )


class UnitChain(nn.ModuleList):
    """Units one after the other."""

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape of ``x``, which is (batch, channels, *space), kept."""
        for unit in self:
            x = unit(x, level.bins)
        return x


class GroupDown(nn.Module):
    """Downsampling: units on groups of channels, summed, pixel-unshuffle: C to D channels.

    CP-Down, but for the sum of n groups, which is divided by the root of n: without normalisation
    it is left to the architecture to keep activations at the size of one.

    Args:
        convolution: Maker of the 3x3 units.
        in_channels: Channels C, a multiple of ``D / 2**dim``.
        out_channels: Channels D, a multiple of ``2**dim``.
        dim: Number of spatial dimensions.

    Raises:
        InputError: If the channels are no such multiples.
    """

    def __init__(
        self, convolution: MakeConvolution, in_channels: int, out_channels: int, *, dim: int
    ) -> None:
        super().__init__()
        self.group, rest = divmod(out_channels, 2**dim)
        if rest or in_channels % max(self.group, 1):
            raise InputError(
                f"downsampling cannot take {in_channels} to {out_channels} channels in {dim} "
                f"dimension(s): {out_channels} must be a multiple of {2**dim}, and {in_channels} "
                f"of {out_channels} / {2**dim}"
            )
        self.convolutions = nn.ModuleList(
            convolution(self.group, self.group, 3) for _ in range(in_channels // self.group)
        )

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, C, *sizes) to (batch, D, *sizes / 2)."""
        groups = x.split(self.group, dim=1)
        total = self.convolutions[0](groups[0], level.bins)
        for convolution, group in zip(self.convolutions[1:], groups[1:], strict=True):
            total = total.add_(convolution(group, level.bins))
        return unshuffle(total.mul_(len(groups) ** -0.5), 2)


class ShuffleUp(nn.Module):
    """Upsampling: pixel-shuffle, then units side by side: (C, *sizes) to (D, *sizes * 2).

    Args:
        convolution: Maker of the 3x3 units.
        in_channels: Channels C, a multiple of ``2**dim``.
        out_channels: Channels D, a multiple of ``C / 2**dim``.
        dim: Number of spatial dimensions.

    Raises:
        InputError: If the channels are no such multiples.
    """

    def __init__(
        self, convolution: MakeConvolution, in_channels: int, out_channels: int, *, dim: int
    ) -> None:
        super().__init__()
        shuffled, rest = divmod(in_channels, 2**dim)
        if rest or out_channels % max(shuffled, 1):
            raise InputError(
                f"upsampling cannot take {in_channels} to {out_channels} channels in {dim} "
                f"dimension(s): {in_channels} must be a multiple of {2**dim}, and {out_channels} "
                f"of {in_channels} / {2**dim}"
            )
        self.convolutions = nn.ModuleList(
            convolution(shuffled, shuffled, 3) for _ in range(out_channels // shuffled)
        )

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, C, *sizes) to (batch, D, *sizes * 2)."""
        x = shuffle(x, 2)
        return torch.cat([f(x, level.bins) for f in self.convolutions], dim=1)


class HalfExchange(nn.Module):
    """Fusion of two streams of C channels: exchange halves, convolve each 1x1, sum.

    Args:
        convolution: Maker of the two 1x1 units.
        channels: Channels C of each stream.
    """

    def __init__(self, convolution: MakeConvolution, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 1)
        self.second = convolution(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor, level: NoiseLevel) -> Tensor:
        """Two tensors of shape (batch, C, *sizes) to one."""
        half = x.shape[1] // 2
        first = torch.cat((x[:, :half], skip[:, half:]), dim=1)
        second = torch.cat((skip[:, :half], x[:, half:]), dim=1)
        total: Tensor = self.first(first, level.bins)
        return total.add_(self.second(second, level.bins)).mul_(0.5**0.5)
