r"""Paths from the prior to the posterior, and moves that leave every point of them invariant.

An annealed sampler walks through targets :math:`\pi_u(x) \propto p(x)\, L_u(x)`, from
:math:`u = \infty`, where the data say nothing, to :math:`u = 0`, where :math:`L_0(x) = p(y|x)`.
It needs :math:`L_u`, and a noisy copy z of the signal such that drawing z given x and the data,
and x given z by reverse diffusion, leaves :math:`\pi_u` as it is.

For one-bit data both come from one identity. The noise of the measurement is normal,
:math:`w = A x - \tau + N(0, V)`, :math:`y = \operatorname{sign}(w)`, with the variance
:math:`V = s^2 + u` on the path. Part of that noise may be thought of as noise of the signal,
measured without error:

.. math::

    A x + N(0, V) = A (x + \rho\,\varepsilon) + N(0,\, V I - \rho^2 A A^T), \qquad
    \rho^2 \lambda_{max}(A A^T) \le V.

So :math:`z = x + \rho\,\varepsilon` is a noisy copy that stands between x and the data, at no
change of the model: given z, the signal does not depend on w. One sweep is

.. math::

    w &\sim N(A x - \tau, V) \text{ with the sign of } y \\
    z &= h + \rho^2 A^T V^{-1} (w + \tau - A h - e), \qquad h \sim N(x, \rho^2 I),\;
        e \sim N(0, V - \rho^2 A A^T) \\
    x &\sim p(x \mid z = x + \rho\,\varepsilon)

and each line is an exact draw, for any matrix A. Logistic noise is normal given its component,
which is drawn with w, and the smallest variance of a component bounds the coupling. At
:math:`u = 0` the posterior itself is left invariant, at the coupling
:math:`\rho = s / \lVert A \rVert` and not in the limit of a vanishing one. Usual split Gibbs
samplers put the coupling's variance on top of the noise instead. Soft data are damped as well, so
that they do not favour what is merely large (:mod:`bayes1bit.infer.softening`, where V is what the
damping leaves of the variance).

Any other likelihood is tempered, :math:`L_u = p(y|x)^{1/(1+u)}`, with a coupling that is small
against its curvature; there the copy is drawn by Langevin steps, and the coupling adds its bias.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bayes1bit.infer.gibbs_step import gram_matrix
from bayes1bit.infer.langevin_step import LangevinStep, largest_curvature
from bayes1bit.infer.moments import prior_mean, typical_distance
from bayes1bit.infer.prior_steps import PriorStep
from bayes1bit.infer.softening import Softening
from bayes1bit.infer.target import Target

_LOG_TWO = math.log(2.0)
_PROBES = 4


class Path(ABC):
    """A path of likelihoods with the moves that belong to it."""

    unit: float
    """The u at which the data have lost half of their weight."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """What :meth:`log_likelihood` needs of signals (particles, *event), computed once."""

    @abstractmethod
    def log_likelihood(self, features: Tensor, u: float) -> Tensor:
        """The softened log-likelihood ``log L_u``, shape (particles,); u may be infinite."""

    @abstractmethod
    def coupling(self, u: float) -> float:
        """Noise level rho of the copy at u."""

    @abstractmethod
    def noisy_copy(self, x: Tensor, u: float) -> Tensor:
        """Draw the copy z of signals (particles, *event) at level ``coupling(u)``."""

    def spread(self, num: int) -> "Path":
        """The path of ``num`` particles; it differs where each has parameters of its own."""
        return self

    def select(self, kept: Tensor) -> "Path":
        """The path of the particles with these indices, shape (particles,)."""
        return self

    def update(self, x: Tensor, u: float) -> "Path":
        """The path once what is unknown beside the signals has been drawn anew.

        Args:
            x: The signals, shape (particles, *event).
            u: Where on the path.
        """
        return self


class NoiseSplitting(Path):
    """The path of one-bit data: u is a variance added to that of the measurement noise.

    Args:
        softening: The likelihoods of the path.
    """

    def __init__(self, softening: Softening) -> None:
        self.softening = softening
        self.structure, scale = softening.structure, softening.form.scale
        self.unit = float(scale.square().mean())
        self.values: Tensor | None = None
        if self.structure.row_gram is not None:
            self.largest = self.structure.row_gram
        else:
            values, vectors = torch.linalg.eigh(gram_matrix(self.structure.operator).double())
            self.values, self.vectors = values.to(scale), vectors.to(scale)
            self.largest = float(values[-1])

    def features(self, x: Tensor) -> Tensor:
        """The operator's output, shape (particles, m)."""
        return self.structure.apply(x)

    def log_likelihood(self, features: Tensor, u: float) -> Tensor:
        """Closed form: that of noise with variance ``V = s^2 + u``, damped.

        Arguments are those of :meth:`Path.log_likelihood`.
        """
        if u == float("inf"):
            # every sign is as likely as not, flipped or not
            return features.new_full((len(features),), -self.structure.operator.m * _LOG_TWO)
        return self.softening.log_likelihood(features, u).sum(1)

    def coupling(self, u: float) -> float:
        """The largest rho that the noise can supply."""
        return (self.softening.smallest_variance(u) / self.largest) ** 0.5

    @torch.no_grad()
    def noisy_copy(self, x: Tensor, u: float) -> Tensor:
        """An exact draw of the copy of signals, shape (particles, *event)."""
        w, variance = self.softening.draw_latent(self.structure.apply(x), u)
        smallest = self.softening.smallest_variance(u)
        squared = smallest / self.largest
        h = x + squared**0.5 * torch.randn_like(x)
        w = w + self.softening.form.threshold
        missed = w - self.structure.apply(h) - self._rest(variance, smallest)
        return h + squared * self.structure.adjoint(missed / variance, x.shape[1:])

    def _rest(self, variance: Tensor, smallest: float) -> Tensor:
        """Draw the noise that is not the signal's: variance ``V - rho^2 A A^T``."""
        noise = torch.randn_like(variance)
        if self.values is None:
            return noise * (variance - smallest).clamp_(min=0.0).sqrt_()
        shared = (1 - self.values / self.largest).clamp(min=0.0) * smallest
        rest = (noise * shared.sqrt()) @ self.vectors.T
        surplus = (variance - smallest).clamp_(min=0.0)
        return rest + surplus.sqrt_() * torch.randn_like(variance)


