"""Checks of the arguments that operators are made from."""

import operator
from collections.abc import Sequence
from typing import Any

import torch

from bayes1bit.errors import InputError


def positive_integer(name: str, value: Any) -> int:
    """Return ``value`` as a plain int.

    Raises:
        InputError: If it is not an integer of at least 1.
    """
    return _integer(name, value, at_least=1)


def seed_integer(value: Any) -> int:
    """Return a seed as a plain int.

    Raises:
        InputError: If it is not an integer between 0 and 2^63 - 1.
    """
    seed = _integer("seed", value, at_least=0)
    if seed >= 2**63:
        raise InputError(f"seed must be below 2^63, got {seed}")
    return seed


def _integer(name: str, value: Any, at_least: int) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        integer = at_least - 1
    if integer < at_least or isinstance(value, bool):
        raise InputError(f"{name} must be an integer of at least {at_least}, got {value!r}")
    return integer


def shape_of_event(value: Any) -> torch.Size:
    """Return an event shape, given as a sequence of sizes or as one size, as ``torch.Size``.

    Raises:
        InputError: If it is empty or a size is not an integer of at least 1.
    """
    sizes = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not sizes:
        raise InputError("event_shape must have at least one dimension, got ()")
    return torch.Size(positive_integer("each size in event_shape", size) for size in sizes)
