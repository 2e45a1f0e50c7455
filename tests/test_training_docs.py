"""The page on training names every key of a recipe, with its default."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from bayes1bit.diffusion.training import recipe
from bayes1bit.diffusion.training.held_out import FIELDS
from bayes1bit.diffusion.training.network_settings import KINDS

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
TABLES = {
    "[data]": recipe.DataSettings,
    "[noise]": recipe.NoiseSettings,
    "[training]": recipe.TrainingSettings,
    "[distillation]": recipe.DistillationSettings,
    "[card]": recipe.CardSettings,
    **{f'kind = "{kind}"': settings for kind, settings in KINDS.items()},
}


def described(title):
    """Keys of the table under a heading that names a table of the recipe, and their defaults."""
    section = re.search(rf"^#+ .*`{re.escape(title)}`.*?\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert section, f"no heading names {title}"
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", section[1], re.M)
    return dict(rows)


def default(field):
    if field.default is dataclasses.MISSING:
        return "required"
    value = field.default
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


@pytest.mark.parametrize("title", TABLES)
def test_every_key_is_described_with_its_default(title):
    expected = {field.name: default(field) for field in dataclasses.fields(TABLES[title])}
    shown = described(title)
    assert list(shown) == list(expected)
    for key, value in expected.items():
        if value == "required" or "e-" in value:
            assert shown[key].strip("`") == value.strip("`")
        else:
            assert json.loads(shown[key].strip("`")) == json.loads(value.strip("`")), key


def test_every_column_of_held_out_losses_is_explained():
    for field in FIELDS:
        assert f"`{field}`" in PAGE
