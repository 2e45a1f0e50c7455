r"""The UNet of Dhariwal and Nichol, in the form that its published checkpoints have.

"Diffusion models beat GANs on image synthesis" (NeurIPS 2021), section 3 and appendix: residual
blocks that also change the resolution, adaptive group normalisation, self-attention at chosen
resolutions, and a second half of the output for the variance of the reverse step. The names of
modules are those of the checkpoints, so that ``load_state_dict`` takes them as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.adm_parts import (
    NORM_GROUPS,
    ADMAttention,
    ADMBlock,
    Downsample,
    Stage,
    Upsample,
    convolution,
    norm,
    time_embedding,
)

CHANNEL_MULTIPLIERS: dict[int, tuple[float, ...]] = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}
"""Published channels at each resolution, in units of ``num_channels``, by the side of pictures."""


class ADMUNet(nn.Module):
    """The network of guided diffusion, without class labels.

    Arguments have the names and the default values of the published training flags.

    Args:
        image_size: Side of the square pictures, in pixels.
        num_channels: Channels at the unit of ``channel_mult``.
        num_res_blocks: Residual blocks at each resolution on the way down; one more on the way up.
        channel_mult: Channels at each resolution in units of ``num_channels``, finest first; by
            default the published ones of ``image_size`` (:data:`CHANNEL_MULTIPLIERS`).
        attention_resolutions: Sides, in pixels, at which self-attention follows each block. The
            middle has it always.
        num_heads: Attention heads, where ``num_head_channels`` does not say.
        num_head_channels: Channels of one head; None for ``num_heads`` heads.
        resblock_updown: Whether residual blocks change the resolution, not plain layers.
        use_scale_shift_norm: Whether the time scales activations as well as shifts them.
        learn_sigma: Whether the output has a second half, for the variance.
        use_new_attention_order: See :class:`ADMAttention`.
        in_channels: Channels of pictures.

    Raises:
        InputError: If there is no published ``channel_mult``, the size cannot be halved as often
            as it asks, a number of channels is not a multiple of 32, or heads do not divide it.
    """

    def __init__(
        self,
        image_size: int = 64,
        *,
        num_channels: int = 128,
        num_res_blocks: int = 2,
        channel_mult: Sequence[float] | None = None,
        attention_resolutions: Sequence[int] = (16, 8),
        num_heads: int = 4,
        num_head_channels: int | None = None,
        resblock_updown: bool = False,
        use_scale_shift_norm: bool = True,
        learn_sigma: bool = False,
        use_new_attention_order: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if channel_mult is None:
            channel_mult = CHANNEL_MULTIPLIERS.get(image_size)
            if channel_mult is None:
                raise InputError(
                    f"there are published multipliers for pictures of side "
                    f"{', '.join(map(str, CHANNEL_MULTIPLIERS))}, not {image_size}; give "
                    "channel_mult"
                )
        widths = [int(num_channels * multiplier) for multiplier in channel_mult]
        _check(image_size, num_channels, num_res_blocks, widths)
        self.num_channels = num_channels
        embedding = 4 * num_channels

        def block(at: int, to: int, resample: nn.Module | None = None) -> ADMBlock:
            return ADMBlock(at, to, embedding, scale_shift=use_scale_shift_norm, resample=resample)

        def attention(channels: int) -> ADMAttention:
            heads = num_heads if num_head_channels is None else channels // num_head_channels
            return ADMAttention(channels, max(heads, 1), new_order=use_new_attention_order)

        def stage(at: int, to: int, depth: int) -> list[nn.Module]:
            attends = image_size >> depth in attention_resolutions
            return [block(at, to), *([attention(to)] if attends else [])]

        def resampling(kind: type[Upsample] | type[Downsample], at: int) -> nn.Module:
            if resblock_updown:
                return block(at, at, kind(at, convolve=False))
            return kind(at, convolve=True)

        self.time_embed = nn.Sequential(
            nn.Linear(num_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        at = widths[0]
        self.input_blocks = nn.ModuleList([Stage([convolution(in_channels, at)])])
        skips = [at]
        for depth, width in enumerate(widths):
            for _ in range(num_res_blocks):
                self.input_blocks.append(Stage(stage(at, width, depth)))
                at = width
                skips.append(at)
            if depth + 1 < len(widths):
                self.input_blocks.append(Stage([resampling(Downsample, at)]))
                skips.append(at)
        self.middle_block = Stage([block(at, at), attention(at), block(at, at)])
        self.output_blocks = nn.ModuleList()
        for depth, width in reversed(list(enumerate(widths))):
            for index in range(num_res_blocks + 1):
                layers = stage(at + skips.pop(), width, depth)
                at = width
                if depth and index == num_res_blocks:
                    layers.append(resampling(Upsample, at))
                self.output_blocks.append(Stage(layers))
        outputs = 2 * in_channels if learn_sigma else in_channels
        self.out = nn.Sequential(norm(at), nn.SiLU(), convolution(at, outputs))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Apply the network.

        Args:
            x: Noisy pictures of unit variance, shape (batch, in_channels, height, width).
            t: Index of the diffusion step of each, possibly between two, shape (batch,).

        Returns:
            What the network was trained to predict, shape of ``x``; with ``learn_sigma`` the
            parameters of the variance behind it, shape (batch, 2 in_channels, height, width).
        """
        embedding = self.time_embed(time_embedding(t, self.num_channels).to(x.dtype))
        skips = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat((x, skips.pop()), dim=1), embedding)
        output: Tensor = self.out(x)
        return output


def _check(image_size: int, num_channels: int, num_res_blocks: int, widths: Sequence[int]) -> None:
    if num_res_blocks < 1:
        raise InputError(f"num_res_blocks must be at least 1, got {num_res_blocks}")
    if num_channels < 2 or num_channels % 2:
        raise InputError(
            f"num_channels must be even, for pairs of cosine and sine, got {num_channels}"
        )
    if not widths or any(width <= 0 or width % NORM_GROUPS for width in widths):
        raise InputError(
            f"channels at each resolution must be positive multiples of {NORM_GROUPS}, the groups "
            f"of the normalisation; num_channels and channel_mult give {tuple(widths)}"
        )
    factor = 2 ** (len(widths) - 1)
    if image_size % factor:
        raise InputError(
            f"pictures that are halved {len(widths) - 1} times must have a side that is a "
            f"multiple of {factor}, got {image_size}"
        )
