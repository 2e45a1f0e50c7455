"""A diffusion model as a Pyro distribution.

:class:`DiffusionPrior` turns any :class:`~bayes1bit.diffusion.denoiser.Denoiser` into a
distribution over signals: it samples by reverse diffusion, and it exposes what inference
algorithms live on: the posterior mean, the score and the denoising error at every noise level,
and draws of the clean signal given a noisy one.
"""

from collections.abc import Callable, Sequence

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.diffusion.flow import log_density
from bayes1bit.diffusion.levels import karras_levels
from bayes1bit.diffusion.sampling import Sampling
from bayes1bit.diffusion.solvers import Ancestral, ReverseSolver, VarianceCorrected
from bayes1bit.errors import InputError

EXACT_TRACE_DIMENSIONS = 64


class DiffusionPrior(TorchDistribution):
    r"""The prior that a denoiser stands for, as a Pyro distribution.

    Args:
        denoiser: Posterior mean ``E[x | x_sigma]`` of the prior.
        event_shape: Shape of one signal.
        sigma_min: Smallest level of reverse diffusion; the prior below it is the denoiser's word.
        sigma_max: Largest level, at which the noisy prior is taken as ``N(0, sigma_max^2 I)``.
        error: Mean squared denoising error per dimension as a function of sigma, for instance an
            :class:`~bayes1bit.diffusion.error_table.ErrorTable`.
        data_range: Lowest and highest value a clean signal can take, where there is one.
        solver: Reverse solver of :meth:`sample_given`. By default ``VarianceCorrected()`` where
            the error is known, ``Ancestral()`` otherwise.
        num_steps: Its steps, if it started at ``sigma_max``.
        sampling: How :meth:`sample` draws; by default by ``solver``, in ``num_steps`` steps over
            Karras levels.
        probes: Hutchinson probes of :meth:`log_prob` in more than 64 dimensions; in fewer the
            trace is exact.
        max_batch: Most signals in one denoiser call, which bounds the memory, of
            :meth:`sample` and of gradients through the denoiser too; None for no bound.

    Raises:
        InputError: If the levels are not ``0 < sigma_min < sigma_max``, ``num_steps`` is less
            than 2, or ``probes`` or ``max_batch`` is less than 1.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    has_rsample = False

    def __init__(
        self,
        denoiser: Denoiser,
        event_shape: Sequence[int],
        sigma_min: float,
        sigma_max: float,
        *,
        error: Callable[[float | Tensor], Tensor] | None = None,
        data_range: tuple[float, float] | None = None,
        solver: ReverseSolver | None = None,
        num_steps: int = 40,
        sampling: Sampling | None = None,
        probes: int = 8,
        max_batch: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not 0 < sigma_min < sigma_max < float("inf"):
            raise InputError(
                f"a diffusion prior needs 0 < sigma_min < sigma_max, got {sigma_min}, {sigma_max}"
            )
        if num_steps < 2:
            raise InputError(f"num_steps must be at least 2, got {num_steps}")
        if probes < 1 or (max_batch is not None and max_batch < 1):
            raise InputError(
                f"probes and max_batch must be at least 1, got {probes} and {max_batch}"
            )
        self.denoiser = denoiser
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.data_range = data_range
        self.solver = solver or (Ancestral() if error is None else VarianceCorrected())
        self.sampling = sampling or Sampling(self.solver, "karras", num_steps)
        self.num_steps, self.probes, self.max_batch = num_steps, probes, max_batch
        self._error = error
        super().__init__(torch.Size(), torch.Size(event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """All real signals of the event shape."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def device(self) -> torch.device:
        """Where the denoiser's tensors are (the CPU if it has none)."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the denoiser's tensors, which sampled signals have too."""
        return self._like.dtype

    @property
    def _like(self) -> Tensor:
        tensors = [*self.denoiser.parameters(), *self.denoiser.buffers()]
        return next((t for t in tensors if t.is_floating_point()), torch.empty(0))

    def to(self, device: str | torch.device) -> "DiffusionPrior":
        """Move the denoiser, in place, and return the prior.

        That is all there is to move: levels are numbers, and a table of errors is looked up on the
        CPU.
        """
        self.denoiser.to(device)
        return self

    def expand(
        self, batch_shape: Sequence[int], _instance: "DiffusionPrior | None" = None
    ) -> "DiffusionPrior":
        """The same prior with another batch shape; the denoiser is shared, not copied."""
        new: DiffusionPrior = self._get_checked_instance(type(self), _instance)
        # everything but the shapes is shared
        new.__dict__.update(self.__dict__)
        TorchDistribution.__init__(
            new, torch.Size(batch_shape), self.event_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Posterior mean of the clean signal.

        Args:
            x: Noisy signals, shape (*batch, *event).
            sigma: Noise level, a number or a tensor that broadcasts against ``batch``.

        Returns:
            ``E[x | x_sigma]``, shape of ``x``.

        Raises:
            InputError: If the trailing shape of ``x`` is not the event shape, or ``sigma`` does
                not broadcast against the batch.
        """
        self._check_event(x)
        batch = x.shape[: x.ndim - len(self.event_shape)]
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        flat = x.reshape(-1, *self.event_shape)
        if level.ndim:
            try:
                level = level.expand(batch).reshape(-1)
            except RuntimeError as error:
                raise InputError(
                    f"noise levels of shape {tuple(level.shape)} do not broadcast against the "
                    f"batch shape {tuple(batch)} of the signals"
                ) from error
        if self.max_batch is None or len(flat) <= self.max_batch:
            return self.denoiser(flat, level).view_as(x)
        size = self.max_batch
        levels = level.split(size) if level.ndim else [level] * -(-len(flat) // size)
        pieces = [
            self.denoiser(piece, part)
            for piece, part in zip(flat.split(size), levels, strict=True)
        ]
        return torch.cat(pieces).view_as(x)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        r"""Score of the smoothed prior, :math:`(D(x, \sigma) - x) / \sigma^2` (Tweedie).

        Args:
            x: Noisy signals, shape (*batch, *event).
            sigma: Positive noise level, a number or a tensor that broadcasts against ``batch``.

        Returns:
            Gradient of the log density of the noisy signals, shape of ``x``.
        """
        difference = self.denoise(x, sigma) - x
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if level.ndim:
            level = level.reshape(*level.shape, *[1] * len(self.event_shape))
        return difference / level.square()

    def error(self, sigma: float | Tensor) -> Tensor:
        r"""Mean squared denoising error per dimension, :math:`E|x - D(x_\sigma, \sigma)|^2 / n`.

        Args:
            sigma: Noise levels, any shape.

        Returns:
            The error at each level, shape of ``sigma``, float64.

        Raises:
            InputError: If the prior was made without an error table.
        """
        if self._error is None:
            raise InputError(
                "this prior has no table of denoising errors; measure one on held-out signals "
                "with ErrorTable.measure and pass it as DiffusionPrior(..., error=table)"
            )
        return self._error(sigma)

    @property
    def has_error(self) -> bool:
        """Whether the denoising error is known."""
        return self._error is not None

    def pure_noise(self, num: int, sigma: float) -> Tensor:
        """White noise of standard deviation ``sigma`` to walk down from, shape (num, *event)."""
        shape = (num, *self.event_shape)
        return sigma * torch.randn(shape, dtype=self.dtype, device=self.device)

    def levels(self, sigma: float | None = None, num_steps: int | None = None) -> Tensor:
        """Karras levels from ``sigma`` to ``sigma_min`` and a final zero.

        Args:
            sigma: First level; ``sigma_max`` by default. At or below ``sigma_min`` one step is
                left.
            num_steps: Steps; by default the share of ``self.num_steps`` that Karras spacing gives
                to the levels below ``sigma``.

        Returns:
            Levels, shape (num_steps + 1,).
        """
        sigma = self.sigma_max if sigma is None else sigma
        if sigma <= self.sigma_min:
            return torch.tensor([sigma, 0.0], dtype=torch.float64)
        if num_steps is None:
            whole = karras_levels(self.sigma_max, self.sigma_min, self.num_steps)
            num_steps = max(2, int((whole < sigma).sum()) + 1)
        steps = karras_levels(sigma, self.sigma_min, num_steps)
        return torch.cat([steps, steps.new_zeros(1)])

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw signals by reverse diffusion from pure noise, as :attr:`sampling` says.

        Args:
            sample_shape: Leading shape of independent draws.

        Returns:
            Signals, shape (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        x = self.sigma_max * torch.randn(shape, dtype=self.dtype, device=self.device)
        return self.sampling(self, x)

    @torch.no_grad()
    def sample_given(
        self,
        x_sigma: Tensor,
        sigma: float,
        *,
        num_steps: int | None = None,
        solver: ReverseSolver | None = None,
    ) -> Tensor:
        r"""Draw clean signals given noisy ones, :math:`x \sim p(x \mid x_\sigma)`.

        Args:
            x_sigma: Noisy signals, shape (*batch, *event).
            sigma: Their noise level, one number for all.
            num_steps: Denoiser calls; see :meth:`levels`.
            solver: Another reverse solver than the prior's own.

        Returns:
            One draw for each noisy signal, shape of ``x_sigma``.

        Raises:
            InputError: If the shape is not that of signals, or ``sigma`` is not positive.
        """
        self._check_event(x_sigma)
        sigma = float(sigma)
        if not sigma > 0:
            raise InputError(f"sample_given needs a positive noise level, got {sigma}")
        return (solver or self.solver)(self, x_sigma, self.levels(sigma, num_steps))

    def log_prob(self, value: Tensor, *, num_steps: int = 200) -> Tensor:
        r"""Probability-flow log density of the prior smoothed at ``sigma_min``.

        See :mod:`bayes1bit.diffusion.flow`. In at most 64 dimensions the trace is exact; above it
        is Hutchinson's estimate with ``self.probes`` probes, unbiased but random. It costs
        ``4 * num_steps`` denoiser calls, each with as many backward passes as the trace has
        dimensions or probes.

        Args:
            value: Signals, shape (*sample_shape, *batch_shape, *event_shape).
            num_steps: Runge-Kutta steps.

        Returns:
            Log density in nats, shape (*sample_shape, *batch_shape).

        Raises:
            InputError: If the trailing shape is not the event shape.
        """
        self._check_event(value)
        if self._validate_args:
            self._validate_sample(value)
        shape = value.shape[: value.ndim - len(self.event_shape)]
        n = self.event_shape.numel()

        def denoise(flat: Tensor, sigma: float) -> Tensor:
            return self.denoise(flat.view(-1, *self.event_shape), sigma).reshape_as(flat)

        density = log_density(
            denoise,
            value.reshape(-1, n),
            self.sigma_min,
            self.sigma_max,
            num_steps,
            None if n <= EXACT_TRACE_DIMENSIONS else self.probes,
        )
        target = torch.broadcast_shapes(shape, self.batch_shape)
        return density.view(shape).expand(target)

    def _check_event(self, x: Tensor) -> None:
        dimensions = len(self.event_shape)
        if x.shape[x.ndim - dimensions :] != self.event_shape or x.ndim < dimensions:
            raise InputError(
                f"signals of this prior have trailing shape {tuple(self.event_shape)}, "
                f"got a tensor of shape {tuple(x.shape)}"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(event_shape={tuple(self.event_shape)}, "
            f"batch_shape={tuple(self.batch_shape)}, sigma_min={self.sigma_min:g}, "
            f"sigma_max={self.sigma_max:g}, solver={self.solver!r})"
        )
