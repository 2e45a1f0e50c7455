"""Execute the tutorials from top to bottom, each in a fresh kernel and an empty folder.

Every notebook gives a line with the seconds that it took. An error in a cell, output on standard
error (a warning, a progress bar) or a notebook that takes too long is a failure::

    python scripts/run_tutorials.py                # all of them
    python scripts/run_tutorials.py 01 05          # by the beginnings of their names
    python scripts/run_tutorials.py 02 --write     # and save the outputs

Saved notebooks have one form, so that a second run changes no more than what it computes
differently: no times, cells named by their position, one output for one stream of text.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "tutorials"
TIMEOUT = 300
DPI = 80
"""Dots per inch of saved figures, which keep notebooks small."""
KERNEL_ARGUMENTS = [
    "--IPKernelApp.log_level=ERROR",
    "--InteractiveShell.colors=nocolor",
    f"--InlineBackend.print_figure_kwargs={{'bbox_inches': 'tight', 'dpi': {DPI}}}",
]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class TutorialError(Exception):
    """A tutorial that does not run as it should; the message says where and why."""


def find(names: Sequence[str], folder: Path = FOLDER) -> list[Path]:
    """Notebooks of a folder whose names begin with one of ``names``, in order; all if none given.

    Raises:
        TutorialError: If a name fits no notebook, or there are none.
    """
    notebooks = sorted(folder.glob("*.ipynb"))
    for name in names or [""]:
        if not any(path.name.startswith(name) for path in notebooks):
            raise TutorialError(f"no notebook in {folder} has a name that begins with {name!r}")
    return [path for path in notebooks if path.name.startswith(tuple(names or [""]))]


def execute(notebook: NotebookNode, timeout: float = TIMEOUT) -> float:
    """Execute a notebook in place, in a fresh kernel and an empty folder.

    Args:
        notebook: A notebook; its outputs are replaced.
        timeout: Seconds for all cells together.

    Returns:
        Seconds that it took, with the start of the kernel.

    Raises:
        TutorialError: If a cell fails or writes to standard error, or the time is over.
    """
    start = time.perf_counter()
    deadline = start + timeout
    with tempfile.TemporaryDirectory() as empty:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            extra_arguments=KERNEL_ARGUMENTS,
            resources={"metadata": {"path": empty}},
            timeout_func=lambda cell: max(1, round(deadline - time.perf_counter())),
            record_timing=False,
            coalesce_streams=True,
        )
        try:
            client.execute()
        except CellTimeoutError:
            raise TutorialError(f"it takes more than {timeout:.0f} s") from None
        except (CellExecutionError, DeadKernelError) as error:
            raise TutorialError(str(error)) from None
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise TutorialError(f"cell {number} writes to standard error: {output.text}")
    return time.perf_counter() - start


def normalise(notebook: NotebookNode) -> None:
    """Bring a notebook into the form in which it is saved, in place."""
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(KERNEL), language_info=NotebookNode(name="python")
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tutorials that the command line names; the exit code is 1 if one fails."""
    parser = argparse.ArgumentParser(description="Execute the tutorials from top to bottom.")
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 01; default: all")
    parser.add_argument("--write", action="store_true", help="save the outputs in place")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds per notebook")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the notebooks are")
    options = parser.parse_args(arguments)
    try:
        paths = find(options.names, options.folder)
    except TutorialError as error:
        parser.error(str(error))
    failed = False
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        try:
            seconds = execute(notebook, options.timeout)
        except TutorialError as error:
            failed = True
            print(f"FAILED  {path.name}\n{error}", flush=True)
            continue
        if options.write:
            normalise(notebook)
            nbformat.write(notebook, path)
        print(f"ok {seconds:6.1f} s  {path.name}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
