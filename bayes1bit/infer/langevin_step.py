r"""Langevin draws of a data step: for any likelihood that has a gradient.

The target is :math:`\pi(z) \propto p(y \mid z)\, N(z; x, \rho^2 I)`, and one step is

.. math:: z' = z + \eta\, \nabla \log \pi(z) + \sqrt{2 \eta}\; \xi, \qquad \xi \sim N(0, I).

Without correction the law that the steps settle on is off by an amount of order :math:`\eta`;
accepting :math:`z'` by the rule of Metropolis and Hastings removes this error, at the price of
smaller steps in high dimension. Either way finitely many steps from ``x`` leave the error of a
chain that has not settled.
"""

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.target import Target

# Share of the largest stable step: biases the stiffest direction's variance by a tenth.
_UNADJUSTED_SHARE = 0.2
# Best rate of acceptance in high dimension.
_ACCEPTANCE = 0.574
_POWER_ITERATIONS = 5


class LangevinStep(DataStep):
    r"""Draw z by Langevin steps that start at ``x``.

    Without a given step size, it follows from the largest curvature L of :math:`-\log \pi`:
    :math:`1/\rho^2` plus that of the likelihood, found for each particle by a few power
    iterations near ``x``. It is :math:`0.2 / L`; or, with correction, :math:`n^{-1/3} / L` at
    first, adapted in the first half of the steps to an acceptance of 0.574, and fixed in the
    second half, which leaves :math:`\pi` invariant.

    Args:
        num_steps: Steps per call, each of one gradient of the likelihood.
        step_size: :math:`\eta`, in squared units of the signal, or None for the rule above.
        metropolis: Whether to correct the steps.

    Raises:
        InputError: If ``num_steps`` is less than 1, or ``step_size`` is not positive.

    References:
        Ma, Wu and Liu, *PnP-OneBit* (arXiv 2610.11834), for its use as a data step, with 100
        uncorrected steps of size 0.01;
        Roberts and Rosenthal, *Optimal scaling of discrete approximations to Langevin diffusions*,
        JRSS B 60 (1998), for the rule with correction.
    """

    def __init__(
        self, num_steps: int = 100, step_size: float | None = None, metropolis: bool = False
    ) -> None:
        if num_steps < 1:
            raise InputError(f"a Langevin step needs num_steps of at least 1, got {num_steps}")
        if step_size is not None and not step_size > 0:
            raise InputError(f"step_size must be positive, or None to choose it, got {step_size}")
        self.num_steps, self.step_size, self.metropolis = num_steps, step_size, metropolis

    def prepare(self, target: Target) -> None:
        """Nothing to check: every likelihood of a target has a gradient."""

    @torch.no_grad()
    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """Draw from p(y given z) N(z; x, rho^2 I), approximately.

        Args:
            target: The likelihood.
            x: Centres, shape (particles, *event).
            rho: Standard deviation of the coupling, in units of the signal.

        Returns:
            The last state of each chain, shape of ``x``.
        """
        if self.step_size is not None:
            size = x.new_full((len(x),), self.step_size)
        else:
            share = x[0].numel() ** (-1 / 3) if self.metropolis else _UNADJUSTED_SHARE
            size = share / (rho**-2 + largest_curvature(target, x, rho))
        return (
            self._adjusted(target, x, rho, size)
            if self.metropolis
            else self._unadjusted(target, x, rho, size)
        )

    def _unadjusted(self, target: Target, x: Tensor, rho: float, size: Tensor) -> Tensor:
        size = per_particle(size, x)
        z = x
        for _ in range(self.num_steps):
            _, gradient = target.value_and_gradient(z)
            drift = gradient - (z - x) / rho**2
            z = z + size * drift + (2 * size).sqrt() * torch.randn_like(z)
        return z

    def _adjusted(self, target: Target, x: Tensor, rho: float, size: Tensor) -> Tensor:
        def log_density(z: Tensor) -> tuple[Tensor, Tensor]:
            log_likelihood, gradient = target.value_and_gradient(z)
            difference = z - x
            squared = difference.flatten(1).square().sum(1)
            return log_likelihood - squared / (2 * rho**2), gradient - difference / rho**2

        z, (value, gradient) = x, log_density(x)
        for k in range(self.num_steps):
            wide = per_particle(size, x)
            noise = torch.randn_like(z)
            candidate = z + wide * gradient + (2 * wide).sqrt() * noise
            candidate_value, candidate_gradient = log_density(candidate)
            back = z - candidate - wide * candidate_gradient
            log_ratio = (
                candidate_value
                - value
                + 0.5 * noise.flatten(1).square().sum(1)
                - back.flatten(1).square().sum(1) / (4 * size)
            )
            accepted = torch.rand_like(value).log() < log_ratio
            if self.step_size is None and 2 * (k + 1) <= self.num_steps:
                surplus = log_ratio.exp().clamp(max=1.0).nan_to_num(0.0) - _ACCEPTANCE
                size = size * (surplus / (k + 1) ** 0.5).exp()
            moved = per_particle(accepted, x)
            z = torch.where(moved, candidate, z)
            gradient = torch.where(moved, candidate_gradient, gradient)
            value = torch.where(accepted, candidate_value, value)
        return z

    def __repr__(self) -> str:
        return (
            f"LangevinStep(num_steps={self.num_steps}, step_size={self.step_size}, "
            f"metropolis={self.metropolis})"
        )


def largest_curvature(target: Target, x: Tensor, rho: float) -> Tensor:
    """Estimate the largest second derivative of the log-likelihood near each signal.

    Power iteration on differences of gradients, at points drawn from N(x, rho^2 I): where the
    likelihood is to be explored, not only at its centre.

    Args:
        target: The likelihood.
        x: Signals, shape (particles, *event).
        rho: Standard deviation of the neighbourhood.

    Returns:
        Absolute curvature along the stiffest direction, shape (particles,).
    """
    z = x + rho * torch.randn_like(x)
    _, gradient = target.value_and_gradient(z)
    direction, curvature = torch.randn_like(x), x.new_zeros(len(x))
    for _ in range(_POWER_ITERATIONS):
        norm = direction.flatten(1).norm(dim=1)
        # a likelihood that is flat here has no direction
        direction = direction / per_particle(norm, x).clamp(min=torch.finfo(x.dtype).tiny)
        _, moved = target.value_and_gradient(z + rho * direction)
        direction = (gradient - moved) / rho
        curvature = direction.flatten(1).norm(dim=1)
    return curvature


def per_particle(values: Tensor, x: Tensor) -> Tensor:
    """Shape values (particles,) so that they broadcast against signals."""
    return values.view(-1, *[1] * (x.ndim - 1))
