"""``bayes1bit priors``: what trained priors there are."""

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
"""

LEVEL = 0.5
"""Noise level at which the denoising error is shown."""


def priors(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Priors or folders; all shipped ones if none."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List trained priors: shape, size, error, and terms of use."""
    from bayes1bit.zoo import open_prior, shipped_priors

    folders = [open_prior(name) for name in names or shipped_priors()]
    if as_json:
        report.print_json([_describe(folder) for folder in folders])
        return
    if not folders:
        print("No prior comes with this installation; train one with bayes1bit train.")
        return
    header = ("name", "shape", "parameters", "training pictures", "on disk", f"mse at {LEVEL}")
    report.show_grid(header, [_row(folder) for folder in folders])
    for folder in folders:
        card = folder.recipe.card
        print(f"\n{folder.name}: {card.summary}\n  Source: {card.source}\n  {card.terms}")


def _describe(folder: "PriorFolder") -> dict[str, Any]:
    card, data = folder.recipe.card, folder.recipe.data
    return {
        "name": folder.name,
        "path": str(folder.path),
        "shape": list(data.event_shape),
        "data_range": [data.low, data.high],
        "parameters": folder.facts.get("parameters"),
        "training_pictures": folder.facts.get("pictures"),
        "bytes": folder.size,
        "error": {"sigma": LEVEL, "mse": float(folder.error(LEVEL))},
        "summary": card.summary,
        "source": card.source,
        "terms": card.terms,
    }


def _row(folder: "PriorFolder") -> list[str]:
    facts = _describe(folder)
    counts = (facts["parameters"], facts["training_pictures"])
    return [
        facts["name"],
        "x".join(map(str, facts["shape"])),
        *("unknown" if count is None else f"{count:,}" for count in counts),
        f"{facts['bytes'] / 1e6:.1f} MB",
        f"{facts['error']['mse']:.4f}",
    ]
