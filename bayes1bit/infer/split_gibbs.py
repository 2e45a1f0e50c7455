r"""Split Gibbs sampling, annealed: exact conditionals of a posterior split in two.

A copy z of the signal is tied to it with standard deviation :math:`\rho`, so that data and prior
never meet in one step (Vono, Dobigeon and Chainais, IEEE Trans. Signal Process. 2019):

.. math::

    \pi_\rho(x, z) \propto p(y \mid z)\, N(z; x, \rho^2 I)\, p(x).

Both conditionals are problems that can be solved. Given x, the copy is drawn from
:math:`p(y \mid z) N(z; x, \rho^2 I)` by a data step. Given z, the signal has the law of a clean
signal whose noisy version is z, :math:`x \mid x + \rho \varepsilon = z`, which is a reverse
diffusion from level :math:`\rho` (Coeurdoux, Dobigeon and Chainais, IEEE Trans. Image Process.
2024; Xu and Chi, NeurIPS 2024).

Large :math:`\rho` moves freely, small :math:`\rho` hears the data: it falls geometrically. For
one-bit data with :math:`A A^T = c I` the signal's marginal is known in closed form,

.. math::

    \pi_\rho(x) \propto p(x) \prod_i \Phi\!\left(\frac{y_i (a_i x - \tau_i)}
        {\sqrt{s^2 + c \rho^2}}\right),

the posterior of data whose noise has the variance :math:`s^2 + c \rho^2`.

Chains have no weights. Where rho falls faster than they cross between modes of the prior, each
mode keeps the share of chains that it had when it froze, not the one that the data give it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from bayes1bit.diffusion import ReverseSolver, geometric_levels
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.data_steps import best_draw_step
from bayes1bit.infer.moments import prior_mean, typical_distance
from bayes1bit.infer.moves import Move, SplitMove
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target

SMOOTHING = 0.1
SHORTEST_WALK = 2


class SplitGibbs(Algorithm):
    """Annealed split Gibbs sampling with exact data steps where there are any.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of chains, processed in one batch; each gives its last signal.
        num_levels: Values of rho, falling geometrically.
        rho_max: First rho. By default the typical distance of a signal from the prior's mean,
            where the data do not yet decide between modes of the prior.
        rho_min: Last rho. By default the one that adds a tenth to the noise variance of one-bit
            data (of its smallest, measured by the mean squared norm of a row), but not less than
            the prior's smallest level; for other data that level.
        num_sweeps: Further sweeps at ``rho_min``.
        num_steps: Steps of the reverse diffusion from ``rho_max``. From smaller rho there are
            fewer, in proportion to log(rho), down to 2 at ``rho_min``: many short walks move
            the chain further than a few long ones. None for the prior's own ``sample_given``,
            exact for mixtures.
        solver: Reverse solver; the prior's own by default.
        data_step: A step that draws, such as ``LangevinStep()``; by default the most exact one
            that the model allows.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range; when run, if ``rho_max`` is less than
            ``rho_min``, or the data step cannot be used on the model.
    """

    paper = "Vono et al., IEEE TSP 2019; with a diffusion prior Xu and Chi, NeurIPS 2024"
    assumptions = "differentiable likelihood; without step sizes if one-bit"
    cost = "about 230: 70 levels of 4 to 2 steps, and 10 sweeps of 2"
    exactness = (
        "of the posterior smoothed at rho_min, as num_sweeps grows and the reverse diffusion "
        "becomes exact"
    )
    independent_chains = True

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 70,
        rho_max: float | None = None,
        rho_min: float | None = None,
        num_sweeps: int = 10,
        num_steps: int | None = 4,
        solver: ReverseSolver | None = None,
        data_step: DataStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 1:
            raise InputError(f"num_levels must be at least 1, got {num_levels}")
        for name, rho in (("rho_max", rho_max), ("rho_min", rho_min)):
            if rho is not None and not rho > 0:
                raise InputError(f"{name} must be positive, got {rho}")
        if num_sweeps < 0:
            raise InputError(f"num_sweeps must not be negative, got {num_sweeps}")
        if num_steps is not None and num_steps < 1:
            raise InputError(f"num_steps must be at least 1 or None, got {num_steps}")
        if solver is not None and num_steps is None:
            raise InputError("a solver needs num_steps, which is None: exact where it can be")
        self.num_levels, self.rho_max, self.rho_min = num_levels, rho_max, rho_min
        self.num_sweeps, self.num_steps = num_sweeps, num_steps
        self.solver, self.data_step = solver, data_step

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains down the levels at once."""
        prior = target.prior
        data_step = self.data_step or best_draw_step(target)
        data_step.prepare(target)
        last = self.rho_min or _smallest_rho(target)
        first = self.rho_max or max(typical_distance(prior), last)
        if first < last:
            raise InputError(f"rho_max {first:g} is less than rho_min {last:g}")
        levels = geometric_levels(first, last, self.num_levels).tolist()
        # with one level alone that level is the last
        levels = [*levels[:-1], *[last] * (1 + self.num_sweeps)]
        x = prior_mean(prior).repeat(self.num_samples, *[1] * len(prior.event_shape))
        for rho in self.track(levels, len(levels), "sweep"):
            z = data_step(target, x, rho)
            num_steps = self._walk_length(rho, first, last)
            x = prior.sample_given(z, rho, num_steps=num_steps, solver=self.solver)
            self.check_finite(x, f"rho = {rho:.3g}", "take another data step")
        return Draws(x)

    def move(self, prior_step: PriorStep) -> Move:
        """A sweep of the posterior itself, with the coupling that its noise allows.

        Settings of levels and steps belong to the annealed run, and have no part in it.
        """
        return SplitMove(prior_step)

    def _walk_length(self, rho: float, first: float, last: float) -> int | None:
        """Steps of the reverse diffusion from level rho."""
        if self.num_steps is None:
            return None
        least = min(self.num_steps, SHORTEST_WALK)
        share = math.log(rho / last) / math.log(first / last) if rho > last else 0.0
        return round(least + share * (self.num_steps - least))


def _smallest_rho(target: Target) -> float:
    """The rho whose smoothing adds little to the noise of the data."""
    structure = target.structure
    if structure is None or structure.one_bit is None:
        return target.prior.sigma_min
    noise = float(structure.one_bit.smallest_noise_variance.min())
    gram = float(structure.operator.row_norms_squared.mean())
    return max((SMOOTHING * noise / gram) ** 0.5, target.prior.sigma_min)
