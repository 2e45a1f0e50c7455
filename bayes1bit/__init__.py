"""Bayesian inference from one-bit data with diffusion priors, on Pyro.

A model is an ordinary Pyro model: a signal drawn from a diffusion prior, a sensing operator, an
exact one-bit likelihood. Every inference algorithm runs on it unchanged and returns posterior
samples with their uncertainty.
"""

from bayes1bit import diagnostics, diffusion, infer, models, operators, pictures
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior, MixedPrior
from bayes1bit.errors import InputError
from bayes1bit.measurement import Measurement
from bayes1bit.observation import OneBit, Quantized
from bayes1bit.posterior import Posterior
from bayes1bit.zoo import load_prior, shipped_priors

__version__ = "0.1.0"

__all__ = [
    "DiffusionPrior",
    "GaussianMixturePrior",
    "InputError",
    "Measurement",
    "MixedPrior",
    "OneBit",
    "Posterior",
    "Quantized",
    "diagnostics",
    "diffusion",
    "infer",
    "load_prior",
    "models",
    "operators",
    "pictures",
    "shipped_priors",
]
