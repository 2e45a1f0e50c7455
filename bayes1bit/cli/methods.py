"""``bayes1bit methods``: what inference algorithms there are, and what each is good for."""

import shutil
import textwrap
from typing import Annotated, Any

import typer

from bayes1bit.cli import options, report
from bayes1bit.infer.registry import ALGORITHMS, settings_of

EXAMPLES = """\b
Examples:
  bayes1bit methods
  bayes1bit methods --json
  bayes1bit methods --markdown
"""

_LABELS = {
    "paper": "paper",
    "assumptions": "assumptions",
    "cost": "denoiser calls",
    "exactness": "exactness",
    "settings": "settings",
}
_WIDTH = 100
"""Longest line; wider ones are hard to read."""


def methods(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/algorithms.md.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List inference algorithms: paper, assumptions, cost, exactness, and settings.

    A method on the command line is a name, and settings that differ from the defaults:
    --method "dps misfit=likelihood num_levels=200". Several have commas between them. Parts go by
    name, such as data_step=langevin:100, prior_step=reverse:16 or solver=ddim:0.5. Denoiser calls
    are those of one posterior sample at the default settings.
    """
    if as_json:
        report.print_json([_describe(name) for name in ALGORITHMS])
    elif markdown:
        print(markdown_table())
    else:
        width = min(_WIDTH, max(40, shutil.get_terminal_size((_WIDTH, 24)).columns))
        print("\n\n".join(_block(name, width) for name in ALGORITHMS))


def markdown_table() -> str:
    """The table of all algorithms for the documentation."""
    columns = {key: label for key, label in _LABELS.items() if key != "settings"}
    lines = [f"| name | {' | '.join(columns.values())} |", f"| --- |{' --- |' * len(columns)}"]
    for name in ALGORITHMS:
        facts = _describe(name)
        lines.append(f"| `{name}` | {' | '.join(facts[key] for key in columns)} |")
    return "\n".join(lines)


def _block(name: str, width: int) -> str:
    """One algorithm, wrapped."""
    facts = _describe(name)
    facts["settings"] = ", ".join(f"{key}={value}" for key, value in facts["settings"].items())
    column = max(map(len, _LABELS.values()))
    lines = [name]
    for key, label in _LABELS.items():
        lines += textwrap.wrap(
            facts[key],
            width,
            initial_indent=f"  {label:<{column}}  ",
            subsequent_indent=" " * (column + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _describe(name: str) -> dict[str, Any]:
    """What is known of an algorithm, with the defaults of its settings as a spec writes them."""
    algorithm = ALGORITHMS[name]
    return {
        "name": name,
        "paper": algorithm.paper,
        "assumptions": algorithm.assumptions,
        "cost": algorithm.cost,
        "exactness": algorithm.exactness,
        "settings": {
            key: _written(parameter.default) for key, parameter in settings_of(algorithm).items()
        },
    }


def _written(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
