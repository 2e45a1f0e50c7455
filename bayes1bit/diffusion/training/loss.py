r"""The EDM objective (Karras et al., NeurIPS 2022), of a batch and of its signals.

.. math::

    \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2}
    \left\lVert D(x + \sigma\varepsilon, \sigma) - x \right\rVert^2

The weight makes the network's own target have unit variance at every level.
"""

import torch
from torch import Tensor

from bayes1bit.diffusion.denoiser import Denoiser, KarrasDenoiser


def weighted_errors(
    denoiser: KarrasDenoiser,
    x: Tensor,
    sigma: Tensor,
    eps: Tensor,
    teacher: Denoiser | None = None,
    share: float = 1.0,
) -> Tensor:
    """Weighted squared errors of a batch, whose mean is the objective.

    Args:
        denoiser: What to train.
        x: Clean signals, shape (batch, *event).
        sigma: Levels, shape (batch,).
        eps: Noise, shape of ``x``.
        teacher: Another denoiser to learn from.
        share: Its share in the target, in [0, 1].

    Returns:
        One number for each value of each signal, shape of ``x``.
    """
    s = sigma.view(-1, *[1] * (x.ndim - 1))
    weight = (s.square() + denoiser.sigma_data**2) / (s * denoiser.sigma_data).square()
    noisy, target = x + s * eps, x
    if teacher is not None:
        with torch.no_grad():
            target = x.lerp(teacher(noisy, sigma), share)
    errors: Tensor = weight * (denoiser(noisy, sigma) - target).square()
    return errors


def edm_loss(
    denoiser: KarrasDenoiser,
    x: Tensor,
    sigma: Tensor,
    eps: Tensor,
    teacher: Denoiser | None = None,
    share: float = 1.0,
) -> Tensor:
    """EDM objective of a batch, shape (); see :func:`weighted_errors` for the arguments."""
    return weighted_errors(denoiser, x, sigma, eps, teacher, share).mean()
