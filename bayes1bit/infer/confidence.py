r"""How far a smoothed likelihood may be trusted.

Guidance and lookahead take the error of a denoised signal for white, with the measured variance
:math:`r^2` in every direction (:mod:`bayes1bit.infer.smoothing`). While modes compete it is not:
the signals that are still possible differ in a few directions, where their variance is much
larger. Those are the directions in which denoised signals differ from each other, so that
differences of the smoothed log-likelihood are overstated.

The Jacobian of the denoiser is the covariance of the clean signal over :math:`\sigma^2`. Along the
gradient g of the smoothed log-likelihood, the direction in which the data tell signals apart, the
variance is therefore

.. math:: \lambda = \sigma^2\, \frac{g^T J g}{g^T g},

which one backward pass through the denoiser gives. To compare particles, as resampling does, the
direction that counts is the one in which the data tell two of them apart: the difference q of
their gradients g, with the curvature :math:`-q^T (D - D') / q^T q` along it
(:func:`separating_variance`). A likelihood of curvature h that is smoothed by
a variance v has the curvature :math:`h / (1 + h v)`; so the smoothed log-likelihood has to be
multiplied by

.. math:: \beta = \frac{1 + h r^2}{1 + h \lambda} \le 1.
"""

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.infer.guidance import Guided
from bayes1bit.infer.smoothing import SmoothedLikelihood


def directional_variance(guided: Guided, sigma: float, error: float) -> float:
    """The variance lambda above, as an average over signals and not below the measured error.

    Args:
        guided: Signals denoised at level ``sigma``, with the smoothed log-likelihood as data term.
        sigma: Their level.
        error: The measured error of the denoiser there.
    """
    g = guided.inner.flatten(1)
    along = (g * guided.gradient.flatten(1)).sum(1) / g.square().sum(1)
    # a likelihood that is flat at a signal has nothing to say about it
    variance = sigma**2 * along.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).mean()
    return max(float(variance), error)


def separating_variance(
    prior: DiffusionPrior, likelihood: SmoothedLikelihood, x: Tensor, sigma: float, error: float
) -> float:
    r"""The variance lambda in the direction in which the data tell signals apart.

    Two signals that differ where their own errors are large should be told apart less than the
    smoothed likelihood does. With q as above, and C the covariance of a clean signal less its
    white part, a normal model gives the factor

    .. math:: \beta = \Big(1 + \frac{\sum q^T C q}{-\sum q^T (D - D')}\Big)^{-1},

    and the result is the lambda at which :func:`confidence` is this factor.

    As in :func:`~bayes1bit.infer.guidance.guided_denoise`, only one batch of ``prior.max_batch``
    holds the activations of its backward pass at a time.

    Args:
        prior: The prior.
        likelihood: The smoothed likelihood.
        x: Noisy signals, shape (particles, *event); neighbours are compared.
        sigma: Their noise level.
        error: The measured error of the denoiser there.

    Returns:
        At least ``error``; just that if the data do not tell the signals apart.
    """
    excess, told_apart = 0.0, 0.0
    # at least two at a time: one signal has no neighbour
    for batch in x.split(max(2, prior.max_batch or len(x))):
        with torch.enable_grad():
            noisy = batch.detach().requires_grad_()
            clean = prior.denoise(noisy, sigma)
            ahead = clean.detach().requires_grad_()
            (g,) = torch.autograd.grad(likelihood(ahead, error).sum(), ahead)
            q, apart = g - g.roll(1, 0), (ahead - ahead.roll(1, 0)).detach()
            (pulled,) = torch.autograd.grad(clean, noisy, q)
        along = (q * (sigma**2 * pulled - error * q)).flatten(1).sum(1)
        excess += float(along.clamp(min=0.0).sum())
        told_apart -= float((q * apart).sum())
    if not told_apart > 0:
        return error
    h = likelihood.curvature
    return error + excess / told_apart * (1 + h * error) / h


def confidence(likelihood: SmoothedLikelihood, error: float, variance: float) -> float:
    """The power beta above, to which a smoothed likelihood should be taken.

    Args:
        likelihood: The smoothed likelihood, whose curvature is the h above.
        error: The variance that it was smoothed by.
        variance: The variance that :func:`directional_variance` gave.

    Returns:
        A number above 0 and at most 1.
    """
    h = likelihood.curvature
    return (1 + h * error) / (1 + h * variance)
