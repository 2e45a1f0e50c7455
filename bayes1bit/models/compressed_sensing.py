"""Compressed sensing: few measurements of a signal, each of a bit, a few bits or a number."""

import pyro
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.models.checks import Model, check_event_shape, check_one_bit, check_parameter
from bayes1bit.observation import Link, OneBit, Quantized
from bayes1bit.operators import Downsample, LinearOperator


def one_bit_cs(
    prior: DiffusionPrior,
    operator: LinearOperator,
    scale: float | Tensor,
    *,
    threshold: float | Tensor = 0.0,
    link: Link = "probit",
    flip: float | Tensor = 0.0,
) -> Model:
    r"""One-bit compressed sensing: signs of noisy linear measurements.

    .. math:: y = \operatorname{sign}(A x - \mathrm{threshold} + \mathrm{scale} \cdot
              \mathrm{noise}) \in \{-1, +1\}^m

    Args:
        prior: Prior of the signal.
        operator: Sensing operator A for signals of ``prior.event_shape``.
        scale: Scale of the noise in units of A x, positive; a number or shape (m,).
        threshold: Level that A x is compared with; a number or shape (m,).
        link: Law of the noise, ``"probit"`` (normal) or ``"logistic"``.
        flip: Probability in [0, 0.5) that a bit is recorded inverted; a number or shape (m,).

    Returns:
        A Pyro model of ``"y"``, -1 and +1 of shape (m,).

    Raises:
        InputError: If the operator is for other signals or a setting is outside its domain.

    References:
        Boufounos and Baraniuk, *1-bit compressive sensing* (CISS 2008).
    """
    check_event_shape(prior, operator)
    check_one_bit(operator.m, scale, threshold, link, flip)

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        bits = OneBit(operator(x), scale, threshold, link=link, flip=flip)
        measured: Tensor = pyro.sample("y", bits.to_event(1), obs=y)
        return measured

    return model


def quantized_cs(
    prior: DiffusionPrior,
    operator: LinearOperator,
    scale: float | Tensor,
    edges: Tensor,
    *,
    link: Link = "probit",
) -> Model:
    r"""Compressed sensing with a quantizer of a few bits.

    .. math:: y_i = k \quad\text{where}\quad e_k < a_i x + \mathrm{scale} \cdot \mathrm{noise}_i
              \le e_{k + 1}

    Args:
        prior: Prior of the signal.
        operator: Sensing operator A for signals of ``prior.event_shape``.
        scale: Scale of the noise in units of A x, positive; a number or shape (m,).
        edges: Interior edges of the bins, increasing, shape (K,), in the type of the signal.
        link: Law of the noise, ``"probit"`` (normal) or ``"logistic"``.

    Returns:
        A Pyro model of ``"y"``, bin indices 0 to K of shape (m,).

    Raises:
        InputError: If the operator is for other signals, the scale is not positive, the link is
            unknown, or the edges are not finite and increasing.
    """
    check_event_shape(prior, operator)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")
    Quantized(0.0, 1.0, edges, link)  # checks edges and link

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        bins = Quantized(operator(x), scale, edges, link)
        measured: Tensor = pyro.sample("y", bins.to_event(1), obs=y)
        return measured

    return model


def heavy_tailed_cs(
    prior: DiffusionPrior,
    operator: LinearOperator,
    scale: float | Tensor,
    *,
    df: float | Tensor = 3.0,
) -> Model:
    r"""Compressed sensing with outliers: real measurements with Student's t noise.

    .. math:: y = A x + \mathrm{scale} \cdot \varepsilon, \qquad
              \varepsilon_i \sim t_{\mathrm{df}}

    The pull of a measurement that disagrees by r falls as (df + 1) / r once r is large, so gross
    errors are ignored rather than averaged. With a normal law of the noise the pull grows with r.
    One-bit data have the same protection by ``flip`` of :func:`one_bit_cs`.

    Args:
        prior: Prior of the signal.
        operator: Sensing operator A for signals of ``prior.event_shape``.
        scale: Scale of the noise in units of A x, positive; a number or shape (m,). Its standard
            deviation is ``scale * sqrt(df / (df - 2))`` for ``df`` above 2.
        df: Degrees of freedom, positive; a number or shape (m,). 1 is Cauchy noise, above 30 it
            is nearly normal.

    Returns:
        A Pyro model of ``"y"``, real numbers of shape (m,).

    Raises:
        InputError: If the operator is for other signals, or scale or degrees of freedom are not
            positive.

    References:
        Lange, Little and Taylor, *Robust statistical modeling using the t distribution*, JASA 84
        (1989).
    """
    check_event_shape(prior, operator)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")
    check_parameter("df", df, operator.m, constraints.positive, "positive")

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        noisy = dist.StudentT(df, operator(x), scale)
        measured: Tensor = pyro.sample("y", noisy.to_event(1), obs=y)
        return measured

    return model


def super_resolution(
    prior: DiffusionPrior, factor: int, scale: float | Tensor, kernel: str = "box"
) -> Model:
    r"""A small noisy picture of a large one.

    .. math:: y = A x + \mathrm{scale} \cdot \varepsilon, \qquad \varepsilon \sim N(0, I)

    with the :class:`~bayes1bit.operators.Downsample` operator A. Its small picture is flattened;
    ``y.unflatten(-1, (C, H // factor, W // factor))`` shows it.

    Args:
        prior: Prior of pictures.
        factor: Factor that divides height and width.
        scale: Standard deviation of the noise in units of the signal, positive; a number or shape
            (m,).
        kernel: ``"box"`` or ``"bicubic"``.

    Returns:
        A Pyro model of ``"y"``, real numbers of shape (m,), m = n / factor^2.

    Raises:
        InputError: If the prior is not one of pictures, the factor does not divide them, the
            kernel is unknown, or the scale is not positive.
    """
    operator = Downsample(prior.event_shape, factor, kernel).to(prior.device)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        measured: Tensor = pyro.sample("y", dist.Normal(operator(x), scale).to_event(1), obs=y)
        return measured

    return model
