"""What all models check when they are made, so that nothing has to be checked when they run."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.observation import OneBit
from bayes1bit.operators import LinearOperator

Model = Callable[..., Tensor]
"""A Pyro model, called as ``model(y=None)``; it returns the measurements."""

_FLIPS = constraints.half_open_interval(0.0, 0.5)


def check_event_shape(prior: DiffusionPrior, operator: LinearOperator) -> None:
    """Refuse an operator that measures other signals than those of the prior.

    Args:
        prior: The prior.
        operator: The operator.

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

    Args:
        m: Number of measurements.
        scale: Scale of the noise, a number or shape (m,), as the others.
        threshold: Thresholds, of such a shape.
        link: Law of the noise.
        flip: Probability of a flipped bit, of such a shape.

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


def check_indices(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Check whole numbers that say which channel or item a measurement is of.

    Args:
        name: Name of the setting, for the message.
        value: Tensor of ``shape``, ``torch.int64``, at least 0.
        shape: The shape it must have, where -1 is any size but zero.

    Raises:
        InputError: If it is anything else.
    """
    wanted = str(shape).replace("-1", "m")
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a tensor of shape {wanted}, not {type(value).__name__}")
    sizes = tuple(
        -1 if want == -1 and have else have for have, want in zip(value.shape, shape, strict=False)
    )
    if value.dtype != torch.int64 or value.ndim != len(shape) or sizes != shape:
        raise InputError(
            f"{name} must be a torch.int64 tensor of shape {wanted}, not {value.dtype} of shape "
            f"{tuple(value.shape)}"
        )
    if bool((value < 0).any()):
        raise InputError(f"{name} must be at least 0, got {int(value.min())}")
