"""The diffusion core: denoisers, noise levels, reverse solvers, and priors made of them."""

from bayes1bit.diffusion.adapters import (
    ADM_PRESETS,
    VariancePreservingDenoiser,
    from_azula,
    from_deepinv,
    from_diffusers,
    from_edm,
    from_function,
    from_guided_diffusion,
    from_variance_preserving,
)
from bayes1bit.diffusion.denoiser import Denoiser, KarrasDenoiser
from bayes1bit.diffusion.error_table import ErrorTable
from bayes1bit.diffusion.evaluations import count_evaluations
from bayes1bit.diffusion.levels import (
    adapted_levels,
    geometric_levels,
    informative_below,
    karras_levels,
    levels_to_normal,
    normal_below,
)
from bayes1bit.diffusion.mixed import MixedPrior
from bayes1bit.diffusion.mixture import GaussianMixturePrior
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.diffusion.sampling import Sampling
from bayes1bit.diffusion.solvers import (
    DDIM,
    Ancestral,
    Heun,
    Multistep,
    ReverseSolver,
    StochasticMultistep,
    Tweedie,
    VarianceCorrected,
)

__all__ = [
    "ADM_PRESETS",
    "DDIM",
    "Ancestral",
    "Denoiser",
    "DiffusionPrior",
    "ErrorTable",
    "GaussianMixturePrior",
    "Heun",
    "KarrasDenoiser",
    "MixedPrior",
    "Multistep",
    "ReverseSolver",
    "Sampling",
    "StochasticMultistep",
    "Tweedie",
    "VarianceCorrected",
    "VariancePreservingDenoiser",
    "adapted_levels",
    "count_evaluations",
    "from_azula",
    "from_deepinv",
    "from_diffusers",
    "from_edm",
    "from_function",
    "from_guided_diffusion",
    "from_variance_preserving",
    "geometric_levels",
    "informative_below",
    "karras_levels",
    "levels_to_normal",
    "normal_below",
]
