r"""A self-contained record of one-bit data.

Bits mean nothing without the device that took them. A :class:`Measurement` keeps the signs
together with everything in

.. math:: y = \pm\operatorname{sign}(A x - \mathrm{threshold} + \mathrm{scale} \cdot
          \mathrm{noise})

except the signal: the operator, the thresholds, the law and scale of the noise. So it can be
simulated in one place, saved, and turned into the likelihood of a Pyro model in another.
"""

import copy
import datetime
import math
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.models import Model, check_event_shape, check_one_bit, one_bit_cs
from bayes1bit.observation import OneBit, signs
from bayes1bit.operators import LinearOperator
from bayes1bit.pictures import check_values


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _package_version() -> str:
    import bayes1bit

    return str(getattr(bayes1bit, "__version__", "unknown"))


@dataclass(eq=False, repr=False)
class Measurement:
    """One-bit measurements of one signal, with everything their likelihood needs.

    Args:
        y: Bits, -1 and +1, shape (m,); kept as int8 on the CPU.
        operator: Sensing operator with m measurements.
        scale: Scale of the noise, positive.
        link: Law of the noise, "probit" or "logistic".
        threshold: Level the sensor compares with; a number or shape (m,).
        flip: Probability in [0, 0.5) that a bit is recorded inverted.
        data_range: Lowest and highest value that the measured signal can take, if known.
        truth: The signal itself, where a demonstration wants to compare; shape event_shape.
        created: Time of the measurement, ISO 8601.
        version: Version of the package that made it.

    Raises:
        InputError: If bits are not -1 and +1, their number is not the operator's, or a setting is
            outside its domain.
    """

    y: Tensor
    operator: LinearOperator
    _: KW_ONLY
    scale: float
    link: Literal["probit", "logistic"] = "probit"
    threshold: float | Tensor = 0.0
    flip: float = 0.0
    data_range: tuple[float, float] | None = None
    truth: Tensor | None = None
    created: str = field(default_factory=_now)
    version: str = field(default_factory=_package_version)

    def __post_init__(self) -> None:
        if self.y.shape != (self.operator.m,):
            raise InputError(
                f"y has shape {tuple(self.y.shape)}, but the operator makes {self.operator.m} "
                f"measurements; expected shape ({self.operator.m},)"
            )
        wrong = ~signs.check(self.y)
        if bool(wrong.any()):
            raise InputError(
                f"y must hold -1 and +1 only, but {int(wrong.sum())} of its {len(self.y)} values "
                f"are others, such as {self.y[wrong][0].item():g}"
            )
        check_one_bit(self.operator.m, self.scale, self.threshold, self.link, self.flip)
        self.y = self.y.detach().to("cpu", torch.int8)
        self.scale, self.flip = _number("scale", self.scale), _number("flip", self.flip)
        if isinstance(self.threshold, Tensor) and self.threshold.ndim:
            if not self.threshold.is_floating_point():
                raise InputError(f"threshold must be floating point, not {self.threshold.dtype}")
            self.threshold = self.threshold.detach().cpu()
        else:
            self.threshold = float(self.threshold)
        if self.data_range is not None:
            self.data_range = _checked_range(self.data_range)
        if self.truth is not None:
            self.truth = self.truth.detach().cpu()
            _check_signal("truth", self.truth, self.event_shape, self.data_range)

    @property
    def m(self) -> int:
        """Number of bits."""
        return self.operator.m

    @property
    def event_shape(self) -> torch.Size:
        """Shape of the measured signal."""
        return self.operator.event_shape

    @classmethod
    def simulate(
        cls,
        x: Tensor,
        operator: LinearOperator,
        *,
        scale: float,
        link: Literal["probit", "logistic"] = "probit",
        threshold: float | Tensor = 0.0,
        flip: float = 0.0,
        data_range: tuple[float, float] | None = None,
        keep_truth: bool = False,
    ) -> "Measurement":
        """Measure a signal, with bits drawn from the distribution that will score them.

        Args:
            x: The signal, shape ``operator.event_shape``, float32 or float64.
            operator: Sensing operator.
            scale: Scale of the noise, positive.
            link: Law of the noise, "probit" or "logistic".
            threshold: Level the sensor compares with; a number or shape (m,).
            flip: Probability in [0, 0.5) that a bit is recorded inverted.
            data_range: Lowest and highest value that such signals can take, if known.
            keep_truth: Whether to keep ``x`` in the record.

        Raises:
            InputError: If the signal has another shape than the operator takes, holds NaN, or
                leaves the data range, or a setting is outside its domain.
        """
        if data_range is not None:
            data_range = _checked_range(data_range)
        _check_signal("the signal", x, operator.event_shape, data_range)
        check_one_bit(operator.m, scale, threshold, link, flip)
        with torch.no_grad():
            level = threshold.to(x) if isinstance(threshold, Tensor) else threshold
            bits = OneBit(operator(x), scale, level, link=link, flip=flip)
            y = bits.sample()
        return cls(
            y,
            operator,
            scale=scale,
            link=link,
            threshold=threshold,
            flip=flip,
            data_range=data_range,
            truth=x if keep_truth else None,
        )

    def model(self, prior: DiffusionPrior) -> Model:
        """The Pyro model of these measurements under a prior; condition it on ``self.y``.

        Args:
            prior: Prior of the signal. Operator and thresholds follow its device and type.

        Returns:
            A model as :func:`bayes1bit.models.one_bit_cs` makes it.

        Raises:
            InputError: If the prior's signals have another shape or another data range.
        """
        check_event_shape(prior, self.operator)
        mine, other = self.data_range, prior.data_range
        if mine and other and max(abs(a - b) for a, b in zip(mine, other, strict=True)) > 1e-6:
            raise InputError(
                f"the measured signal has the data range {list(mine)}, but signals of the prior "
                f"have {list(other)}; measure it in the prior's range"
            )
        operator, threshold = self.operator, self.threshold
        if operator.device != prior.device:
            # an operator moves in place, and the record's own one stays where it is
            operator = copy.deepcopy(operator).to(prior.device)
        if isinstance(threshold, Tensor):
            threshold = threshold.to(prior.device, prior.dtype)
        return one_bit_cs(
            prior, operator, self.scale, threshold=threshold, link=self.link, flip=self.flip
        )

    def save(self, path: str | Path) -> None:
        """Write the record to a NetCDF file.

        Args:
            path: File to write; it appears only when complete.

        Raises:
            InputError: If the file cannot be written, or the operator is of a class that has not
                been registered with a ``kind``.
        """
        from bayes1bit import measurement_io

        measurement_io.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Measurement":
        """Read a file that :meth:`save` wrote.

        Args:
            path: File to read.

        Returns:
            The record, equal to the saved one; its operator is on the CPU.

        Raises:
            InputError: If the file is missing, damaged or of another kind, or if its parts do not
                agree.
        """
        from bayes1bit import measurement_io

        return measurement_io.load(path)

    def __repr__(self) -> str:
        dither = isinstance(self.threshold, Tensor)
        threshold = "one per bit" if dither else f"{self.threshold:g}"
        return (
            f"Measurement(m={self.m}, operator={self.operator!r}, scale={self.scale:g}, "
            f"link={self.link}, threshold={threshold}, flip={self.flip:g})"
        )


def _number(name: str, value: float | Tensor) -> float:
    if isinstance(value, Tensor) and value.ndim:
        raise InputError(f"{name} must be one number for all measurements, not a tensor")
    return float(value)


def _checked_range(data_range: Any) -> tuple[float, float]:
    values = tuple(float(value) for value in data_range)
    if len(values) != 2 or not all(map(math.isfinite, values)) or not values[0] < values[1]:
        raise InputError(f"data_range must be (low, high) with low < high, got {values}")
    return values


def _check_signal(
    name: str, x: Tensor, event_shape: torch.Size, data_range: tuple[float, float] | None
) -> None:
    if x.shape != event_shape:
        raise InputError(
            f"{name} has shape {tuple(x.shape)}, but the operator measures signals of shape "
            f"{tuple(event_shape)}"
        )
    if not x.is_floating_point():
        raise InputError(f"{name} must be floating point, not {x.dtype}")
    check_values(x, data_range or (-math.inf, math.inf), name)
