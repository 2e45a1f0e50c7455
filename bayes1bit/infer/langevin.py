r"""The Langevin family: gradient steps with noise on the posterior of the noisy signal.

At a noise level :math:`\sigma` the prior's score is Tweedie's, and Langevin's diffusion for

.. math::

    \pi_\sigma(x) \propto p_\sigma(x)\, p(y \mid x)^{\beta_\sigma}

takes, with a preconditioner P, the steps

.. math::

    x' = x + h P \nabla \log \pi_\sigma(x) + \sqrt{2 h}\, P^{1/2} \xi, \qquad \xi \sim N(0, I).

Three choices span the family:

* **Levels.** One level, the prior's smallest, is plain Langevin from draws of the prior. More of
  them anneal it (Song and Ermon, NeurIPS 2019): at high levels modes of the prior have merged. A
  noisy signal explains the data less well than a clean one, so that the likelihood must count less
  there: a normal likelihood of largest curvature L is widened by the noise of the signal, which in
  its worst direction is the power :math:`\beta_\sigma = 1 / (1 + (\sigma^2 - \sigma_{min}^2) L)`
  (compare Jalal et al., NeurIPS 2021). L is measured at each level by power iteration on
  differences of the likelihood's gradient. The last level has :math:`\beta = 1`.
* **Metropolis.** Steps of finite size have a bias of order h. Accepting or rejecting them
  (Roberts and Tweedie, Bernoulli 1996) removes it. The density of a mixture prior is known; that
  of any other prior is the line integral of its score,
  :math:`\log p(x') - \log p(x) = \int_x^{x'} s(u) \cdot du`, by Simpson's rule: exact for cubic
  scores, at one more denoiser call in the middle.
* **Preconditioner.** As :math:`-\nabla^2 \log p_\sigma \le I / \sigma^2`, the posterior's
  curvature is at most :math:`1 / \sigma^2 + \beta L`, and P is the inverse of that number; or that
  of the matrix :math:`I / \sigma^2 + (\beta L / c) A^T A`, which for :math:`A A^T = c I` has an
  inverse and a root in closed form; or a diagonal of one's own, scaled to be as safe.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from bayes1bit.diffusion import geometric_levels
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.annealing import Path
from bayes1bit.infer.moments import typical_distance
from bayes1bit.infer.moves import Move
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.smoothed_posterior import (
    SmoothedState,
    likelihood_curvature,
    log_prior_ratio,
)
from bayes1bit.infer.steps import row_orthogonal
from bayes1bit.infer.target import Target

Root = Callable[[Tensor], Tensor]

ACCEPTANCE = 0.574
"""Acceptance rate at which MALA moves fastest (Roberts and Rosenthal, JRSS B 1998)."""


class Langevin(Algorithm):
    """Unadjusted or Metropolis-adjusted Langevin, at the smallest level or annealed towards it.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of chains, processed in one batch; each gives its last state.
        num_levels: Noise levels, falling geometrically to the prior's smallest; 1 for that level
            alone, from draws of the prior.
        num_steps: Steps per level.
        step_size: The h above. Up to 2 is stable for any prior, more for one that is smoother
            than its smallest level; the relative bias of a variance is up to h / 2. With
            ``metropolis`` it is where adaptation starts.
        metropolis: Whether steps are accepted or rejected. The step size is then adapted to an
            acceptance rate of 0.574, in all levels but the last and in the first half of that.
        preconditioner: None, "operator" for row-orthogonal operators, or a tensor that broadcasts
            to the event shape: relative variances of the signal's elements.
        sigma_max: First of several levels. By default the typical distance of a signal from the
            prior's mean.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Song and Ermon, NeurIPS 2019; Roberts and Tweedie, Bernoulli 1996"
    assumptions = "differentiable likelihood; row-orthogonal operator for its preconditioner"
    cost = "200: 25 levels of 8 steps; with metropolis 425, or 225 if the prior is a mixture"
    exactness = (
        "of the posterior smoothed at the prior's smallest level: as num_steps grows with "
        "metropolis, and as step_size falls without"
    )

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        num_levels: int = 25,
        num_steps: int = 8,
        step_size: float = 0.2,
        metropolis: bool = False,
        preconditioner: Literal["operator"] | Tensor | None = None,
        sigma_max: float | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, num_samples, site=site, progress=progress)
        if num_levels < 1 or num_steps < 1:
            raise InputError(
                f"num_levels and num_steps must be at least 1, got {num_levels} and {num_steps}"
            )
        if not step_size > 0:
            raise InputError(f"step_size must be positive, got {step_size}")
        if isinstance(preconditioner, str) and preconditioner != "operator":
            raise InputError(
                'preconditioner must be None, "operator" or a tensor of relative variances, got '
                f"{preconditioner!r}"
            )
        if isinstance(preconditioner, Tensor) and not (preconditioner > 0).all():
            raise InputError("a preconditioner's relative variances must be positive")
        if sigma_max is not None and not sigma_max > 0:
            raise InputError(f"sigma_max must be positive, got {sigma_max}")
        self.num_levels, self.num_steps = num_levels, num_steps
        self.step_size, self.metropolis = step_size, metropolis
        self.preconditioner, self.sigma_max = preconditioner, sigma_max

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Run all chains down the levels at once."""
        self.check(target)
        prior = target.prior
        if self.num_levels == 1:
            x, levels = prior.sample((self.num_samples,)), [prior.sigma_min]
        else:
            first = self.sigma_max or typical_distance(prior)
            levels = geometric_levels(first, prior.sigma_min, self.num_levels).tolist()
            x = prior.pure_noise(self.num_samples, first)
        h, adapted = self.step_size, 0
        for i, sigma in enumerate(self.track(levels, len(levels))):
            beta, root = self.condition(target, x, sigma)
            adapting = self.num_steps if i < len(levels) - 1 else self.num_steps // 2
            for step in range(self.num_steps):
                if step == 0 or not self.metropolis:
                    state = SmoothedState.at(target, x, sigma, beta)
                if not self.metropolis:
                    noise = torch.randn_like(x)
                    x = x + root(h * root(state.gradient) + (2 * h) ** 0.5 * noise)
                    continue
                state, acceptance = adjusted_step(target, state, sigma, beta, root, h)
                x = state.x
                if step < adapting:
                    adapted += 1
                    h = adapted_size(h, acceptance, adapted)
            self.check_finite(x, f"sigma = {sigma:.3g}", "take a smaller step_size")
        return Draws(x)

    @property
    def independent_chains(self) -> bool:
        """True without ``metropolis``, whose step size all chains share."""
        return not self.metropolis

    def move(self, prior_step: PriorStep) -> Move:
        """Steps at the prior's smallest level, accepted or rejected whatever ``metropolis`` is."""
        return LangevinMove(self)

    def check(self, target: Target) -> None:
        """Refuse a preconditioner that does not fit a target.

        Raises:
            InputError: If its shape does not broadcast to that of signals, or it is "operator"
                and the operator's rows are not orthogonal.
        """
        structure, shape = target.structure, target.prior.event_shape
        if isinstance(self.preconditioner, Tensor):
            try:
                fits = torch.broadcast_shapes(self.preconditioner.shape, shape) == shape
            except RuntimeError:
                fits = False
            if not fits:
                raise InputError(
                    f"a preconditioner of shape {tuple(self.preconditioner.shape)} does not "
                    f"broadcast to the event shape {tuple(shape)}"
                )
        elif self.preconditioner and (structure is None or structure.row_gram is None):
            raise InputError(
                'preconditioner="operator" needs a likelihood that sees the signal through one '
                f"row-orthogonal operator, but this model has: {target.describe()}; use None or "
                "a tensor of relative variances"
            )

    def condition(self, target: Target, x: Tensor, sigma: float) -> tuple[Tensor, Root]:
        """Power of the likelihood, shape (particles,), and root of the preconditioner."""
        event = (-1, *[1] * (x.ndim - 1))
        curvature = likelihood_curvature(target, x, sigma, torch.ones_like(x[:1]))
        beta = 1 / (1 + (sigma**2 - target.prior.sigma_min**2) * curvature)
        if isinstance(self.preconditioner, Tensor):
            diagonal = (self.preconditioner / self.preconditioner.max()).to(x).expand(x[:1].shape)
            curvature = likelihood_curvature(target, x, sigma, diagonal.sqrt())
        else:
            diagonal = torch.ones_like(x[:1])
        in_rows = (sigma**-2 + beta * curvature).rsqrt().view(event)
        if isinstance(self.preconditioner, str):
            structure, c = row_orthogonal(target)

            def root(v: Tensor) -> Tensor:
                rows = structure.adjoint(structure.apply(v), v.shape[1:]) / c
                return sigma * v + (in_rows - sigma) * rows

        else:

            def root(v: Tensor) -> Tensor:
                return in_rows * diagonal.sqrt() * v

        return beta, root


