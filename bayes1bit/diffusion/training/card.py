"""Model cards: what a prior is, where it comes from, and how good it is, from measured facts."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from bayes1bit.diffusion.levels import ErrorTable
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.files import complete_or_absent
from bayes1bit.networks import Counts
from bayes1bit.zoo import WEIGHTS

NAMES = {"unet": "UNet", "bitunet": "BitUNet", "bidiffsr": "BI-DiffSR", "sr3": "SR3's UNet"}
SHOWN_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0)


def write_card(folder: Path, recipe: Recipe, facts: dict[str, Any], error: ErrorTable) -> None:
    """Write ``MODEL_CARD.md`` into a prior's folder.

    Args:
        folder: The prior's folder.
        recipe: Its recipe.
        facts: Facts of the training run.
        error: Held-out denoising error per level.
    """
    shape = "x".join(map(str, recipe.data.event_shape))
    shown = [s for s in SHOWN_LEVELS if recipe.noise.sigma_min <= s <= recipe.noise.sigma_max]
    errors = error(torch.tensor(shown, dtype=torch.float64)).tolist()
    rows = "\n".join(
        f"| {sigma:g} | {mse:.5f} | {mse**0.5:.4f} |"
        for sigma, mse in zip(shown, errors, strict=True)
    )
    text = f"""# {recipe.card.title}

{recipe.card.summary}

| | |
| --- | --- |
| signal | {shape}, values in [{recipe.data.low:g}, {recipe.data.high:g}] |
| network | {NAMES[recipe.network.kind]} on {recipe.network.patch}x{recipe.network.patch} \
patches, {_parameters(facts)} |{_costs(facts)}
| on disk | {(folder / WEIGHTS).stat().st_size / 1e6:.2f} MB |
| noise levels | sigma from {recipe.noise.sigma_min:g} to {recipe.noise.sigma_max:g} |
| training | {facts["pictures"]:,} pictures in {facts["seconds"] / 60:.0f} minutes, \
batches of {recipe.training.batch_size}, torch {facts["torch"]} |{_teacher(recipe)}
| data | {recipe.card.source} |
| terms | {recipe.card.terms} |

## Samples

Drawn with seed 0, not selected: 40 variance-corrected reverse steps each.

![samples](samples.png)

## Held-out denoising error

Mean squared error per pixel of the denoised picture, on {facts["held_out"]:,} pictures that
training did not see. The whole table is in `error.csv`, and in the weights' file, where
`prior.error(sigma)` reads it.

| sigma | mean squared error | root |
| --- | --- | --- |
{rows}
"""
    with complete_or_absent(folder / "MODEL_CARD.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _parameters(facts: dict[str, Any]) -> str:
    if "binary_parameters" not in facts:
        return f"{facts['parameters']:,} parameters, stored in half precision"
    return (
        f"{facts['binary_parameters']:,} weights of one bit and {facts['full_parameters']:,} "
        "parameters, stored in half precision"
    )


def _costs(facts: dict[str, Any]) -> str:
    """Row of the operations of a binary network, by the paper's rule."""
    if "binary_operations" not in facts:
        return ""
    counts = Counts(**{field.name: facts[field.name] for field in fields(Counts)})
    return (
        f"\n| operations per picture | {counts.binary_operations / 1e6:.1f} M on bits and "
        f"{counts.full_operations / 1e6:.2f} M in full precision; "
        f"{counts.operations / 1e6:.2f} M with 64 bits to an operation |"
    )


def _teacher(recipe: Recipe) -> str:
    if recipe.distillation is None:
        return ""
    teacher, weight = recipe.distillation.teacher, recipe.distillation.weight
    return f"\n| teacher | {teacher}, {weight:.0%} of the target |"
