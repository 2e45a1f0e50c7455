"""Inference algorithms by the names that ``--method`` takes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from bayes1bit.infer import Algorithm


def _diff_onebit(model: Callable[..., Any], **options: Any) -> "Algorithm":
    from bayes1bit.infer import DiffOneBit, GradientStep

    return DiffOneBit(model, data_step=GradientStep(), **options)


def _diff_onebit_proximal(model: Callable[..., Any], **options: Any) -> "Algorithm":
    from bayes1bit.infer import DiffOneBit, ProximalStep

    return DiffOneBit(model, data_step=ProximalStep(), **options)


METHODS: dict[str, Callable[..., "Algorithm"]] = {
    "diff-onebit": _diff_onebit,
    "diff-onebit-proximal": _diff_onebit_proximal,
}
"""Each takes a Pyro model and the options that all algorithms have."""


def check_method(name: str) -> None:
    """Refuse a name that stands for no method.

    Raises:
        InputError: With the names that there are.
    """
    if name not in METHODS:
        raise InputError(f'unknown method "{name}"; methods are {", ".join(METHODS)}')
