"""Doors for denoisers that others have trained.

Each returns a :class:`~bayes1bit.diffusion.DiffusionPrior` in the package's one noise convention,
with the levels of the checkpoint's own schedule and a stated data range. No file that is read is
ever allowed to run code.
"""

from bayes1bit.diffusion.adapters.diffusers import from_diffusers
from bayes1bit.diffusion.adapters.edm import from_edm
from bayes1bit.diffusion.adapters.foreign import from_azula, from_deepinv, from_function
from bayes1bit.diffusion.adapters.guided_diffusion import ADM_PRESETS, from_guided_diffusion
from bayes1bit.diffusion.adapters.variance_preserving import (
    VariancePreservingDenoiser,
    from_variance_preserving,
)

__all__ = [
    "ADM_PRESETS",
    "VariancePreservingDenoiser",
    "from_azula",
    "from_deepinv",
    "from_diffusers",
    "from_edm",
    "from_function",
    "from_guided_diffusion",
    "from_variance_preserving",
]
