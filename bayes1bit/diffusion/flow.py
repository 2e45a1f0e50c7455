r"""The density of a diffusion prior, through its probability-flow ODE.

The ODE :math:`dx/d\sigma = (x - D(x, \sigma)) / \sigma` carries the prior at the smallest level to
nearly a normal at the largest. The instantaneous change of variables (Chen et al., NeurIPS 2018;
Song et al., ICLR 2021, section 4.3) gives, with :math:`u = \log\sigma`,

.. math::

    \log p(x) = \log p_{\sigma_{max}}(x_{\sigma_{max}})
        + \int_{\log\sigma_{min}}^{\log\sigma_{max}} \left(n - \operatorname{tr}
            J(x_u, e^u)\right) du, \qquad J = \frac{\partial D}{\partial x}

Both the path and the integral are advanced together by the classical fourth-order Runge-Kutta
method. The trace is exact from n gradients, or Hutchinson's estimate from a stated number of
Rademacher probes, held fixed along the path.

At the end of the path the prior is taken as the normal that the denoiser itself implies there:
for :math:`N(m, V)` smoothed at :math:`\sigma`, :math:`D(x) = m + J (x - m)` with
:math:`I - J = \sigma^2 (\sigma^2 I + V)^{-1}`, so its log density is

.. math::

    -\frac{(x - m)^T (x - D(x))}{2 \sigma^2} - \frac n2 \log(2 \pi \sigma^2)
        + \frac12 \log\det(I - J),

where :math:`\log\det(I - J) = -\operatorname{tr} J` to the order :math:`(V / \sigma^2)^2`, and
:math:`m = D(0)` to the order :math:`V / \sigma^2`. Taking :math:`N(0, \sigma^2 I)` instead would
be wrong to the order :math:`|m| / \sigma`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Field = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def log_density(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    num_steps: int,
    probes: int | None,
) -> Tensor:
    """Log density of the prior smoothed at ``sigma_min``, differentiable in ``x``.

    Args:
        denoise: The denoiser, called with shapes (batch, n) and a level.
        x: Where to evaluate, shape (batch, n).
        sigma_min: Level at which the density is taken.
        sigma_max: Level at which it is nearly normal.
        num_steps: Runge-Kutta steps, equal in log(sigma); four denoiser calls each.
        probes: Rademacher probes of the trace, or None for the exact trace.

    Returns:
        Log density in nats, shape (batch,).
    """
    n = x.shape[1]
    directions = _directions(x, probes)
    repetitions = 1 if probes is None else probes
    differentiable = x.requires_grad and torch.is_grad_enabled()

    def denoise_with_trace(state: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = state if differentiable else state.detach().requires_grad_()
            clean = denoise(point, sigma)
            trace = state.new_zeros(len(state))
            for direction in directions:
                (product,) = torch.autograd.grad(
                    clean, point, direction, create_graph=differentiable, retain_graph=True
                )
                trace = trace + (product * direction).sum(1)
        if not differentiable:
            clean, trace = clean.detach(), trace.detach()
        return clean, trace / repetitions

    def field(state: Tensor, log_sigma: float) -> tuple[Tensor, Tensor]:
        clean, trace = denoise_with_trace(state, math.exp(log_sigma))
        return state - clean, n - trace

    state, integral = _runge_kutta(field, x, math.log(sigma_min), math.log(sigma_max), num_steps)
    clean, trace = denoise_with_trace(state, sigma_max)
    with torch.no_grad():
        mean = denoise(torch.zeros_like(x[:1]), sigma_max)
    quadratic = ((state - mean) * (state - clean)).sum(1) / sigma_max**2
    normal = -0.5 * (quadratic + trace) - n * (math.log(sigma_max) + 0.5 * math.log(2 * math.pi))
    return normal + integral


def _directions(x: Tensor, probes: int | None) -> list[Tensor]:
    """Unit vectors for the exact trace, or Rademacher vectors for Hutchinson's."""
    if probes is None:
        return [unit.expand_as(x) for unit in torch.eye(x.shape[1], dtype=x.dtype).to(x.device)]
    return [torch.randint(0, 2, x.shape, device=x.device).to(x) * 2 - 1 for _ in range(probes)]


def _runge_kutta(
    field: Field, x: Tensor, start: float, end: float, num_steps: int
) -> tuple[Tensor, Tensor]:
    h = (end - start) / num_steps
    integral = x.new_zeros(len(x))
    for i in range(num_steps):
        u = start + i * h
        v1, d1 = field(x, u)
        v2, d2 = field(x + 0.5 * h * v1, u + 0.5 * h)
        v3, d3 = field(x + 0.5 * h * v2, u + 0.5 * h)
        v4, d4 = field(x + h * v3, u + h)
        x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        integral = integral + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return x, integral
