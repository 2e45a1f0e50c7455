r"""What the data say of noisy signals: the functions psi of lookahead SMC.

A signal :math:`x_a` with noise of standard deviation a has the likelihood
:math:`h(x_a) = E[L(x) \mid x_a]`, an average over the clean signals that it may become. Weights by
h would make every level's particles draws of what the posterior has there. Two estimates of it are
at hand.

**Plain** (:func:`plain_lookahead`). The likelihood of the denoised signal D, smoothed by its error
and taken to a power (:mod:`bayes1bit.infer.confidence`).

**Tilted** (:func:`tilted_lookahead`). While signals as different as two digits are still possible,
what the data make of them is not seen at D, which lies between. For any vector :math:`\theta` let
:math:`q \propto p(x \mid x_a)\, e^{\theta^T x}`. As the noise is normal, q is the law of the clean
signal of another noisy one, :math:`x_a + a^2 \theta`, and its mean is
:math:`D_\theta = D(x_a + a^2 \theta)`. By Gibbs' inequality

.. math:: \log h(x_a) \ge E_q[\log L(x)] - \operatorname{KL}(q \,\|\, p(x \mid x_a)), \qquad
          \operatorname{KL} = \theta^T D_\theta - \int_0^1 \theta^T D_{v \theta}\, dv
          \approx \tfrac12 \theta^T (D_\theta - D).

With :math:`\theta = s\, g`, g the gradient of the smoothed log-likelihood at D, one more call of
the denoiser shows where the data lead, and the bound, smoothed by the same error, is the estimate.
The bound is highest near s = 1/2, but it follows h best where signals are moved less. A reverse
step to :math:`D_\theta` in place of D is a proposal that knows the data (Guarniero, Johansen and
Lee, JASA 2017; for diffusions Wu et al., NeurIPS 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.infer.confidence import confidence, separating_variance
from bayes1bit.infer.particles import efficiency
from bayes1bit.infer.smoothing import SmoothedLikelihood

_PROBES = 32
"""Signals that the confidence of the lookahead is measured on."""


@dataclass(frozen=True, eq=False)
class Lookahead:
    """Estimates of log h for particles of one level, at any softening of the data.

    Attributes:
        features: Of the signals looked at, as :meth:`SmoothedLikelihood.features` gives them.
        error: Variance of their error per dimension.
        spread: The same in the direction of the data, at least ``error``.
        trust: Factor of the power.
        cost: What a tilt takes off, in nats, shape (particles,).
        shift: How far a tilt moves each signal, shape (particles, *event), or None.
    """

    features: Tensor
    error: float
    spread: float
    trust: float = 1.0
    cost: Tensor | float = 0.0
    shift: Tensor | None = None

    def value(self, likelihood: SmoothedLikelihood) -> Tensor:
        """The estimate of log h for a likelihood, shape (particles,)."""
        power = self.trust * confidence(likelihood, self.error, self.spread)
        return power * likelihood.of_features(self.features, self.error) - self.cost

    def choose(
        self, ladder: Sequence[SmoothedLikelihood], before: Tensor, floor: float
    ) -> tuple[SmoothedLikelihood, Tensor]:
        """The sharpest likelihood that leaves enough particles effective, and its estimates.

        Args:
            ladder: Likelihoods from sharp to soft.
            before: Estimates of the level above, shape (particles,).
            floor: Effective share of particles that is enough.

        Returns:
            The likelihood, or the one that leaves most particles effective if none leaves enough;
            and its estimates of log h, shape (particles,).
        """
        best, chosen = -1.0, None
        for likelihood in ladder:
            after = self.value(likelihood)
            share = efficiency(after - before)
            if chosen is None or share > best:
                best, chosen = share, (likelihood, after)
            if share >= floor:
                break
        assert chosen is not None
        return chosen


def plain_lookahead(
    prior: DiffusionPrior,
    likelihood: SmoothedLikelihood,
    x: Tensor,
    clean: Tensor,
    sigma: float,
    trust: float,
) -> Lookahead:
    """Look at the denoised signals, with the power that they deserve.

    Args:
        prior: The prior.
        likelihood: The likelihood that the power is measured with.
        x: Noisy signals, shape (particles, *event).
        clean: The same denoised.
        sigma: Their level.
        trust: Factor of the power.
    """
    error = float(prior.error(sigma))
    probes = x[:: -(-len(x) // _PROBES)]
    spread = separating_variance(prior, likelihood, probes, sigma, error)
    return Lookahead(likelihood.features(clean), error, spread, trust)


def tilted_lookahead(
    prior: DiffusionPrior,
    likelihood: SmoothedLikelihood,
    x: Tensor,
    clean: Tensor,
    sigma: float,
    share: float,
) -> Lookahead:
    """Look where the data lead, at one more denoiser call for each signal.

    Args:
        prior: The prior.
        likelihood: The likelihood that leads.
        x: Noisy signals, shape (particles, *event).
        clean: The same denoised.
        sigma: Their level.
        share: The s above, the share of the gradient that signals are tilted by.
    """
    error = float(prior.error(sigma))
    with torch.enable_grad():
        ahead = clean.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(likelihood(ahead, error).sum(), ahead)
    theta = share * gradient
    tilted = prior.denoise(x + sigma**2 * theta, sigma)
    shift = tilted - clean
    cost = 0.5 * (theta * shift).flatten(1).sum(1)
    return Lookahead(likelihood.features(tilted), error, error, cost=cost, shift=shift)
