"""``bayes1bit priors``: what trained priors there are."""

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayes1bit.cli import options, report

if TYPE_CHECKING:
    from bayes1bit.zoo import PriorFolder

EXAMPLES = """\b
Examples:
  bayes1bit priors
  bayes1bit priors --json
  bayes1bit priors runs/fashion32
  bayes1bit priors hf://owner/name@revision
"""

LEVEL = 0.5
"""Noise level at which the JSON form states the denoising error."""

WIDTH = 100
"""Columns of the terminal that lines are broken at."""


def priors(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Priors, folders, or hf://owner/name; all shipped ones if none."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List trained priors: shape, size, held-out loss, training data and terms of use.

    The held-out loss is the training objective on signals that training did not see: 1 for a
    prior that knows no more than mean and variance, and lower for one that knows more.
    """
    from bayes1bit.zoo import open_prior, shipped_priors

    folders = [open_prior(name) for name in names or shipped_priors()]
    facts = [_describe(folder) for folder in folders]
    if as_json:
        report.print_json(facts)
        return
    if not facts:
        print("No prior comes with this installation; train one with bayes1bit train.")
        return
    header = ("name", "shape", "parameters", "on disk", "trained on", "held-out loss")
    report.show_grid(header, [_row(each) for each in facts])
    for each in facts:
        print(f"\n{each['name']}")
        for label, key in (("What", "summary"), ("Data", "source"), ("Terms", "terms")):
            print(_paragraph(label, each[key]))


def _describe(folder: "PriorFolder") -> dict[str, Any]:
    from bayes1bit.diffusion.training.held_out import expected_loss

    card, data = folder.recipe.card, folder.recipe.data
    return {
        "name": folder.name,
        "path": str(folder.path),
        "shape": list(data.event_shape),
        "data_range": [data.low, data.high],
        "parameters": folder.facts.get("parameters"),
        "training_pictures": folder.facts.get("pictures"),
        "bytes": folder.size,
        "held_out_loss": expected_loss(folder.error, folder.recipe.noise),
        "error": {"sigma": LEVEL, "mse": float(folder.error(LEVEL))},
        "summary": card.summary,
        "source": card.source,
        "terms": card.terms,
    }


def _row(facts: dict[str, Any]) -> list[str]:
    parameters, count = (
        "unknown" if facts[key] is None else f"{facts[key]:,}"
        for key in ("parameters", "training_pictures")
    )
    kind = "signals" if len(facts["shape"]) == 2 else "pictures"
    return [
        facts["name"],
        "x".join(map(str, facts["shape"])),
        parameters,
        f"{facts['bytes'] / 1e6:.1f} MB",
        f"{count} {kind}",
        f"{facts['held_out_loss']:.4f}",
    ]


def _paragraph(label: str, content: str) -> str:
    indent = "  " + f"{label}:".ljust(7)
    return textwrap.fill(
        content,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
