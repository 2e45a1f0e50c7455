"""The first two moments of a diffusion prior, as algorithms use them for scales and starts."""

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError


@torch.no_grad()
def prior_mean(prior: DiffusionPrior) -> Tensor:
    """Mean of the prior: what the denoiser makes of no signal at the largest level; one call.

    Args:
        prior: The prior.

    Returns:
        The mean, shape (*event).
    """
    nothing = torch.zeros(1, *prior.event_shape, dtype=prior.dtype, device=prior.device)
    return prior.denoise(nothing, prior.sigma_max)[0]


def prior_variance(prior: DiffusionPrior, setting: str) -> float:
    """Variance of the prior per dimension: its denoising error when nothing is known.

    Args:
        prior: The prior.
        setting: Name of the setting that a caller can give instead.

    Raises:
        InputError: If the prior has no table of denoising errors.
    """
    if not prior.has_error:
        raise InputError(
            f"the default of {setting} is the prior's own, but this prior has no table of "
            f"denoising errors: give {setting}=..."
        )
    return float(prior.error(prior.sigma_max))


def typical_distance(prior: DiffusionPrior) -> float:
    """Distance of a signal from the prior's mean, or the largest level where it is not known.

    At noise levels beyond it signals cannot be told apart, so annealing need not start higher.

    Args:
        prior: The prior.

    Returns:
        ``sqrt(n * variance)``, at most ``prior.sigma_max``.
    """
    if not prior.has_error:
        return prior.sigma_max
    distance = (prior.event_shape.numel() * float(prior.error(prior.sigma_max))) ** 0.5
    return min(distance, prior.sigma_max)
