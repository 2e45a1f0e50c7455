"""Denoisers of other packages, and any function that denoises.

The packages are not imported: their objects are taken for what they can do.
"""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from bayes1bit.diffusion.adapters.settings import PriorSettings
from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError

BISECTIONS = 50
"""Halvings of the unit interval that tell a time to double precision."""


class FunctionDenoiser(Denoiser):
    """A function as a denoiser.

    Args:
        function: Called as ``function(x, sigma)``, shapes (batch, *event) and (batch,); a module
            moves with the denoiser.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        # it says where signals are made, if the function has no tensors of its own
        self.register_buffer("place", torch.empty(0), persistent=False)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See :meth:`Denoiser.forward`.

        Raises:
            InputError: If the function does not return a tensor of the shape of ``x``.
        """
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        return _checked(self.function(x, levels), x)


class AzulaDenoiser(Denoiser):
    """A denoiser of azula, whose noisy signals are ``alpha(t) x + sigma(t) eps``.

    The time of a level is found by bisection in the ratio ``sigma(t) / alpha(t)``, which grows
    with t in every schedule of that package. A level beyond the schedule is answered at its end.

    Args:
        denoiser: Called as ``denoiser(x_t, t)``, which returns an object with ``mean``; its
            ``schedule(t)`` gives ``alpha`` and ``sigma`` at times in [0, 1].
    """

    denoiser: Any  # a module with a schedule

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("place", torch.empty(0), persistent=False)

    def time(self, sigma: Tensor) -> Tensor:
        """Time of each level, same shape and type."""
        wanted = sigma.double()
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            alpha, spread = self.denoiser.schedule(middle)
            below = spread < wanted * alpha
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).to(sigma)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See :meth:`Denoiser.forward`.

        Raises:
            InputError: If the posterior's mean is not a tensor of the shape of ``x``.
        """
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        t = self.time(levels)
        alpha, _ = self.denoiser.schedule(t)
        posterior: Any = self.denoiser(alpha.view(-1, *[1] * (x.ndim - 1)) * x, t)
        return _checked(getattr(posterior, "mean", None), x)


def from_function(
    function: Callable[[Tensor, Tensor], Tensor],
    event_shape: Sequence[int],
    sigma_min: float,
    sigma_max: float,
    data_range: tuple[float, float] | None,
    **settings: Unpack[PriorSettings],
) -> DiffusionPrior:
    """A prior from any function that returns ``E[x | x + sigma eps]``.

    Args:
        function: Called as ``function(x, sigma)`` with shapes (batch, *event) and (batch,), it
            returns the shape of ``x``. If it is a module it is frozen and set to evaluation.
        event_shape: Shape of one signal.
        sigma_min: Smallest level that it is good for.
        sigma_max: Largest level, at which the noise must hide the signal.
        data_range: Lowest and highest value of clean signals; None where there is none.
        **settings: See :class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`.

    Returns:
        The prior.

    Raises:
        InputError: If ``function`` cannot be called, or a level is outside its domain.
    """
    if not callable(function):
        raise InputError(
            f"a denoiser is called as f(x, sigma), but a {type(function).__name__} cannot be"
        )
    denoiser = FunctionDenoiser(function)
    denoiser.requires_grad_(False).eval()
    return DiffusionPrior(
        denoiser, event_shape, sigma_min, sigma_max, data_range=data_range, **settings
    )


def from_deepinv(
    denoiser: nn.Module,
    event_shape: Sequence[int],
    *,
    sigma_min: float,
    sigma_max: float,
    **settings: Unpack[PriorSettings],
) -> DiffusionPrior:
    """A prior from a denoiser of deepinv: ``denoiser(x, sigma)``, pictures in [0, 1].

    This is the interface of ``deepinv.models.Denoiser`` of version 0.5. Denoisers for
    restoration, such as DRUNet, are trained at small levels alone, and make a prior only for
    methods that start there; those for diffusion reach levels that hide the picture.

    Args:
        denoiser: The denoiser; it is frozen and set to evaluation.
        event_shape: Shape of one picture.
        sigma_min: Smallest level that it was trained for, in units of the pictures.
        sigma_max: Largest level that it was trained for.
        **settings: See :class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`.

    Returns:
        The prior, of data range [0, 1].

    Raises:
        InputError: As :func:`from_function`.
    """
    return from_function(denoiser, event_shape, sigma_min, sigma_max, (0.0, 1.0), **settings)


def from_azula(
    denoiser: nn.Module,
    event_shape: Sequence[int],
    *,
    data_range: tuple[float, float] | None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    **settings: Unpack[PriorSettings],
) -> DiffusionPrior:
    """A prior from a denoiser of azula.

    This is the interface of ``azula.denoise.Denoiser`` in versions 0.5 to 0.11: ``denoiser(x_t,
    t)`` with shapes (batch, *event) and (batch,) returns a posterior with ``mean``, and
    ``denoiser.schedule(t)`` the scales of signal and noise.

    Args:
        denoiser: The denoiser; it is frozen and set to evaluation.
        event_shape: Shape of one signal.
        data_range: Lowest and highest value of clean signals, (-1, 1) for the plugins of azula;
            None where there is none.
        sigma_min: Smallest level; by default that of the schedule at time 0.
        sigma_max: Largest level; by default that of the schedule at time 1.
        **settings: See :class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`.

    Returns:
        The prior.

    Raises:
        InputError: If the denoiser has no schedule, or the schedule's ends are not positive,
            finite and in order, and no other levels are given.
    """
    schedule = getattr(denoiser, "schedule", None)
    if not callable(schedule):
        raise InputError(
            "a denoiser of azula has a schedule of times in [0, 1], but this "
            f"{type(denoiser).__name__} has none; from_function takes any f(x, sigma)"
        )
    alpha, spread = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))
    ends = (spread / alpha).tolist()
    adapted = AzulaDenoiser(denoiser)
    adapted.requires_grad_(False).eval()
    return DiffusionPrior(
        adapted,
        event_shape,
        ends[0] if sigma_min is None else sigma_min,
        ends[1] if sigma_max is None else sigma_max,
        data_range=data_range,
        **settings,
    )


def _checked(answer: Any, x: Tensor) -> Tensor:
    """Refuse what is not an answer to the signals."""
    if isinstance(answer, Tensor) and answer.shape == x.shape:
        return answer
    kind = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    raise InputError(
        f"the denoiser must answer signals of shape {tuple(x.shape)} with a tensor of the same "
        f"shape, got {kind}"
    )
