"""One-bit convolutions computed on single bits.

By numba on the CPU and by Triton on a GPU, where these are installed. The GPU kernels have been
checked in Triton's interpreter only, not timed, nor run on a GPU; a device that does not give the
numbers of plain torch is left to plain torch.
"""

from bayes1bit.networks.packed.reference import reference_unit
from bayes1bit.networks.packed.unit import PackedUnit
from bayes1bit.networks.packed.words import PackedWeights, pack_signs, unpack_signs

__all__ = ["PackedUnit", "PackedWeights", "pack_signs", "reference_unit", "unpack_signs"]
