r"""Ready-made Pyro models.

Each function here returns an ordinary Pyro model: a signal ``"x"`` drawn from a diffusion prior,
and measurements ``"y"`` of it, which the model takes as its one optional argument. One object
simulates, predicts and is conditioned::

    model = one_bit_cs(prior, Hadamard(prior.event_shape, m=256), scale=0.5)
    y = model()
    posterior = DiffOneBit(model).run(y)
    replicated = Predictive(model, posterior.get_samples())()["y"]

They are short enough to be read, and to be copied when a model needs one line more: a second
sensor, an unknown scale.

What they have in common is that measurements are one event dimension (``.to_event(1)``), that
signals keep whatever dimensions plates put in front, and that settings are checked when the model
is made, so that nothing has to be checked when it runs.
"""

from collections.abc import Callable
from typing import Literal

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.observation import OneBit, Quantized
from bayes1bit.operators import Downsample, LinearOperator

Model = Callable[..., Tensor]
"""A Pyro model, called as ``model(y=None)``; it returns the measurements."""

_FLIPS = constraints.half_open_interval(0.0, 0.5)


def one_bit_cs(
    prior: DiffusionPrior,
    operator: LinearOperator,
    scale: float | Tensor,
    *,
    threshold: float | Tensor = 0.0,
    link: Literal["probit", "logistic"] = "probit",
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


def logistic_regression(
    prior: DiffusionPrior,
    operator: LinearOperator,
    *,
    intercept: float | Tensor = 0.0,
    scale: float | Tensor = 1.0,
) -> Model:
    r"""Logistic regression whose coefficients are a signal.

    .. math:: P(y_i = 1) = \frac{1}{1 + \exp(-(a_i x + \mathrm{intercept}) / \mathrm{scale})}

    The rows :math:`a_i` of the operator are the covariates of one case; take
    :class:`~bayes1bit.operators.Dense` for a design matrix. On labels -1 and +1 the same
    likelihood is :func:`one_bit_cs` with ``link="logistic"`` and ``threshold=-intercept``.

    Args:
        prior: Prior of the coefficients.
        operator: Design matrix for coefficients of ``prior.event_shape``.
        intercept: Offset of the linear predictor; a number or shape (m,).
        scale: Temperature of the link, positive; a number or shape (m,).

    Returns:
        A Pyro model of ``"y"``, 0 and 1 of shape (m,), floating point as ``Bernoulli`` wants; it
        raises InputError for others.

    Raises:
        InputError: If the operator is for other signals or a setting is outside its domain.
    """
    check_event_shape(prior, operator)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")
    check_parameter("intercept", intercept, operator.m, constraints.real, "finite")

    def model(y: Tensor | None = None) -> Tensor:
        if y is not None and not y.is_floating_point():
            raise InputError(f"the labels are {y.dtype}; give floating-point 0 and 1 (y.float())")
        x = pyro.sample("x", prior)
        labels = dist.Bernoulli(logits=(operator(x) + intercept) / scale)
        measured: Tensor = pyro.sample("y", labels.to_event(1), obs=y)
        return measured

    return model


def quantized_cs(
    prior: DiffusionPrior, operator: LinearOperator, scale: float | Tensor, edges: Tensor
) -> Model:
    r"""Compressed sensing with a quantizer of a few bits.

    .. math:: y_i = k \quad\text{where}\quad e_k < a_i x + \mathrm{scale} \cdot \varepsilon_i
              \le e_{k + 1}, \qquad \varepsilon \sim N(0, I)

    Args:
        prior: Prior of the signal.
        operator: Sensing operator A for signals of ``prior.event_shape``.
        scale: Standard deviation of the noise in units of A x, positive; a number or shape (m,).
        edges: Interior edges of the bins, increasing, shape (K,), in the type of the signal.

    Returns:
        A Pyro model of ``"y"``, bin indices 0 to K of shape (m,).

    Raises:
        InputError: If the operator is for other signals, the scale is not positive, or the edges
            are not finite and increasing.
    """
    check_event_shape(prior, operator)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")
    Quantized(0.0, 1.0, edges)  # checks the edges

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        bins = Quantized(operator(x), scale, edges)
        measured: Tensor = pyro.sample("y", bins.to_event(1), obs=y)
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


def check_event_shape(prior: DiffusionPrior, operator: LinearOperator) -> None:
    """Refuse an operator that measures other signals than those of the prior.

    Raises:
        InputError: If the event shapes differ.
    """
    if operator.event_shape != prior.event_shape:
        raise InputError(
            f"the operator measures signals of shape {tuple(operator.event_shape)}, but those of "
            f"the prior have shape {tuple(prior.event_shape)}; make the operator with "
            "prior.event_shape"
        )


def check_one_bit(
    m: int,
    scale: float | Tensor,
    threshold: float | Tensor,
    link: str,
    flip: float | Tensor,
) -> None:
    """Check the settings of ``m`` one-bit measurements, whatever Pyro's validation setting.

    Raises:
        InputError: If a setting is outside its domain, has the wrong shape, or the link is
            unknown.
    """
    check_parameter("scale", scale, m, constraints.positive, "positive")
    check_parameter("threshold", threshold, m, constraints.real, "finite")
    check_parameter("flip", flip, m, _FLIPS, "at least 0 and below 0.5")
    OneBit(0.0, 1.0, link=link)  # type: ignore[arg-type]  # checks the link


def check_parameter(
    name: str, value: float | Tensor, m: int, domain: constraints.Constraint, wanted: str
) -> None:
    """Check one setting of ``m`` measurements.

    Args:
        name: Name of the setting, for the message.
        value: A number, or a tensor of shape () or (m,).
        m: Number of measurements.
        domain: Where its values must lie, besides being finite.
        wanted: The domain in words.

    Raises:
        InputError: If it is neither, or a value is infinite, NaN or outside the domain.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise InputError(f"{name} must be a number or a tensor, not {type(value).__name__}")
    values = torch.as_tensor(value)
    if values.shape not in ((), (m,)):
        raise InputError(
            f"{name} has shape {tuple(values.shape)} for {m} measurements; give a number or a "
            f"tensor of shape ({m},)"
        )
    wrong = ~(domain.check(values) & values.isfinite())
    if bool(wrong.any()):
        raise InputError(
            f"{name} must be {wanted}{'' if wanted == 'finite' else ' and finite'}, "
            f"got {values[wrong].flatten()[0].item():g}"
        )
