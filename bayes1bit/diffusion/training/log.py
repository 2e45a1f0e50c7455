"""Tables that a training run adds lines to, and that survive being cut off at any moment."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bayes1bit.files import complete_or_absent


class StepLog:
    """A CSV file whose lines belong to steps, in order.

    Lines go to the file whole, in one write. Whatever has no end of line was being written when
    the run was cut off, and does not count.

    Args:
        path: The file, which need not exist yet.
        fields: Names of the columns; the first is ``step``.
    """

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        self.path, self.fields = path, list(fields)

    def rows(self) -> list[dict[str, str]]:
        """Complete lines, from the first to the last."""
        if not self.path.exists():
            return []
        complete, end, _ = self.path.read_text(encoding="utf-8").rpartition("\n")
        return list(csv.DictReader(io.StringIO(complete + end)))

    def forget_after(self, step: int) -> None:
        """Drop lines of later steps, which a run wrote after the checkpoint that it resumes."""
        if self.path.exists():
            kept = [list(row.values()) for row in self.rows() if int(row["step"]) <= step]
            with complete_or_absent(self.path) as temporary:
                temporary.write_text(_lines([self.fields, *kept]), encoding="utf-8")

    def append(self, *rows: Sequence[Any]) -> None:
        """Add lines, under a header if they are the first."""
        header = [] if self.path.exists() else [self.fields]
        # unbuffered: one call of the system, so that there is no half of a line to lose
        with self.path.open("ab", buffering=0) as file:
            file.write(_lines([*header, *rows]).encode())


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
