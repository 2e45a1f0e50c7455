"""Guidance: the gradient of a data term at the denoised signal, taken through the denoiser.

The Jacobian of a denoiser is the covariance of the clean signal given the noisy one, over
``sigma^2``. So a gradient that went through it is spread over the pixels that move together under
the prior, which is what lets guidance find the right mode where a data step on the noisy signal
cannot.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior


class Guided(NamedTuple):
    """Denoised signals and what the data say about them, not attached to a graph.

    Attributes:
        clean: Denoised signals, shape (particles, *event).
        value: The data term in nats, shape (particles,).
        gradient: Its gradient with respect to the noisy signals, shape of ``clean``.
        inner: Its gradient with respect to the denoised ones, shape of ``clean``.
    """

    clean: Tensor
    value: Tensor
    gradient: Tensor
    inner: Tensor


def guided_denoise(
    prior: DiffusionPrior,
    x: Tensor,
    sigma: float,
    log_weight: Callable[[Tensor], Tensor],
) -> Guided:
    """Denoise, evaluate a data term at the result, and differentiate it back to the noisy signal.

    Signals go through in batches of ``prior.max_batch``, so that only one batch holds the
    activations of its backward pass at a time.

    Args:
        prior: The prior.
        x: Noisy signals, shape (particles, *event).
        sigma: Their noise level.
        log_weight: The data term, in nats: denoised signals (batch, *event) to (batch,).
    """
    pieces = []
    for batch in x.split(prior.max_batch or len(x)):
        with torch.enable_grad():
            noisy = batch.detach().requires_grad_()
            clean = prior.denoise(noisy, sigma)
            value = log_weight(clean)
            gradients = torch.autograd.grad(value.sum(), (noisy, clean))
        pieces.append((clean.detach(), value.detach(), *gradients))
    return Guided(*(torch.cat(part) for part in zip(*pieces, strict=True)))
