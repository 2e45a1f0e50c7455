r"""Prior steps: a clean signal given a noisy one.

A split sampler meets the prior in one conditional law only, that of the clean signal x given its
noisy copy :math:`z = x + \sigma\varepsilon`. A prior step draws from it, or answers with its mean:

==================== ============================================================================
`ReverseDiffusion`   a walk down the noise levels by any reverse solver (SDE or ODE)
`SampleGiven`        the prior's own draw: exact for Gaussian mixtures
`PosteriorMean`      Tweedie's formula, one denoiser call
==================== ============================================================================
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bayes1bit.diffusion import (
    DiffusionPrior,
    ReverseSolver,
    VarianceCorrected,
    adapted_levels,
    geometric_levels,
    normal_below,
)
from bayes1bit.errors import InputError


class PriorStep(ABC):
    """Base class of prior steps."""

    @abstractmethod
    def __call__(self, prior: DiffusionPrior, z: Tensor, sigma: float) -> Tensor:
        """Make a noisy signal clean.

        Args:
            prior: The prior.
            z: Noisy signals, shape (particles, *event).
            sigma: Their noise level.

        Returns:
            Clean signals, shape of ``z``.
        """

    @abstractmethod
    def num_calls(self, prior: DiffusionPrior, sigma: float) -> int:
        """Denoiser calls of a step from level ``sigma``."""

    def start(self, prior: DiffusionPrior, num: int) -> Tensor:
        """Draw signals from the prior, from pure noise at its largest level.

        Args:
            prior: The prior.
            num: Number of signals.

        Returns:
            Signals, shape (num, *event).
        """
        return self(prior, prior.pure_noise(num, prior.sigma_max), prior.sigma_max)


class ReverseDiffusion(PriorStep):
    r"""Draw by reverse diffusion over levels that lie where the prior is least normal.

    The levels are those of :func:`~bayes1bit.diffusion.levels.adapted_levels`; a prior without an
    error table gets geometric ones. A walk that starts lower takes its share of the steps, and
    variance-corrected ones a single step where the prior acts as a normal
    (:func:`~bayes1bit.diffusion.levels.normal_below`), which is exact there.

    Args:
        num_steps: Denoiser calls of a walk over the whole range of the prior.
        solver: Reverse solver; by default the prior's own.

    Raises:
        InputError: If ``num_steps`` is less than 2.
    """

    def __init__(self, num_steps: int = 16, solver: ReverseSolver | None = None) -> None:
        if num_steps < 2:
            raise InputError(f"a reverse diffusion needs at least 2 steps, got {num_steps}")
        self.num_steps, self.solver = num_steps, solver

    def levels(self, prior: DiffusionPrior, sigma: float) -> Tensor:
        """Levels from ``sigma`` down, with a final zero, shape (steps + 1,)."""
        if sigma <= self.one_step_below(prior):
            return torch.tensor([sigma, 0.0], dtype=torch.float64)
        whole = _spaced(prior, prior.sigma_max, self.num_steps)
        below = int((whole < sigma * (1 - 1e-9)).sum())
        # the walk's first step counts by the part of the whole walk's step that it covers
        part = 0.0
        if 0 < below < self.num_steps:
            above, next_ = whole[-below - 1].item(), whole[-below].item()
            part = math.log(sigma / next_) / math.log(above / next_)
        steps = max(1, round(below + part))
        levels = _spaced(prior, sigma, steps)
        return torch.cat([levels, levels.new_zeros(1)])

    def num_calls(self, prior: DiffusionPrior, sigma: float) -> int:
        """See :meth:`PriorStep.num_calls`; solvers of second order take more."""
        return len(self.levels(prior, sigma)) - 1

    @torch.no_grad()
    def __call__(self, prior: DiffusionPrior, z: Tensor, sigma: float) -> Tensor:
        """See :meth:`PriorStep.__call__`."""
        solver = self.solver or prior.solver
        return solver(prior, z, self.levels(prior, sigma))

    def one_step_below(self, prior: DiffusionPrior) -> float:
        """The level from which on downwards one step draws as well as many.

        Args:
            prior: The prior.
        """
        # other solvers need many steps for the spread of a normal, or never have it
        if prior.has_error and isinstance(self.solver or prior.solver, VarianceCorrected):
            return normal_below(prior.error, prior.sigma_max, prior.sigma_min)
        return prior.sigma_min

    def __repr__(self) -> str:
        return f"ReverseDiffusion(num_steps={self.num_steps}, solver={self.solver!r})"


class SampleGiven(PriorStep):
    """The prior's own conditional draw, ``prior.sample_given``, and its own ``sample``."""

    @torch.no_grad()
    def __call__(self, prior: DiffusionPrior, z: Tensor, sigma: float) -> Tensor:
        """See :meth:`PriorStep.__call__`."""
        return prior.sample_given(z, sigma)

    def num_calls(self, prior: DiffusionPrior, sigma: float) -> int:
        """Steps of the prior's own reverse diffusion, also for mixtures, which need none."""
        return len(prior.levels(sigma)) - 1

    def start(self, prior: DiffusionPrior, num: int) -> Tensor:
        """Draw by ``prior.sample``."""
        return prior.expand(()).sample((num,))

    def __repr__(self) -> str:
        return "SampleGiven()"


class PosteriorMean(PriorStep):
    """Tweedie's formula: the mean of the clean signal, which is not a draw of it."""

    @torch.no_grad()
    def __call__(self, prior: DiffusionPrior, z: Tensor, sigma: float) -> Tensor:
        """See :meth:`PriorStep.__call__`."""
        return prior.denoise(z, sigma)

    def num_calls(self, prior: DiffusionPrior, sigma: float) -> int:
        """One."""
        return 1

    def __repr__(self) -> str:
        return "PosteriorMean()"


def _spaced(prior: DiffusionPrior, sigma: float, num: int) -> Tensor:
    """Levels from ``sigma`` to the prior's smallest."""
    if prior.has_error:
        return adapted_levels(prior.error, sigma, prior.sigma_min, num)
    return geometric_levels(sigma, prior.sigma_min, num)
