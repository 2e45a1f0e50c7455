"""Guidance: the gradient of a data term at the denoised signal, taken through the denoiser.

The Jacobian of a denoiser is the covariance of the clean signal given the noisy one, over
``sigma^2``. So a gradient that went through it is spread over the pixels that move together under
the prior, which is what lets guidance find the right mode where a data step on the noisy signal
cannot.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior


def guided_denoise(
    prior: DiffusionPrior,
    x: Tensor,
    sigma: float,
    log_weight: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Denoise, evaluate a data term at the result, and differentiate it back to the noisy signal.

    Signals go through in batches of ``prior.max_batch``, so that only one batch holds the
    activations of its backward pass at a time.

    Args:
        prior: The prior.
        x: Noisy signals, shape (particles, *event).
        sigma: Their noise level.
        log_weight: The data term, in nats: denoised signals (batch, *event) to (batch,).

    Returns:
        Denoised signals, shape of ``x``; the data term, shape (particles,); and its gradient with
        respect to ``x``, shape of ``x``. None of them is attached to a graph.
    """
    pieces = []
    for batch in x.split(prior.max_batch or len(x)):
        with torch.enable_grad():
            noisy = batch.detach().requires_grad_()
            denoised = prior.denoise(noisy, sigma)
            value = log_weight(denoised)
            (gradient,) = torch.autograd.grad(value.sum(), noisy)
        pieces.append((denoised.detach(), value.detach(), gradient))
    denoised, value, gradient = (torch.cat(part) for part in zip(*pieces, strict=True))
    return denoised, value, gradient