class LangevinMove(Move):
    """Metropolis-adjusted steps of the chains of a Gibbs sampler.

    Preconditioner and step size are set anew while chains warm up, and are then kept.

    Args:
        settings: The algorithm, whose ``num_steps``, ``step_size`` and ``preconditioner`` count.
    """

    def __init__(self, settings: Langevin) -> None:
        self.settings, self._size, self._adapted = settings, settings.step_size, 0
        self._root: Root | None = None

    @torch.no_grad()
    def __call__(self, target: Target, path: Path, x: Tensor, adapting: bool) -> Tensor:
        """See :meth:`Move.__call__`."""
        sigma = target.prior.sigma_min
        if adapting or self._root is None:
            self.settings.check(target)
            self._root = self.settings.condition(target, x, sigma)[1]
        # at the smallest level the likelihood counts in full
        beta = x.new_ones(len(x))
        state = SmoothedState.at(target, x, sigma, beta)
        for _ in range(self.settings.num_steps):
            state, acceptance = adjusted_step(target, state, sigma, beta, self._root, self._size)
            if adapting:
                self._adapted += 1
                self._size = adapted_size(self._size, acceptance, self._adapted)
        return state.x


def adjusted_step(
    target: Target, state: SmoothedState, sigma: float, beta: Tensor, root: Root, step_size: float
) -> tuple[SmoothedState, Tensor]:
    """One Langevin step, accepted or rejected.

    Args:
        target: The posterior.
        state: Where the chains are.
        sigma: Their level.
        beta: Power of the likelihood, shape (particles,).
        root: Root of the preconditioner.
        step_size: The h above.

    Returns:
        The next state, and the probabilities with which the steps were accepted, (particles,).
    """
    noise, h = torch.randn_like(state.x), step_size
    move = root(h * root(state.gradient) + (2 * h) ** 0.5 * noise)
    proposed = SmoothedState.at(target, state.x + move, sigma, beta)
    # the noise that would have led back
    back = noise + (h / 2) ** 0.5 * root(state.gradient + proposed.gradient)
    log_ratio = 0.5 * (noise.square() - back.square()).flatten(1).sum(1)
    log_ratio += proposed.log_likelihood - state.log_likelihood
    log_ratio += log_prior_ratio(target.prior, state, proposed, sigma)
    acceptance = log_ratio.exp().nan_to_num(0).clamp(max=1)
    return state.replace(proposed, torch.rand_like(acceptance) < acceptance), acceptance


def adapted_size(step_size: float, acceptance: Tensor, num_steps: int) -> float:
    """The step size after the ``num_steps``-th step of its adaptation."""
    return step_size * math.exp(2 * (float(acceptance.mean()) - ACCEPTANCE) / num_steps**0.5)
