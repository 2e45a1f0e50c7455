r"""Convergence of chains: R-hat and effective sample size, as ArviZ computes them.

Chains run in one batch here, so their draws come as one tensor, (chains, draws, \*event). R-hat
compares what chains say about a number with what they say among themselves: above 1.01 they have
not seen the same distribution (Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Bayesian
Analysis* 16, 2021). The effective sample size is the number of independent draws that would know
the mean as well.

A picture has thousands of pixels, of which one is always unlucky. :func:`projections` gives a
few numbers per picture instead, each of which sees all pixels.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError

MIN_DRAWS = 4
"""Fewest draws of each chain."""


def rhat(draws: Tensor) -> Tensor:
    r"""Rank-normalised split R-hat.

    Args:
        draws: Shape (chains, draws, \*event): at least two chains of four draws.

    Returns:
        R-hat of each element, shape event, float64; NaN where an element never changes.

    Raises:
        InputError: If there are fewer chains or draws, or a value is not finite.
    """
    return _statistic("rhat", draws, min_chains=2)


def bulk_ess(draws: Tensor) -> Tensor:
    r"""Effective sample size of the bulk of the distribution, over all chains.

    Args:
        draws: Shape (chains, draws, \*event): at least one chain of four draws.

    Returns:
        The size for each element, shape event, float64.

    Raises:
        InputError: If there are fewer draws, or a value is not finite.
    """
    return _statistic("ess", draws, min_chains=1)


def split_into_chains(samples: Tensor, num_chains: int = 4) -> Tensor:
    r"""Cut one sequence of draws into chains of equal length, dropping what is left over.

    Args:
        samples: Shape (num_samples, \*event), in the order they were drawn.
        num_chains: Number of chains.

    Returns:
        Shape (num_chains, num_samples // num_chains, \*event).

    Raises:
        InputError: If that leaves fewer than four draws for each chain.
    """
    length = len(samples) // num_chains
    if length < MIN_DRAWS:
        raise InputError(
            f"{len(samples)} draws cannot be cut into {num_chains} chains of at least "
            f"{MIN_DRAWS} draws; {MIN_DRAWS * num_chains} are needed"
        )
    return samples[: num_chains * length].view(num_chains, length, *samples.shape[1:])


def projections(samples: Tensor, num_directions: int = 8, seed: int = 0) -> Tensor:
    r"""Inner products with random unit directions.

    Args:
        samples: Signals, shape (num_samples, \*event).
        num_directions: Number of directions.
        seed: Seed of the directions: the same ones for every set of signals of this size.

    Returns:
        Shape (num_samples, num_directions), float64.
    """
    flat = samples.flatten(1).double()
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(
        flat.shape[1], num_directions, generator=generator, dtype=torch.float64
    )
    return flat @ (directions / directions.norm(dim=0)).to(flat.device)


def _statistic(name: str, draws: Tensor, min_chains: int) -> Tensor:
    if draws.ndim < 2 or draws.shape[0] < min_chains or draws.shape[1] < MIN_DRAWS:
        raise InputError(
            f"{name} needs draws of shape (chains, draws, *event) with at least {min_chains} "
            f"chains of {MIN_DRAWS} draws, got shape {tuple(draws.shape)}"
        )
    if not draws.isfinite().all():
        raise InputError(f"{name} needs finite draws, but some are NaN or infinite")
    import xarray

    array = draws.detach().reshape(*draws.shape[:2], -1).cpu().double().numpy()
    # datasets are what ArviZ 0.x and 1.x both take, and give back
    dataset = xarray.Dataset({"x": (("chain", "draw", "element"), array)})
    with warnings.catch_warnings():
        # an element that never changes has variance 0 / 0
        warnings.simplefilter("ignore", category=RuntimeWarning)
        values = getattr(_arviz(), name)(dataset)["x"].values
    return torch.as_tensor(values, dtype=torch.float64).view(draws.shape[2:])


def _arviz() -> Any:
    with warnings.catch_warnings():
        # ArviZ 0.23 announces its rewrite on import, once a day.
        warnings.filterwarnings("ignore", message="\nArviZ is undergoing", category=FutureWarning)
        import arviz
    return arviz
