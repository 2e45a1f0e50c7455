r"""Annealed split-Gibbs SMC: from the prior to the posterior by reweighting and exact sweeps.

A cloud of particles follows the path :math:`\pi_u(x) \propto p(x) L_u(x)` of
:mod:`bayes1bit.infer.annealing` from the prior down to :math:`u = 0`, as a sequential Monte Carlo
sampler (Del Moral, Doucet and Jasra, JRSS B 2006). At each level

1. the next u is chosen so that the weights :math:`L_{u'}(x) / L_u(x)` leave a set share of the
   particles effective. The weights see the data alone, so this costs no denoiser call;
2. the average weight is a factor of the estimate of p(y), and the particles are resampled;
3. every particle makes a sweep that leaves :math:`\pi_{u'}` invariant: a noisy copy that agrees
   with the data, and a reverse diffusion from it.

Which modes are found is decided in the middle of the path. At its top a sweep forgets nearly
everything, and at its bottom no sweep leaves its mode. So the number of particles follows w, the
length of a sweep's reverse diffusion between that of the last sweep (w = 0) and the first (w = 1):

.. math:: N(w) = N \left(1 + w + e \cdot 4 w (1 - w)\right).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import Path, path_of
from bayes1bit.infer.particles import log_mean_exp, next_level
from bayes1bit.infer.prior_steps import PriorStep, ReverseDiffusion
from bayes1bit.infer.target import Target
from bayes1bit.weighted import Scheme, resample


class SplitGibbsSMC(Algorithm):
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
        super().__init__(model, num_samples, site=site, progress=progress)
        if explore < 0:
            raise InputError(f"explore must not be negative, got {explore}")
        if not 0 < efficiency < 1:
            raise InputError(f"efficiency must lie between 0 and 1, got {efficiency}")
        if num_sweeps < 1:
            raise InputError(f"num_sweeps must be at least 1, got {num_sweeps}")
        self.explore, self.efficiency, self.num_sweeps = explore, efficiency, num_sweeps
        self.prior_step = prior_step or ReverseDiffusion(12)
        self.resampling = resampling

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Walk down the path with the whole cloud at once."""
        prior, path, step = target.prior, path_of(target), self.prior_step
        x = step.start(prior, 2 * self.num_samples)
        features, u = path.features(x), math.inf
        value = path.log_likelihood(features, u)
        log_evidence = float(value[0])
        fewest = step.num_calls(prior, path.coupling(0.0))
        longest: int | None = None
        with self.track(None, None, "level") as bar:
            while u > 0:
                u = self._next(path, features, value, u)
                log_weights = path.log_likelihood(features, u) - value
                self.check_finite(log_weights, f"u = {u:.3g}", "take a higher efficiency")
                log_evidence += log_mean_exp(log_weights)
                rho = path.coupling(u)
                calls = step.num_calls(prior, rho)
                longest = longest or calls
                width = (calls - fewest) / (longest - fewest) if longest > fewest else 0.0
                kept = resample(log_weights.softmax(0), self._count(width), self.resampling)
                x = x[kept]
                for _ in range(self.num_sweeps if u == 0 else 1):
                    x = step(prior, path.noisy_copy(x, u), rho)
                self.check_finite(x, f"rho = {rho:.3g}", "take another prior step")
                features = path.features(x)
                value = path.log_likelihood(features, u)
                bar.update()
        return Draws(x, log_evidence=log_evidence)

    def _next(self, path: Path, features: Tensor, value: Tensor, u: float) -> float:
        """The next point of the path."""

        def log_weights(candidate: float) -> Tensor:
            return path.log_likelihood(features, candidate) - value

        return next_level(log_weights, u, path.unit, self.efficiency)

    def _count(self, width: float) -> int:
        """Number of particles at a level."""
        width = min(max(width, 0.0), 1.0)
        return round(self.num_samples * (1 + width + self.explore * 4 * width * (1 - width)))
