r"""How BI-DiffSR changes resolution and fuses streams without breaking the identity.

A binary convolution alone destroys most of its input; what saves a binarized network is the
full-precision identity around each one, and an identity needs equal shapes on both sides. The
usual UNet breaks it wherever channels change: in downsampling, in upsampling, and where a skip
connection doubles the channels. BI-DiffSR changes shapes only by moving numbers about (splitting,
concatenating, pixel-shuffling), and convolves between equal numbers of channels:

- **CP-Down** (consistent-pixel downsampling): split the channels, convolve each group, sum,
  pixel-unshuffle;
- **CP-Up**: convolve several times, concatenate, pixel-shuffle;
- **CS-Fusion** (channel-shuffle fusion): exchange every other channel of the two streams, so that
  both halves have the range of activations of both, convolve each, sum.

The published network doubles the channels as it halves the sides of a picture: two groups, two
convolutions. In general a pixel-unshuffle by 2 in d dimensions multiplies channels by
:math:`2^d`, so going from C to D channels takes :math:`2^d C / D` groups down, and back as many
convolutions up. Doubling the channels of a signal in one dimension takes one.

Chen et al., "Binarized diffusion model for image super-resolution", NeurIPS 2024, section 3.2,
and their ablations for the plain forms beside them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.unet_blocks import NoiseLevel, shuffle, unshuffle

MakeConvolution = Callable[[int, int, int], nn.Module]
"""From channels in, channels out and kernel size to a module called with (x, bins)."""


class CPDown(nn.Module):
    """Consistent-pixel downsampling: (C, *sizes) to (D, *sizes / 2).

    Args:
        convolution: Maker of the 3x3 convolutions.
        in_channels: Channels C.
        out_channels: Channels D, such that ``D / 2**dim`` is whole and divides C.
        dim: Number of spatial dimensions.

    Raises:
        InputError: If the channels cannot be split into such groups.
    """

    def __init__(
        self, convolution: MakeConvolution, in_channels: int, out_channels: int, *, dim: int
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.group = out_channels // 2**dim
        groups = in_channels // max(self.group, 1)
        if self.group * 2**dim != out_channels or groups * self.group != in_channels:
            raise InputError(
                f"CP-Down cannot take {in_channels} to {out_channels} channels in {dim} "
                f"dimension(s): {in_channels} must be a multiple of {out_channels} / {2**dim}"
            )
        self.convolutions = nn.ModuleList(
            convolution(self.group, self.group, 3) for _ in range(groups)
        )

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, C, *sizes) to (batch, D, *sizes / 2)."""
        groups = x.split(self.group, dim=1)
        first, *others = (
            convolution(group, level.bins)
            for convolution, group in zip(self.convolutions, groups, strict=True)
        )
        return unshuffle(sum(others, start=first), 2)


class CPUp(nn.Module):
    """Consistent-pixel upsampling: (C, *sizes) to (D, *sizes * 2).

    Args:
        convolution: Maker of the 3x3 convolutions.
        in_channels: Channels C.
        out_channels: Channels D, such that ``2**dim * D / C`` is whole.
        dim: Number of spatial dimensions.

    Raises:
        InputError: If that is not whole.
    """

    def __init__(
        self, convolution: MakeConvolution, in_channels: int, out_channels: int, *, dim: int
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        copies, rest = divmod(out_channels * 2**dim, in_channels)
        if rest:
            raise InputError(
                f"CP-Up cannot take {in_channels} to {out_channels} channels in {dim} "
                f"dimension(s): {out_channels} * {2**dim} must be a multiple of {in_channels}"
            )
        self.convolutions = nn.ModuleList(
            convolution(in_channels, in_channels, 3) for _ in range(copies)
        )

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, C, *sizes) to (batch, D, *sizes * 2)."""
        return shuffle(torch.cat([f(x, level.bins) for f in self.convolutions], dim=1), 2)


class PlainDown(nn.Module):
    """What CP-Down replaces: one convolution to D / 2**dim channels, then pixel-unshuffle."""

    def __init__(
        self, convolution: MakeConvolution, in_channels: int, out_channels: int, *, dim: int
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        if out_channels % 2**dim:
            raise InputError(
                f"a pixel-unshuffle in {dim} dimension(s) makes a multiple of {2**dim} channels, "
                f"not {out_channels}"
            )
        self.convolution = convolution(in_channels, out_channels // 2**dim, 3)

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, C, *sizes) to (batch, D, *sizes / 2)."""
        return unshuffle(self.convolution(x, level.bins), 2)


class PlainUp(nn.Module):
    """What CP-Up replaces: one convolution to D * 2**dim channels, then pixel-shuffle."""

    def __init__(
        self, convolution: MakeConvolution, in_channels: int, out_channels: int, *, dim: int
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.convolution = convolution(in_channels, out_channels * 2**dim, 3)

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Shape (batch, C, *sizes) to (batch, D, *sizes * 2)."""
        return shuffle(self.convolution(x, level.bins), 2)


class CSFusion(nn.Module):
    """Channel-shuffle fusion of two streams of C channels into one.

    Args:
        convolution: Maker of the two 1x1 convolutions.
        channels: Channels C of each stream.
    """

    def __init__(self, convolution: MakeConvolution, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.first = convolution(channels, channels, 1)
        self.second = convolution(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor, level: NoiseLevel) -> Tensor:
        """Two tensors of shape (batch, C, *sizes) to one."""
        first = torch.cat((x[:, 1::2], skip[:, 0::2]), dim=1)
        second = torch.cat((x[:, 0::2], skip[:, 1::2]), dim=1)
        output: Tensor = self.first(first, level.bins) + self.second(second, level.bins)
        return output


class SplitFusion(CSFusion):
    """CS-Fusion without the exchange: each stream is convolved by itself."""

    def forward(self, x: Tensor, skip: Tensor, level: NoiseLevel) -> Tensor:
        """Two tensors of shape (batch, C, *sizes) to one."""
        output: Tensor = self.first(x, level.bins) + self.second(skip, level.bins)
        return output


class ConcatFusion(nn.Module):
    """The usual fusion: concatenate, one 1x1 convolution from 2C to C."""

    def __init__(self, convolution: MakeConvolution, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.convolution = convolution(2 * channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor, level: NoiseLevel) -> Tensor:
        """Two tensors of shape (batch, C, *sizes) to one."""
        output: Tensor = self.convolution(torch.cat((x, skip), dim=1), level.bins)
        return output


class AddFusion(nn.Module):
    """The sum of the streams, without a convolution."""

    def __init__(self, convolution: MakeConvolution, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, skip: Tensor, level: NoiseLevel) -> Tensor:
        """Two tensors of shape (batch, C, *sizes) to one."""
        return x + skip


RESAMPLINGS: dict[str, tuple[type[CPDown | PlainDown], type[CPUp | PlainUp]]] = {
    "cp": (CPDown, CPUp),
    "plain": (PlainDown, PlainUp),
}
FUSIONS: dict[str, type[CSFusion | ConcatFusion | AddFusion]] = {
    "cs": CSFusion,
    "concat": ConcatFusion,
    "add": AddFusion,
    "split": SplitFusion,
}
