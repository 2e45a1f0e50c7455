r"""Lookahead SMC: modes by looking ahead, the posterior by exact sweeps.

Annealed split-Gibbs SMC (:mod:`bayes1bit.infer.split_gibbs_smc`) loses modes at one point of its
path, where the coupling becomes too small for a sweep to lead from one mode to another: what no
particle has reached by then is lost, and the right mode may have less than a thousandth of the
mass there. Lookahead particles find such modes. They go down in the noise of the signal instead,
from pure noise, by the reverse steps of the prior, and are weighted by the likelihood of what they
will become, in its plainest form the denoised signal:

.. math:: w = \psi_b(x_b) / \psi_a(x_a), \qquad
          \psi_a(x_a) = L_u\big(D(x_a, a);\, r^2(a)\big)^{\beta(a)} .

This is the twisted particle filter (Whiteley and Lee, Annals of Statistics 2014; for diffusions Wu
et al., NeurIPS 2023) without guidance: a step needs no backward pass, and many particles can be
had in place of a few steered ones. Six things keep the shares of modes from drifting:

* its target is not the posterior but :math:`\pi_u` on the way to it, where the data are softened
  by an extra noise variance u and modes still share the mass. Where a level's weights would leave
  too few particles effective, u is taken larger there;
* particles look where the data lead them, and go there (``tilt``,
  :mod:`bayes1bit.infer.lookahead`). A level between the first and the last two takes two calls for
  each particle then, but half as many particles know the shares better. Those of high noise hardly
  differ, and are fewer (``growing``);
* steps of second order over geometric levels keep the shares that the prior has itself. Few steps
  of first order favour some modes over others;
* without a tilt the lookahead is taken to a power :math:`\beta`, most of the slope by which what
  the data will say of two particles follows what they say of their denoised signals
  (:func:`~bayes1bit.infer.confidence.separating_variance`);
* neighbours take opposite noise (:func:`~bayes1bit.infer.particles.antithetic_noise`): of two
  particles that could still become either of two modes, one then turns to each;
* the last step goes to zero from where the prior acts as a normal. One-bit data it draws from that
  normal given the data: exactly, with no weight left, for a row-orthogonal operator, else output
  by output with a weight (:mod:`bayes1bit.infer.sequential_draw`). The weight before that draw is
  an integral over the normal, with no noise from where in its mode a particle ends up, so that
  there u is taken as small as enough effective particles allow.

From :math:`\pi_u` annealed SMC goes on to the posterior with sweeps of few denoiser calls
(:mod:`bayes1bit.infer.annealed_smc`). Both parts estimate a factor of p(y). The sweeps do not lead
from mode to mode, so that the modes' shares are those of the first part, and so is nearly all the
noise of the estimate: a larger lookahead is worth more than more particles later.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, levels_to_normal
from bayes1bit.diffusion.levels import Spacing
from bayes1bit.diffusion.solvers import extrapolate, reverse_kernel
from bayes1bit.errors import InputError
from bayes1bit.infer.annealed_smc import AnnealedSMC
from bayes1bit.infer.annealing import Path
from bayes1bit.infer.lookahead import Lookahead, plain_lookahead, tilted_lookahead
from bayes1bit.infer.particles import antithetic_noise, log_mean_exp, log_step_ratio
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.infer.target import Target
from bayes1bit.weighted import Scheme, resample

_PURE = 8
"""Particles for each one of the first level."""
_GROWTH = 2.0
"""Share of its particles that a growing cloud has for each share of the variance explained."""
_FLOOR = 0.1
"""Effective share of particles to keep at a level."""
_LAST_FLOOR = 0.25
"""The same at the last step, which need not go as far as the data as they are."""
_DOUBLINGS = 14
"""Softenings to choose from, each twice the one before."""
_HALVINGS = 9
"""Sharper ones to choose from at the last step beside the data as they are."""


class LookaheadSMC(AnnealedSMC):
    """Lookahead SMC down to a softened posterior, annealed SMC from there.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of particles at the end of the path.
        lookahead: Lookahead particles per sample.
        carry: Particles per sample of the second part, whose last step keeps one. Where sweeps
            are still long walks there are more, up to ``lookahead``.
        num_levels: Noise levels of the lookahead.
        order: Order of its reverse steps: 2 for stochastic multistep ones, which keep more of what
            moves together, and want geometric levels or 18 adapted ones, or 1 for
            variance-corrected ones.
        spacing: Where the levels lie: ``"geometric"``, with a constant ratio from where noisy
            signals begin to say something to where the prior acts as a normal, or ``"adapted"`` to
            where the prior is least normal.
        tilt: Share of the gradient of the data that particles look along, 0 for none. With a tilt
            each particle takes two calls a level.
        growing: Whether the cloud is smaller while the denoiser explains less than half of the
            prior's variance, in proportion to what it explains. Particles differ in little there.
        trust: Factor of the power of a lookahead without tilt. Below 1 weights are more even, and
            the evidence of a thousand samples is more certain; a hundred miss more modes then.
        softening: Smallest u where the two parts may meet, in units of the noise variance. For a
            likelihood that is not one-bit, the data count with the power ``1 / (1 + softening)``
            there.
        efficiency: Effective share of particles that each level of the second part keeps.
        num_sweeps: Sweeps at the end, which leave the posterior invariant and part the copies
            that resampling made.
        prior_step: Prior step of the sweeps; ``ReverseDiffusion(12)`` by default.
        resampling: Resampling scheme.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range; when run, if the prior does not know its
            denoising error.
    """

    paper = "bayes1bit; after Whiteley and Lee, Ann. Stat. 2014 and Wu et al., NeurIPS 2023"
    assumptions = "prior with an error table; differentiable likelihood"
    cost = (
        "about 225: 14 levels of two calls for up to 15 particles, a few of one for 3, and 4; "
        "300 to 450 with trained priors, whose levels take longer walks"
    )
    exactness = "as particles and levels grow and the reverse diffusion becomes exact"

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 64,
        *,
        lookahead: float = 15.0,
        carry: float = 3.0,
        num_levels: int = 14,
        order: Literal[1, 2] = 2,
        spacing: Spacing = "geometric",
        tilt: float = 0.15,
        growing: bool = True,
        trust: float = 1.0,
        softening: float = 4.0,
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
        if not lookahead >= 1:
            raise InputError(f"lookahead must be at least 1, got {lookahead}")
        if not carry >= 1:
            raise InputError(f"carry must be at least 1, got {carry}")
        if num_levels < 1:
            raise InputError(f"num_levels must be at least 1, got {num_levels}")
        if order not in (1, 2):
            raise InputError(f"order must be 1 or 2, got {order}")
        if spacing not in get_args(Spacing):
            raise InputError(f'spacing must be "adapted" or "geometric", got {spacing!r}')
        if not tilt >= 0:
            raise InputError(f"tilt must not be negative, got {tilt}")
        if not 0 < trust <= 1:
            raise InputError(f"trust must be above 0 and at most 1, got {trust}")
        if not softening > 0:
            raise InputError(f"softening must be positive, got {softening}")
        self.lookahead, self.carry = lookahead, carry
        self.num_levels, self.order, self.spacing, self.tilt = num_levels, order, spacing, tilt
        self.growing, self.trust, self.softening = growing, trust, softening

    def num_particles(self, target: Target, path: Path, u: float) -> int:
        """``carry`` for each sample until the end, more where walks are long."""
        if u == 0:
            return self.num_samples
        width = self.walk_length(target, path, u)
        return round(self.num_samples * max(self.carry, self.lookahead * 4 * width * (1 - width)))

    @torch.no_grad()
    def first_cloud(self, target: Target, path: Path) -> tuple[Tensor, float, float]:
        """Look ahead from pure noise to the softened posterior."""
        prior, u = target.prior, self.softening * path.unit
        if not prior.has_error:
            raise InputError(
                "the lookahead needs the denoising error at every level, but this prior has no "
                "table of it: measure one on held-out signals with ErrorTable.measure, or use "
                "SplitGibbsSMC"
            )
        sharpest = SmoothedLikelihood(target, u)
        ladder = [sharpest.softened(u * 2**i) for i in range(_DOUBLINGS)]
        fractions = [0.0, *(0.5**i for i in range(_HALVINGS, 0, -1))]
        sharper = [sharpest.softened(u * fraction) for fraction in fractions]
        levels = self._levels(prior)
        num = self._size(prior, 0.0)
        # pure noise becomes the prior's mean, whichever it is, and noise of the next level
        x = prior.pure_noise(-(-num // _PURE) if len(levels) > 1 else num, levels[0])
        memory: dict[str, Any] = {}
        likelihood, log_evidence, before = ladder[0], 0.0, x.new_zeros(len(x))
        for sigma, sigma_next in self.track(pairwise([*levels, 0.0]), len(levels)):
            error = float(prior.error(sigma))
            clean = prior.denoise(x, sigma)
            floor = _FLOOR
            if sigma_next == 0:
                look = Lookahead(sharpest.features(clean), error, error)
                if sharpest.is_one_bit:
                    ladder, floor = sharper + ladder, _LAST_FLOOR
            elif self.tilt > 0 and levels[0] > sigma and sigma_next > levels[-1]:
                look = tilted_lookahead(prior, sharpest, x, clean, sigma, self.tilt)
            else:
                look = plain_lookahead(prior, likelihood, x, clean, sigma, self.trust)
            ahead, white = clean, error
            if self.order == 2 and sigma_next > 0:
                ahead, white = extrapolate(clean, sigma, sigma_next, memory), 0.0
            likelihood, after = look.choose(ladder, before, floor)
            log_weights = after - before
            self.check_finite(log_weights, f"sigma = {sigma:.3g}")
            log_evidence += log_mean_exp(log_weights)
            size = self._size(prior, sigma_next)
            kept = resample(log_weights.softmax(0), size, self.resampling)
            if memory:
                memory["clean"] = clean[kept]
            k, std = reverse_kernel(white, sigma, sigma_next)
            mean, before = torch.lerp(x, ahead, k)[kept], after[kept]
            if sigma_next > 0:
                noise = antithetic_noise(mean)
                x = mean + std * noise
                if look.shift is not None:
                    shift = k * look.shift[kept]
                    x, before = x + shift, before - log_step_ratio(shift / std, noise)
        x, estimate = likelihood.draw(mean, std**2)
        log_weights = estimate - before
        self.check_finite(log_weights, "sigma = 0")
        log_evidence += log_mean_exp(log_weights)
        x = x[resample(log_weights.softmax(0), num, self.resampling)]
        return x, likelihood.softening, log_evidence

    def _size(self, prior: DiffusionPrior, sigma: float) -> int:
        """Number of particles that go down to a level."""
        num = round(self.lookahead * self.num_samples)
        if not self.growing or sigma == 0:
            return num
        explained = 1 - float(prior.error(sigma) / prior.error(prior.sigma_max))
        return math.ceil(num * min(1.0, max(_GROWTH * explained, 1 / _PURE)))

    def _levels(self, prior: DiffusionPrior) -> list[float]:
        """Levels of the lookahead from high to low; a normal prior needs but one."""
        top, bottom = prior.sigma_max, prior.sigma_min
        return levels_to_normal(prior.error, top, bottom, self.num_levels, self.spacing)
