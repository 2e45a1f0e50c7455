"""The words of the running command, for files that say how to make them again."""

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

_words: ContextVar[tuple[str, ...]] = ContextVar("command_line", default=())


def remember(words: Sequence[str]) -> None:
    """Remember the arguments that the program was called with."""
    _words.set(tuple(words))


def command_line() -> str:
    """The command line as a shell takes it."""
    return shlex.join(("bayes1bit", *_words.get()))
