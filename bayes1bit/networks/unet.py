"""The full-precision UNet: diffusers' ``UNet2DModel`` behind a pixel-unshuffle.

Working on 2x2 patches keeps the receptive field and quarters the number of positions, which is
what makes training and sampling affordable on a CPU (Hoogeboom et al., "Simple diffusion", ICML
2023, use the same patching for large pictures).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.errors import InputError

NORM_GROUPS = 32


class PatchedUNet(nn.Module):
    r"""A UNet on non-overlapping patches.

    Args:
        event_shape: Shape (channels, height, width) of one picture. Height and width must be
            multiples of ``patch * 2 ** (len(widths) - 1)``.
        patch: Side of the patches that become channels.
        widths: Channels at each resolution, finest first, multiples of 32 (the groups of the
            normalisation).
        layers: Residual blocks at each resolution on the way down (one more on the way up).
        attention: For each resolution, whether its blocks are followed by self-attention. The
            middle block, at the coarsest one, always has it.
        head_width: Channels of one attention head.

    Raises:
        InputError: If the shape cannot be halved as often as the widths ask, a width is not a
            positive multiple of 32, or ``attention`` and ``widths`` differ in length.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        patch: int = 2,
        widths: Sequence[int] = (64, 128, 128),
        layers: int = 1,
        attention: Sequence[bool] = (False, True, False),
        head_width: int = 32,
    ) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        if len(event_shape) != 3:
            raise InputError(
                f"a UNet works on (channels, height, width), got event_shape {tuple(event_shape)}"
            )
        if not widths or any(width <= 0 or width % NORM_GROUPS for width in widths):
            raise InputError(
                f"widths must be positive multiples of {NORM_GROUPS}, got {tuple(widths)}"
            )
        channels, height, width = event_shape
        factor = patch * 2 ** (len(widths) - 1)
        if height % factor or width % factor:
            raise InputError(
                f"a UNet with patch {patch} and {len(widths)} resolutions needs height and width "
                f"that are multiples of {factor}, got {height}x{width}"
            )
        if len(attention) != len(widths):
            raise InputError(
                f"attention has {len(attention)} entries for {len(widths)} widths; give one each"
            )
        self.patch = patch
        self.unet = UNet2DModel(
            sample_size=(height // patch, width // patch),
            in_channels=channels * patch**2,
            out_channels=channels * patch**2,
            layers_per_block=layers,
            block_out_channels=tuple(widths),
            down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attention],
            up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
            attention_head_dim=head_width,
            norm_num_groups=NORM_GROUPS,
            resnet_time_scale_shift="scale_shift",
        )

    def forward(self, x: Tensor, noise_label: Tensor) -> Tensor:
        """Apply the network.

        Args:
            x: Scaled noisy pictures, shape (batch, channels, height, width).
            noise_label: Noise level embedding input, shape (batch,).

        Returns:
            The raw network output, shape of ``x``.
        """
        patches = F.pixel_unshuffle(x, self.patch)
        output: Tensor = self.unet(patches, noise_label, return_dict=False)[0]
        return F.pixel_shuffle(output, self.patch)


def parameter_count(module: nn.Module) -> int:
    """Number of scalars in the parameters of a module, trainable or frozen."""
    return sum(parameter.numel() for parameter in module.parameters())
