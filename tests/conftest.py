"""Fixtures that several test modules share."""

from pathlib import Path

import pytest
import torch

from bayes1bit.diffusion import ErrorTable
from bayes1bit.diffusion.training.network import build_denoiser
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.networks.unet import parameter_count
from bayes1bit.pictures import write_picture
from bayes1bit.zoo import save_prior

# the tensors of tests are so small that threads cost more than they give
torch.set_num_threads(1)

TINY_RECIPE = """\
[data]
event_shape = [1, 8, 8]

[network]
patch = 2
widths = [32, 32]
attention = [false, false]

[noise]
sigma_max = 20.0

[training]
signals = 64

[card]
title = "tiny"
summary = "An untrained network for tests."
source = "Nothing."
terms = "Do as you like."
"""


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory) -> Path:
    """Folder of an untrained prior of 1x8x8 pictures in [-1, 1], with two example pictures."""
    folder = tmp_path_factory.mktemp("priors") / "tiny"
    folder.mkdir()
    (folder / "recipe.toml").write_text(TINY_RECIPE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = build_denoiser(Recipe.load(folder))
    error = ErrorTable([0.01, 0.5, 20.0], [1e-4, 0.1, 0.25])
    facts = {"parameters": parameter_count(denoiser), "pictures": 64, "seconds": 1}
    save_prior(folder, denoiser, error, facts)
    ramp = torch.linspace(-1, 1, 8)
    write_picture(folder / "examples" / "01.png", ramp.expand(1, 8, 8), (-1, 1))
    write_picture(folder / "examples" / "02.png", ramp[None, :, None].expand(1, 8, 8), (-1, 1))
    return folder
