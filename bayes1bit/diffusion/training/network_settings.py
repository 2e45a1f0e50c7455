"""The ``[network]`` table of a recipe: one set of keys for each kind of network.

``kind`` chooses the network, and with it which other keys there are. The keys of each are those
arguments of its class that a recipe may set; the shape of the signal and the range of noise levels
come from other tables.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class UNetSettings:
    """Arguments of :class:`bayes1bit.networks.PatchedUNet`."""

    positive: ClassVar = ("patch", "layers", "head_width")

    kind: str = "unet"
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = 1
    attention: tuple[bool, ...] = (False, True, False)
    head_width: int = 32


@dataclass(frozen=True)
class BitUNetSettings:
    """Arguments of :class:`bayes1bit.networks.BitUNet`."""

    positive: ClassVar = ("patch", "blocks", "octaves", "knots")

    kind: str = "bitunet"
    patch: int = 2
    widths: tuple[int, ...] = (128, 256, 256)
    blocks: int = 2
    middle_blocks: int = 2
    octaves: int = 6
    knots: int = 8


@dataclass(frozen=True)
class SR3Settings:
    """Arguments of :class:`bayes1bit.networks.SR3UNet`."""

    positive: ClassVar = ("patch", "width", "blocks", "norm_groups")

    kind: str = "sr3"
    patch: int = 1
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks: int = 2
    middle_blocks: int = 2
    norm_groups: int = 16
    dropout: float = 0.2


@dataclass(frozen=True)
class BIDiffSRSettings:
    """Arguments of :class:`bayes1bit.networks.BIDiffSR`."""

    positive: ClassVar = ("patch", "width", "blocks", "norm_groups", "pairs")

    kind: str = "bidiffsr"
    patch: int = 1
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks: int = 2
    middle_blocks: int = 2
    norm_groups: int = 16
    dropout: float = 0.2
    binarizer: str = "bidiffsr"
    pairs: int = 5
    full_decoder: tuple[int, ...] = (0, 1)
    full_encoder: tuple[int, ...] = ()
    identity: bool = True
    resampling: str = "cp"
    fusion: str = "cs"


NetworkSettings = UNetSettings | BitUNetSettings | SR3Settings | BIDiffSRSettings
KINDS: dict[str, type[NetworkSettings]] = {
    kind.kind: kind for kind in (UNetSettings, BitUNetSettings, BIDiffSRSettings, SR3Settings)
}
"""The settings by kind of network."""
