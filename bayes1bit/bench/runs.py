"""Finished runs of a benchmark in a CSV file, so that an interrupted one goes on where it stopped.

Every run is a line, written when the run is done. What an interruption leaves of a half-written
line is removed when the file is opened again.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from bayes1bit.errors import InputError

Key = tuple[str, ...]
"""What identifies one run."""


class FinishedRuns:
    """The runs in a CSV file.

    Args:
        path: The file; it need not exist.
        key: Names of the columns that identify a run.
        values: Names of the columns with what came out, all numbers.
        benchmark: What to call the benchmark in messages.

    Raises:
        InputError: If the file has other columns.
    """

    def __init__(
        self, path: Path, key: Sequence[str], values: Sequence[str], benchmark: str
    ) -> None:
        self.path, self.key, self.values = path, tuple(key), tuple(values)
        self.runs: dict[Key, dict[str, float]] = {}
        if path.exists():
            self._read(benchmark)

    def __contains__(self, key: Key) -> bool:
        return key in self.runs

    def __getitem__(self, key: Key) -> dict[str, float]:
        return self.runs[key]

    def add(self, key: Key, values: Mapping[str, float]) -> None:
        """Append one run to the file."""
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow((*self.key, *self.values))
            writer.writerow((*key, *(values[name] for name in self.values)))
        self.runs[key] = {name: float(values[name]) for name in self.values}

    def _read(self, benchmark: str) -> None:
        written = self.path.read_bytes()
        complete = written[: written.rfind(b"\n") + 1]
        rows = list(csv.reader(complete.decode().splitlines()))
        columns = (*self.key, *self.values)
        if not rows or tuple(rows[0]) != columns or any(len(r) != len(columns) for r in rows):
            raise InputError(
                f"{self.path} is not a {benchmark} benchmark of this version; rename it"
            )
        if complete != written:
            self.path.write_bytes(complete)
        for row in rows[1:]:
            values = zip(self.values, map(float, row[len(self.key) :]), strict=True)
            self.runs[tuple(row[: len(self.key)])] = dict(values)
