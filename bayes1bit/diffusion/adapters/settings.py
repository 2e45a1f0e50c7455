"""Settings of a prior that every door passes on."""

from collections.abc import Callable
from typing import TypedDict

from torch import Tensor

from bayes1bit.diffusion.sampling import Sampling
from bayes1bit.diffusion.solvers import ReverseSolver


class PriorSettings(TypedDict, total=False):
    """Settings of :class:`~bayes1bit.diffusion.DiffusionPrior` that no checkpoint knows.

    ``max_batch`` bounds the memory of large networks; ``error`` is what the methods live on that
    correct their steps (:class:`~bayes1bit.diffusion.ErrorTable`).
    """

    error: Callable[[float | Tensor], Tensor] | None
    solver: ReverseSolver | None
    num_steps: int
    sampling: Sampling | None
    probes: int
    max_batch: int | None
