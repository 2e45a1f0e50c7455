"""Fixtures that several test modules share."""

from pathlib import Path

import pytest
import torch
from prior_cases import picture_recipe, untrained_prior

from bayes1bit.pictures import write_picture

# the tensors of tests are so small that threads cost more than they give
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory) -> Path:
    """Folder of an untrained prior of 1x8x8 pictures in [-1, 1], with two example pictures."""
    recipe = picture_recipe("tiny", [1, 8, 8])
    folder = untrained_prior(tmp_path_factory.mktemp("priors") / "tiny", recipe)
    ramp = torch.linspace(-1, 1, 8)
    write_picture(folder / "examples" / "01.png", ramp.expand(1, 8, 8), (-1, 1))
    write_picture(folder / "examples" / "02.png", ramp[None, :, None].expand(1, 8, 8), (-1, 1))
    return folder
