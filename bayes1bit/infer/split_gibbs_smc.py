r"""Annealed split-Gibbs SMC: from the prior to the posterior by reweighting and exact sweeps.

The whole path of :mod:`bayes1bit.infer.annealed_smc`, from a cloud that is drawn from the prior.

Which modes are found is decided in the middle of the path. At its top a sweep forgets nearly
everything, and at its bottom no sweep leaves its mode. So the number of particles follows w, the
length of a sweep's reverse diffusion between that of the last sweep (w = 0) and a walk from pure
noise (w = 1):

.. math:: N(w) = N \left(1 + w + e \cdot 4 w (1 - w)\right).

A mode is missed if no particle is there when sweeps can no longer reach it.
:mod:`bayes1bit.infer.lookahead_smc` covers that part of the path in another way.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.annealed_smc import AnnealedSMC
from bayes1bit.infer.annealing import Path
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.target import Target
from bayes1bit.weighted import Scheme


class SplitGibbsSMC(AnnealedSMC):
    """Annealed split-Gibbs SMC with as many particles as a level needs.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number N of particles at the end of the path.
        explore: The e above: how many more particles there are where modes are decided.
        efficiency: Effective share of particles that each level keeps; higher values make more
            and shorter levels.
        num_sweeps: Sweeps at the end, which leave the posterior invariant and part the copies
            that resampling made.
        prior_step: Prior step of the sweeps; ``ReverseDiffusion(12)`` by default.
        resampling: Resampling scheme.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "bayes1bit; after Del Moral, Doucet and Jasra, JRSS B 2006"
    assumptions = "none for one-bit data; otherwise a differentiable likelihood"
    cost = "150 to 350, more for data that say more: about 20 levels of 12 to 2 steps"
    exactness = (
        "as particles grow and the reverse diffusion becomes exact; with gradients only, of a "
        "posterior that a small coupling smooths"
    )

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 64,
        *,
        explore: float = 7.0,
        efficiency: float = 0.8,
        num_sweeps: int = 4,
        prior_step: PriorStep | None = None,
        resampling: Scheme = "systematic",
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(
            model,
            num_samples,
            efficiency=efficiency,
            num_sweeps=num_sweeps,
            prior_step=prior_step,
            resampling=resampling,
            site=site,
            progress=progress,
        )
        if explore < 0:
            raise InputError(f"explore must not be negative, got {explore}")
        self.explore = explore

    def first_cloud(self, target: Target, path: Path) -> tuple[Tensor, float, float]:
        """Draws of the prior, at the top of the path."""
        x = self.prior_step.start(target.prior, 2 * self.num_samples)
        top = path.log_likelihood(path.features(x[:1]), math.inf)
        return x, math.inf, float(top)

    def num_particles(self, target: Target, path: Path, u: float) -> int:
        """See the formula above."""
        fewest, calls, most = (
            self.prior_step.num_calls(target.prior, rho)
            for rho in (path.coupling(0.0), path.coupling(u), target.prior.sigma_max)
        )
        width = (calls - fewest) / (most - fewest) if most > fewest else 0.0
        width = min(max(width, 0.0), 1.0)
        return round(self.num_samples * (1 + width + self.explore * 4 * width * (1 - width)))
