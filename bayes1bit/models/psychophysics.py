r"""Classification images: what an observer looks for, from yes and no to pictures of noise.

An observer who decides whether noise shows a known thing compares it with a template in the mind.
Averaging the noise by the answers gives the template back, up to a factor (Ahumada, Perception
1996): the *classification image*. It is regression, with pixels of the noise as covariates and
the template as coefficients, and takes thousands of answers. A prior of templates needs fewer.
"""

from pyro import distributions as dist
from torch import Tensor
from torch.distributions import Distribution, constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.models.checks import Model, check_parameter
from bayes1bit.models.regression import logistic_regression
from bayes1bit.operators import Dense

SIGNAL_OF_OBSERVER = 1.664
"""Standard deviation in logits at which 75% of answers are those of a noiseless observer."""


def classification_images(
    prior: DiffusionPrior,
    stimuli: Tensor,
    gain: float,
    *,
    intercept: float | Distribution | None = None,
    background: float = -1.0,
) -> Model:
    r"""Answers of an observer to pictures of noise, by a template with a diffusion prior.

    .. math:: P(y_i = 1) = \frac{1}{1 + \exp(-(\mathrm{gain}\, \langle x - \mathrm{background},\,
              z_i \rangle + \mathrm{intercept}))}

    It is :func:`logistic_regression` on the pixels of the stimuli z. What the observer weighs them
    by is the template's brightness above its background: pictures in [-1, 1] whose background is
    -1 would otherwise answer mostly to the mean of the noise. That mean is zero on average over
    white noise, so whatever background is taken, the intercept alone says how often the answer is
    yes.

    The link's noise is the observer's own. It has a standard deviation of 1.81 logits; observers
    in experiments have internal noise of about the size of what the stimuli do
    (:func:`observer_gain`).

    Args:
        prior: Prior of the template.
        stimuli: Pictures of noise z, shape (m, *prior.event_shape), on the prior's device.
        gain: Logits per unit of the template and the stimulus, positive.
        intercept: How ready the observer is to say yes, in logits: a number where it is known, or
            a prior; by default a normal one with standard deviation 1.
        background: Value of pixels that the observer ignores.

    Returns:
        A Pyro model of ``"intercept"``, a scalar, unless it is known, and of the answers ``"y"``,
        0 and 1 of shape (m,).

    Raises:
        InputError: If stimuli are not of the prior's shape, or a setting is outside its domain.

    References:
        Ahumada, *Perceptual classification images from Vernier acuity masked by noise*, Perception
        25 (1996); Knoblauch and Maloney, *Estimating classification images with generalized linear
        and additive models*, Journal of Vision 8 (2008), for the logistic model.
    """
    if stimuli.shape[1:] != prior.event_shape:
        raise InputError(
            f"stimuli have shape {tuple(stimuli.shape)}; expected (m, *{tuple(prior.event_shape)})"
        )
    check_parameter("gain", gain, 1, constraints.positive, "positive")
    check_parameter("background", background, 1, constraints.real, "finite")
    if intercept is None:
        zero = stimuli.new_zeros(())
        intercept = dist.Normal(zero, zero + 1)
    operator = Dense(gain * stimuli.flatten(1), prior.event_shape)
    offset = -background * operator.matrix.sum(1)
    return logistic_regression(prior, operator, intercept=intercept, offset=offset)


def observer_gain(
    templates: Tensor, *, stimulus_std: float = 1.0, background: float = -1.0
) -> float:
    r"""The gain of an observer whose answers are as noisy as in experiments.

    Internal noise is comparable with what the stimuli do: of the answers of an observer without
    intercept, 75% are those that the same observer would give without noise, when the template
    has the root mean square norm of the given ones. White stimuli then move the logit by
    :data:`SIGNAL_OF_OBSERVER`, the solution s of
    :math:`E[1 / (1 + e^{-s |n|})] = 0.75` for standard normal n. That is 0.92 of the standard
    deviation of logistic noise.

    Args:
        templates: Templates, such as pictures or draws of the prior, shape (count, *event).
        stimulus_std: Standard deviation of a pixel of the stimuli, positive.
        background: Value of pixels that the observer ignores.

    Returns:
        Logits per unit of the template and the stimulus.

    Raises:
        InputError: If the standard deviation is not positive, or templates are all background.
    """
    check_parameter("stimulus_std", stimulus_std, 1, constraints.positive, "positive")
    norm = float((templates - background).flatten(1).square().sum(1).mean().sqrt())
    if norm == 0:
        raise InputError("the templates are all background, which an observer ignores")
    return SIGNAL_OF_OBSERVER / (stimulus_std * norm)
