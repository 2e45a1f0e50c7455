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
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_io import import_arviz
from bayes1bit.posterior_summary import total_log_likelihood
from bayes1bit.weighted import effective_sample_size, merge_copies

MIN_DRAWS = 4
"""Fewest draws of each chain."""

MAX_ELEMENTS = 16
"""Most elements of a latent site that are looked at one by one."""


class Convergence(NamedTuple):
    """What chains say of a few numbers, the k-th of which has the k-th name.

    Attributes:
        names: Names of the numbers.
        rhat: R-hat of each, shape (k,); NaN for one that never changes.
        ess: Effective sample size of each over all chains, shape (k,).
    """

    names: tuple[str, ...]
    rhat: Tensor
    ess: Tensor


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
    flat = samples.reshape(len(samples), -1).double()
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(
        flat.shape[1], num_directions, generator=generator, dtype=torch.float64
    )
    return flat @ (directions / directions.norm(dim=0)).to(flat.device)


def monitored(posterior: Posterior) -> dict[str, Tensor]:
    """A few numbers of each sample, by name, each of shape (num_samples,), float64.

    The log-likelihood if it is known, elements of other latent sites, and products of the signal
    with random directions.
    """
    numbers: dict[str, Tensor] = {}
    total = total_log_likelihood(posterior)
    if total is not None:
        numbers["log-likelihood"] = total
    for name, value in posterior.latents.items():
        numbers |= elements(name, value)
    products = projections(posterior.samples)
    numbers |= {f"{posterior.site}, direction {i + 1}": v for i, v in enumerate(products.T)}
    return numbers


def chosen(posterior: Posterior, quantities: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The numbers that a caller gives, or those of :func:`monitored`.

    Args:
        posterior: The posterior.
        quantities: Numbers of each sample by name, each of shape (num_samples,).

    Raises:
        InputError: If there is none, a shape is another, or a value is not finite.
    """
    if quantities is None:
        return monitored(posterior)
    if not quantities:
        raise InputError("quantities are empty; give numbers of each sample by name, or None")
    for name, value in quantities.items():
        if value.shape != (posterior.num_samples,):
            raise InputError(
                f"quantities[{name!r}] has shape {tuple(value.shape)}; expected one number for "
                f"each sample, shape ({posterior.num_samples},)"
            )
        if not value.isfinite().all():
            raise InputError(f"quantities[{name!r}] holds NaN or infinite values")
    return {name: value.double() for name, value in quantities.items()}


def elements(name: str, value: Tensor) -> dict[str, Tensor]:
    """The first elements of a site as numbers, by names such as ``gain[2]``.

    Args:
        name: Name of the site.
        value: Its samples, shape (num_samples, *site).

    Returns:
        At most :data:`MAX_ELEMENTS` tensors of shape (num_samples,), float64.
    """
    flat = value.double().flatten(1) if value.dim() > 1 else value.double()[:, None]
    if flat.shape[1] == 1:
        return {name: flat[:, 0]}
    return {f"{name}[{i}]": flat[:, i] for i in range(min(flat.shape[1], MAX_ELEMENTS))}


def check_convergence(
    posterior: Posterior, quantities: Mapping[str, Tensor] | None = None
) -> Convergence | None:
    """R-hat and effective sample sizes, as ArviZ computes them.

    Args:
        posterior: A posterior of several chains.
        quantities: Numbers of each sample by name, each of shape (num_samples,); those of
            :func:`monitored` if None.

    Returns:
        Both for each number; None for one chain, or chains of fewer than
        four draws.
    """
    chains, length = posterior.num_chains, posterior.num_samples // posterior.num_chains
    if chains < 2 or length < MIN_DRAWS:
        return None
    numbers = chosen(posterior, quantities)
    draws = torch.stack([value.cpu() for value in numbers.values()], 1).view(chains, length, -1)
    return Convergence(tuple(numbers), rhat(draws), bulk_ess(draws))


def effective_draws(
    posterior: Posterior, quantities: Mapping[str, Tensor] | None = None
) -> dict[str, float]:
    """Number of independent draws that would know the mean of each quantity as well.

    For chains, and for independent draws taken as one chain, the effective sample size of the
    bulk. For weighted particles, and for particles of which resampling left copies, Kish's size
    after copies are merged: it knows nothing of the ancestors that distinct particles share.

    Args:
        posterior: A posterior of at least four draws for each chain, or with weights.
        quantities: Numbers of each sample by name, each of shape (num_samples,); those of
            :func:`monitored` if None.

    Returns:
        The number for each quantity that varies; at most ``num_samples``.

    Raises:
        InputError: If there are fewer draws, nothing varies, or quantities do not fit.
    """
    numbers = chosen(posterior, quantities)
    numbers = {name: value for name, value in numbers.items() if bool((value != value[0]).any())}
    if not numbers:
        raise InputError(
            "all samples are one and the same: a single estimate has no effective sample size"
        )
    merged = effective_sample_size(merge_copies(posterior.samples, posterior.weights))
    if posterior.weights is not None or merged < 0.999 * posterior.num_samples:
        return dict.fromkeys(numbers, merged)
    draws = torch.stack([value.cpu() for value in numbers.values()], 1)
    sizes = bulk_ess(draws.view(posterior.num_chains, -1, len(numbers)))
    return dict(zip(numbers, sizes.clamp(max=posterior.num_samples).tolist(), strict=True))


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
        values = getattr(import_arviz(), name)(dataset)["x"].values
    return torch.as_tensor(values, dtype=torch.float64).view(draws.shape[2:])
