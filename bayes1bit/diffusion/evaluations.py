"""Counting denoiser calls, the cost that inference algorithms are compared by."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from bayes1bit.diffusion.prior import DiffusionPrior


@dataclass
class EvaluationCount:
    """Number of signals that passed through a denoiser."""

    signals: int = 0


@contextmanager
def count_evaluations(prior: DiffusionPrior) -> Iterator[EvaluationCount]:
    """Count the signals that the denoiser of ``prior`` is asked for inside the block.

    Yields:
        A counter whose ``signals`` grows by the batch size with every call.
    """
    count = EvaluationCount()

    def add(module: torch.nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        count.signals += len(arguments[0])

    handle = prior.denoiser.register_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()
