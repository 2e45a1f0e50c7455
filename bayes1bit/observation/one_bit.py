"""One-bit measurements: the sign of a noisy number."""

import math
from typing import Any, Literal

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from bayes1bit.errors import InputError
from bayes1bit.observation.parameters import broadcast, count_wrong, expand_to
from bayes1bit.special import log_flipped, log_ndtr, log_sigmoid

Link = Literal["probit", "logistic"]
"""Law of the noise of a one-bit measurement."""


class _Signs(constraints.Constraint):
    """The set {-1, +1} in a signed real dtype; without a -1, a 1 cannot be known to mean +1."""

    is_discrete = True
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        if not value.dtype.is_signed or value.is_complex():
            # An unsigned 255 would even compare equal to -1.
            return torch.zeros_like(value, dtype=torch.bool)
        return (value == 1) | (value == -1)

    def __repr__(self) -> str:
        return "signs {-1, +1}"


signs = _Signs()
"""The support of :class:`OneBit`."""


class OneBit(TorchDistribution):
    r"""Sign of a noisy measurement, -1 or +1.

    .. math:: y = \pm\operatorname{sign}(\mathrm{loc} - \mathrm{threshold}
              + \mathrm{scale} \cdot \mathrm{noise}),

    where the sign is inverted with probability ``flip``, so that with
    ``z = (loc - threshold) / scale``

    .. math:: P(y) = (1 - 2\,\mathrm{flip})\, F(y z) + \mathrm{flip},

    and ``F`` is the distribution function of the noise: standard normal for ``link="probit"``,
    standard logistic for ``link="logistic"``.

    The parameters broadcast against each other to the batch shape. Tensors are ``float32`` or
    ``float64``, promoted as in torch's arithmetic. Signs are drawn in that dtype, and are scored
    in any dtype that can hold -1 and +1, such as the ``int8`` of a measurement file.

    Args:
        loc: Measurement before noise, in units of the sensor.
        scale: Scale of the noise in the same units, positive.
        threshold: Level that the sensor compares with (dither), in the same units.
        link: Law of the noise, ``"probit"`` or ``"logistic"``.
        flip: Probability in [0, 0.5) that a sign is recorded inverted.
        validate_args: Whether to check parameters and data; ``None`` follows Pyro's setting.

    Raises:
        InputError: If ``link`` is unknown, a parameter is not a number or a ``float32`` or
            ``float64`` tensor, or shapes do not broadcast.
        ValueError: If validation is on and a parameter is outside its domain.

    References:
        Boufounos and Baraniuk, *1-bit compressive sensing* (CISS 2008), for the measurement;
        Albert and Chib, *JASA* 88 (1993), for the probit likelihood of a sign.
    """

    arg_constraints = {  # noqa: RUF012 (the base class declares it so)
        "loc": constraints.real,
        "scale": constraints.positive,
        "threshold": constraints.real,
        "flip": constraints.half_open_interval(0.0, 0.5),
    }
    support = signs
    has_rsample = False
    has_enumerate_support = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        threshold: Tensor | float = 0.0,
        link: Link = "probit",
        flip: Tensor | float = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        if link not in ("probit", "logistic"):
            raise InputError(f"link must be 'probit' or 'logistic', not {link!r}")
        self.loc, self.scale, self.threshold, self.flip = broadcast(
            loc=loc, scale=scale, threshold=threshold, flip=flip
        )
        self.link = link
        self._flips = isinstance(flip, Tensor) or flip != 0
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "OneBit":
        """Give the same distribution over a larger batch, without new memory.

        Args:
            batch_shape: Shape to expand to.

        Returns:
            The expanded distribution.
        """
        new: OneBit = self._get_checked_instance(OneBit, _instance)
        batch_shape = Size(batch_shape)
        for name in self.arg_constraints:
            setattr(new, name, expand_to(getattr(self, name), batch_shape))
        new.link = self.link
        new._flips = self._flips
        super(OneBit, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def margin(self) -> Tensor:
        """Distance of ``loc`` above ``threshold`` in units of ``scale``, shape ``batch_shape``."""
        return (self.loc - self.threshold) / self.scale

    @property
    def probs(self) -> Tensor:
        """Probability of +1, shape ``batch_shape``."""
        return self._log_mass(self.margin).exp()

    @property
    def mean(self) -> Tensor:
        """Expected sign, shape ``batch_shape``."""
        z = self.margin
        odds = torch.erf(z * math.sqrt(0.5)) if self.link == "probit" else torch.tanh(0.5 * z)
        return (1.0 - 2.0 * self.flip) * odds

    @property
    def variance(self) -> Tensor:
        """Variance of the sign, shape ``batch_shape``."""
        z = self.margin
        return 4.0 * torch.exp(self._log_mass(z) + self._log_mass(-z))

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 (Size is immutable)
        """Draw signs: +1 where a uniform variable is below :attr:`probs`.

        Args:
            sample_shape: Shape of independent draws.

        Returns:
            -1 and +1 in the dtype of ``loc``, shape ``sample_shape + batch_shape``.
        """
        with torch.no_grad():
            probs = self.probs
            shape = self._extended_shape(sample_shape)
            uniform = torch.rand(shape, dtype=probs.dtype, device=probs.device)
            return 2.0 * (uniform < probs).to(probs.dtype) - 1.0

    def log_prob(self, value: Tensor) -> Tensor:
        """Score signs.

        Args:
            value: -1 and +1 in any signed dtype, broadcastable with ``batch_shape``.

        Returns:
            Log-probability of each sign, in the dtype of ``loc``.

        Raises:
            InputError: If validation is on and ``value`` holds anything but -1 and +1.
        """
        if self._validate_args:
            self._validate_sample(value)
        return self._log_mass(value.to(self.loc.dtype) * self.margin)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """List both signs along a new first dimension.

        Args:
            expand: Whether to expand the list over the batch shape.

        Returns:
            -1 and +1, shape ``(2,) + batch_shape``, or with ones in place of ``batch_shape``.
        """
        values = self.loc.new_tensor([-1.0, 1.0]).reshape((2,) + (1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values

    def _log_mass(self, signed_margin: Tensor) -> Tensor:
        log_cdf = log_ndtr if self.link == "probit" else log_sigmoid
        log_mass = log_cdf(signed_margin)
        return log_flipped(log_mass, self.flip) if self._flips else log_mass

    def _validate_sample(self, value: Tensor) -> None:
        if isinstance(value, Tensor):
            wrong = ~self.support.check(value)
            if bool(wrong.any()):
                raise InputError(_describe_wrong_signs(value, wrong))
        super()._validate_sample(value)


def _describe_wrong_signs(value: Tensor, wrong: Tensor) -> str:
    signed = value.dtype.is_signed and not value.is_complex()
    if bool(((value == 0) | (value == 1)).all()):
        # In an unsigned dtype, 2 * 0 - 1 would be the largest number.
        y = "y" if signed else "y.to(torch.int8)"
        return f"y must be -1 or +1, and this y holds 0 and 1: convert it with 2 * {y} - 1"
    if not signed:
        return f"y must be -1 or +1 in a signed real dtype, not {value.dtype}"
    return f"y must be -1 or +1, {count_wrong(value, wrong)}"
