"""Writing files so that a final name always means a complete file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayes1bit.errors import InputError


@contextmanager
def complete_or_absent(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name when the block ends without error.

    An interrupted or failed block leaves ``path`` as it was before, absent or with its old
    content.

    Args:
        path: Final path; missing parent folders are created.

    Yields:
        The temporary path to write to; it keeps the final suffix, as many writers look at it.

    Raises:
        InputError: If the folder cannot be created or written to, or ``path`` is a folder itself.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result is as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def discard_incomplete(path: str | Path) -> None:
    """Remove what :func:`complete_or_absent` left beside ``path`` in a process that was killed."""
    path = Path(path)
    for temporary in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        temporary.unlink(missing_ok=True)
