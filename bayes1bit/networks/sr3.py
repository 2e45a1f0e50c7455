r"""SR3's UNet: the full-precision twin that BI-DiffSR is measured against.

The same :mod:`~bayes1bit.networks.skeleton` filled the usual way: plain convolutions; channels
that change inside the first residual block of a resolution; a convolution of stride 2 down, and a
repeated pixel with a convolution up; and skip connections that are simply concatenated, so that
the decoder's blocks take in the channels of both streams.

Saharia et al., "Image super-resolution via iterative refinement", TPAMI 2022, in the widths that
Chen et al. (NeurIPS 2024) compare with.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.networks.skeleton import DiffusionUNet, Parts
from bayes1bit.networks.unet_blocks import CONVOLUTIONS, FullPrecision, NoiseLevel, ResidualBlock


class SR3UNet(DiffusionUNet):
    """The full-precision UNet, for signals in one or two dimensions.

    With ``event_shape=(3, 256, 256), condition_channels=3`` it has 55,407,235 parameters, the
    published 55.41 M.

    Args:
        event_shape: Shape (channels, length) or (channels, height, width) of the noisy signal.
            Sizes must be multiples of ``patch * 2 ** (len(multipliers) - 1)``.
        out_channels: Channels of the output; those of the signal if None.
        condition_channels: Channels of the condition given along with the signal.
        patch: Side of the patches that become channels in front, and pixels again behind.
        width: Channels at the finest resolution, and width of the embedding of the noise level.
        multipliers: Channels at each resolution in units of ``width``, finest first.
        blocks: Residual blocks at each resolution on the way down; one more on the way up.
        middle_blocks: Residual blocks at the bottom, the first with attention.
        norm_groups: Groups of the normalisations.
        dropout: Probability of dropout in front of the second convolution of a residual block.

    Raises:
        InputError: If the shape and the widths do not fit together.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        out_channels: int | None = None,
        condition_channels: int = 0,
        patch: int = 1,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4, 8),
        blocks: int = 2,
        middle_blocks: int = 2,
        norm_groups: int = 16,
        dropout: float = 0.2,
    ) -> None:
        dim = len(event_shape) - 1
        block = partial(
            ResidualBlock, dim=dim, embedding=width, norm_groups=norm_groups, dropout=dropout
        )
        super().__init__(
            event_shape,
            _FullPrecisionParts(dim, block),
            out_channels=out_channels,
            condition_channels=condition_channels,
            patch=patch,
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            middle_blocks=middle_blocks,
            norm_groups=norm_groups,
        )


class _FullPrecisionParts(Parts):
    """Plain convolutions everywhere."""

    def __init__(self, dim: int, block: partial[ResidualBlock]) -> None:
        self.dim, self.make_block = dim, block

    def block(
        self, in_channels: int, out_channels: int, *, side: str, depth: int, attention: bool
    ) -> nn.Module:
        return self.make_block(
            FullPrecision(in_channels, out_channels, dim=self.dim),
            FullPrecision(out_channels, out_channels, dim=self.dim),
            in_channels,
            out_channels,
            attention=attention,
        )

    def down(self, in_channels: int, out_channels: int) -> nn.Module:
        return _Down(in_channels, dim=self.dim)

    def up(self, in_channels: int, out_channels: int) -> nn.Module:
        return _Up(in_channels, dim=self.dim)

    def fusion(self, channels: int, skip_channels: int, *, depth: int) -> nn.Module:
        return _Concatenation(channels + skip_channels)


class _Down(nn.Module):
    def __init__(self, channels: int, *, dim: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.convolution = CONVOLUTIONS[dim](channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        return self.convolution(x)


class _Up(nn.Module):
    def __init__(self, channels: int, *, dim: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.convolution = CONVOLUTIONS[dim](channels, channels, 3, padding=1)

    def forward(self, x: Tensor, level: NoiseLevel) -> Tensor:
        return self.convolution(F.interpolate(x, scale_factor=2))


class _Concatenation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, skip: Tensor, level: NoiseLevel) -> Tensor:
        return torch.cat((x, skip), dim=1)
