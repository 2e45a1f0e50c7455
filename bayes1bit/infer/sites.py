"""Reading the sample sites of a Pyro trace."""

from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import Independent

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.observation import OneBit
from bayes1bit.observation.parameters import describe_wrong_outcomes

Site = dict[str, Any]

_WRAPPERS = (Independent, dist.MaskedDistribution, dist.ExpandedDistribution)


def innermost(distribution: Any) -> Any:
    """The distribution inside ``to_event``, ``mask`` and ``expand``."""
    while isinstance(distribution, _WRAPPERS):
        distribution = distribution.base_dist
    return distribution


def is_plain(site: Site) -> bool:
    """Whether a site's log-likelihood is neither masked nor scaled."""
    distribution, masked = site["fn"], site["mask"] is not None
    while isinstance(distribution, _WRAPPERS):
        masked = masked or isinstance(distribution, dist.MaskedDistribution)
        distribution = distribution.base_dist
    return not masked and isinstance(site["scale"], float | int) and site["scale"] == 1


def link_argument(distribution: Any) -> Tensor | None:
    """The argument of a one-bit link: ``loc`` of OneBit or ``logits`` of Bernoulli."""
    base = innermost(distribution)
    if isinstance(base, OneBit):
        return base.loc
    if isinstance(base, dist.Bernoulli):
        return base.logits
    return None


def pointwise_log_prob(site: Site) -> Tensor:
    """Log-likelihood of each independent measurement of a site, masked and scaled as Pyro does.

    Args:
        site: An observed site of a trace.

    Returns:
        One entry for each measurement: the shape of the value, less the event dimensions in which
        the innermost distribution is not independent.
    """
    distribution, value = site["fn"], site["value"]
    log_prob = _log_prob(distribution, value)
    batch = value.ndim - distribution.event_dim
    if site["mask"] is not None:
        log_prob = _where(site["mask"], log_prob, batch)
    scale = site["scale"]
    if isinstance(scale, Tensor):
        scale = _align(scale, log_prob.ndim - batch)
    return log_prob * scale


def signal_site(sites: dict[str, Site], chosen: str | None) -> str:
    """Name of the latent site whose prior is a diffusion prior.

    Args:
        sites: Sample sites of a trace, by name.
        chosen: The name that the user gives, needed if there are several.

    Raises:
        InputError: If there is no such site, or several and none is chosen; or if it is in a
            plate.
    """
    candidates = [
        name
        for name, node in sites.items()
        if isinstance(innermost(node["fn"]), DiffusionPrior) and not node["is_observed"]
    ]
    if not candidates:
        raise InputError(
            "the model has no latent site with a diffusion prior: draw the signal by "
            'pyro.sample("x", prior) with a DiffusionPrior'
        )
    if chosen is None and len(candidates) > 1:
        raise InputError(
            f"the model has {len(candidates)} diffusion sites ({', '.join(candidates)}): name the "
            "signal with site=..., and fix the others with pyro.condition"
        )
    name = candidates[0] if chosen is None else chosen
    if name not in candidates:
        raise InputError(
            f'site "{name}" is not a latent site with a diffusion prior; there is '
            + ", ".join(f'"{candidate}"' for candidate in candidates)
        )
    if batch := tuple(sites[name]["fn"].batch_shape):
        raise InputError(
            f'the signal "{name}" has batch shape {batch}: draw one signal outside of plates, and '
            "run the algorithm once for each signal"
        )
    return name


def check_observed(name: str, node: Site) -> None:
    """Refuse an observed site whose value does not fit its distribution.

    Raises:
        InputError: If the shape is another, the distribution refuses a value, or the
            log-likelihood is NaN.
    """
    value, shape = node["value"], node["fn"].shape()
    if not isinstance(value, Tensor) or value.shape != shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f'observed site "{name}" has a value of shape {got} but its distribution has shape '
            f"{tuple(shape)}; give a tensor of that shape"
        )
    try:
        log_prob = pointwise_log_prob(node)
    except ValueError as error:
        raise InputError(f'observed site "{name}": {_refusal(node, error)}') from error
    except RuntimeError as error:
        # torch does not calculate with truth values
        if value.dtype != torch.bool:
            raise
        raise InputError(
            f'observed site "{name}": truth values cannot be used; give numbers, such as y.float()'
        ) from error
    if log_prob.isnan().any():
        raise InputError(f'the log-likelihood of site "{name}" is NaN: check data and parameters')


def _refusal(node: Site, error: ValueError) -> str:
    """Why a distribution refuses its data, and how to convert them where that is known."""
    base, value = innermost(node["fn"]), node["value"]
    if isinstance(base, dist.Bernoulli):
        wrong = ~base.support.check(value)
        if bool(wrong.any()):
            return describe_wrong_outcomes(value, wrong)
    return " ".join(str(error).split())


def _log_prob(distribution: Any, value: Tensor) -> Tensor:
    if isinstance(distribution, Independent):
        return _log_prob(distribution.base_dist, value)
    if isinstance(distribution, dist.MaskedDistribution):
        inner = _log_prob(distribution.base_dist, value)
        return _where(distribution._mask, inner, value.ndim - distribution.event_dim)
    log_prob: Tensor = distribution.log_prob(value)
    return log_prob


def _where(mask: bool | Tensor, log_prob: Tensor, batch: int) -> Tensor:
    mask = torch.as_tensor(mask, device=log_prob.device)
    return torch.where(_align(mask, log_prob.ndim - batch), log_prob, 0.0)


def _align(tensor: Tensor, event_dimensions: int) -> Tensor:
    """Append the dimensions that a per-batch tensor lacks beside a per-measurement one."""
    return tensor.reshape(*tensor.shape, *[1] * event_dimensions) if tensor.ndim else tensor
