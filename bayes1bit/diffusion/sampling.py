"""How a prior draws its samples: a solver, and the levels that it walks down.

That is set apart from how it draws a signal given a noisy one
(:meth:`~bayes1bit.diffusion.DiffusionPrior.sample_given`), because the two ask for different
things. The conditional draw is a part of algorithms, made of few steps from a middle level. A
sample is made once, in all the steps from pure noise, and what it loses on the way, such as
contrast, is lost.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from bayes1bit.diffusion.levels import adapted_levels, geometric_levels, karras_levels
from bayes1bit.diffusion.solvers import ReverseSolver
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from bayes1bit.diffusion.prior import DiffusionPrior

Spacing = Literal["karras", "geometric", "adapted"]


@dataclass(frozen=True)
class Sampling:
    """A reverse walk from pure noise.

    Attributes:
        solver: Reverse solver.
        spacing: Where the levels lie: "karras", "geometric" or "adapted" (where the prior is least
            normal, which asks for its denoising error); see :mod:`~bayes1bit.diffusion.levels`.
        num_steps: Steps, the last of which ends at zero.

    Raises:
        InputError: If ``spacing`` is unknown or ``num_steps`` is less than 2.
    """

    solver: ReverseSolver
    spacing: Spacing = "karras"
    num_steps: int = 40

    def __post_init__(self) -> None:
        if self.spacing not in get_args(Spacing):
            raise InputError(
                f'spacing is "{self.spacing}"; use one of {", ".join(get_args(Spacing))}'
            )
        if self.num_steps < 2:
            raise InputError(f"num_steps must be at least 2, got {self.num_steps}")

    def levels(self, prior: "DiffusionPrior") -> Tensor:
        """Levels from the prior's largest to its smallest and zero, shape (num_steps + 1,)."""
        ends = (prior.sigma_max, prior.sigma_min, self.num_steps)
        if self.spacing == "adapted":
            levels = adapted_levels(prior.error, *ends)
        elif self.spacing == "geometric":
            levels = geometric_levels(*ends)
        else:
            levels = karras_levels(*ends)
        return torch.cat([levels, levels.new_zeros(1)])

    def __call__(self, prior: "DiffusionPrior", noise: Tensor) -> Tensor:
        """Walk down.

        Args:
            prior: The prior.
            noise: Pure noise at its largest level, shape (*batch, *event).

        Returns:
            Signals, shape of ``noise``.
        """
        return self.solver(prior, noise, self.levels(prior))

    def __str__(self) -> str:
        return f"{self.num_steps} steps of {self.solver!r} over {self.spacing} levels"
