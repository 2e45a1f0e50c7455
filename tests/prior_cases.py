"""Priors with random weights, which several test modules make."""

from pathlib import Path

import torch

from bayes1bit.diffusion import ErrorTable
from bayes1bit.diffusion.training.network import build_denoiser
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.networks.unet import parameter_count
from bayes1bit.zoo import save_prior


def untrained_prior(folder: Path, recipe: str) -> Path:
    """Make the folder of an untrained prior, without examples, from the text of its recipe."""
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = build_denoiser(Recipe.load(folder))
    error = ErrorTable([0.01, 0.5, 20.0], [1e-4, 0.1, 0.25])
    facts = {"parameters": parameter_count(denoiser), "pictures": 64, "seconds": 1}
    save_prior(folder, denoiser, error, facts)
    return folder
