r"""Reverse solvers: from a noisy signal down to a clean one.

All share one interface. A solver is called with a prior (anything with ``denoise(x, sigma)`` and
``error(sigma)``), a state at the first level and a list of levels; it returns the state at the
last one, which may be zero. :meth:`ReverseSolver.step` is the method itself, one level to the
next, with :math:`D = D(x_a, a)`:

==================== ==========================================================================
`Tweedie`            straight to the posterior mean, :math:`D`
`DDIM`               deterministic at eta = 0, the ancestral step at eta = 1
`Heun`               probability-flow ODE, second order (two calls per step)
`Multistep`          probability-flow ODE, second order from one call per step
`Ancestral`          the reverse SDE's step when the clean signal is taken to be :math:`D`
`VarianceCorrected`  the same, honest about :math:`D` being an estimate
`CovarianceCorrected` the same, with an error that points where :math:`D` has been moving
==================== ==========================================================================
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
    """Base class: walks down the levels, one :meth:`step` each."""

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
        """One step from level ``sigma`` to ``sigma_next``; ``memory`` lives for one walk."""

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
        """Return the posterior mean, whatever the next level."""
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
        """One DDIM step."""
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
        """One variance-corrected ancestral step."""
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


class CovarianceCorrected(ReverseSolver):
    r"""The variance-corrected step with an error that points where the denoiser is undecided.

    What is still open at level a is seldom white: for a garment it is how bright the whole of it
    is. White noise of the right variance hardly moves in such a direction, and walks of trained
    priors lose contrast. Down the reverse diffusion :math:`D` is a martingale, so what it did in
    the last step is a draw of what it will do next: unbiased, with nearly the right covariance.
    With a random sign it is also uncorrelated with the past:

    .. math::

        x_b = x_a + k (D_a + e - x_a) + N\!\left(0, b^2 k\right), \qquad
        e = \pm\, r(a) \sqrt n\, \frac{D_a - D_{prev}}{\lVert D_a - D_{prev} \rVert}

    The first step and the last have the white error of :class:`VarianceCorrected`.
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
        """One step from the present denoised signal and the one before."""
        clean = prior.denoise(x, sigma)
        before = memory.get("clean") if sigma_next > 0 else None
        error = draw_error(clean, before, float(prior.error(sigma)), len(prior.event_shape))
        memory["clean"] = clean
        k, std = reverse_kernel(0.0, sigma, sigma_next)
        return torch.lerp(x, clean + error, k) + std * torch.randn_like(x)


def draw_error(
    clean: Tensor, before: Tensor | None, error: float, event_dim: int | None = None
) -> Tensor:
    """Draw the error of denoised signals as :class:`CovarianceCorrected` does.

    Args:
        clean: Denoised signals, shape (*batch, *event).
        before: Denoised signals of the level before, same shape; None for a white error.
        error: Its variance per dimension.
        event_dim: Number of event dimensions; all but the first by default.

    Returns:
        Shape of ``clean``.
    """
    if before is None:
        return error**0.5 * torch.randn_like(clean)
    event_dim = clean.ndim - 1 if event_dim is None else event_dim
    event = tuple(range(-event_dim, 0))
    moved = clean - before
    mean_square = moved.square().mean(event, keepdim=True).clamp(min=torch.finfo(clean.dtype).tiny)
    return moved * (error / mean_square).sqrt() * torch.randn_like(mean_square).sign()


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
        """One step: Euler, then the trapezoidal correction unless the next level is 0."""
        slope = (x - prior.denoise(x, sigma)) / sigma
        euler = x + (sigma_next - sigma) * slope
        if sigma_next == 0:
            return euler
        slope_next = (euler - prior.denoise(euler, sigma_next)) / sigma_next
        return x + (sigma_next - sigma) * 0.5 * (slope + slope_next)


class Multistep(ReverseSolver):
    r"""DPM-Solver++(2M) of Lu et al. (2022), the probability-flow ODE in :math:`-\log\sigma`.

    With :math:`h_i = \log(\sigma_i / \sigma_{i+1})` and :math:`q = h_{i-1} / h_i`,

    .. math::

        \bar D = \left(1 + \tfrac{1}{2q}\right) D_i - \tfrac{1}{2q} D_{i-1}, \qquad
        x_{i+1} = \frac{\sigma_{i+1}}{\sigma_i} x_i
            + \left(1 - \frac{\sigma_{i+1}}{\sigma_i}\right) \bar D

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
        """One step from the present denoised signal and the one before."""
        clean = prior.denoise(x, sigma)
        average = clean
        if memory and sigma_next > 0:
            before, sigma_before = memory["clean"], memory["sigma"]
            weight = 0.5 * math.log(sigma / sigma_next) / math.log(sigma_before / sigma)
            average = clean + weight * (clean - before)
        memory.update(clean=clean, sigma=sigma)
        return torch.lerp(average, x, sigma_next / sigma)
