r"""Sequential Monte Carlo down the path of softened posteriors.

A cloud of particles follows the path :math:`\pi_u(x) \propto p(x) L_u(x)` of
:mod:`bayes1bit.infer.annealing` down to the posterior at :math:`u = 0`, as a sequential Monte
Carlo sampler (Del Moral, Doucet and Jasra, JRSS B 2006). At each level

1. the next u is chosen so that the weights :math:`L_{u'}(x) / L_u(x)` leave a set share of the
   particles effective. The weights see the data alone, so this costs no denoiser call;
2. the average weight is a factor of the estimate of p(y), and the particles are resampled, in an
   order in which neighbours are alike so that every mode keeps its share;
3. every particle makes a sweep that leaves :math:`\pi_{u'}` invariant: a noisy copy that agrees
   with the data, and a reverse diffusion from it.

Where the model has other latent sites, a particle is a signal with values of these sites, and the
sweep ends with a draw of them (:mod:`bayes1bit.infer.joint_path`).

Methods differ in where on the path they begin, and in the number of particles at each level.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import Path, path_of
from bayes1bit.infer.joint_path import JointPath, joint_path_of
from bayes1bit.infer.particles import log_mean_exp, next_level, similarity_order
from bayes1bit.infer.prior_steps import PriorStep, ReverseDiffusion
from bayes1bit.infer.target import Target
from bayes1bit.weighted import Scheme, resample


class AnnealedSMC(Algorithm):
    """Base class of samplers that go down the path.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of particles at the end of the path.
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

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int,
        *,
        efficiency: float,
        num_sweeps: int,
        prior_step: PriorStep | None,
        resampling: Scheme,
        site: str | None,
        progress: bool,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if not 0 < efficiency < 1:
            raise InputError(f"efficiency must lie between 0 and 1, got {efficiency}")
        if num_sweeps < 1:
            raise InputError(f"num_sweeps must be at least 1, got {num_sweeps}")
        self.efficiency, self.num_sweeps = efficiency, num_sweeps
        self.prior_step = prior_step or ReverseDiffusion(12)
        self.resampling = resampling

    @abstractmethod
    def first_cloud(self, target: Target, path: Path) -> tuple[Tensor, float, float]:
        """Where the path begins.

        Args:
            target: The target.
            path: Its path.

        Returns:
            Particles, shape (particles, *event); the u whose target they are drawn from; and the
            log of that target's normalising constant, or an estimate of it.
        """

    @abstractmethod
    def num_particles(self, target: Target, path: Path, u: float) -> int:
        """Number of particles at u."""

    def walk_length(self, target: Target, path: Path, u: float) -> float:
        """Calls of a sweep at u, between 0 for those of the last sweep and 1 for a whole walk."""
        fewest, calls, most = (
            self.prior_step.num_calls(target.prior, rho)
            for rho in (path.coupling(0.0), path.coupling(u), target.prior.sigma_max)
        )
        length = (calls - fewest) / (most - fewest) if most > fewest else 0.0
        return min(max(length, 0.0), 1.0)

    def sweep_prior(self, target: Target, path: Path, u: float) -> DiffusionPrior:
        """Prior that sweeps at u draw from: the model's own, unless a method has another."""
        return target.prior

    def draw(self, target: Target) -> Draws:
        """Walk down the path with the whole cloud at once."""
        x, path, log_evidence = self.walk(target)
        latents = path.latents if isinstance(path, JointPath) else None
        return Draws(x, log_evidence=log_evidence, latents=latents)

    @torch.no_grad()
    def walk(self, target: Target) -> tuple[Tensor, Path, float]:
        """Walk down the path.

        Args:
            target: The target; if it has other latent sites, each particle has values of its own,
                which are drawn from their prior at the top and anew after every sweep.

        Returns:
            Signals, shape (num_samples, *event); the path of these particles; and the estimate of
            log p(y).
        """
        path, step = joint_path_of(target) if target.latents else path_of(target), self.prior_step
        x, u, log_evidence = self.first_cloud(target, path)
        path = path.spread(len(x))
        features = path.features(x)
        value = path.log_likelihood(features, u)
        with self.track(None, None, "level") as bar:
            while True:
                u = self._next(path, features, value, u)
                log_weights = path.log_likelihood(features, u) - value
                self.check_finite(log_weights, f"u = {u:.3g}", "take a higher efficiency")
                log_evidence += log_mean_exp(log_weights)
                num = self.num_particles(target, path, u)
                order = similarity_order(x)
                kept = order[resample(log_weights.softmax(0)[order], num, self.resampling)]
                if u == 0:  # samples are exchangeable, and an order would look like a slow chain
                    kept = kept[torch.randperm(num, device=kept.device)]
                x, path = x[kept], path.select(kept)
                prior = self.sweep_prior(target, path, u)
                for _ in range(self.num_sweeps if u == 0 else 1):
                    rho = path.coupling(u)
                    x = step(prior, path.noisy_copy(x, u), rho)
                    path = path.update(x, u)
                self.check_finite(x, f"rho = {rho:.3g}", "take another prior step")
                features = path.features(x)
                value = path.log_likelihood(features, u)
                bar.update()
                if u == 0:
                    return x, path, log_evidence

    def _next(self, path: Path, features: Tensor, value: Tensor, u: float) -> float:
        """The next point of the path."""

        def log_weights(candidate: float) -> Tensor:
            return path.log_likelihood(features, candidate) - value

        return next_level(log_weights, u, path.unit, self.efficiency)
