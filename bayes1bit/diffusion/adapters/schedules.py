r"""Noise schedules of variance-preserving models in discrete time.

A schedule is a list of :math:`\beta_t`, and everything follows from
:math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`, the share of the signal in the variance.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bayes1bit.errors import InputError

LARGEST_BETA = 0.999
COSINE_OFFSET = 0.008


def linear_betas(num: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Equally spaced, as in Ho et al. (NeurIPS 2020), shape (num,), float64."""
    return torch.linspace(start, end, num, dtype=torch.float64)


def scaled_linear_betas(num: int, start: float, end: float) -> Tensor:
    """With equally spaced square roots (Rombach et al., CVPR 2022), shape (num,), float64."""
    return linear_betas(num, math.sqrt(start), math.sqrt(end)).square()


def cosine_betas(num: int) -> Tensor:
    r"""The cosine schedule of Nichol and Dhariwal (ICML 2021), equations 16 and 17.

    .. math::

        \bar\alpha(u) = \cos^2\Bigl(\frac{u + 0.008}{1.008} \frac{\pi}{2}\Bigr), \qquad
        \beta_t = \min\Bigl(1 - \frac{\bar\alpha((t + 1) / T)}{\bar\alpha(t / T)}, 0.999\Bigr)

    Args:
        num: Number of steps T.

    Returns:
        Shape (num,), float64.
    """
    u = torch.arange(num + 1, dtype=torch.float64) / num
    share = ((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * (math.pi / 2)).cos().square()
    return (1 - share[1:] / share[:-1]).clamp(max=LARGEST_BETA)


def alphas_cumprod(betas: Tensor | Sequence[float]) -> Tensor:
    r"""Share of the signal in the variance, :math:`\bar\alpha_t`, at each step.

    Args:
        betas: Shape (num,), each between 0 and 1.

    Returns:
        Shape (num,), float64.

    Raises:
        InputError: If a beta is outside (0, 1), or there are fewer than two.
    """
    values = torch.as_tensor(betas, dtype=torch.float64)
    if values.ndim != 1 or len(values) < 2 or not bool(((values > 0) & (values < 1)).all()):
        raise InputError(
            "a noise schedule is a list of two or more betas between 0 and 1, got "
            f"{len(values) if values.ndim == 1 else tuple(values.shape)} of them"
            + (f" from {values.min():g} to {values.max():g}" if values.numel() else "")
        )
    return (1 - values).cumprod(0)
