r"""Data steps: bring a denoised signal into agreement with the data.

Both solve the half-quadratic subproblem

.. math::

    \arg\min_z\; -\log p(y \mid z) + \frac{\lVert z - x \rVert^2}{2 \rho^2}

one by gradient descent on any likelihood, the other exactly where the likelihood allows it. Steps
that draw z at random in place of the best one are in :mod:`bayes1bit.infer.data_steps`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.structure import Structure
from bayes1bit.infer.target import Target


class DataStep(ABC):
    """Base class of data steps, which find or draw a z near x that agrees with the data."""

    @abstractmethod
    def prepare(self, target: Target) -> None:
        """Check that the step can be used on a target, and reset what it carries between calls.

        Raises:
            InputError: If it cannot.
        """

    @abstractmethod
    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """Solve the subproblem, or draw from exp(-objective).

        Args:
            target: The likelihood.
            x: Signals to stay close to, shape (particles, *event).
            rho: Standard deviation of the coupling, in units of the signal.

        Returns:
            The new signals, shape of ``x``.
        """


class GradientStep(DataStep):
    r"""Gradient descent on the subproblem, from ``x``.

    The step size of each particle starts at :math:`\rho^2`, the largest that the quadratic term
    allows, and is halved whenever a step would not lower the objective by half of what the
    gradient promises (Armijo's rule); it grows again by a quarter after a success. It is
    remembered from one call to the next, so that no Lipschitz constant is needed.

    Args:
        num_steps: Evaluations of likelihood and gradient per call.

    Raises:
        InputError: If ``num_steps`` is less than 1.
    """

    def __init__(self, num_steps: int = 20) -> None:
        if num_steps < 1:
            raise InputError(f"a gradient step needs num_steps of at least 1, got {num_steps}")
        self.num_steps = num_steps
        self._size: Tensor | None = None

    def prepare(self, target: Target) -> None:
        """Forget the step size of earlier runs."""
        self._size = None

    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """See :meth:`DataStep.__call__`."""
        shape = (-1, *[1] * (x.ndim - 1))

        def objective(z: Tensor) -> tuple[Tensor, Tensor]:
            log_likelihood, gradient = target.value_and_gradient(z)
            difference = z - x
            squared = difference.flatten(1).square().sum(1)
            return squared / (2 * rho**2) - log_likelihood, difference / rho**2 - gradient

        size = x.new_full((len(x),), rho**2)
        if self._size is not None and len(self._size) == len(x):
            size = torch.minimum(size, self._size)
        z, (value, gradient) = x, objective(x)
        for _ in range(self.num_steps):
            candidate = z - size.view(shape) * gradient
            candidate_value, candidate_gradient = objective(candidate)
            promised = size * gradient.flatten(1).square().sum(1)
            accepted = candidate_value <= value - 0.5 * promised
            size = torch.where(accepted, 1.25 * size, 0.5 * size)
            value = torch.where(accepted, candidate_value, value)
            z = torch.where(accepted.view(shape), candidate, z)
            gradient = torch.where(accepted.view(shape), candidate_gradient, gradient)
        self._size = size
        return z

    def __repr__(self) -> str:
        return f"GradientStep(num_steps={self.num_steps})"


class ProximalStep(DataStep):
    r"""The exact solution, for separable likelihoods of a row-orthogonal operator.

    With :math:`A A^T = c I` only :math:`t = A z` matters. The minimiser is

    .. math::

        z = x + A^T (t - A x) / c, \qquad
        t_i = \arg\min_t\; -\ell_i(t) + \frac{(t - a_i x)^2}{2 c \rho^2},

    m one-dimensional problems, solved together by Newton's method. For the log-concave links of
    one-bit data they are strictly convex; a step that does not lower an objective is halved, so
    that likelihoods that are not log-concave (sign flips) reach a local minimum.

    Args:
        max_iterations: Most Newton iterations.
        tolerance: Largest remaining step, relative to the coupling's standard deviation.
    """

    def __init__(self, max_iterations: int = 50, tolerance: float = 1e-5) -> None:
        self.max_iterations, self.tolerance = max_iterations, tolerance

    def prepare(self, target: Target) -> None:
        """Check that the likelihood separates and the operator is row-orthogonal.

        Raises:
            InputError: If it does not, or is not.
        """
        if target.structure is None or target.structure.row_gram is None:
            raise InputError(
                "the exact proximal step needs a likelihood that sees the signal through one "
                f"row-orthogonal operator, but this model has: {target.describe()}; use "
                "GradientStep, or an operator such as Hadamard or DCT"
            )

    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """See :meth:`DataStep.__call__`."""
        structure, c = row_orthogonal(target)
        mean = structure.apply(x)
        t = self.minimise(structure, mean, c * rho**2)
        return x + structure.adjoint((t - mean) / c, x.shape[1:])

    def minimise(self, structure: Structure, mean: Tensor, variance: float) -> Tensor:
        """Solve the one-dimensional problems.

        Args:
            structure: The separable likelihood.
            mean: Centres ``A x``, shape (particles, m).
            variance: Variance ``c rho^2`` of the quadratic term.

        Returns:
            The minimisers, shape (particles, m).
        """
        threshold = self.tolerance * variance**0.5
        t, step = mean, torch.zeros_like(mean)
        value = torch.full_like(mean, torch.inf)
        for _ in range(self.max_iterations):
            candidate_value, slope, curvature = _derivatives(structure, t, mean, variance)
            # rounding makes the objective flat to its own precision near the minimum
            slack = 8 * torch.finfo(t.dtype).eps * (1 + candidate_value.abs())
            worse = candidate_value > value + slack
            step = torch.where(worse, 0.5 * step, -slope / curvature.clamp(min=1 / variance))
            base = torch.where(worse, t - 2 * step, t)
            value = torch.where(worse, value, candidate_value)
            t = base + step
            if step.abs().max() <= threshold:
                break
        return t

    def __repr__(self) -> str:
        return f"ProximalStep(max_iterations={self.max_iterations}, tolerance={self.tolerance:g})"


def row_orthogonal(target: Target) -> tuple[Structure, float]:
    """The structure of a target and its c, for steps that :meth:`DataStep.prepare` has checked."""
    structure = target.structure
    assert structure is not None
    assert structure.row_gram is not None
    return structure, structure.row_gram


def _derivatives(
    structure: Structure, t: Tensor, mean: Tensor, variance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Objective of each one-dimensional problem, its slope and its curvature."""
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        difference = t - mean
        value = difference.square() / (2 * variance) - structure.log_likelihood(t)
        (slope,) = torch.autograd.grad(value.sum(), t, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), t)
    return value.detach(), slope.detach(), curvature
