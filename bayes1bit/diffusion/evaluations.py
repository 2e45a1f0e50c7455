"""Counting denoiser calls, the cost that inference algorithms are compared by."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion.prior import DiffusionPrior


@dataclass
class EvaluationCount:
    """Number of signals that passed through a denoiser, forward and backward."""

    signals: int = 0


@contextmanager
def count_evaluations(prior: DiffusionPrior) -> Iterator[EvaluationCount]:
    """Count the signals that the denoiser of ``prior`` is asked for inside the block.

    A backward pass counts as one more call.

    Yields:
        A counter whose ``signals`` grows by the batch size with every call.
    """
    count = EvaluationCount()

    def add_backward(gradient: Tensor) -> None:
        count.signals += len(gradient)

    def add(module: torch.nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        count.signals += len(arguments[0])
        if output.requires_grad:
            output.register_hook(add_backward)

    handle = prior.denoiser.register_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()
