"""Few-bit measurements: the bin that a noisy number falls into."""

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from bayes1bit.errors import InputError
from bayes1bit.observation.one_bit import Link
from bayes1bit.observation.parameters import broadcast, count_wrong, expand_to
from bayes1bit.special import log_interval_ndtr, log_interval_sigmoid, log_ndtr, log_sigmoid


class Quantized(TorchDistribution):
    r"""Bin into which a noisy measurement falls, for a quantizer of two or more levels.

    The interior edges :math:`e_1 < \dots < e_K` cut the line into ``K + 1`` bins, the outer two
    unbounded. The value is the index ``k`` of the bin of ``loc + scale * noise``:

    .. math:: P(k) = F\Big(\frac{e_{k+1} - \mathrm{loc}}{\mathrm{scale}}\Big)
              - F\Big(\frac{e_k - \mathrm{loc}}{\mathrm{scale}}\Big),
              \qquad e_0 = -\infty,\; e_{K+1} = \infty,

    where ``F`` is the distribution function of the noise: standard normal for ``link="probit"``,
    standard logistic for ``link="logistic"``.

    With one edge it is a :class:`OneBit` of that threshold and link, bin 1 standing for +1.

    Args:
        loc: Measurement before noise, in units of the sensor.
        scale: Scale of the noise in the same units, positive, broadcastable to ``loc``: its
            standard deviation if it is normal.
        edges: Interior edges in the same units, shape (K,) with K at least 1, finite and strictly
            increasing. One quantizer serves the whole batch.
        link: Law of the noise, ``"probit"`` or ``"logistic"``.
        validate_args: Whether to check parameters and data; ``None`` follows Pyro's setting. The
            edges are checked in any case.

    Raises:
        InputError: If ``link`` is unknown, the edges are not as described, ``loc`` or ``scale`` is
            not a number or a ``float32`` or ``float64`` tensor, or shapes do not broadcast.
        ValueError: If validation is on and a parameter is outside its domain.
    """

    arg_constraints = {  # noqa: RUF012 (the base class declares it so)
        "loc": constraints.real,
        "scale": constraints.positive,
        "edges": constraints.real_vector,
    }
    has_rsample = False
    has_enumerate_support = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        edges: Tensor,
        link: Link = "probit",
        validate_args: bool | None = None,
    ) -> None:
        if link not in ("probit", "logistic"):
            raise InputError(f"link must be 'probit' or 'logistic', not {link!r}")
        if not isinstance(edges, Tensor) or edges.ndim != 1 or len(edges) == 0:
            given = tuple(edges.shape) if isinstance(edges, Tensor) else type(edges).__name__
            raise InputError(f"edges must be a tensor of shape (K,), K at least 1, not {given}")
        # edges take part so that numbers follow their type; their shape is not broadcast
        self.loc, self.scale, _ = broadcast(loc=loc, scale=scale, edges=edges[0])
        if not bool(edges.isfinite().all()) or not bool((edges.diff() > 0).all()):
            raise InputError(f"edges must be finite and strictly increasing, not {edges.tolist()}")
        self.edges = edges.to(self.loc.dtype)
        self.link = link
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "Quantized":
        """Give the same distribution over a larger batch, without new memory.

        Args:
            batch_shape: Shape to expand to.

        Returns:
            The expanded distribution.
        """
        new: Quantized = self._get_checked_instance(Quantized, _instance)
        batch_shape = Size(batch_shape)
        new.loc = expand_to(self.loc, batch_shape)
        new.scale = expand_to(self.scale, batch_shape)
        new.edges = self.edges
        new.link = self.link
        super(Quantized, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        """Whole numbers from 0 to K."""
        return constraints.integer_interval(0, len(self.edges))

    @property
    def probs(self) -> Tensor:
        """Probability of each bin, shape ``batch_shape + (K + 1,)``."""
        log_mass = self._log_mass(self.enumerate_support(expand=False))
        return log_mass.exp().movedim(0, -1)

    @property
    def mean(self) -> Tensor:
        """Expected bin index, shape ``batch_shape``."""
        z = (self.loc.unsqueeze(-1) - self.edges) / self.scale.unsqueeze(-1)
        return self._log_cdf(z).exp().sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of the bin index, shape ``batch_shape``."""
        index = torch.arange(len(self.edges) + 1, device=self.edges.device)
        return (self.probs * (index - self.mean.unsqueeze(-1)).square()).sum(-1)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008 (Size is immutable)
        """Draw bin indices by adding noise and looking up the bin.

        Args:
            sample_shape: Shape of independent draws.

        Returns:
            Bin indices, ``int64``, shape ``sample_shape + batch_shape``.
        """
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            draw = torch.randn if self.link == "probit" else torch.rand
            noise = draw(shape, dtype=self.loc.dtype, device=self.loc.device)
            if self.link == "logistic":
                # a uniform number may be drawn as zero: infinite noise, in an outer bin
                noise = torch.logit(noise)
            return torch.bucketize(self.loc + self.scale * noise, self.edges)

    def log_prob(self, value: Tensor) -> Tensor:
        """Score bin indices.

        Args:
            value: Whole numbers from 0 to K in any dtype, broadcastable with ``batch_shape``.

        Returns:
            Log-probability of each bin index, in the dtype of ``loc``.

        Raises:
            InputError: If validation is on and ``value`` holds anything else.
        """
        if self._validate_args:
            self._validate_sample(value)
        return self._log_mass(value.to(torch.int64))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """List all bin indices along a new first dimension.

        Args:
            expand: Whether to expand the list over the batch shape.

        Returns:
            0 to K, shape ``(K + 1,) + batch_shape``, or with ones in place of ``batch_shape``.
        """
        values = torch.arange(len(self.edges) + 1, device=self.edges.device)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape))
        return values.expand((-1, *self.batch_shape)) if expand else values

    def _log_mass(self, index: Tensor) -> Tensor:
        lowest = index == 0
        outer = lowest | (index == len(self.edges))
        distance = torch.where(lowest, self.edges[0] - self.loc, self.loc - self.edges[-1])
        # The outer bins have neither centre nor width; finite stand-ins keep gradients finite.
        centers = torch.nn.functional.pad(0.5 * (self.edges[1:] + self.edges[:-1]), (1, 1))
        half_widths = torch.nn.functional.pad(0.5 * self.edges.diff(), (1, 1), value=1.0)
        log_interval = log_interval_ndtr if self.link == "probit" else log_interval_sigmoid
        inner = log_interval(
            (centers[index] - self.loc) / self.scale, half_widths[index] / self.scale
        )
        return torch.where(outer, self._log_cdf(distance / self.scale), inner)

    def _log_cdf(self, z: Tensor) -> Tensor:
        return log_ndtr(z) if self.link == "probit" else log_sigmoid(z)

    def _validate_sample(self, value: Tensor) -> None:
        if isinstance(value, Tensor):
            if value.dtype == torch.bool or value.is_complex():
                raise InputError(f"bin indices must be whole numbers, not {value.dtype}")
            if not value.is_floating_point():
                # A short integer would be compared with K wrapped to its own range.
                value = value.to(torch.int64)
            wrong = ~self.support.check(value)
            if bool(wrong.any()):
                raise InputError(
                    f"y must hold whole bin indices from 0 to {len(self.edges)}, "
                    f"{count_wrong(value, wrong)}"
                )
        super()._validate_sample(value)
