r"""Reverse solvers: from a noisy signal down to a clean one.

All share one interface. A solver is called with a prior (anything with ``denoise(x, sigma)`` and
``error(sigma)``), a state at the first level and a list of levels; it returns the state at the
last one, which may be zero. :meth:`ReverseSolver.step` is the method itself, one level to the
next, with :math:`D = D(x_a, a)`:

===================== =========================================================================
`Tweedie`             straight to the posterior mean, :math:`D`
`DDIM`                deterministic at eta = 0, the ancestral step at eta = 1
`Heun`                probability-flow ODE, second order (two calls per step)
`Multistep`           probability-flow ODE, second order from one call per step
`StochasticMultistep` reverse SDE, second order from one call per step
`Ancestral`           the reverse SDE's step when the clean signal is taken to be :math:`D`
`VarianceCorrected`   the same, honest about :math:`D` being an estimate
===================== =========================================================================
"""

import itertools
import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor

from bayes1bit.errors import InputError


class DenoisingPrior(Protocol):
    """What a solver needs of a prior."""

    event_shape: torch.Size

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Posterior mean of the clean signal."""

    def error(self, sigma: float | Tensor) -> Tensor:
        """Mean squared denoising error per dimension."""


class ReverseSolver(ABC):
    """Base class, which walks down the levels, one ``step`` each."""

    stochastic: bool = False

    def __call__(self, prior: DenoisingPrior, x: Tensor, levels: Tensor) -> Tensor:
        """Carry ``x`` from the first level to the last.

        Args:
            prior: The prior, for its denoiser and its error.
            x: State at ``levels[0]``, shape (*batch, *event).
            levels: Levels from high to low, shape (T + 1,); the last may be 0.

        Returns:
            State at ``levels[-1]``, shape of ``x``.
        """
        memory: dict[str, Any] = {}
        for sigma, sigma_next in itertools.pairwise(levels.tolist()):
            x = self.step(prior, x, sigma, sigma_next, memory)
        return x

    @abstractmethod
    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """One step from level to level.

        Args:
            prior: The prior, for its denoiser and its error.
            x: State at ``sigma``, shape (*batch, *event).
            sigma: Present level.
            sigma_next: Next level, below ``sigma``; it may be 0.
            memory: What the method keeps from step to step of one walk.

        Returns:
            State at ``sigma_next``, shape of ``x``.
        """

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if name != "stochastic"
        )
        return f"{type(self).__name__}({settings})"


class Tweedie(ReverseSolver):
    """The posterior mean in one call: no sample, but the best point estimate of one."""

    def __call__(self, prior: DenoisingPrior, x: Tensor, levels: Tensor) -> Tensor:
        """Return ``D(x, levels[0])``; the other levels play no part."""
        return prior.denoise(x, levels[0].item())

    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """Return the posterior mean, whatever the next level.

        Arguments are those of :meth:`ReverseSolver.step`.
        """
        return prior.denoise(x, sigma)


class DDIM(ReverseSolver):
    r"""DDIM (Song et al., ICLR 2021, equation 16) in the convention of this package.

    .. math::

        x_b = D + \sqrt{b^2 - s^2}\, \frac{x_a - D}{a} + s\,\varepsilon, \qquad
        s = \eta\, \frac{b}{a} \sqrt{a^2 - b^2}

    Args:
        eta: 0 is deterministic, 1 the ancestral step.

    Raises:
        InputError: If ``eta`` is not between 0 and 1.
    """

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise InputError(f"eta must be between 0 and 1, got {eta}")
        self.eta = eta
        self.stochastic = eta > 0

    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """One DDIM step.

        Arguments are those of :meth:`ReverseSolver.step`.
        """
        clean = prior.denoise(x, sigma)
        s = self.eta * sigma_next / sigma * (sigma**2 - sigma_next**2) ** 0.5
        # at eta = 1 and a tiny sigma_next the difference is zero up to rounding
        kept = max(0.0, sigma_next**2 - s**2) ** 0.5
        x = clean + kept / sigma * (x - clean)
        return x + s * torch.randn_like(x) if s > 0 else x


class Ancestral(DDIM):
    r"""The ancestral step of DDPM (Ho et al., NeurIPS 2020).

    .. math::

        x_b = x_a + k (D - x_a) + N\!\left(0, b^2 \frac{a^2 - b^2}{a^2}\right), \qquad
        k = 1 - \frac{b^2}{a^2}

    It is exact when the clean signal is known to be :math:`D`. With few steps it loses the
    variance of the clean signal given :math:`x_a`; :class:`VarianceCorrected` gives it back.
    """

    def __init__(self) -> None:
        super().__init__(eta=1.0)

    def __repr__(self) -> str:
        return "Ancestral()"


class VarianceCorrected(ReverseSolver):
    r"""The ancestral step that keeps the variance of the clean signal given the noisy one.

    .. math::

        x_b = x_a + k (D - x_a)
            + N\!\left(0, b^2 \frac{a^2 - b^2}{a^2} + k^2 r^2(a)\right), \qquad
        k = 1 - \frac{b^2}{a^2}

    with :math:`r^2(a)` the denoiser's mean squared error per dimension. Given the clean signal the
    ancestral step is exact, and the clean signal is :math:`D` plus an error of that variance;
    taking the error as white gives the term :math:`k^2 r^2`. The optimal reverse variance of
    Analytic-DPM (Bao et al., ICLR 2022) is the same quantity. The last step, to level 0, is
    :math:`D + N(0, r^2)`.

    The error is an average over signals. Where it differs much between them (a few overlapping
    components in two dimensions, say) a walk of few steps spreads the sure ones too widely; in
    the dimensions of a picture the average is the rule.
    """

    stochastic = True

    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """One variance-corrected ancestral step.

        Arguments are those of :meth:`ReverseSolver.step`.
        """
        k, std = reverse_kernel(float(prior.error(sigma)), sigma, sigma_next)
        mean = torch.lerp(x, prior.denoise(x, sigma), k)
        return mean + std * torch.randn_like(x)


def reverse_kernel(error: float, sigma: float, sigma_next: float) -> tuple[float, float]:
    """The k of the step of :class:`VarianceCorrected`, and the standard deviation of its noise.

    Args:
        error: The denoiser's mean squared error per dimension at ``sigma``.
        sigma: Level a.
        sigma_next: Level b, which may be 0.
    """
    k = 1 - (sigma_next / sigma) ** 2
    return k, (sigma_next**2 * k + k**2 * error) ** 0.5


class Heun(ReverseSolver):
    r"""Heun's method for the probability-flow ODE (Karras et al., NeurIPS 2022, algorithm 1).

    .. math::

        \frac{dx}{d\sigma} = \frac{x - D(x, \sigma)}{\sigma}
    """

    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """One step: Euler, then the trapezoidal correction unless the next level is 0.

        Arguments are those of :meth:`ReverseSolver.step`.
        """
        slope = (x - prior.denoise(x, sigma)) / sigma
        euler = x + (sigma_next - sigma) * slope
        if sigma_next == 0:
            return euler
        slope_next = (euler - prior.denoise(euler, sigma_next)) / sigma_next
        return x + (sigma_next - sigma) * 0.5 * (slope + slope_next)


class Multistep(ReverseSolver):
    r"""DPM-Solver++(2M) of Lu et al. (2022), the probability-flow ODE in :math:`-\log\sigma`.

    With the denoised signal :math:`\bar D` of :func:`extrapolate`,

    .. math::

        x_b = \frac{b}{a} x_a + \left(1 - \frac{b}{a}\right) \bar D

    The first step, and the last one to level 0, are of first order.
    """

    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """One step from the present denoised signal and the one before.

        Arguments are those of :meth:`ReverseSolver.step`.
        """
        average = extrapolate(prior.denoise(x, sigma), sigma, sigma_next, memory)
        return torch.lerp(average, x, sigma_next / sigma)


class StochasticMultistep(ReverseSolver):
    r"""SDE-DPM-Solver++(2M) of Lu et al. (2022): the ancestral step, made of second order.

    .. math::

        x_b = x_a + k (\bar D - x_a) + N\!\left(0, b^2 k\right), \qquad k = 1 - \frac{b^2}{a^2}

    with the denoised signal :math:`\bar D` of :func:`extrapolate`. What :math:`D` did in the last
    step, which goes on in :math:`\bar D`, has the covariance of what is still open about the
    signal, be it the brightness of a whole garment; the white noise of
    :class:`VarianceCorrected` has only its variance, and hardly moves in such directions. So
    walks of tens of steps keep the contrast of a trained prior, best over geometric levels. Few
    steps are better white: extrapolation over long ones overshoots.

    The first step is ancestral, the last one :math:`D + N(0, r^2)`.
    """

    stochastic = True

    def step(
        self,
        prior: DenoisingPrior,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        memory: dict[str, Any],
    ) -> Tensor:
        """One step from the present denoised signal and the one before.

        Arguments are those of :meth:`ReverseSolver.step`.
        """
        clean = prior.denoise(x, sigma)
        if sigma_next == 0:
            return clean + float(prior.error(sigma)) ** 0.5 * torch.randn_like(x)
        k, std = reverse_kernel(0.0, sigma, sigma_next)
        average = extrapolate(clean, sigma, sigma_next, memory)
        return torch.lerp(x, average, k) + std * torch.randn_like(x)


def extrapolate(clean: Tensor, sigma: float, sigma_next: float, memory: dict[str, Any]) -> Tensor:
    r"""The denoised signal halfway down a step in :math:`\log\sigma`, from the last two.

    With :math:`h_i = \log(\sigma_i / \sigma_{i+1})`,

    .. math:: \bar D = D_i + \frac{h_i}{2 h_{i-1}} (D_i - D_{i-1})

    Args:
        clean: Denoised signal :math:`D_i`.
        sigma: Its level.
        sigma_next: The next level; towards 0, as at first, :math:`\bar D = D_i`.
        memory: What is kept from step to step of one walk.
    """
    average = clean
    if memory and sigma_next > 0:
        weight = 0.5 * math.log(sigma / sigma_next) / math.log(memory["sigma"] / sigma)
        average = clean + weight * (clean - memory["clean"])
    memory.update(clean=clean, sigma=sigma)
    return average
