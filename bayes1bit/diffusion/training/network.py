"""From a recipe to its denoiser."""

from dataclasses import asdict

import torch
from torch import nn

from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.networks import BIDiffSR, BitUNet, PatchedUNet, SR3UNet

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}
NETWORKS: dict[str, type[nn.Module]] = {
    "unet": PatchedUNet,
    "bitunet": BitUNet,
    "bidiffsr": BIDiffSR,
    "sr3": SR3UNet,
}
KNOW_LEVELS = ("bitunet", "bidiffsr")
"""Kinds of networks that divide the range of noise levels among constants."""


def build_denoiser(recipe: Recipe, autocast: torch.dtype | None = None) -> KarrasDenoiser:
    """Build the denoiser that a recipe describes, with fresh weights."""
    settings = asdict(recipe.network)
    kind = settings.pop("kind")
    if kind in KNOW_LEVELS:
        settings |= {"sigma_min": recipe.noise.sigma_min, "sigma_max": recipe.noise.sigma_max}
    network = NETWORKS[kind](recipe.data.event_shape, **settings)
    return KarrasDenoiser(network, recipe.noise.sigma_data, autocast)
