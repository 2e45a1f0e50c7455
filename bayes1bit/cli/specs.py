"""Methods as the command line takes them: one spec, or several with commas between them."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bayes1bit.errors import InputError
from bayes1bit.infer.registry import make_algorithm, parse_spec

if TYPE_CHECKING:
    from bayes1bit.infer import Algorithm

DEFAULT_METHOD = "moment-matched"
"""What ``demo`` and ``recover`` use unless told otherwise."""


def check_method(spec: str, num_samples: int) -> "Algorithm":
    """Refuse a method, its settings or its number of samples before a long computation.

    Args:
        spec: What :func:`~bayes1bit.infer.registry.make_algorithm` takes.
        num_samples: Number of posterior samples.

    Returns:
        The algorithm, of a model that cannot be run.

    Raises:
        InputError: If no algorithm can be made of it.
    """
    return make_algorithm(spec, _no_model, num_samples=num_samples)


def read_methods(text: str, num_samples: int) -> dict[str, Callable[..., "Algorithm"]]:
    """Read a list of methods.

    Args:
        text: Specs with commas between them.
        num_samples: Number of posterior samples of every method.

    Returns:
        For each spec, which becomes the method's name, a function from a model to an algorithm.

    Raises:
        InputError: If a method cannot be made, or is there twice.
    """
    makers: dict[str, Callable[..., Algorithm]] = {}
    for part in text.split(","):
        spec = " ".join(part.split())
        check_method(spec, num_samples)
        if spec in makers:
            raise InputError(f'method "{spec}" is there twice')
        makers[spec] = _maker(spec, num_samples)
    return makers


def announce_cost(spec: str) -> None:
    """Say on the standard error how many denoiser calls are to come, before they are made.

    Args:
        spec: A method. Its settings may change its cost, which is known for the default ones.
    """
    algorithm, settings = parse_spec(spec)
    calls = algorithm.cost.partition(":")[0]
    where = " at its default settings" if settings else ""
    print(f"{spec}, denoiser calls per sample{where}: {calls}", file=sys.stderr)


def _maker(spec: str, num_samples: int) -> Callable[..., "Algorithm"]:
    return lambda model: make_algorithm(spec, model, num_samples=num_samples, progress=False)


def _no_model(*args: Any, **kwargs: Any) -> None:
    """Stands where an algorithm is made to see whether it can be."""
