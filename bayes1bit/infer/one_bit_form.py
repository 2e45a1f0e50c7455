r"""One-bit measurements in normal form, and what has a closed form because of it.

A one-bit measurement is the sign of a number :math:`w = t - \tau + \text{noise}`. For normal noise
of variance :math:`s^2` and a normal :math:`t \sim N(\mu, v)`,

.. math:: P(w > 0) = \Phi\Big(\frac{\mu - \tau}{\sqrt{v + s^2}}\Big), \qquad
          t \mid w \sim N\Big(\mu + \frac{v}{v + s^2}(w - (\mu - \tau)),\;
          \frac{v s^2}{v + s^2}\Big),

so that likelihoods smoothed by a normal law, and draws of ``t`` given the sign, need neither
quadrature nor a Markov chain: draw ``w``, a normal variable cut off at zero, then ``t``. Logistic
noise is normal given its component (:mod:`bayes1bit.logistic_mixture`), and a sign that may have
been flipped is a plain one given that it was. Both are drawn first, or summed over.

The mixture of components has no exponential tail. A logistic measurement that contradicts ``t`` by
more than some 18 scales, whose probability is below 1e-8, is therefore drawn to it harder than by
the likelihood itself; nearer than that nothing can tell the two apart.

References:
    Albert and Chib, *Bayesian analysis of binary and polychotomous response data*, JASA 88 (1993),
    for the variable behind the sign.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes1bit.logistic_mixture import PROBABILITIES, SCALES
from bayes1bit.observation import Link, OneBit
from bayes1bit.special import log_flipped, log_ndtr
from bayes1bit.truncated_normal import standard_normal_above

_FAR = 12.0
"""Standard deviations up to which a normal tail is far above the smallest float32 number."""


@dataclass(frozen=True)
class OneBitForm:
    """One-bit measurements of ``t = A x`` in the form ``y = sign(t - threshold + scale * noise)``.

    All tensors have shape (m,), or (particles, m) where each particle has parameters of its own;
    ``flip`` is 0.0 where no bit can be flipped. Gains and offsets of the model are absorbed: a
    model with ``OneBit(g * A(x) + b, scale=s, threshold=t)`` has threshold ``(t - b) / g`` and
    scale ``s / |g|``, with the signs of ``y`` turned where g is negative.

    Attributes:
        y: The bits, -1 and +1.
        threshold: Thresholds, in units of ``t``.
        scale: Scales of the noise, in the same units.
        flip: Probability that a bit is recorded inverted.
        link: Law of the noise.
    """

    y: Tensor
    threshold: Tensor
    scale: Tensor
    flip: Tensor | float
    link: Link

    @classmethod
    def of_affine(
        cls,
        y: Tensor,
        gain: Tensor,
        offset: Tensor,
        threshold: Tensor,
        scale: Tensor,
        flip: Tensor | float,
        link: Link,
    ) -> "OneBitForm":
        """The form of ``OneBit(gain * t + offset, scale, threshold, link, flip)`` with bits y.

        Args:
            y: The bits, -1 and +1, shape (m,).
            gain: Not zero, shape (m,) or (particles, m), as the other parameters.
            offset: The link's argument at ``t = 0``, shape as ``gain``.
            threshold: Thresholds of the model, shape as ``gain``.
            scale: Scales of the model, shape as ``gain``.
            flip: Probability of a flipped bit.
            link: Law of the noise.
        """
        return cls(
            y=y * gain.sign(),
            threshold=(threshold - offset) / gain,
            scale=scale / gain.abs(),
            flip=flip,
            link=link,
        )

    def select(self, measurements: slice) -> "OneBitForm":
        """The form of some of the measurements."""
        flip = self.flip[..., measurements] if isinstance(self.flip, Tensor) else self.flip
        return OneBitForm(
            y=self.y[..., measurements],
            threshold=self.threshold[..., measurements],
            scale=self.scale[..., measurements],
            flip=flip,
            link=self.link,
        )

    def log_likelihood(self, t: Tensor) -> Tensor:
        """Log-likelihood of each measurement given ``t`` of shape (particles, m)."""
        observation = OneBit(
            t, self.scale, self.threshold, link=self.link, flip=self.flip, validate_args=False
        )
        return observation.log_prob(self.y)

    @property
    def smallest_noise_variance(self) -> Tensor:
        """Smallest variance that a normal component of the noise can have, as ``scale``."""
        variance = self.scale.square()
        return variance if self.link == "probit" else variance / max(SCALES) ** 2

    @property
    def noise_variance(self) -> Tensor:
        """Variance of the noise, shape of ``scale``."""
        variance = self.scale.square()
        return variance if self.link == "probit" else variance * (math.pi**2 / 3)

    def smoothed_log_likelihood(self, mean: Tensor, variance: Tensor | float) -> Tensor:
        r"""Log-likelihood of each measurement when ``t`` is known up to a normal error.

        It is :math:`\log E[p(y_i \mid t_i)]` for :math:`t_i \sim N(\mu_i, v_i)`. For logistic
        noise the likelihood has the absolute error of the mixture, at most 2.2e-9.

        Args:
            mean: :math:`\mu`, shape (particles, m).
            variance: :math:`v \ge 0`, broadcastable to ``mean``.

        Returns:
            Shape (particles, m), differentiable in ``mean`` and ``variance``.
        """
        log_probability = self._log_probability(self.y * (mean - self.threshold), variance)
        if self._flips:
            flip = torch.as_tensor(self.flip, dtype=mean.dtype, device=mean.device)
            return log_flipped(log_probability, flip)
        return log_probability

    @torch.no_grad()
    def draw_output(
        self, mean: Tensor, variance: Tensor | float, extra_noise: Tensor | float = 0.0
    ) -> Tensor:
        """Draw ``t`` from N(t; mean, variance) p(y given t), exactly.

        Args:
            mean: Shape (particles, m).
            variance: Positive, broadcastable to ``mean``.
            extra_noise: Variance of normal noise on top of the measurement's own.

        Returns:
            Independent draws, shape (particles, m).
        """
        difference = mean - self.threshold
        _, excess, noise_variance = self._draw_excess(difference, variance + extra_noise)
        noise_variance = (noise_variance + extra_noise).clamp(min=0.0)
        gain = variance / (variance + noise_variance)
        deviation = (gain * noise_variance).sqrt()
        return mean + gain * excess + deviation * torch.randn_like(mean)

    @torch.no_grad()
    def draw_latent(self, mean: Tensor, variance: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Draw the noisy number ``w = t - threshold + noise`` whose sign, or its flip, is ``y``.

        Args:
            mean: Mean of ``t``, shape (particles, m).
            variance: Variance of ``t``, 0 where it is known; broadcastable to ``mean``.

        Returns:
            ``w``, and its variance before ``y`` was seen: ``variance`` plus that of the component
            of the noise, which was drawn with it. Both have shape (particles, m).
        """
        difference = mean - self.threshold
        sign, excess, noise_variance = self._draw_excess(difference, variance)
        # far in the tail the sum may round to the wrong side of zero
        w = sign * (sign * (difference + excess)).clamp(min=0.0)
        return w, (variance + noise_variance).expand_as(w)

    @property
    def _flips(self) -> bool:
        return isinstance(self.flip, Tensor) or self.flip != 0.0

    def _standardised(self, margin: Tensor, variance: Tensor | float) -> Tensor:
        """The margin in standard deviations of each logistic component, (particles, m, 8)."""
        reciprocal_scales = 1.0 / margin.new_tensor(SCALES)
        noise_variance = (self.scale[..., None] * reciprocal_scales).square()
        total = (variance + torch.zeros_like(self.scale))[..., None] + noise_variance
        return margin[..., None] / total.sqrt()

    def _log_joint(self, standardised: Tensor) -> Tensor:
        """Log-probability of each logistic component and a sign, shape (particles, m, 8)."""
        return standardised.new_tensor(PROBABILITIES).log() + log_ndtr(standardised)

    def _log_probability(self, margin: Tensor, variance: Tensor | float) -> Tensor:
        """Log-probability that the noisy number is on the side of a ``margin`` above zero."""
        if self.link == "probit":
            return log_ndtr(margin / (variance + self.scale.square()).sqrt())
        return self._log_joint(self._standardised(margin, variance)).logsumexp(-1)

    def _draw_sign(self, difference: Tensor, variance: Tensor | float) -> Tensor:
        """Draw the sign before a possible flip."""
        if not self._flips:
            return self.y
        probability = self._log_probability(self.y * difference, variance).exp()
        kept = (1.0 - self.flip) * probability
        flipped = self.flip * (1.0 - probability)
        uniform = torch.rand_like(difference)
        return torch.where(uniform * (kept + flipped) < flipped, -self.y, self.y)

    def _draw_noise_variance(self, margin: Tensor, variance: Tensor | float) -> Tensor:
        """Draw the normal component of the noise given the sign before a flip."""
        if self.link == "probit":
            return self.scale.square()
        standardised = self._standardised(margin, variance)
        if standardised.amax(-1).min() > -_FAR:
            joint = margin.new_tensor(PROBABILITIES) * torch.special.ndtr(standardised)
        else:
            joint = self._log_joint(standardised).softmax(-1)
        cumulated = joint.cumsum(-1)
        uniform = torch.rand_like(margin) * cumulated[..., -1]
        component = (cumulated <= uniform[..., None]).sum(-1).clamp(max=len(SCALES) - 1)
        return (self.scale / margin.new_tensor(SCALES)[component]).square()

    def _draw_excess(
        self, difference: Tensor, variance: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the sign before a flip, ``w`` less its mean, and the noise component's variance."""
        sign = self._draw_sign(difference, variance)
        noise_variance = self._draw_noise_variance(sign * difference, variance)
        deviation = (variance + noise_variance).sqrt()
        lower = -sign * difference / deviation
        return sign, sign * deviation * standard_normal_above(lower), noise_variance
