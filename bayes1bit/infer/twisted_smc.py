r"""Twisted SMC: guidance as the proposal of a particle filter that knows what it changed.

Wu et al. (NeurIPS 2023) turn guidance into sequential Monte Carlo. Particles go down the noise
levels; the twisting function :math:`\psi_a(x_a)`, an estimate of the likelihood of a noisy
signal, steers each step, and the weights

.. math::

    w_b = \frac{p(x_b \mid x_a)\, \psi_b(x_b)}{q(x_b \mid x_a, y)\, \psi_a(x_a)}

repair what the steering does to the law of the path. The last twisting function is the likelihood
itself, so that the weighted particles tend to the posterior of the chain's prior, and the average
weights to its evidence. Here p is the variance-corrected reverse step, q adds to its mean the
shift of :mod:`bayes1bit.infer.moment_matched`, and :math:`\psi` is the smoothed likelihood, damped
by its :mod:`~bayes1bit.infer.confidence`.

While modes compete the twisting function remains the weak part: it makes weights uneven, and
estimates of the evidence too low. Inflating its variance helps. So does doing without guidance:
with q = p a step needs no backward pass, and the twisting function alone, which looks ahead to the
denoised signal, selects the particles; more of them must be carried then.

Copies that resampling leaves are moved apart by sweeps that leave the posterior invariant
(:mod:`bayes1bit.infer.annealing`).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, adapted_levels
from bayes1bit.diffusion.solvers import reverse_kernel
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import sweep
from bayes1bit.infer.moment_matched import check_error, guide
from bayes1bit.infer.particles import efficiency, log_mean_exp, log_step_ratio
from bayes1bit.infer.prior_steps import PriorStep, ReverseDiffusion
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.infer.target import Target
from bayes1bit.weighted import Scheme, resample


class TwistedSMC(Algorithm):
    """Twisted SMC with moment-matched guidance.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of samples.
        explore: Particles per sample on the way down the levels.
        guidance: Share of the guidance that steps take: 1 as above, 0 for none.
        inflation: Factor of the twisting function's variance.
        num_levels: Noise levels.
        sigma_max: First level; the prior's largest by default.
        threshold: Effective share of particles below which they are resampled.
        resampling: Resampling scheme.
        num_sweeps: Sweeps at the end that leave the posterior invariant. Without any,
            and with one particle per sample, the last weights are kept.
        prior_step: Prior step of these sweeps; ``ReverseDiffusion(16)`` by default.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range; when run, if the prior does not know its
            denoising error.
    """

    paper = "Wu et al., NeurIPS 2023, arXiv 2306.17775; its twisting function is bayes1bit's"
    assumptions = "differentiable likelihood, prior with an error table"
    cost = "about 130: one call and one backward pass for each of 60 levels, and 3 sweeps"
    exactness = "as particles and levels grow"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 64,
        *,
        explore: float = 1.0,
        guidance: float = 1.0,
        inflation: float = 1.0,
        num_levels: int = 60,
        sigma_max: float | None = None,
        threshold: float = 0.5,
        resampling: Scheme = "systematic",
        num_sweeps: int = 3,
        prior_step: PriorStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 1:
            raise InputError(f"num_levels must be at least 1, got {num_levels}")
        if sigma_max is not None and not sigma_max > 0:
            raise InputError(f"sigma_max must be positive, got {sigma_max}")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must lie between 0 and 1, got {threshold}")
        if num_sweeps < 0:
            raise InputError(f"num_sweeps must not be negative, got {num_sweeps}")
        if not explore >= 1:
            raise InputError(f"explore must be at least 1, got {explore}")
        if not 0 <= guidance <= 1:
            raise InputError(f"guidance must lie between 0 and 1, got {guidance}")
        if not inflation > 0:
            raise InputError(f"inflation must be positive, got {inflation}")
        self.explore, self.guidance, self.inflation = explore, guidance, inflation
        self.num_levels, self.sigma_max = num_levels, sigma_max
        self.threshold, self.resampling = threshold, resampling
        self.num_sweeps, self.prior_step = num_sweeps, prior_step or ReverseDiffusion()

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all particles down the levels at once."""
        prior, likelihood = target.prior, SmoothedLikelihood(target)
        check_error(prior)
        first = self.sigma_max or prior.sigma_max
        adapted = adapted_levels(prior.error, first, prior.sigma_min, self.num_levels)
        levels = [*adapted.tolist(), 0.0]
        x = prior.pure_noise(round(self.explore * self.num_samples), levels[0])
        log_weights = x.new_zeros(len(x))
        log_evidence = 0.0
        before = log_weights  # log psi of the level above, 0 for the prior
        for sigma, sigma_next in self.track(pairwise(levels), self.num_levels):
            clean, shift, value = self._look_ahead(prior, likelihood, x, sigma)
            log_weights = log_weights + value - before
            self.check_finite(log_weights, f"sigma = {sigma:.3g}")
            if efficiency(log_weights) < self.threshold:
                log_evidence += log_mean_exp(log_weights)
                kept = resample(log_weights.softmax(0), len(x), self.resampling)
                x, clean, value = x[kept], clean[kept], value[kept]
                shift = None if shift is None else shift[kept]
                log_weights = torch.zeros_like(log_weights)
            k, std = reverse_kernel(float(prior.error(sigma)), sigma, sigma_next)
            noise = torch.randn_like(x)
            x = torch.lerp(x, clean, k) + std * noise
            if shift is not None:
                x = x + k * shift
                log_weights = log_weights + log_step_ratio(k / std * shift, noise)
            before = value
        log_weights = log_weights + likelihood(x, 0.0) - before
        self.check_finite(log_weights, "sigma = 0")
        log_evidence += log_mean_exp(log_weights)
        weights = log_weights.double().softmax(0)
        if not self.num_sweeps and len(x) == self.num_samples:
            return Draws(x, weights, log_evidence)
        x = x[resample(weights, self.num_samples, self.resampling)]
        x = x[torch.randperm(len(x), device=x.device)]  # exchangeable, not in order of ancestors
        x = sweep(target, x, self.prior_step, self.num_sweeps)
        return Draws(x, log_evidence=log_evidence)

    def _look_ahead(
        self, prior: DiffusionPrior, likelihood: SmoothedLikelihood, x: Tensor, sigma: float
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Denoised signals, the shift that guidance gives them, and log psi."""
        if self.guidance > 0:
            clean, shift, value = guide(prior, likelihood, x, sigma, self.inflation)
            return clean, self.guidance * shift, value
        clean = prior.denoise(x, sigma)
        return clean, None, likelihood(clean, self.inflation * float(prior.error(sigma)))
