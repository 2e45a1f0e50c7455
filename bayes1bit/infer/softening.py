r"""One-bit data made softer, as samplers need them that come from the prior.

At the softening u the noise of a measurement has the variance :math:`V = s^2 + u`. That alone has
a preference which the data do not share: a sign says nothing about an amplitude, yet

.. math:: E \log \Phi(y t / \sqrt V) \approx
          \sqrt{2 / \pi}\, \frac{E[y t]}{\sqrt V} - \frac{t^2}{\pi V} + \text{const}

has its maximum at an amplitude of about :math:`\sqrt V`. So soft data favour whatever is large and
points roughly the right way, be it a face with strong contrasts, and a signal of small amplitude
that fits every bit has next to no mass until V is small: by then samplers cannot reach it. The
softened likelihood is therefore damped,

.. math:: L_u(t) = \Phi(y t / \sqrt V)\, e^{-\kappa t^2 / 2}, \qquad
          \kappa = \max\Big(0, \frac{\sqrt{2 / \pi}}{2 T \sqrt V} - \frac{2}{\pi V}\Big),

by so much that the maximum stays at 2 T, twice the amplitude that outputs have under the prior,
where V would put it higher. With that signals are told apart by what they agree with. A stronger
damping would be a sharper likelihood, whose samplers mix less. Data that are nearly sharp are not
damped, and the likelihood itself, u = 0, never is.

A normal factor leaves everything in closed form. With :math:`q = 1 + \kappa v`,

.. math:: E[L_u(t)] = q^{-1/2}\, e^{-\kappa \mu^2 / 2 q}\,
          \Phi\Big(\frac{y \mu / q}{\sqrt{V + v / q}}\Big), \qquad t \sim N(\mu, v),

and :math:`L_u` is again the probability of a sign under noise: with w the noisy output of variance
V, cut off at zero, :math:`w / (1 + \kappa V)` is one under noise of variance
:math:`V / (1 + \kappa V)`.

Above, t is measured from its threshold. Where threshold and scale are themselves unknown, each
particle has its own in the first factor, and the damping keeps those of one reference
(:meth:`Softening.given`): a damping that knew a particle's parameters would judge them.
"""

import math
from copy import copy
from functools import cached_property

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.infer.moments import prior_mean
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.structure import Structure
from bayes1bit.infer.target import Target

_ROOM = 2.0
"""Where damping puts the maximum, in units of the prior's own amplitude."""


class Softening:
    """The likelihoods :math:`L_u` of one-bit data, and the draws that belong to them.

    Args:
        structure: Structure of the likelihood.
        form: Its one-bit form.
        prior: Prior of the signal, whose amplitude decides the damping.
    """

    def __init__(self, structure: Structure, form: OneBitForm, prior: DiffusionPrior) -> None:
        self.structure, self.form, self._prior = structure, form, prior
        self._reference = self

    def given(self, form: OneBitForm) -> "Softening":
        """The same path for parameters of each particle's own.

        The damping stays as it is, so that it favours no parameters.

        Args:
            form: One-bit form of tensors (particles, m).
        """
        other = copy(self)
        other.form = form
        return other

    @classmethod
    def of(cls, target: Target) -> "Softening | None":
        """That of a target, or None unless all its data are one-bit measurements of one site."""
        structure = target.structure
        if structure is None or structure.one_bit is None or len(target.observed) > 1:
            return None
        return cls(structure, structure.one_bit, target.prior)

    @cached_property
    def amplitude(self) -> float:
        """Root mean square T of the outputs under the prior, less their thresholds.

        Infinite, for no damping, where the prior does not know its variance.
        """
        if not self._prior.has_error:
            return math.inf
        centre = self.structure.apply(prior_mean(self._prior)[None]) - self.form.threshold
        spread = self.structure.operator.row_norms_squared.mean()
        variance = float(self._prior.error(self._prior.sigma_max)) * spread
        return float(centre.square().mean() + variance) ** 0.5

    def damping(self, u: float) -> Tensor | None:
        """The kappa of each measurement, shape (m,), or None where there is none."""
        if u == 0:
            return None
        variance = self._reference.form.noise_variance + u
        slope = math.sqrt(2 / math.pi) / (_ROOM * self._reference.amplitude * variance.sqrt())
        kappa = (slope - 2 / (math.pi * variance)).clamp(min=0.0)
        return kappa if bool(kappa.any()) else None

    def log_likelihood(self, t: Tensor, u: float, variance: Tensor | float = 0.0) -> Tensor:
        """Log of the softened likelihood of each measurement, averaged over an error of ``t``.

        Args:
            t: Outputs, shape (particles, m).
            u: The softening.
            variance: Variance of their normal error, broadcastable to ``t``.

        Returns:
            Shape (particles, m), differentiable in ``t``.
        """
        kappa = self.damping(u)
        if kappa is None:
            return self.form.smoothed_log_likelihood(t, variance + u)
        q, inner = self._narrowed(t, variance, kappa)
        margin = t - self._reference.form.threshold
        damped = 0.5 * (kappa / q * margin.square() + torch.log(q))
        return self.form.smoothed_log_likelihood(inner, variance / q + u) - damped

    def smallest_variance(self, u: float) -> float:
        """Smallest variance that a draw of :meth:`draw_latent` can have."""
        variance = self.form.smallest_noise_variance + u
        kappa = self.damping(u)
        if kappa is not None:
            variance = variance / (1 + kappa * variance)
        return float(variance.min())

    def draw_latent(self, t: Tensor, u: float) -> tuple[Tensor, Tensor]:
        """Draw noisy outputs whose signs are the data, given outputs ``t`` (particles, m).

        Returns:
            The noisy outputs less their thresholds, and the variance of their noise; both have
            the shape of ``t``.
        """
        w, variance = self.form.draw_latent(t, u)
        kappa = self.damping(u)
        if kappa is None:
            return w, variance
        shrunk = 1 + kappa * variance
        if self._reference is not self:
            w = w + kappa * variance * (self._reference.form.threshold - self.form.threshold)
        return w / shrunk, variance / shrunk

    def draw_output(self, mean: Tensor, variance: float, u: float) -> Tensor:
        """Draw ``t`` from :math:`N(t; mean, variance) L_u(t)`, exactly; all (particles, m)."""
        kappa = self.damping(u)
        if kappa is None:
            return self.form.draw_output(mean, variance, u)
        q, inner = self._narrowed(mean, variance, kappa)
        return self.form.draw_output(inner, variance / q, u)

    def _narrowed(
        self, mean: Tensor, variance: Tensor | float, kappa: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The q above, and the mean of a normal law times the damping; its variance is v / q."""
        q = 1 + kappa * variance
        return q, self._reference.form.threshold + (mean - self._reference.form.threshold) / q
