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

which one backward pass through the denoiser gives. A likelihood of curvature h that is smoothed by
a variance v has the curvature :math:`h / (1 + h v)`; so the smoothed log-likelihood has to be
multiplied by

.. math:: \beta = \frac{1 + h r^2}{1 + h \lambda} \le 1.
"""

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
