"""Priors with random weights, which several test modules make."""

from pathlib import Path

import torch

from bayes1bit.diffusion import ErrorTable
from bayes1bit.diffusion.training.network import build_denoiser
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.networks.unet import parameter_count
from bayes1bit.zoo import save_prior

_PICTURES = """\
[data]
event_shape = {shape}

[network]
patch = 2
widths = [32, 32]
attention = [false, false]

[noise]
sigma_max = 20.0

[training]
signals = 64

[card]
title = "{title}"
summary = "An untrained network for tests."
source = "Nothing."
terms = "Do as you like."
"""


def picture_recipe(title: str, shape: list[int]) -> str:
    """Text of the recipe of a small network for pictures in [-1, 1]."""
    return _PICTURES.format(title=title, shape=shape)


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
