"""From a recipe to its denoiser."""

import torch

from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.networks import PatchedUNet

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}


def build_denoiser(recipe: Recipe, autocast: torch.dtype | None = None) -> KarrasDenoiser:
    """Build the denoiser that a recipe describes, with fresh weights."""
    settings = recipe.network
    network = PatchedUNet(
        recipe.data.event_shape,
        patch=settings.patch,
        widths=settings.widths,
        layers=settings.layers,
        attention=settings.attention,
        head_width=settings.head_width,
    )
    return KarrasDenoiser(network, recipe.noise.sigma_data, autocast)
