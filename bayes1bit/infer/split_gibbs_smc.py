r"""Annealed split-Gibbs SMC: from the prior to the posterior by reweighting and exact sweeps.

A cloud of particles follows the path :math:`\pi_u(x) \propto p(x) L_u(x)` of
:mod:`bayes1bit.infer.annealing` from the prior down to :math:`u = 0`, as a sequential Monte Carlo
sampler (Del Moral, Doucet and Jasra, JRSS B 2006). At each level

1. the next u is chosen so that the weights :math:`L_{u'}(x) / L_u(x)` leave a set share of the
   particles effective. The weights see the data alone, so this costs no denoiser call;
2. the average weight is a factor of the estimate of p(y), and the particles are resampled;
3. every particle makes a sweep that leaves :math:`\pi_{u'}` invariant: a noisy copy that agrees
   with the data, and a reverse diffusion from it.

Which modes are found is decided early, where sweeps are wide and data weak; so the cloud is large
there and shrinks with the length of the reverse diffusions to the number of samples asked for.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import path_of
from bayes1bit.infer.particles import log_mean_exp, next_level
from bayes1bit.infer.prior_steps import PriorStep, ReverseDiffusion
from bayes1bit.infer.target import Target
from bayes1bit.weighted import Scheme, resample


class SplitGibbsSMC(Algorithm):
    paper = "bayes1bit"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 64,
        *,
        explore: float = 4.0,
        efficiency: float = 0.8,
        num_sweeps: int = 4,
        prior_step: PriorStep | None = None,
        resampling: Scheme = "systematic",
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        self.explore, self.efficiency, self.num_sweeps = explore, efficiency, num_sweeps
        self.prior_step = prior_step or ReverseDiffusion()
        self.resampling = resampling

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        prior, path = target.prior, path_of(target)
        x = self.prior_step.start(prior, math.ceil(self.explore * self.num_samples))
        features, u = path.features(x), math.inf
        value = path.log_likelihood(features, u)
        log_evidence = float(value[0])
        first = None
        while u > 0:
            u = next_level(
                lambda v: path.log_likelihood(features, v) - value, u, path.unit, self.efficiency
            )
            log_weights = path.log_likelihood(features, u) - value
            log_evidence += log_mean_exp(log_weights)
            rho = path.coupling(u)
            share = math.log(rho / path.coupling(0.0))
            first = share if first is None else first
            num = round(
                self.num_samples * (1 + (self.explore - 1) * (share / first if first > 0 else 0.0))
            )
            x = x[resample(log_weights.softmax(0), num, self.resampling)]
            for _ in range(self.num_sweeps if u == 0 else 1):
                x = self.prior_step(prior, path.noisy_copy(x, u), rho)
            features = path.features(x)
            value = path.log_likelihood(features, u)
            if getattr(self, "verbose", False):
                print(
                    f"u {u:.3g} rho {rho:.3g} N {num} logZ {log_evidence:.2f}",
                    len(self.prior_step.levels(prior, rho)) - 1,
                )
        return Draws(x, log_evidence=log_evidence)
