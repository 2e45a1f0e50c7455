"""What commands print, and the checks that must come before a long computation."""

import csv
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_PICTURES = (".png", ".pdf", ".svg")


class Figure(NamedTuple):
    """One line of a result.

    Attributes:
        key: Name in the JSON form.
        value: Value in the JSON form; None where there is none.
        label: Name in the table.
        text: Value in the table; None leaves the line out.
    """

    key: str
    value: Any
    label: str
    text: str | None


def number(key: str, value: float | None, label: str, form: str, unit: str = "") -> Figure:
    """A figure whose text is a formatted number and its unit, or None for no number (NaN)."""
    text = None if value is None or math.isnan(value) else f"{value:{form}} {unit}".rstrip()
    return Figure(key, value, label, text)


def text(key: str, value: str, label: str) -> Figure:
    """A figure that is a text."""
    return Figure(key, value, label, value)


def show(
    title: str,
    figures: Sequence[Figure],
    files: Mapping[str, Path],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print a result on the standard output.

    Args:
        title: One line above the table.
        figures: Lines of the table.
        files: Files that were written, by what they are.
        as_json: Whether to print one JSON object in place of the table.
        quiet: Whether to print no table.
    """
    if as_json:
        print_json(
            {figure.key: figure.value for figure in figures}
            | {"files": {kind: str(path) for kind, path in files.items()}}
        )
    elif not quiet:
        shown = [figure for figure in figures if figure.text is not None]
        width = max(len(figure.label) for figure in shown)
        lines = [f"  {figure.label:<{width}}  {figure.text}" for figure in shown]
        print("\n".join([title, "", *lines]))
        if files:
            width = max(map(len, files))
            print("\n" + "\n".join(f"  {kind:<{width}}  {path}" for kind, path in files.items()))


def save_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with the same keys as a CSV file; None is an empty field."""
    with complete_or_absent(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def save_figure(figure: "Drawing", path: Path) -> None:
    """Write a matplotlib figure; the file appears only when complete."""
    with complete_or_absent(path) as temporary:
        figure.savefig(temporary)


def show_grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header on the standard output, columns separated by two spaces."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_json(value: Any) -> None:
    """Print a JSON value; numbers that JSON does not have (NaN, infinity) become null."""
    print(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_output(path: Path) -> None:
    """Refuse a file that could not be written once its content is computed.

    The folder is created if it does not exist.

    Raises:
        InputError: If the path is a folder, or its folder cannot be created or written to.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"cannot write {path}: {path.parent} is not a folder") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def check_picture_output(path: Path) -> None:
    """Refuse a picture that could not be written, or whose format is unknown.

    Raises:
        InputError: As :func:`check_output`, or if the suffix is not that of a known format.
    """
    if path.suffix.lower() not in _PICTURES:
        raise InputError(
            f"cannot write a picture as {path.name}; the name must end in {', '.join(_PICTURES)}"
        )
    check_output(path)


def check_device(name: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
        InputError: If the name is unknown or no such device is there.
    """
    import torch

    try:
        device = torch.empty(0, device=name).device
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'device "{name}" cannot be used here: {reason}') from error
    if device.type == "meta":
        raise InputError('device "meta" holds no values; use cpu or cuda')


def check_positive(option: str, value: float) -> None:
    """Refuse a value that is not a positive finite number.

    Raises:
        InputError: With the name of the option.
    """
    if not 0 < value < math.inf:
        raise InputError(f"{option} must be a positive number, got {value:g}")
