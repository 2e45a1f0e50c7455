"""Regression: outcomes of two or of several ordered kinds, whose coefficients are a signal."""

import pyro
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import Distribution, constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.models.checks import Model, check_event_shape, check_parameter
from bayes1bit.models.compressed_sensing import quantized_cs
from bayes1bit.observation import Link
from bayes1bit.operators import LinearOperator


def logistic_regression(
    prior: DiffusionPrior,
    operator: LinearOperator,
    *,
    intercept: float | Tensor | Distribution = 0.0,
    offset: float | Tensor = 0.0,
    scale: float | Tensor = 1.0,
) -> Model:
    r"""Logistic regression whose coefficients are a signal.

    .. math:: P(y_i = 1) = \frac{1}{1 + \exp(-(a_i x + \mathrm{intercept} +
              \mathrm{offset}_i) / \mathrm{scale})}

    The rows :math:`a_i` of the operator are the covariates of one case; take
    :class:`~bayes1bit.operators.Dense` for a design matrix. On labels -1 and +1 the same
    likelihood is :func:`one_bit_cs` with ``link="logistic"`` and the threshold
    ``-intercept - offset``.

    An intercept that is not known has a prior, such as ``pyro.distributions.Normal(0.0, 1.0)``.
    It is then the site ``"intercept"``, which :class:`~bayes1bit.infer.JointGibbs` and
    :class:`~bayes1bit.infer.SplitGibbsSMC` infer with the coefficients.

    Args:
        prior: Prior of the coefficients.
        operator: Design matrix for coefficients of ``prior.event_shape``.
        intercept: Intercept of the linear predictor; a number or shape (m,) where it is known, a
            distribution of one real number where it is not.
        offset: Known part of the linear predictor; a number or shape (m,).
        scale: Temperature of the link, positive; a number or shape (m,).

    Returns:
        A Pyro model of ``"y"``, 0 and 1 of shape (m,), floating point as ``Bernoulli`` wants; it
        raises InputError for others. With a prior of the intercept it has the site
        ``"intercept"``, a scalar, as well.

    Raises:
        InputError: If the operator is for other signals or a setting is outside its domain.
    """
    check_event_shape(prior, operator)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")
    check_parameter("offset", offset, operator.m, constraints.real, "finite")
    if isinstance(intercept, Distribution):
        shape, support = tuple(intercept.batch_shape + intercept.event_shape), intercept.support
        if shape or support is None or support.is_discrete:
            raise InputError(
                "the prior of the intercept must be of one real number, such as "
                f"pyro.distributions.Normal(0.0, 1.0), but {type(intercept).__name__} has shape "
                f"{shape} and support {support}"
            )
    else:
        check_parameter("intercept", intercept, operator.m, constraints.real, "finite")

    def model(y: Tensor | None = None) -> Tensor:
        if y is not None and not y.is_floating_point():
            raise InputError(f"the labels are {y.dtype}; give floating-point 0 and 1 (y.float())")
        x = pyro.sample("x", prior)
        if isinstance(intercept, Distribution):
            constant = pyro.sample("intercept", intercept).unsqueeze(-1)
        else:
            constant = intercept
        labels = dist.Bernoulli(logits=(operator(x) + constant + offset) / scale)
        measured: Tensor = pyro.sample("y", labels.to_event(1), obs=y)
        return measured

    return model


def ordinal_regression(
    prior: DiffusionPrior,
    operator: LinearOperator,
    cutpoints: Tensor,
    *,
    scale: float | Tensor = 1.0,
    link: Link = "logistic",
) -> Model:
    r"""Regression of ordered categories, such as grades, whose coefficients are a signal.

    .. math:: P(y_i \le k) = F\Big(\frac{e_{k + 1} - a_i x}{\mathrm{scale}}\Big)

    With the logistic link it is the model of proportional odds: a change of :math:`a_i x` by
    ``scale`` multiplies the odds of every "at most k" by the same factor 1/e. With the probit link
    it is ordered probit. Either is a quantizer of the noisy linear predictor
    (:func:`~bayes1bit.models.quantized_cs`), whose edges are known.

    Args:
        prior: Prior of the coefficients.
        operator: Design matrix for coefficients of ``prior.event_shape``.
        cutpoints: Limits :math:`e_1 < \dots < e_K` between neighbouring categories in units of the
            linear predictor, shape (K,), in the type of the signal.
        scale: Temperature of the link, positive; a number or shape (m,).
        link: ``"logistic"`` or ``"probit"``.

    Returns:
        A Pyro model of ``"y"``, categories 0 to K of shape (m,).

    Raises:
        InputError: If the operator is for other signals, the scale is not positive, the link is
            unknown, or the cutpoints are not finite and increasing.

    References:
        McCullagh, *Regression models for ordinal data*, JRSS B 42 (1980).
    """
    return quantized_cs(prior, operator, scale, cutpoints, link=link)
