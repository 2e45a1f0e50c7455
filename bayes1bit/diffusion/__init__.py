"""The diffusion core: denoisers, noise levels, reverse solvers, and priors made of them."""

from bayes1bit.diffusion.denoiser import Denoiser, KarrasDenoiser
from bayes1bit.diffusion.evaluations import count_evaluations
from bayes1bit.diffusion.levels import (
    ErrorTable,
    adapted_levels,
    geometric_levels,
    karras_levels,
    normal_below,
)
from bayes1bit.diffusion.mixed import MixedPrior
from bayes1bit.diffusion.mixture import GaussianMixturePrior
from bayes1bit.diffusion.prior import DiffusionPrior
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
    "StochasticMultistep",
    "Tweedie",
    "VarianceCorrected",
    "adapted_levels",
    "count_evaluations",
    "geometric_levels",
    "karras_levels",
    "normal_below",
]
