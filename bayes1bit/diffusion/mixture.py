r"""The Gaussian-mixture prior: a diffusion prior with everything in closed form.

For :math:`p(x) = \sum_k w_k N(x; \mu_k, S^2 I)` the smoothed prior at level :math:`\sigma` is the
mixture with variance :math:`S^2 + \sigma^2`, so

.. math::

    D(x, \sigma) = \sum_k r_k(x)\, \frac{\sigma^2 \mu_k + S^2 x}{\sigma^2 + S^2}, \qquad
    r_k(x) \propto w_k \exp\!\left(-\frac{\lVert x - \mu_k \rVert^2}{2 (S^2 + \sigma^2)}\right).

With real pictures as means it is a hard prior on which every sampler can be held against the
truth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.diffusion.error_table import ErrorTable
from bayes1bit.diffusion.levels import geometric_levels
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.diffusion.solvers import ReverseSolver
from bayes1bit.errors import InputError


class MixtureDenoiser(Denoiser):
    """Closed-form posterior mean of a mixture of equal spherical normals.

    Args:
        means: Component means, shape (components, n).
        scale: Standard deviation S of every component.
        log_weights: Log probabilities of the components, shape (components,).
    """

    means: Tensor
    centred: Tensor
    centre: Tensor
    squared_norms: Tensor
    log_weights: Tensor

    def __init__(self, means: Tensor, scale: float, log_weights: Tensor) -> None:
        super().__init__()
        centre = torch.einsum("k,kn->n", log_weights.exp(), means)
        self.register_buffer("means", means)
        # distances are expanded as |x|^2 - 2 x mu + |mu|^2, which loses least about the centre
        self.register_buffer("centre", centre)
        self.register_buffer("centred", means - centre)
        self.register_buffer("squared_norms", self.centred.square().sum(1))
        self.register_buffer("log_weights", log_weights)
        self.scale = scale

    def log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Log of weight times density of each component at level ``sigma``.

        Args:
            x: Noisy signals, shape (batch, n).
            sigma: Noise level, shape () or (batch,).

        Returns:
            ``log w_k N(x; mu_k, (S^2 + sigma^2) I)``, shape (batch, components).
        """
        variance = (self.scale**2 + sigma.square()).reshape(-1, 1)
        difference = x - self.centre
        squared = (
            difference.square().sum(1, keepdim=True)
            - 2 * difference @ self.centred.T
            + self.squared_norms
        )
        normalizer = 0.5 * x.shape[1] * (2 * torch.pi * variance).log()
        return self.log_weights - 0.5 * squared / variance - normalizer

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See :meth:`Denoiser.forward`."""
        flat = x.flatten(1)
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        mean = self._average(self.log_joint(flat, level).softmax(1))
        # share of the noisy signal that is noise
        share = (level.square() / (level.square() + self.scale**2)).reshape(-1, 1)
        return torch.lerp(flat, mean, share).view_as(x)

    def _average(self, probs: Tensor) -> Tensor:
        """Means averaged with the probabilities of the components, shape (batch, n)."""
        if torch._C._are_functorch_transforms_active():  # a choice by value cannot be mapped
            return probs @ self.means
        # at low noise few of thousands count: all that is left out is below rounding
        counts = probs.detach().amax(0) > torch.finfo(probs.dtype).eps / len(self.means)
        if 2 * int(counts.sum()) > len(counts):
            return probs @ self.means
        return probs[:, counts] @ self.means[counts]


class GaussianMixturePrior(DiffusionPrior):
    """A mixture of equal spherical normals as a diffusion prior.

    Args:
        means: Component means, shape (components, *event_shape).
        scale: Standard deviation S of every component, in units of the signal.
        weights: Component probabilities, shape (components,); equal by default. They are
            normalised.
        sigma_min: Smallest level of reverse diffusion; a hundredth of ``scale`` by default.
        sigma_max: Largest level; by default ten times the largest norm of a mean plus ten times
            ``scale``, where the components can no longer be told apart.
        solver: See :class:`~bayes1bit.diffusion.prior.DiffusionPrior`.
        num_steps: See :class:`~bayes1bit.diffusion.prior.DiffusionPrior`.
        max_batch: See :class:`~bayes1bit.diffusion.prior.DiffusionPrior`.

    Raises:
        InputError: If the shapes disagree, the means are not finite, the scale is not positive,
            or the weights are negative, not finite or all zero.
    """

    def __init__(
        self,
        means: Tensor,
        scale: float,
        weights: Tensor | None = None,
        *,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        solver: ReverseSolver | None = None,
        num_steps: int = 40,
        max_batch: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if means.ndim < 2 or not means.is_floating_point():
            raise InputError(
                "means must be a floating tensor of shape (components, *event_shape), got "
                f"{means.dtype} of shape {tuple(means.shape)}"
            )
        if not means.isfinite().all():
            raise InputError("means hold NaN or infinite values")
        if not scale > 0:
            raise InputError(f"the component scale must be positive, got {scale}")
        weights = means.new_ones(len(means)) if weights is None else weights.to(means)
        if weights.shape != means.shape[:1]:
            raise InputError(
                f"{len(means)} means need weights of shape ({len(means)},), "
                f"got {tuple(weights.shape)}"
            )
        if not ((weights >= 0).all() and 0 < weights.sum() < float("inf")):
            raise InputError("component weights must be non-negative, finite and not all zero")
        self.mixture = MixtureDenoiser(
            means.flatten(1), float(scale), (weights / weights.sum()).log()
        )
        norm = means.flatten(1).norm(dim=1).max().item()
        super().__init__(
            self.mixture,
            means.shape[1:],
            scale / 100 if sigma_min is None else sigma_min,
            10 * (norm + scale) if sigma_max is None else sigma_max,
            error=self._mixture_error,
            solver=solver,
            num_steps=num_steps,
            max_batch=max_batch,
            validate_args=validate_args,
        )
        self._table: list[ErrorTable] = []

    @property
    def means(self) -> Tensor:
        """Component means, shape (components, *event_shape)."""
        return self.mixture.means.view(-1, *self.event_shape)

    @property
    def scale(self) -> float:
        """Standard deviation of every component."""
        return self.mixture.scale

    @property
    def weights(self) -> Tensor:
        """Component probabilities, shape (components,)."""
        return self.mixture.log_weights.exp()

    def component_log_probs(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Log probability of each component given a (noisy) signal.

        Args:
            x: Signals, shape (*batch, *event).
            sigma: Their noise level.

        Returns:
            Log probabilities, shape (*batch, components).
        """
        return self._log_joint(x, sigma).log_softmax(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Exact draws: a component, then a normal about its mean.

        Args:
            sample_shape: Leading shape of independent draws.

        Returns:
            Signals, shape (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        count = shape[: len(shape) - len(self.event_shape)].numel()
        index = torch.multinomial(self.weights, count, replacement=True)
        mean = self.mixture.means[index].view(shape)
        return mean + self.scale * torch.randn_like(mean)

    @torch.no_grad()
    def sample_given(
        self,
        x_sigma: Tensor,
        sigma: float,
        *,
        num_steps: int | None = None,
        solver: ReverseSolver | None = None,
    ) -> Tensor:
        r"""Draw clean signals given noisy ones: exact, unless a solver or a step count is asked.

        Given its component k the clean signal is normal with mean
        :math:`(\sigma^2 \mu_k + S^2 x_\sigma) / (\sigma^2 + S^2)` and variance
        :math:`\sigma^2 S^2 / (\sigma^2 + S^2)`. Arguments and errors are those of
        :meth:`DiffusionPrior.sample_given`.
        """
        if num_steps is not None or solver is not None:
            return super().sample_given(x_sigma, sigma, num_steps=num_steps, solver=solver)
        self._check_event(x_sigma)
        sigma = float(sigma)
        if not sigma > 0:
            raise InputError(f"sample_given needs a positive noise level, got {sigma}")
        log_probs = self.component_log_probs(x_sigma, sigma).reshape(-1, len(self.means))
        index = torch.distributions.Categorical(logits=log_probs).sample()
        mean = self.mixture.means[index].view_as(x_sigma)
        share = sigma**2 / (sigma**2 + self.scale**2)
        noise = torch.randn_like(x_sigma)
        return torch.lerp(x_sigma, mean, share) + share**0.5 * self.scale * noise

    def log_prob(self, value: Tensor, *, num_steps: int = 200) -> Tensor:
        """Log density, in closed form; ``num_steps`` plays no part.

        Args:
            value: Signals, shape (*sample_shape, *batch_shape, *event_shape).
            num_steps: Accepted as :meth:`DiffusionPrior.log_prob` has it.

        Returns:
            Log density in nats, shape (*sample_shape, *batch_shape).

        Raises:
            InputError: If the trailing shape is not the event shape.
        """
        self._check_event(value)
        if self._validate_args:
            self._validate_sample(value)
        density = self._log_joint(value, 0.0).logsumexp(-1)
        return density.expand(torch.broadcast_shapes(density.shape, self.batch_shape))

    def _log_joint(self, x: Tensor, sigma: float) -> Tensor:
        self._check_event(x)
        flat = x.reshape(-1, self.event_shape.numel())
        joint = self.mixture.log_joint(flat, x.new_tensor(sigma))
        return joint.view(*x.shape[: x.ndim - len(self.event_shape)], -1)

    def _mixture_error(self, sigma: float | Tensor) -> Tensor:
        if len(self.mixture.means) == 1:
            level = torch.as_tensor(sigma, dtype=torch.float64)
            return level.square() * self.scale**2 / (level.square() + self.scale**2)
        if not self._table:
            self._table.append(self._tabulate())
        return self._table[0](sigma)

    @torch.no_grad()
    def _tabulate(self, num_levels: int = 64, num_draws: int = 512) -> ErrorTable:
        r"""The error over levels: closed form given the noisy signal, averaged over draws of it.

        Given :math:`x_\sigma` the error is the trace of the posterior covariance over n,

        .. math::

            \frac{\sigma^2 S^2}{\sigma^2 + S^2} + \frac1n \left(\frac{\sigma^2}{\sigma^2 + S^2}
            \right)^2 \left(\sum_k r_k \lVert \mu_k \rVert^2
            - \Big\lVert \sum_k r_k \mu_k \Big\rVert^2\right).
        """
        means, n = self.mixture.centred, self.mixture.means.shape[1]
        generator = torch.Generator().manual_seed(2718)
        weights = self.weights.cpu()
        index = torch.multinomial(weights, num_draws, replacement=True, generator=generator)
        draws = [torch.randn(num_draws, n, generator=generator).to(means) for _ in range(2)]
        clean = self.mixture.means[index.to(means.device)] + self.scale * draws[0]
        levels = geometric_levels(self.sigma_max, self.sigma_min, num_levels)
        squared_norms = self.mixture.squared_norms
        errors = []
        for sigma in levels.tolist():
            share = sigma**2 / (sigma**2 + self.scale**2)
            noisy = clean + sigma * draws[1]
            r = self.mixture.log_joint(noisy, means.new_tensor(sigma)).softmax(1)
            between = (r @ squared_norms - (r @ means).square().sum(1)).clamp(min=0).mean().item()
            errors.append(share * self.scale**2 + share**2 * between / n)
        return ErrorTable(levels, errors)
