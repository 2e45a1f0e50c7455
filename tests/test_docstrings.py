"""Docstrings of public names keep the rules of ``docstring_rules``, which can find fault."""

import ast
import inspect
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from docstring_rules import complaints
from public_names import public_names
from torch import Tensor

import bayes1bit
from bayes1bit.errors import InputError
from bayes1bit.infer import ALGORITHMS

NAMES = public_names()
PACKAGE = Path(bayes1bit.__file__).parent


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in NAMES}))
def test_public_names_keep_the_rules(package):
    found = [
        complaint
        for name, value in NAMES.items()
        if name.rpartition(".")[0] == package
        for complaint in complaints(name, value)
    ]
    assert found == []


def documented_constants():
    """Names that are assigned at the top of a module and have a string below."""
    names = set()
    for path in PACKAGE.glob("**/*.py"):
        body = ast.parse(path.read_text("utf-8")).body
        for node, after in pairwise(body):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            is_string = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(node, ast.Assign | ast.AnnAssign) and is_string:
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_public_constants_are_explained():
    constants = {
        name.rpartition(".")[2]
        for name, value in NAMES.items()
        if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value))
    }
    assert {"ALGORITHMS", "Link"} <= constants
    assert constants - documented_constants() == set()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms_name_their_source_and_state_their_iteration(name):
    algorithm = ALGORITHMS[name]
    assert re.search(r"\b(19|20)\d\d\b", algorithm.paper)
    module = inspect.getmodule(algorithm)
    assert re.search(r"\.\. math::|:math:", module.__doc__), "no equation"


def unexplained(x):
    return x


def without_args(x: Tensor, y: Tensor) -> Tensor:
    """Add two numbers."""
    return x + y


def without_shape(x: Tensor, y: Tensor) -> Tensor:
    """Add two numbers.

    Args:
        x: One of them, shape (n,).
        y: The other.
    """
    return x + y


def wrong_args(x: Tensor) -> Tensor:
    """Copy a tensor.

    Args:
        x: Any shape.
        z: It is not there.
    """
    return x


def _check(x: int) -> None:
    if x < 0:
        raise InputError("negative")


def without_raises(x: int) -> int:
    """Check a number."""
    _check(x)
    return x


class Unexplained:  # noqa: D101
    pass


@dataclass
class Generated:  # noqa: D101
    x: int


class Members:
    """A class."""

    def __init__(self, size: int, *, fast: bool) -> None:
        if size < 0:
            raise InputError("negative")

    @property
    def plain(self):
        return 0

    def method(self):
        pass

    def _private(self):
        pass


def good(x: Tensor, count: int) -> Tensor:
    """Repeat a tensor.

    Args:
        x: What to repeat, shape (n,).
        count: How often.

    Returns:
        Shape (n * count,).

    Raises:
        InputError: If ``count`` is negative.
    """
    _check(count)
    return x.repeat(count)


def delegating(x: Tensor, count: int) -> Tensor:
    """Repeat it quickly; arguments and errors are those of :func:`good`."""
    return good(x, count)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (unexplained, ["it has no docstring"]),
        (without_args, ["it does not describe its arguments x, y", "shape of x", "shape of y"]),
        (without_shape, ["it does not give the shape of y"]),
        (wrong_args, ["it describes z, which is no argument"]),
        (without_raises, ["it raises InputError and does not say when"]),
        (Unexplained, ["it has no docstring"]),
        (Generated, ["it has no docstring"]),
        (
            Members,
            [
                "it does not describe its arguments size, fast",
                "it raises InputError",
                "it.plain has no docstring",
                "it.method has no docstring",
            ],
        ),
        (good, []),
        (delegating, []),
    ],
)
def test_rules_find_fault(value, expected):
    found = complaints("it", value)
    assert len(found) == len(expected), found
    for complaint, part in zip(found, expected, strict=True):
        assert part in complaint
