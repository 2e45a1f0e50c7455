r"""Posteriors of noisy signals, :math:`p_\sigma(x)\, p(y \mid x)^{\beta}`, for Langevin steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.infer.target import Target

POWER_ITERATIONS = 4


@dataclass(frozen=True)
class SmoothedState:
    """Chains at one level, with what a Langevin step needs to know of their positions.

    Attributes:
        x: Noisy signals, shape (particles, *event).
        score: Score of the smoothed prior, shape of ``x``.
        log_likelihood: Log-likelihood times its power, shape (particles,).
        gradient: Gradient of log prior and log-likelihood together, shape of ``x``.
    """

    x: Tensor
    score: Tensor
    log_likelihood: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, target: Target, x: Tensor, sigma: float, beta: Tensor) -> "SmoothedState":
        """Evaluate prior and likelihood, one denoiser call.

        Args:
            target: The posterior.
            x: Noisy signals, shape (particles, *event).
            sigma: Their level.
            beta: Power of the likelihood, shape (particles,).
        """
        score = target.prior.score(x, sigma)
        log_likelihood, gradient = target.value_and_gradient(x)
        power = beta.view(-1, *[1] * (x.ndim - 1))
        return cls(x, score, beta * log_likelihood, score + power * gradient)

    def replace(self, other: "SmoothedState", accepted: Tensor) -> "SmoothedState":
        """The other state for the chains that accepted it."""
        event = accepted.view(-1, *[1] * (self.x.ndim - 1))
        return SmoothedState(
            torch.where(event, other.x, self.x),
            torch.where(event, other.score, self.score),
            torch.where(accepted, other.log_likelihood, self.log_likelihood),
            torch.where(event, other.gradient, self.gradient),
        )


def log_prior_ratio(
    prior: DiffusionPrior, state: SmoothedState, proposed: SmoothedState, sigma: float
) -> Tensor:
    """Log density of the smoothed prior at the proposal, less that at the state.

    Args:
        prior: The prior.
        state: Where the chains are.
        proposed: Where they may go.
        sigma: The level.

    Returns:
        Closed form for a mixture, otherwise Simpson's rule for the line integral of the score,
        shape (particles,).
    """
    if isinstance(prior, GaussianMixturePrior):
        level = state.x.new_tensor(sigma)
        new, old = (prior.mixture.log_joint(s.x.flatten(1), level) for s in (proposed, state))
        return new.logsumexp(1) - old.logsumexp(1)
    middle = prior.score(0.5 * (state.x + proposed.x), sigma)
    mean_score = (state.score + 4 * middle + proposed.score) / 6
    return (mean_score * (proposed.x - state.x)).flatten(1).sum(1)


def likelihood_curvature(target: Target, x: Tensor, sigma: float, root: Tensor) -> Tensor:
    """Largest curvature of each particle's log-likelihood, by power iteration.

    Args:
        target: The likelihood.
        x: Noisy signals, shape (particles, *event).
        sigma: Their level; gradients are compared over a tenth of it, a length that does not
            change a signal much.
        root: Units of the signal's elements: the curvature is that in ``x / root``.

    Returns:
        The curvature, shape (particles,); a few iterations may miss it by some percent.
    """
    gradient = target.value_and_gradient(x)[1]
    length = 0.1 * sigma
    direction = torch.randn_like(x)
    curvature = x.new_zeros(len(x))
    for _ in range(POWER_ITERATIONS):
        norm = direction.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
        direction = length * direction / norm.view(-1, *[1] * (x.ndim - 1))
        change = target.value_and_gradient(x + root * direction)[1] - gradient
        direction = root * change
        curvature = direction.flatten(1).norm(dim=1) / length
    return curvature
