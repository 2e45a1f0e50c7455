r"""The UNet of diffusion models as a skeleton, whose parts are chosen by what fills it.

From the finest resolution down, an encoder alternates residual blocks and downsampling; a few
middle blocks, the first with self-attention, work at the coarsest one; and a decoder climbs back,
fusing in before each of its blocks what the encoder had at the same place. Every block is told the
noise level through an embedding of sines and cosines. This is the network of SR3 (Saharia et al.,
TPAMI 2022, after Ho et al., NeurIPS 2020), and BI-DiffSR has the same bones.

What differs between the full-precision network and the binarized ones is only how to convolve, how
to change resolution and how to fuse: four methods of :class:`Parts`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.unet_blocks import (
    CONVOLUTIONS,
    NoiseLevel,
    ResidualBlock,
    TimeEmbedding,
    shuffle,
    unshuffle,
    with_condition,
)

LABEL_SCALE = 10.0
"""The noise label is ``10 log(sigma)``, the convention of ``KarrasDenoiser``."""


class Parts(ABC):
    """How to fill the skeleton.

    Blocks, downs and ups are modules with an ``out_channels`` that are called as
    ``part(x, level)``, fusions as ``fusion(x, skip, level)``.
    """

    @abstractmethod
    def block(
        self, in_channels: int, out_channels: int, *, side: str, depth: int, attention: bool
    ) -> nn.Module:
        """Residual block; ``side`` is "encoder", "middle" or "decoder", ``depth`` 0 is finest."""

    @abstractmethod
    def down(self, in_channels: int, out_channels: int) -> nn.Module:
        """Downsampling by 2, towards a level of ``out_channels``."""

    @abstractmethod
    def up(self, in_channels: int, out_channels: int) -> nn.Module:
        """Upsampling by 2, towards a level of ``out_channels``."""

    @abstractmethod
    def fusion(self, channels: int, skip_channels: int, *, depth: int) -> nn.Module:
        """Fusion of the decoder's signal with the encoder's."""


class DiffusionUNet(nn.Module):
    r"""The skeleton, filled with parts.

    Args:
        event_shape: Shape (channels, length) or (channels, height, width) of the noisy signal.
            Sizes must be multiples of ``patch * 2 ** (len(multipliers) - 1)``.
        parts: What to fill it with.
        out_channels: Channels of the output; those of the signal if None.
        condition_channels: Channels of the condition that is given along with the signal.
        patch: Side of the patches that become channels in front, and pixels again behind.
        width: Channels at the finest resolution, and width of the embedding of the noise level.
        multipliers: Channels at each resolution in units of ``width``, finest first.
        blocks: Residual blocks at each resolution on the way down; one more on the way up.
        middle_blocks: Residual blocks at the bottom.
        norm_groups: Groups of the normalisations.
        pairs: Number K of bins of noise levels that the parts distinguish.
        sigma_min: Smallest noise level, where the first bin begins.
        sigma_max: Largest noise level, where the last bin ends.

    Raises:
        InputError: If the shape is not that of a signal in one or two dimensions or cannot be
            halved as often as asked, the widths are not multiples of the groups or odd, or a
            count or the range of levels is out of range.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        parts: Parts,
        *,
        out_channels: int | None,
        condition_channels: int,
        patch: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        middle_blocks: int,
        norm_groups: int,
        pairs: int = 1,
        sigma_min: float = 0.01,
        sigma_max: float = 80.0,
    ) -> None:
        super().__init__()
        channels, *sizes = event_shape
        dim = len(sizes)
        widths = [width * multiplier for multiplier in multipliers]
        _check(event_shape, patch, widths, norm_groups)
        if min(blocks, pairs) < 1 or min(middle_blocks, condition_channels) < 0:
            raise InputError(
                "a UNet needs at least one block and one pair, and no negative count of others; "
                f"got blocks {blocks}, pairs {pairs}, middle_blocks {middle_blocks} and "
                f"condition_channels {condition_channels}"
            )
        if width % 2:
            raise InputError(f"width must be even, for pairs of sine and cosine, got {width}")
        if not 0 < sigma_min < sigma_max:
            raise InputError(f"need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
        self.event_shape, self.dim, self.patch = tuple(event_shape), dim, patch
        self.condition_channels = condition_channels
        self.pairs, self.sigma_min, self.sigma_max = pairs, sigma_min, sigma_max

        self.embedding = TimeEmbedding(width)
        inputs = (channels + condition_channels) * patch**dim
        self.head = CONVOLUTIONS[dim](inputs, widths[0], 3, padding=1)
        at, skips = widths[0], [widths[0]]
        self.encoder = nn.ModuleList()
        for depth, level_width in enumerate(widths):
            for _ in range(blocks):
                block = parts.block(at, level_width, side="encoder", depth=depth, attention=False)
                at = self._grow(self.encoder, block)
                skips.append(at)
            if depth + 1 < len(widths):
                at = self._grow(self.encoder, parts.down(at, widths[depth + 1]))
                skips.append(at)
        self.middle = nn.ModuleList()
        for index in range(middle_blocks):
            block = parts.block(
                at, widths[-1], side="middle", depth=len(widths) - 1, attention=index == 0
            )
            at = self._grow(self.middle, block)
        self.fusions, self.decoder = nn.ModuleList(), nn.ModuleList()
        for depth, level_width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                at = self._grow(self.fusions, parts.fusion(at, skips.pop(), depth=depth))
                block = parts.block(at, level_width, side="decoder", depth=depth, attention=False)
                at = self._grow(self.decoder, block)
            if depth:
                at = self._grow(self.decoder, parts.up(at, widths[depth - 1]))
        self.tail_norm = nn.GroupNorm(norm_groups, at)
        outputs = (channels if out_channels is None else out_channels) * patch**dim
        self.tail = CONVOLUTIONS[dim](at, outputs, 3, padding=1)

    @staticmethod
    def _grow(modules: nn.ModuleList, module: nn.Module) -> int:
        modules.append(module)
        out_channels = module.out_channels
        assert isinstance(out_channels, int)
        return out_channels

    def bins(self, noise_label: Tensor) -> Tensor:
        r"""Bin of each noise level, equally wide in log sigma.

        .. math::

            k = \Bigl\lfloor K\, \frac{\log \sigma - \log \sigma_{min}}
                {\log \sigma_{max} - \log \sigma_{min}} \Bigr\rfloor
            \text{ clamped to } 0, \dots, K - 1

        Args:
            noise_label: ``10 log(sigma)``, shape (batch,).

        Returns:
            Bins, int64, shape (batch,).
        """
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        place = (noise_label / LABEL_SCALE - low) / (high - low)
        return (place * self.pairs).floor().clamp(0, self.pairs - 1).long()

    def forward(self, x: Tensor, noise_label: Tensor, condition: Tensor | None = None) -> Tensor:
        """Apply the network.

        Args:
            x: Scaled noisy signals, shape (batch, channels, *space).
            noise_label: ``10 log(sigma)`` of each, shape (batch,).
            condition: What is known besides, such as an upsampled picture of low resolution,
                shape (batch, condition_channels, *space); None if there are no such channels.

        Returns:
            The raw network output, shape (batch, out_channels, *space).

        Raises:
            InputError: If ``condition`` does not have the channels that the network expects.
        """
        x = with_condition(x, condition, self.condition_channels)
        level = NoiseLevel(self.embedding(noise_label), self.bins(noise_label))
        x = self.head(unshuffle(x, self.patch))
        skips = [x]
        for part in self.encoder:
            x = part(x, level)
            skips.append(x)
        for part in self.middle:
            x = part(x, level)
        fusions = iter(self.fusions)
        for part in self.decoder:
            if isinstance(part, ResidualBlock):
                x = next(fusions)(x, skips.pop(), level)
            x = part(x, level)
        return shuffle(self.tail(F.silu(self.tail_norm(x))), self.patch)


def _check(
    event_shape: Sequence[int], patch: int, widths: Sequence[int], norm_groups: int
) -> None:
    if len(event_shape) not in (2, 3):
        raise InputError(
            "a UNet works on (channels, length) or (channels, height, width), got event_shape "
            f"{tuple(event_shape)}"
        )
    if not widths or any(width <= 0 or width % norm_groups for width in widths):
        raise InputError(
            f"the channels at each resolution must be positive multiples of {norm_groups}, the "
            f"groups of the normalisation; got {tuple(widths)}"
        )
    factor = patch * 2 ** (len(widths) - 1)
    if any(size % factor for size in event_shape[1:]):
        raise InputError(
            f"a UNet with patch {patch} and {len(widths)} resolutions needs sizes that are "
            f"multiples of {factor}, got {'x'.join(str(size) for size in event_shape[1:])}"
        )
