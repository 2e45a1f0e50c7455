"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out rows as a table with aligned columns.

    Args:
        rows: Rows with the same keys, which become the header. Numbers are aligned to the right
            and shown with four significant digits; None is shown as a dash.

    Returns:
        Lines joined by newlines; empty for no rows.
    """
    if not rows:
        return ""
    header = list(rows[0])
    cells = [[_cell(row[key]) for key in header] for row in rows]
    numeric = [all(not isinstance(row[key], str) for row in rows) for key in header]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [header, *cells]
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
