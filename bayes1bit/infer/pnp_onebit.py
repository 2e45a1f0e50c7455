r"""PnP-OneBit: plug-and-play split Gibbs for one-bit data (Ma, Wu and Liu 2026).

The posterior is relaxed to two copies of the signal that are coupled by a normal of width
:math:`\rho`, :math:`\pi(x, z) \propto p(x)\, p(y \mid z)\, N(z; x, \rho^2 I)`, and each is drawn
given the other:

.. math::

    z &\sim p(y \mid z)\, N(z; x, \rho_k^2 I)
        && \text{data: Langevin}\\
    x &\sim p(x)\, N(z; x, \rho_k^2 I) = p(x \mid x + \rho_k \varepsilon = z)
        && \text{prior: reverse diffusion from level } \rho_k\\
    \rho_k &= \max(0.9^k \cdot 10,\; 0.3), \qquad k = 0, \dots, 99.

With exact draws in both places and a fixed :math:`\rho` the stationary law of x has the density
:math:`p(x) \int p(y \mid z)\, N(z; x, \rho^2 I)\, dz`, the posterior when :math:`\rho \to 0`.

As published, z is found by 100 Langevin steps
:math:`z \leftarrow z + \gamma \nabla + \sqrt{2 \gamma}\, \varepsilon` from x, with
:math:`\gamma = 0.01` in squared units of a signal in [-1, 1], and x by the part of a 100-step DDIM
of :math:`\eta = 0.5` that lies below the grid level nearest to :math:`\rho_k`. The
grid of the paper is that of its variance-preserving network; here it is in Karras spacing from the
prior's largest level to its smallest and 0.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.diffusion.solvers import DDIM, ReverseSolver
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.data_steps import LangevinStep
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target

_PUBLISHED_SOLVER = DDIM(0.5)


class PnPOneBit(Algorithm):
    """Split Gibbs with an annealed coupling.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of independent chains, processed in one batch; each gives the signal of
            its last sweep.
        num_sweeps: Sweeps, each a data step and a prior step.
        rho_max: Coupling of the first sweep, in units of the signal.
        rho_min: Smallest coupling, at which the chain stays.
        decay: Factor of the coupling from one sweep to the next, at most 1.
        num_grid_levels: Steps of the solver's grid over the prior's whole range of levels.
        data_step: ``LangevinStep(100, step_size=0.01)``, as published, unless another is given;
            ``ExactStep()`` is exact for one-bit data of a row-orthogonal operator. The published
            step diverges where the likelihood is steeper than 2 / 0.01.
        solver: Reverse solver on that grid, ``DDIM(0.5)`` as published. With None the prior draws
            the signal itself from level rho (``prior.sample_given``), exactly for a mixture.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Ma, Wu and Liu 2026, arXiv 2610.11834"
    assumptions = "differentiable likelihood"
    cost = "about 3100: 100 sweeps, each the part of a grid of 100 steps that lies below its rho"
    exactness = "as rho_min falls, if both steps are exact and the sweeps many"
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_sweeps: int = 100,
        rho_max: float = 10.0,
        rho_min: float = 0.3,
        decay: float = 0.9,
        num_grid_levels: int = 100,
        data_step: DataStep | None = None,
        solver: ReverseSolver | None = _PUBLISHED_SOLVER,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_sweeps < 1:
            raise InputError(f"num_sweeps must be at least 1, got {num_sweeps}")
        if not 0 < rho_min <= rho_max:
            raise InputError(
                f"rho needs 0 < rho_min <= rho_max, got rho_min={rho_min}, rho_max={rho_max}"
            )
        if not 0 < decay <= 1:
            raise InputError(f"decay must be above 0 and at most 1, got {decay}")
        if num_grid_levels < 2:
            raise InputError(f"num_grid_levels must be at least 2, got {num_grid_levels}")
        self.num_sweeps, self.rho_max, self.rho_min = num_sweeps, rho_max, rho_min
        self.decay, self.num_grid_levels = decay, num_grid_levels
        self.data_step = data_step or LangevinStep(100, step_size=0.01)
        self.solver = solver

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains through the sweeps at once."""
        self.data_step.prepare(target)
        prior = target.prior
        x = prior.pure_noise(self.num_samples, self.rho_max)
        for sweep in self.track(range(self.num_sweeps), self.num_sweeps, unit="sweep"):
            rho = max(self.decay**sweep * self.rho_max, self.rho_min)
            z = self.data_step(target, x, rho)
            x = self._prior_step(prior, z, rho)
            self.check_finite(x, f"rho = {rho:.3g}", "take a smaller step_size in data_step")
        return Draws(x)

    def _prior_step(self, prior: DiffusionPrior, z: Tensor, rho: float) -> Tensor:
        """Draw the signal given its noisy copy."""
        if self.solver is None:
            return prior.sample_given(z, rho)
        grid = prior.levels(num_steps=self.num_grid_levels)
        # the final 0 of the grid is where the walk ends, never where it starts
        start = int((grid[:-1].log() - torch.tensor(rho).log()).abs().argmin())
        return self.solver(prior, z, grid[start:])
