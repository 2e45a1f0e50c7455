"""Moves of the signal in a Gibbs sampler: transitions that leave p(x | y, theta) invariant.

A move may adapt while a chain warms up. Afterwards it must not: a transition that depends on the
chain's past leaves nothing invariant.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bayes1bit.infer.annealing import Path
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.target import Target


class Move(ABC):
    """Base class of moves; one object is made for a run and may keep what it adapts."""

    @abstractmethod
    def __call__(self, target: Target, path: Path, x: Tensor, adapting: bool) -> Tensor:
        """Move every chain's signal once.

        Args:
            target: The posterior; its likelihood may have parameters of each chain's own.
            path: The path that ends at this posterior.
            x: Signals, shape (chains, *event).
            adapting: Whether step sizes may still change.

        Returns:
            New signals, shape of ``x``.
        """


class SplitMove(Move):
    """The sweep of split Gibbs sampling at the end of the path.

    Exact for one-bit data of one linear operator, but for the reverse diffusion. For any other
    likelihood a small coupling smooths the posterior; see :mod:`bayes1bit.infer.annealing`.

    Args:
        prior_step: How the signal is drawn given its noisy copy.
    """

    def __init__(self, prior_step: PriorStep) -> None:
        self.prior_step = prior_step

    @torch.no_grad()
    def __call__(self, target: Target, path: Path, x: Tensor, adapting: bool) -> Tensor:
        """See :meth:`Move.__call__`; there is nothing to adapt."""
        return self.prior_step(target.prior, path.noisy_copy(x, 0.0), path.coupling(0.0))
