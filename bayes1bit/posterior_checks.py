"""What a posterior accepts: checks of its tensors, and the JSON form of its settings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError


def check_samples(samples: Tensor) -> None:
    """Refuse samples that are not finite float32 or float64 signals.

    Args:
        samples: Should have shape (num_samples, *event), with at least one sample.

    Raises:
        InputError: If dtype or shape is wrong, or a value is NaN or infinite.
    """
    if samples.dtype not in (torch.float32, torch.float64):
        raise InputError(f"samples have dtype {samples.dtype}; give float32 or float64 (.float())")
    if samples.dim() < 1 or samples.numel() == 0:
        raise InputError(
            f"samples have shape {tuple(samples.shape)}; give at least one sample, "
            f"shape (num_samples, *event)"
        )
    faulty = ~torch.isfinite(samples).reshape(len(samples), -1).all(1)
    if faulty.any():
        raise InputError(
            f"{int(faulty.sum())} of {len(samples)} samples hold NaN or infinite values; "
            f"the run diverged: check step sizes and noise levels"
        )


def check_per_sample(
    name: str, values: Mapping[str, Tensor], num_samples: int, observed: Mapping[str, Tensor]
) -> None:
    """Refuse entries that do not have one value per sample and observation.

    Args:
        name: What to call the mapping in the message.
        values: Tensors by site that should have shape (num_samples, *observed).
        num_samples: Number of samples.
        observed: Observed tensors by site; sites that are not here may have any shape.

    Raises:
        InputError: If a shape disagrees.
    """
    for site, value in values.items():
        known = site in observed
        shape = tuple(observed[site].shape) if known else tuple(value.shape[1:])
        if tuple(value.shape) != (num_samples, *shape):
            raise InputError(
                f"{name}[{site!r}] has shape {tuple(value.shape)}; expected one entry per sample"
                f"{' and observation' if known else ''}, shape {(num_samples, *shape)}"
            )


def check_latents(latents: Mapping[str, Tensor], num_samples: int, site: str) -> None:
    """Refuse values of other latent sites that do not go with the samples of the signal.

    Args:
        latents: Tensors by site that should have shape (num_samples, *site), finite.
        num_samples: Number of samples.
        site: Name of the signal's site, which is not among them.

    Raises:
        InputError: If a name, a shape or a value is wrong.
    """
    for name, value in latents.items():
        if name == site:
            raise InputError(f"latents hold {name!r}, which is the signal's own site")
        if value.shape[:1] != (num_samples,):
            raise InputError(
                f"latents[{name!r}] has shape {tuple(value.shape)}; expected one value per "
                f"sample, shape ({num_samples}, ...)"
            )
        if not torch.isfinite(value).all():
            raise InputError(f"latents[{name!r}] holds NaN or infinite values: the run diverged")


def check_chains(num_chains: int, num_samples: int, weighted: bool) -> None:
    """Refuse a number of chains that samples cannot be cut into.

    Raises:
        InputError: If it is less than 1, does not divide the number of samples, or is more than 1
            for weighted samples.
    """
    if num_chains < 1 or num_samples % num_chains:
        raise InputError(
            f"{num_samples} samples are not {num_chains} chains of equal length; num_chains must "
            "divide their number"
        )
    if weighted and num_chains > 1:
        raise InputError(f"weighted samples are no chains: num_chains must be 1, got {num_chains}")


def plain(value: Any) -> Any:
    """The JSON form of a setting: what a file gives back unchanged.

    Args:
        value: Anything.

    Returns:
        Numbers, strings and None as they are; tensors, arrays, tuples and sets as lists; mappings
        with their keys as strings; classes and functions by name, other objects by their text.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(item) for item in value]
    return getattr(value, "__qualname__", None) or str(value)
