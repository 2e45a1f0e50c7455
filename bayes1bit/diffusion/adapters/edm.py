"""Networks with the preconditioning of Karras et al. ("EDM", NeurIPS 2022)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from torch import nn

from bayes1bit.diffusion.adapters.checkpoint import load_weights, read_weights
from bayes1bit.diffusion.adapters.settings import PriorSettings
from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError

LABEL_SCALE = 0.25
"""The published networks are told ``c_noise = log(sigma) / 4``."""


def from_edm(
    network: nn.Module,
    event_shape: Sequence[int],
    *,
    weights: str | Path | None = None,
    sigma_data: float = 0.5,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    data_range: tuple[float, float] | None = (-1.0, 1.0),
    **settings: Unpack[PriorSettings],
) -> DiffusionPrior:
    """A prior from the network inside an EDM denoiser.

    The published files are pickles of whole Python objects, which are not read here. Build the
    network from its own code, and give its weights as safetensors: those of the inner network,
    ``F`` of the paper, without the preconditioning, which is done here
    (:class:`~bayes1bit.diffusion.KarrasDenoiser`).

    Args:
        network: Module called as ``network(x, c_noise)`` with ``c_noise = log(sigma) / 4``,
            shapes (batch, *event) and (batch,). It is frozen and set to evaluation.
        event_shape: Shape of one signal.
        weights: Safetensors file of its weights, by the names of ``network.state_dict()``; None
            if it has them already.
        sigma_data: Standard deviation of clean signals that it was trained with.
        sigma_min: Smallest level that it was trained for.
        sigma_max: Largest level that it was trained for.
        data_range: Lowest and highest value of clean signals.
        **settings: See :class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`.

    Returns:
        The prior.

    Raises:
        InputError: If ``sigma_data`` or a level is outside its domain, or the file is not one of
            safetensors, is damaged, or holds the weights of another network.
    """
    if not sigma_data > 0:
        raise InputError(f"sigma_data must be positive, got {sigma_data}")
    if weights is not None:
        path = Path(weights)
        if path.suffix != ".safetensors":
            raise InputError(
                f"{path} is not a .safetensors file; load the network with its own code where you "
                "trust it, and save its state_dict with safetensors.torch.save_file"
            )
        load_weights(network, read_weights(path), path, f"this {type(network).__name__}")
    denoiser = KarrasDenoiser(network, sigma_data, label_scale=LABEL_SCALE)
    denoiser.requires_grad_(False).eval()
    return DiffusionPrior(
        denoiser, event_shape, sigma_min, sigma_max, data_range=data_range, **settings
    )
