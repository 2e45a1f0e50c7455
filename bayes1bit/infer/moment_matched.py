r"""Moment-matched guidance: reverse diffusion towards the data, honest about the denoiser's error.

At level a the clean signal given the noisy one is taken as normal about :math:`D = D(x_a, a)`,
with the denoiser's measured error :math:`r^2(a)` as its variance. For one-bit data the likelihood
of the noisy signal is then closed-form (:mod:`bayes1bit.infer.smoothing`), and its gradient gives,
by Tweedie's formula, the mean of the clean signal given the data as well:

.. math::

    \hat x &= \bar D + \beta a^2\, \nabla_{x_a} \log p(y \mid D, r^2(a)) \\
    x_b &= x_a + k (\hat x - x_a) + N\!\left(0, b^2 k\right), \qquad
        k = 1 - \tfrac{b^2}{a^2}

the second-order reverse step of :class:`~bayes1bit.diffusion.StochasticMultistep`, whose
:math:`\bar D` goes on where D has been going. The gradient goes through the denoiser, whose
Jacobian spreads what one measurement says over the pixels that move together; from it also comes
:math:`\beta \le 1`, which damps the gradient where the error is not white but lies in the
direction of the data (:mod:`bayes1bit.infer.confidence`). Guidance by moments goes back to Song et
al. (PiGDM, ICLR 2023) and Rozet et al. (NeurIPS 2024), for linear data; the probit and logistic
forms, the measured error as the variance, and the damping are this package's.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, geometric_levels
from bayes1bit.diffusion.solvers import extrapolate, reverse_kernel
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import sweep
from bayes1bit.infer.confidence import confidence, directional_variance
from bayes1bit.infer.guidance import guided_denoise
from bayes1bit.infer.prior_steps import PriorStep, ReverseDiffusion
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.infer.target import Target


class Guidance(NamedTuple):
    """What the data say about noisy signals at one level.

    Attributes:
        clean: Denoised signals D, shape (particles, *event).
        shift: What the data add to them, shape of ``clean``.
        log_likelihood: Log-likelihood of the noisy signals in nats, shape (particles,).
    """

    clean: Tensor
    shift: Tensor
    log_likelihood: Tensor


def guide(
    prior: DiffusionPrior,
    likelihood: SmoothedLikelihood,
    x: Tensor,
    sigma: float,
    inflation: float = 1.0,
) -> Guidance:
    """Guide noisy signals by the smoothed likelihood; one denoiser call and its backward pass.

    Args:
        prior: A prior that knows its denoising error.
        likelihood: The smoothed likelihood.
        x: Noisy signals, shape (particles, *event).
        sigma: Their level a.
        inflation: Factor of the error's variance in the likelihood.
    """
    error = inflation * float(prior.error(sigma))
    guided = guided_denoise(prior, x, sigma, partial(likelihood, variance=error))
    beta = confidence(likelihood, error, directional_variance(guided, sigma, error))
    return Guidance(guided.clean, beta * sigma**2 * guided.gradient, beta * guided.value)


def check_error(prior: DiffusionPrior) -> None:
    """Refuse a prior that does not know its denoising error.

    Raises:
        InputError: If the prior has no table of denoising errors.
    """
    if not prior.has_error:
        raise InputError(
            "guidance needs the denoising error at every level, but this prior has no table of "
            "it: measure one on held-out signals with ErrorTable.measure"
        )


class MomentMatched(Algorithm):
    """Moment-matched guidance.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of chains, processed in one batch.
        num_levels: Noise levels.
        sigma_max: First level; the prior's largest by default.
        num_sweeps: Sweeps at the end that leave the posterior invariant
            (:mod:`bayes1bit.infer.annealing`) and so undo some of the guidance's error. With a
            prior whose reverse diffusion is not exact they make samples cleaner and intervals
            narrower.
        prior_step: Prior step of these sweeps; ``ReverseDiffusion(16)`` by default.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range; when run, if the prior does not know its
            denoising error.
    """

    paper = "bayes1bit; after Song et al., ICLR 2023 and Rozet et al., NeurIPS 2024"
    assumptions = "differentiable likelihood, prior with an error table"
    cost = "120: one call and one backward pass for each of 60 levels"
    exactness = "no: the clean signal given a noisy one is taken as a white normal"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 60,
        sigma_max: float | None = None,
        num_sweeps: int = 0,
        prior_step: PriorStep | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 1:
            raise InputError(f"num_levels must be at least 1, got {num_levels}")
        if sigma_max is not None and not sigma_max > 0:
            raise InputError(f"sigma_max must be positive, got {sigma_max}")
        if num_sweeps < 0:
            raise InputError(f"num_sweeps must not be negative, got {num_sweeps}")
        self.num_levels, self.sigma_max, self.num_sweeps = num_levels, sigma_max, num_sweeps
        self.prior_step = prior_step or ReverseDiffusion()

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains down the levels at once."""
        prior, likelihood = target.prior, SmoothedLikelihood(target)
        check_error(prior)
        first = self.sigma_max or prior.sigma_max
        levels = geometric_levels(first, prior.sigma_min, self.num_levels).tolist()
        x = prior.pure_noise(self.num_samples, levels[0])
        memory: dict[str, Any] = {}
        for sigma, sigma_next in self.track(pairwise([*levels, 0.0]), self.num_levels):
            guidance = guide(prior, likelihood, x, sigma)
            clean = extrapolate(guidance.clean, sigma, sigma_next, memory)
            error = float(prior.error(sigma)) if sigma_next == 0 else 0.0
            k, std = reverse_kernel(error, sigma, sigma_next)
            x = torch.lerp(x, clean + guidance.shift, k) + std * torch.randn_like(x)
            self.check_finite(x, f"sigma = {sigma:.3g}")
        return Draws(sweep(target, x, self.prior_step, self.num_sweeps))
