r"""BI-DiffSR: a diffusion UNet whose convolutions multiply bits.

The network is the :mod:`~bayes1bit.networks.skeleton` of SR3 with every convolution of its
residual blocks, its changes of resolution and its fusions replaced by a binary unit
(:mod:`~bayes1bit.networks.binary_units`), and with changes of resolution and fusions that keep the
identity (:mod:`~bayes1bit.networks.bidiffsr_parts`). Full precision remain the first and the last
convolution, the embedding of the noise level, the normalisations, the attention, and by default
the fusions and residual blocks of the decoder at the two highest resolutions.

In the published configuration, ``BIDiffSR((3, 256, 256), condition_channels=3)``, 48,211,968 of
51,280,387 parameters are bits, in 56 convolutions. A bit is counted as a 32nd of a parameter,
which makes 4,575,043; and yet 96% of the operations remain, counted by the paper's rule, in full
precision, nearly all of them in those two levels of the decoder. Set ``full_decoder=()`` or shrink
the finest levels to move them into bits.

Chen et al., "Binarized diffusion model for image super-resolution", NeurIPS 2024.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from bayes1bit.errors import InputError
from bayes1bit.networks.bidiffsr_parts import FUSIONS, RESAMPLINGS, MakeConvolution
from bayes1bit.networks.binary_units import BINARIZERS
from bayes1bit.networks.skeleton import DiffusionUNet, Parts
from bayes1bit.networks.unet_blocks import FullPrecision, ResidualBlock


class BIDiffSR(DiffusionUNet):
    r"""The binarized UNet, for signals in one or two dimensions.

    The defaults are the published network. The rows of its ablation are, from the baseline up,
    ``identity=False, resampling="plain", fusion="concat", pairs=1``; then ``identity=True``;
    ``resampling="cp"``; ``fusion="cs"``; ``pairs=5``.

    Args:
        event_shape: Shape (channels, length) or (channels, height, width) of the noisy signal.
            Sizes must be multiples of ``patch * 2 ** (len(multipliers) - 1)``.
        out_channels: Channels of the output; those of the signal if None.
        condition_channels: Channels of the condition given along with the signal.
        patch: Side of the patches that become channels in front, and pixels again behind.
        width: Channels at the finest resolution, and width of the embedding of the noise level.
        multipliers: Channels at each resolution in units of ``width``, finest first. With
            ``resampling="cp"`` neighbours must differ by a ratio that CP-Down and CP-Up can make.
        blocks: Residual blocks at each resolution on the way down; one more on the way up.
        middle_blocks: Residual blocks at the bottom, the first with attention.
        norm_groups: Groups of the normalisations.
        dropout: Probability of dropout in front of the second unit of a residual block.
        binarizer: Name of the units, one of :data:`~bayes1bit.networks.BINARIZERS`.
        pairs: Number K of constants per unit to choose from by noise level; counts as 1 for units
            that are not time-aware.
        sigma_min: Smallest noise level, where the first bin begins.
        sigma_max: Largest noise level, where the last bin ends.
        full_decoder: Resolutions, 0 the finest, where the decoder's fusions and residual blocks
            stay in full precision.
        full_encoder: Resolutions where the encoder's residual blocks do.
        identity: Whether binary units add their input.
        resampling: "cp" for CP-Down and CP-Up, or "plain" for one convolution that changes the
            number of channels, at the same cost.
        fusion: "cs" for CS-Fusion, "concat", "add" or "split".

    Raises:
        InputError: If a name is unknown, a resolution does not exist, or the shape and the
            widths do not fit together.
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
        binarizer: str = "bidiffsr",
        pairs: int = 5,
        sigma_min: float = 0.01,
        sigma_max: float = 80.0,
        full_decoder: Sequence[int] = (0, 1),
        full_encoder: Sequence[int] = (),
        identity: bool = True,
        resampling: str = "cp",
        fusion: str = "cs",
    ) -> None:
        for name, known, what in (
            (binarizer, BINARIZERS, "binarizer"),
            (resampling, RESAMPLINGS, "resampling"),
            (fusion, FUSIONS, "fusion"),
        ):
            if name not in known:
                raise InputError(f'{what} is "{name}"; use one of {", ".join(known)}')
        for depth in (*full_decoder, *full_encoder):
            if not 0 <= depth < len(multipliers):
                raise InputError(
                    f"resolution {depth} cannot stay in full precision: there are "
                    f"{len(multipliers)}, numbered from 0"
                )
        unit = BINARIZERS[binarizer]
        pairs = pairs if unit.time_aware else 1
        dim = len(event_shape) - 1
        block = partial(
            ResidualBlock, dim=dim, embedding=width, norm_groups=norm_groups, dropout=dropout
        )
        super().__init__(
            event_shape,
            _BinaryParts(
                dim,
                binary=partial(unit, dim=dim, pairs=pairs, identity=identity),
                block=block,
                full={"decoder": full_decoder, "encoder": full_encoder, "middle": ()},
                resampling=resampling,
                fusion=fusion,
            ),
            out_channels=out_channels,
            condition_channels=condition_channels,
            patch=patch,
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            middle_blocks=middle_blocks,
            norm_groups=norm_groups,
            pairs=pairs,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
        )


class _BinaryParts(Parts):
    """Binary units, except at the resolutions that stay in full precision."""

    def __init__(
        self,
        dim: int,
        *,
        binary: MakeConvolution,
        block: partial[ResidualBlock],
        full: dict[str, Sequence[int]],
        resampling: str,
        fusion: str,
    ) -> None:
        self.dim, self.binary, self.make_block, self.full = dim, binary, block, full
        self.make_down, self.make_up = RESAMPLINGS[resampling]
        self.make_fusion = FUSIONS[fusion]

    def convolution(self, side: str, depth: int) -> MakeConvolution:
        return partial(FullPrecision, dim=self.dim) if depth in self.full[side] else self.binary

    def block(
        self, in_channels: int, out_channels: int, *, side: str, depth: int, attention: bool
    ) -> nn.Module:
        make = self.convolution(side, depth)
        return self.make_block(
            make(in_channels, out_channels, 3),
            make(out_channels, out_channels, 3),
            in_channels,
            out_channels,
            attention=attention,
        )

    def down(self, in_channels: int, out_channels: int) -> nn.Module:
        return self.make_down(self.binary, in_channels, out_channels, dim=self.dim)

    def up(self, in_channels: int, out_channels: int) -> nn.Module:
        return self.make_up(self.binary, in_channels, out_channels, dim=self.dim)

    def fusion(self, channels: int, skip_channels: int, *, depth: int) -> nn.Module:
        return self.make_fusion(self.convolution("decoder", depth), channels)
