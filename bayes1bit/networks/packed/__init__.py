"""One-bit convolutions computed on single bits."""

from bayes1bit.networks.packed.reference import reference_unit
from bayes1bit.networks.packed.unit import PackedUnit
from bayes1bit.networks.packed.words import PackedWeights, pack_signs, unpack_signs

__all__ = ["PackedUnit", "PackedWeights", "pack_signs", "reference_unit", "unpack_signs"]
