"""One-bit photon counting: whether a pixel saw any photon at all."""

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from bayes1bit.errors import InputError
from bayes1bit.observation.parameters import broadcast, describe_wrong_outcomes, expand_to

_FEW = 0.1
"""Mean count below which the series of the log-probability is exact in double precision."""


class PhotonDetection(TorchDistribution):
    r"""Whether a Poisson number of photons is at least one, 1 or 0.

    .. math:: P(y = 1) = 1 - e^{-\lambda}, \qquad P(y = 0) = e^{-\lambda}, \qquad
              \lambda = e^{\mathrm{log\_rate}}

    The logarithm of the rate is the parameter, so that a pixel that is darker than the smallest
    float still has a finite log-probability of a photon, and a gradient that pulls it up. In
    statistics this is regression with the complementary log-log link.

    Args:
        log_rate: Logarithm of the mean number of photons :math:`\lambda` that are detected during
            one exposure, ``float32`` or ``float64``. A count that overflows is not dealt with:
            ``log_rate`` must be below 88, or 709 in double precision.
        validate_args: Whether to check parameters and data; ``None`` follows Pyro's setting.

    Raises:
        InputError: If ``log_rate`` is not a number or such a tensor.
        ValueError: If validation is on and ``log_rate`` is not finite.

    References:
        Yang, Lu, Sbaiz and Vetterli, *Bits from photons: oversampled image acquisition using
        binary Poisson statistics*, IEEE Trans. Image Process. 21 (2012), for the sensor; Maechler,
        *Accurately computing log(1 - exp(-|a|))* (2012), for the probability of a photon.
    """

    arg_constraints = {"log_rate": constraints.real}  # noqa: RUF012 (as the base class declares it)
    support = constraints.boolean
    has_rsample = False
    has_enumerate_support = True

    def __init__(self, log_rate: Tensor | float, validate_args: bool | None = None) -> None:
        (self.log_rate,) = broadcast(log_rate=log_rate)
        super().__init__(self.log_rate.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "PhotonDetection":
        """Give the same distribution over a larger batch, without new memory.

        Args:
            batch_shape: Shape to expand to.

        Returns:
            The expanded distribution.
        """
        new: PhotonDetection = self._get_checked_instance(PhotonDetection, _instance)
        new.log_rate = expand_to(self.log_rate, Size(batch_shape))
        super(PhotonDetection, new).__init__(Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """Probability of 1, shape ``batch_shape``."""
        return -torch.expm1(-self.log_rate.exp())

    @property
    def variance(self) -> Tensor:
        """Variance of the outcome, shape ``batch_shape``."""
        return self.mean * torch.exp(-self.log_rate.exp())

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 (Size is immutable)
        """Draw outcomes: 1 where a uniform variable is below :attr:`mean`.

        Args:
            sample_shape: Shape of independent draws.

        Returns:
            0 and 1 in the dtype of ``log_rate``, shape ``sample_shape + batch_shape``.
        """
        with torch.no_grad():
            probability = self.mean
            shape = self._extended_shape(sample_shape)
            uniform = torch.rand(shape, dtype=probability.dtype, device=probability.device)
            return (uniform < probability).to(probability.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Score outcomes.

        Args:
            value: 0 and 1 in any dtype, broadcastable with ``batch_shape``.

        Returns:
            Log-probability of each outcome, in the dtype of ``log_rate``.

        Raises:
            InputError: If validation is on and ``value`` holds anything but 0 and 1.
        """
        if self._validate_args:
            self._validate_sample(value)
        rate = self.log_rate.exp()
        # log(1 - e^-r) = log r - r / 2 + r^2 / 24 - r^4 / 2880 + r^6 / 181440 - ...
        few = rate < _FEW
        r = torch.where(few, rate, 0.0)
        s = r.square()
        series = self.log_rate - r / 2 + s * (1 / 24 - s * (1 / 2880 - s / 181440))
        # each way of writing it has the digits where the other loses them (Maechler 2012)
        bright = rate > math.log(2.0)
        some = torch.log(-torch.expm1(-torch.where(few | bright, 1.0, rate)))
        many = torch.log1p(-torch.exp(-torch.where(bright, rate, 1.0)))
        seen = torch.where(few, series, torch.where(bright, many, some))
        return torch.where(value == 1, seen, -rate)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """List both outcomes along a new first dimension.

        Args:
            expand: Whether to expand the list over the batch shape.

        Returns:
            0 and 1, shape ``(2,) + batch_shape``, or with ones in place of ``batch_shape``.
        """
        values = self.log_rate.new_tensor([0.0, 1.0]).reshape((2,) + (1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values

    def _validate_sample(self, value: Tensor) -> None:
        if isinstance(value, Tensor):
            wrong = ~self.support.check(value)
            if bool(wrong.any()):
                raise InputError(describe_wrong_outcomes(value, wrong))
        super()._validate_sample(value)