class Tempering(Path):
    """The path of any likelihood: the data count with the power ``1 / (1 + u)``.

    Args:
        target: The target.
        share: Coupling variance as a share of the likelihood's smallest inverse curvature.
        num_steps: Langevin steps of a copy.
        num_probes: Random starts of the search for the likelihood's largest curvature.
    """

    unit = 1.0

    def __init__(
        self, target: Target, share: float = 0.1, num_steps: int = 20, num_probes: int = _PROBES
    ) -> None:
        self.target, self.share = target, share
        self.step = LangevinStep(num_steps, metropolis=True)
        self.largest = typical_distance(target.prior)
        with torch.no_grad():
            centre = prior_mean(target.prior).expand(num_probes, *target.prior.event_shape)
        curvature = largest_curvature(target, centre.clone(), self.largest)
        self.curvature = max(float(curvature.max()), 1e-12)

    def features(self, x: Tensor) -> Tensor:
        """The log-likelihood, shape (particles,)."""
        return self.target.log_likelihood(x).detach()

    def log_likelihood(self, features: Tensor, u: float) -> Tensor:
        """The tempered log-likelihood of features, shape (particles,)."""
        return features / (1 + u)

    def coupling(self, u: float) -> float:
        """A rho that is small against the width of the tempered likelihood."""
        width = (self.share * (1 + u) / self.curvature) ** 0.5
        return min(width, self.largest)

    @torch.no_grad()
    def noisy_copy(self, x: Tensor, u: float) -> Tensor:
        """A draw of the copy, shape of ``x``, by Langevin steps on the tempered likelihood."""
        return self.step(_Tempered(self.target, 1 / (1 + u)), x, self.coupling(u))


class _Tempered(Target):
    """A target whose data count with a power."""

    def __init__(self, target: Target, power: float) -> None:
        self.__dict__.update(target.__dict__)
        self._inner, self._power = target, power

    def value_and_gradient(self, x: Tensor, latents: None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        value, gradient = self._inner.value_and_gradient(x)
        return self._power * value, self._power * gradient


def sweep(target: Target, x: Tensor, prior_step: PriorStep, num_sweeps: int) -> Tensor:
    """Sweeps that leave the posterior invariant, at the end of the path.

    Args:
        target: The target.
        x: Signals, shape (particles, *event).
        prior_step: How the signal is drawn given its noisy copy.
        num_sweeps: Number of sweeps; 0 leaves ``x`` alone.

    Returns:
        Signals, shape of ``x``.
    """
    if num_sweeps == 0:
        return x
    path = path_of(target)
    for _ in range(num_sweeps):
        x = prior_step(target.prior, path.noisy_copy(x, 0.0), path.coupling(0.0))
    return x


def path_of(target: Target) -> Path:
    """The best path that a target allows."""
    softening = Softening.of(target)
    return Tempering(target) if softening is None else NoiseSplitting(softening)
