r"""SIM-DMIS: single-index models with diffusion priors (Tang et al., ICML 2025).

The method does not ask for the link. For :math:`y_i = f(a_i x)` with random rows the
back-projection :math:`A^T y` points along the signal on average, whatever f is (Brillinger 1982;
Plan and Vershynin 2016), so a multiple of it is the signal plus noise of nearly equal size in all
directions: a state of the diffusion at some level :math:`\sigma_*`. Then

1. scale :math:`\hat x = \mu^{-1} A^T y` and find its level, :math:`\sigma_* = C_s / \sqrt m`;
2. invert the probability-flow ODE, :math:`dx / d\sigma = (x - D) / \sigma`, up from
   :math:`\sigma_*` to the largest level;
3. sample back down to a clean signal.

Solved exactly, up and down would cancel and leave the ODE from :math:`\sigma_*` to 0; it is the
finite number of steps that pulls the state towards what the prior finds typical.

**Scale and level.** The paper takes signals of unit norm and tunes :math:`C_s`. Signals of a prior
have a norm of their own, so both constants are found here from the second moment
:math:`q = E|x|^2 / n` of the prior. For one-bit data :math:`a_i x` is about
:math:`N(0, |a_i|^2 q)`, which gives each bit an expectation :math:`\bar y_i` (zero without a
threshold) and a slope :math:`\beta_i` (:func:`bayes1bit.infer.misfit.expected_bits`), and as
:math:`E[a_i a_i^T] = |a_i|^2 I / n`,

.. math::

    E[A^T (y - \bar y)] = \mu x, \qquad \mu = \tfrac1n \sum_i \beta_i |a_i|^2 .

Entries of :math:`A^T y` scatter about that by the variance of the bits, which gives the level:

.. math:: \sigma_*^2 = \frac{1}{n \mu^2} \sum_i |a_i|^2 (1 - \bar y_i^2),

less q where rows are orthogonal, since then the part of the bits that is linear in the signal does
not add to the scatter. The link comes in through these two numbers alone.

**Other likelihoods.** The gradient b of the log-likelihood at zero takes the place of
:math:`A^T y`; for one-bit data without thresholds it is a multiple of it. Its expectation is about
:math:`F x` and its covariance F, with F the Fisher information. Taken as :math:`F = f I`, the
length :math:`|b|^2 = n (f^2 q + f)` gives f; then :math:`\hat x = b / f`,
:math:`\sigma_* = f^{-1/2}`. With few measurements F is far from that, and the estimate is short.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, karras_levels
from bayes1bit.diffusion.solvers import DDIM, ReverseSolver
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.misfit import expected_bits, prior_moments
from bayes1bit.infer.target import Target


class SIMDMIS(Algorithm):
    """Back-projection, inversion of the diffusion, and one sampling pass.

    Nothing in it is random unless ``solver`` is: all samples are then the same signal, and
    ``num_samples=1`` is enough.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of sampling passes, processed in one batch.
        num_steps: Denoiser calls of the inversion, and again of the sampling.
        noise_constant: The constant C_s of the paper, in units of the signal: the back-projection
            is taken to be at level ``noise_constant / sqrt(m)``. By default the level is computed
            as above.
        solver: Solver of the sampling pass, DDIM unless another is given.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range, or the data say nothing about the signal
            to first order: the gradient of the log-likelihood at zero is zero.
    """

    paper = "Tang et al., ICML 2025, arXiv 2505.21135"
    assumptions = "random rows; any link, known only up to the size of the signal"
    cost = "100: 50 up and 50 down"
    exactness = "no: one deterministic estimate"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_steps: int = 50,
        noise_constant: float | None = None,
        solver: ReverseSolver | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_steps < 2:
            raise InputError(f"num_steps must be at least 2, got {num_steps}")
        if noise_constant is not None and not noise_constant > 0:
            raise InputError(f"noise_constant must be positive, got {noise_constant}")
        self.num_steps, self.noise_constant = num_steps, noise_constant
        self.solver = solver or DDIM(0.0)

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Scale the back-projection, carry it up to the largest level and down again."""
        prior = target.prior
        estimate, sigma = back_projection(target, second_moment(prior))
        if self.noise_constant is not None:
            sigma = self.noise_constant / sum(y.numel() for y in target.observed.values()) ** 0.5
        sigma = min(max(sigma, prior.sigma_min), prior.sigma_max)
        x = estimate.expand(self.num_samples, *prior.event_shape)
        upwards = karras_levels(prior.sigma_max, sigma, self.num_steps + 1).flip(0).tolist()
        pairs = itertools.pairwise(upwards)
        for level, level_next in self.track(pairs, self.num_steps):
            x = torch.lerp(prior.denoise(x, level), x, level_next / level)
            self.check_finite(x, f"sigma = {level:.3g} upwards")
        x = self.solver(prior, x, prior.levels(num_steps=self.num_steps))
        return Draws(x)


def second_moment(prior: DiffusionPrior) -> float:
    """Mean square of the prior's signals per dimension, ``E|x|^2 / n``."""
    mean, variance = prior_moments(prior)
    return float(mean.square().mean()) + variance


def back_projection(target: Target, moment: float) -> tuple[Tensor, float]:
    """The scaled back-projection of the data and its noise level.

    Args:
        target: Any target.
        moment: Second moment of the signal per dimension.

    Returns:
        The estimate, shape (1, *event), and its noise level.
    """
    prior, structure = target.prior, target.structure
    n = prior.event_shape.numel()
    if structure is not None and structure.one_bit is not None:
        form = structure.one_bit
        squared_norms = structure.operator.row_norms_squared.to(form.y)
        mean = torch.zeros_like(form.y)
        expected, slope = expected_bits(form, mean, moment * squared_norms)
        factor = (slope * squared_norms).sum() / n
        scatter = (squared_norms * (1 - expected.square())).sum() / (n * factor.square())
        if structure.row_gram is not None:
            scatter = scatter - moment
        estimate = structure.adjoint((form.y - expected)[None] / factor, prior.event_shape)
        # what is left is positive but for rounding
        return estimate, float(scatter.clamp(min=0).sqrt())
    origin = torch.zeros(1, *prior.event_shape, dtype=prior.dtype, device=prior.device)
    gradient = target.value_and_gradient(origin)[1]
    power = float(gradient.square().mean())
    if power == 0:
        raise InputError(
            "SIMDMIS needs data that point to the signal, but the gradient of the log-likelihood "
            "is zero at the zero signal (as it is for intensities); use another algorithm"
        )
    # the positive root of moment f^2 + f = power, in the form that does not cancel
    information = 2 * power / (1 + (1 + 4 * moment * power) ** 0.5)
    return gradient / information, information**-0.5
