"""Finished runs of a benchmark in a CSV file, so that an interrupted one goes on where it stopped.

Every run is a line, written when the run is done. What an interruption leaves of a half-written
line is removed when the file is opened again.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayes1bit.errors import InputError

Key = tuple[str, ...]
"""What identifies one run."""


def stream_seed(seed: int, streams: Sequence[str], purpose: str, run: int) -> int:
    """Seed of one purpose in one run, independent of those of all others.

    Args:
        seed: Seed of the benchmark.
        streams: All its purposes.
        purpose: One of them.
        run: Number of the run, signal or observer.
    """
    sequence = np.random.SeedSequence((seed, 1 + streams.index(purpose), 1 + run))
    return int(sequence.generate_state(1)[0])


class FinishedRuns:
    """The runs in a CSV file.

    Args:
        path: The file; it need not exist.
        key: Names of the columns that identify a run.
        values: Names of the columns with what came out: numbers, or nothing where a run has none.
        benchmark: What to call the benchmark in messages.

    Raises:
        InputError: If the file cannot be read, or is another one: it has other columns, or no
            numbers where they should be.
    """

    def __init__(
        self, path: Path, key: Sequence[str], values: Sequence[str], benchmark: str
    ) -> None:
        self.path, self.key, self.values = path, tuple(key), tuple(values)
        self.runs: dict[Key, dict[str, Any]] = {}
        if path.exists():
            try:
                self._read()
            except OSError as error:
                raise InputError(f"cannot read {path}: {error.strerror}") from error
            except (csv.Error, ValueError) as error:
                article = "an" if benchmark[0] in "aeiou" else "a"
                raise InputError(
                    f"{path} is not {article} {benchmark} benchmark of this version; rename it"
                ) from error

    def __contains__(self, key: Key) -> bool:
        return key in self.runs

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self.runs[key]

    def add(self, key: Key, values: Mapping[str, float | None]) -> None:
        """Append one run to the file; None is a value that the run does not have."""
        run = {name: values[name] for name in self.values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if file.tell() == 0:
                file.write(_line((*self.key, *self.values)))
            file.write(_line((*key, *run.values())))
        self.runs[key] = {
            name: None if value is None else float(value) for name, value in run.items()
        }

    def _read(self) -> None:
        written = self.path.read_bytes()
        header = _line((*self.key, *self.values))
        complete = written[: written.rfind(b"\n") + 1]
        if not complete and not header.startswith(written):
            raise ValueError("no header")
        rows = list(csv.reader(io.StringIO(complete.decode(), newline=""), strict=True))
        columns = [*self.key, *self.values]
        if any(len(row) != len(columns) for row in rows) or rows[:1] not in ([], [columns]):
            raise ValueError("other columns")
        runs = {
            tuple(row[: len(self.key)]): {
                name: float(text) if text else None
                for name, text in zip(self.values, row[len(self.key) :], strict=True)
            }
            for row in rows[1:]
        }
        # only a file that is surely one of these is changed
        if complete != written:
            self.path.write_bytes(complete)
        self.runs = runs


def _line(fields: Sequence[object]) -> bytes:
    """One line of the file: written at once, so that an interruption cuts the last one at most."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
