r"""Pareto-smoothed importance sampling, for many data at once.

To leave datum i out, draws of the posterior get the ratios :math:`1 / p(y_i \mid x)`. Their
largest ones decide, and are replaced by quantiles of a generalised Pareto distribution that is
fitted to them; its shape k tells how far the result can be trusted (Vehtari, Simpson, Gelman, Yao
and Gabry, "Pareto smoothed importance sampling", *JMLR* 25, 2024). The fit is that of Zhang and
Stephens (*Technometrics* 51, 2009), with the weak prior on k of the former.

Bits are hard on such code. Most of them are all but certain under every draw, their ratios differ
in the last digits only, and subtracting logarithms near zero leaves nothing but ties: ArviZ 0.23
answers NaN. Here excesses over the cutoff are taken before anything is rounded, and data whose
ratios are the same to one percent are left as they are.
"""

import math

import torch
from torch import Tensor

_SAME = 0.01
"""Range of log-ratios below which there is nothing to smooth, and k is 0."""
_NO_EXCESS = 1e-250
"""Excess, as a share of the largest one, that stands for none: that of copies."""
_EXPONENTIAL = 1e-12
"""Shape that stands for 0, where the formula of quantiles divides by it."""


def pareto_smooth(log_ratios: Tensor, efficiency: float = 1.0) -> tuple[Tensor, Tensor]:
    """Smooth the largest importance ratios of each datum.

    Args:
        log_ratios: Logarithms of the ratios, shape (draws, data), float64, finite; at least 25
            draws.
        efficiency: Effective share of the draws, for those of a chain.

    Returns:
        Logarithms of weights that sum to one, shape (draws, data), and Pareto's k, shape (data,).
    """
    count = len(log_ratios)
    length = math.ceil(min(0.2 * count, 3 * math.sqrt(count / efficiency)))
    ordered, order = log_ratios.sort(0)
    cutoff, tail = ordered[-length - 1], ordered[-length:]
    excess = torch.expm1(tail - cutoff)
    largest = excess[-1]
    varies = (ordered[-1] - ordered[0] > _SAME) & (largest > 0) & largest.isfinite()
    # a copy of the tail that can be fitted stands in for those that are left alone
    place = ((torch.arange(length) + 0.5) / length).to(excess)[:, None]
    safe = torch.where(varies, excess / largest, place)
    k, scale = _fit(safe)
    shape = torch.where(k.abs() < _EXPONENTIAL, _EXPONENTIAL, k)
    quantile = scale * torch.expm1(-shape * torch.log1p(-place)) / shape
    smoothed = torch.minimum(cutoff + torch.log1p(quantile * largest), ordered[-1])
    ordered[-length:] = torch.where(varies, smoothed, tail)
    weights = torch.empty_like(ordered).scatter_(0, order, ordered)
    # what does not vary is harmless unless it is a few huge ratios, of which no law can be fitted
    beyond = (ordered[-1] - ordered[0] > _SAME) & ~varies
    k = torch.where(varies, k, torch.where(beyond, torch.inf, 0.0))
    return weights.log_softmax(0), k


def _fit(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape and scale of the generalised Pareto distribution of sorted excesses, (n, data)."""
    n = len(excess)
    candidates = 30 + int(math.sqrt(n))
    quartile = excess[int(n / 4 + 0.5) - 1].clamp(min=_NO_EXCESS)
    steps = torch.arange(1, candidates + 1).to(excess)[:, None]
    b = (1 - (candidates / (steps - 0.5)).sqrt()) / (3 * quartile) + 1 / excess[-1]
    k = torch.stack([torch.log1p(-row * excess).mean(0) for row in b])
    log_likelihood = n * ((-b / k).log() - k - 1)
    weights = log_likelihood.softmax(0)
    mean = (weights * b).sum(0)
    shape = torch.log1p(-mean * excess).mean(0)
    scale = -shape / mean
    return (n * shape + 5.0) / (n + 10.0), scale
