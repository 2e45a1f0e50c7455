"""Model cards: what a prior is, where it comes from, and how good it is, from measured facts."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from bayes1bit.diffusion.error_table import ErrorTable
from bayes1bit.diffusion.training.held_out import Comparison, expected_loss, first_memorising
from bayes1bit.diffusion.training.recipe import Recipe
from bayes1bit.files import complete_or_absent
from bayes1bit.networks import Counts
from bayes1bit.zoo import WEIGHTS

NAMES = {"unet": "UNet", "bitunet": "BitUNet", "bidiffsr": "BI-DiffSR", "sr3": "SR3's UNet"}
SHOWN_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0)


def write_card(
    folder: Path,
    recipe: Recipe,
    facts: dict[str, Any],
    error: ErrorTable,
    sampling: str,
    comparisons: Sequence[Comparison] = (),
) -> None:
    """Write ``MODEL_CARD.md`` into a prior's folder.

    Args:
        folder: The prior's folder.
        recipe: Its recipe.
        facts: Facts of the training run.
        error: Held-out denoising error per level.
        sampling: How the samples of the figure were drawn.
        comparisons: Held-out and training losses measured on the way.
    """
    data, noise = recipe.data, recipe.noise
    shape = "x".join(map(str, data.event_shape))
    unit = f" {recipe.card.unit}" if recipe.card.unit else ""
    one, many, value = _words(recipe)
    shown = [s for s in SHOWN_LEVELS if noise.sigma_min <= s <= noise.sigma_max]
    errors = error(torch.tensor(shown, dtype=torch.float64)).tolist()
    rows = "\n".join(
        f"| {sigma:g} | {mse:.5f} | {mse**0.5:.4f} |"
        for sigma, mse in zip(shown, errors, strict=True)
    )
    text = f"""# {recipe.card.title}

{recipe.card.summary}

| | |
| --- | --- |
| signal | {shape}, values in [{data.low:g}, {data.high:g}]{unit}{_rate(recipe)} |
| network | {NAMES[recipe.network.kind]}{_patches(recipe)}, {_parameters(facts)} |\
{_costs(facts, one)}
| on disk | {(folder / WEIGHTS).stat().st_size / 1e6:.2f} MB |
| noise levels | sigma from {noise.sigma_min:g} to {noise.sigma_max:g}{unit} |
| training | {facts["pictures"]:,} {many} in {facts["seconds"] / 60:.0f} minutes, \
batches of {recipe.training.batch_size}, torch {facts["torch"]} |{_teacher(recipe)}
| held-out loss | {expected_loss(error, noise):.4f} |
| data | {recipe.card.source} |
| terms | {recipe.card.terms} |

## Samples

Drawn with seed 0, not selected: {sampling}.

![samples](samples.png)

## Held-out denoising error

Mean squared error per {value} of the denoised {one}, on {facts["held_out"]:,} {many} that
training did not see. The whole table is in `error.csv`, and in the weights' file, where
`prior.error(sigma)` reads it. The held-out loss above is the same error in the weights of the
training objective, averaged over the levels of training; 1 is a prior that knows no more than mean
and variance.

| sigma | mean squared error | root |
| --- | --- | --- |
{rows}
{_memory(comparisons, many)}"""
    with complete_or_absent(folder / "MODEL_CARD.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _words(recipe: Recipe) -> tuple[str, str, str]:
    """What one signal is called, several of them, and one value of it."""
    if len(recipe.data.event_shape) == 2:
        return "signal", "signals", "sample"
    return "picture", "pictures", "pixel"


def _patches(recipe: Recipe) -> str:
    patch = recipe.network.patch
    if patch == 1:
        return ""
    if len(recipe.data.event_shape) == 2:
        return f" on patches of {patch} samples"
    return f" on {patch}x{patch} patches"


def _rate(recipe: Recipe) -> str:
    return f", {recipe.data.rate:,} samples per second" if recipe.data.rate else ""


def _parameters(facts: dict[str, Any]) -> str:
    if "binary_parameters" not in facts:
        return f"{facts['parameters']:,} parameters, stored in half precision"
    return (
        f"{facts['binary_parameters']:,} weights of one bit and {facts['full_parameters']:,} "
        "parameters, stored in half precision"
    )


def _costs(facts: dict[str, Any], one: str) -> str:
    """Row of the operations of a binary network, by the paper's rule."""
    if "binary_operations" not in facts:
        return ""
    counts = Counts(**{field.name: facts[field.name] for field in fields(Counts)})
    return (
        f"\n| operations per {one} | {counts.binary_operations / 1e6:.1f} M on bits and "
        f"{counts.full_operations / 1e6:.2f} M in full precision; "
        f"{counts.operations / 1e6:.2f} M with 64 bits to an operation |"
    )


def _teacher(recipe: Recipe) -> str:
    if recipe.distillation is None:
        return ""
    teacher, weight = recipe.distillation.teacher, recipe.distillation.weight
    return f"\n| teacher | {teacher}, {weight:.0%} of the target |"


def _memory(comparisons: Sequence[Comparison], many: str) -> str:
    """Section on what the network knows by heart: its last losses, and a warning if there was."""
    if not comparisons:
        return ""
    last = [c for c in comparisons if c.step == comparisons[-1].step]
    rows = "\n".join(
        f"| {'all' if c.sigma is None else f'{c.sigma:.3g}'} | {c.held_out:.4f} "
        f"| {c.training:.4f} | {c.standard_error:.4f} |"
        for c in last
    )
    first = first_memorising(comparisons)
    warning = "" if first is None else f"\n**Warning: {_memorised(first, many)}**\n"
    return f"""
## Held-out and training loss

Training objective of the averaged weights at the last step, on some held-out {many} and on as
many that training saw. A loss that is higher on the held-out ones, by much more than the standard
error of the difference, means that training {many} are known by heart, or that the held-out ones
are of another kind. `held_out.csv` has the course.

| sigma | held-out loss | training loss | standard error |
| --- | --- | --- | --- |
{rows}
{warning}"""


def _memorised(first: Comparison, many: str) -> str:
    excess = first.held_out / first.training - 1
    return (
        f"from step {first.step} the loss on held-out {many} was higher than on training {many}, "
        f"there by {excess:.0%}. Training {many} are known by heart, and samples may be copies of "
        "them, or the held-out ones are of another kind, which this prior does not know."
    )
