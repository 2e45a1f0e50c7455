"""What the commands of ``bayes1bit bench`` share: options, signals and tables."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayes1bit.cli import report
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bayes1bit.zoo import PriorFolder

Data = Annotated[
    Path,
    typer.Option(
        metavar="PATH", help="Signals: an .npz file, a folder of IDX files, or one of pictures."
    ),
]
Runs = Annotated[
    Path, typer.Option(metavar="FILE", help="CSV file of single runs; it is gone on with.")
]
Averages = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV file to write the table to.")
]
LINKS = ("probit", "logistic")


def read_split(
    path: Path,
    split: str,
    folder: "PriorFolder",
    count: int,
    *,
    every: int = 1,
    resize: bool = False,
) -> "Tensor":
    """Read signals of a split, as signals of a prior.

    Args:
        path: Archive or folder.
        split: "train" or "test".
        folder: The prior, whose recipe says how what is stored becomes signals.
        count: Number of signals.
        every: Distance between two of them in the split, from its first one.
        resize: Whether to cut the middle out of pictures of a folder, and resize it.

    Returns:
        Signals, shape (count, *event), fewer if there are fewer.

    Raises:
        InputError: If they cannot be read or do not fit, or there is nothing to resize.
    """
    from bayes1bit.diffusion.training import data
    from bayes1bit.pictures import is_picture

    settings = folder.recipe.data
    if resize:
        if not path.is_dir():
            raise InputError(f"--resize needs a folder of pictures, which {path} is not")
        if not is_picture(settings.event_shape):
            raise InputError(
                f"--resize is for pictures; signals of {folder.name} have shape "
                f"{settings.event_shape}"
            )
        settings = replace(settings, resize=True)
    stored = data.read_split(path, split, settings, (count - 1) * every + 1)
    return data.scale(stored[::every], settings)


def read_numbers(option: str, text: str) -> tuple[float, ...]:
    """Read positive numbers with commas between them.

    Raises:
        InputError: If there are others.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f'{option} must be numbers with commas, got "{text}"') from error
    for number in numbers:
        report.check_positive(option, number)
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{option} has a number twice: {text}")
    return numbers


def read_words(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read words with commas between them.

    Raises:
        InputError: If one is unknown or there twice.
    """
    words = tuple(part.strip() for part in text.split(","))
    for word in words:
        if word not in known:
            raise InputError(f'{option} can be {", ".join(known)}; got "{word}"')
    if len(set(words)) < len(words):
        raise InputError(f"{option} has a word twice: {text}")
    return words


def check_outputs(out: Path, averages: Path | None, figure: Path | None) -> None:
    """Refuse files that could not be written once a benchmark is done.

    Raises:
        InputError: As :func:`report.check_output` and :func:`report.check_picture_output`.
    """
    report.check_output(out)
    if averages is not None:
        report.check_output(averages)
    if figure is not None:
        report.check_picture_output(figure)


def show_rows(rows: Sequence[dict[str, Any]], *, as_json: bool, quiet: bool = False) -> None:
    """Print rows as a table, or as a JSON object."""
    from bayes1bit.bench.table import format_table

    if as_json:
        report.print_json({"rows": list(rows)})
    elif not quiet:
        print(format_table(rows))


def show_tables(tables: dict[str, list[dict[str, Any]]], as_json: bool) -> None:
    """Print tables with their titles, or as a JSON object."""
    from bayes1bit.bench.table import format_table

    if as_json:
        report.print_json(tables)
    else:
        print("\n\n".join(f"{title}\n\n{format_table(rows)}" for title, rows in tables.items()))
