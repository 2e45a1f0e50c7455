"""Checkpoints of guided diffusion, "ADM" (Dhariwal and Nichol, NeurIPS 2021).

Many priors of the literature on inverse problems are such files: the unconditional ImageNet model
of that paper, and the FFHQ model that DPS (Chung et al., ICLR 2023) and its successors use. A file
holds weights alone, so the network must be described along with it: by a preset, or by the flags
that it was trained with.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from bayes1bit.diffusion.adapters import schedules
from bayes1bit.diffusion.adapters.checkpoint import load_weights, read_weights
from bayes1bit.diffusion.adapters.settings import PriorSettings
from bayes1bit.diffusion.adapters.variance_preserving import from_variance_preserving
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError

ADM_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ffhq256": {
        "image_size": 256,
        "num_channels": 128,
        "num_res_blocks": 1,
        "attention_resolutions": "16",
        "num_head_channels": 64,
        "resblock_updown": True,
        "use_scale_shift_norm": True,
        "learn_sigma": True,
    },
    "imagenet256": {
        "image_size": 256,
        "num_channels": 256,
        "num_res_blocks": 2,
        "attention_resolutions": "32,16,8",
        "num_head_channels": 64,
        "resblock_updown": True,
        "use_scale_shift_norm": True,
        "learn_sigma": True,
    },
}
"""Training flags of the published checkpoints ``ffhq_10m.pt`` and
``256x256_diffusion_uncond.pt``."""


class GuidedDiffusionSettings(PriorSettings, total=False):
    """Training flags of a network, and settings of the prior.

    The flags are arguments of :class:`~bayes1bit.networks.adm.ADMUNet`, in the same form or in
    that of the command line: ``"32,16,8"``, ``""`` for the default, -1 for none.
    """

    image_size: int
    num_channels: int
    num_res_blocks: int
    channel_mult: str | Sequence[float] | None
    attention_resolutions: str | Sequence[int]
    num_heads: int
    num_head_channels: int | None
    resblock_updown: bool
    use_scale_shift_norm: bool
    learn_sigma: bool
    use_new_attention_order: bool
    in_channels: int


def from_guided_diffusion(
    path: str | Path,
    preset: str | None = None,
    *,
    diffusion_steps: int = 1000,
    noise_schedule: Literal["linear", "cosine"] = "linear",
    predict_xstart: bool = False,
    **settings: Unpack[GuidedDiffusionSettings],
) -> DiffusionPrior:
    """A prior from a checkpoint of guided diffusion.

    Pictures have values from -1 to 1. A learned variance is dropped: the samplers here have their
    own.

    Args:
        path: The checkpoint, as ``torch.save`` wrote it (read as tensors alone), or converted to
            safetensors.
        preset: A name of :data:`ADM_PRESETS`, if the network is one of those.
        diffusion_steps: Number of steps that it was trained with.
        noise_schedule: "linear", from 1e-4 to 0.02 at 1000 steps, or "cosine".
        predict_xstart: Whether it predicts the signal, not the noise.
        **settings: Training flags, which take precedence over those of the preset, and settings
            of the prior (:class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`).

    Returns:
        The prior.

    Raises:
        InputError: If neither a preset nor flags are given, one of them is unknown, the file
            cannot be read as tensors alone, or holds the weights of another or of a
            class-conditional network.
    """
    prior_settings: Any = {
        key: value for key, value in settings.items() if key in PriorSettings.__annotations__
    }
    given = {key: value for key, value in settings.items() if key not in prior_settings}
    if preset is not None and preset not in ADM_PRESETS:
        raise InputError(f'there is no preset "{preset}"; presets: {", ".join(ADM_PRESETS)}')
    if preset is None and not given:
        raise InputError(
            f"say which network {path} is of: preset={' or '.join(map(repr, ADM_PRESETS))}, or "
            "the flags that it was trained with, such as image_size=256, num_channels=128"
        )
    flags = architecture({**(ADM_PRESETS[preset] if preset else {}), **given})
    share = schedules.alphas_cumprod(_betas(noise_schedule, diffusion_steps))

    from bayes1bit.networks.adm import ADMUNet

    # only the shapes: no fresh weights are drawn and thrown away
    with torch.device("meta"):
        network = ADMUNet(**flags)
    weights = read_weights(path)
    if any(name.startswith("label_emb.") for name in weights):
        raise InputError(f"{path} is a class-conditional network; expected an unconditional one")
    described = ", ".join(f"{key} {value}" for key, value in flags.items())
    load_weights(network, weights, Path(path), f"the ADM network with {described}")
    side, channels = flags.get("image_size", 64), flags.get("in_channels", 3)
    return from_variance_preserving(
        network,
        share,
        (channels, side, side),
        prediction_type="sample" if predict_xstart else "epsilon",
        **prior_settings,
    )


def architecture(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network from training flags in either form.

    Args:
        flags: See :class:`GuidedDiffusionSettings`.

    Returns:
        Arguments of :class:`~bayes1bit.networks.adm.ADMUNet`.

    Raises:
        InputError: If a flag is unknown, or lists numbers and cannot be read.
    """
    known = [
        key
        for key in GuidedDiffusionSettings.__annotations__
        if key not in PriorSettings.__annotations__
    ]
    if unknown := [key for key in flags if key not in known]:
        raise InputError(
            f"unknown flags {', '.join(unknown)}; those of a network are {', '.join(known)}"
        )
    arguments = dict(flags)
    for key, number in (("channel_mult", float), ("attention_resolutions", int)):
        text = flags.get(key)
        if isinstance(text, str):
            try:
                values = tuple(number(part) for part in text.split(",")) if text else None
            except ValueError as error:
                raise InputError(f'{key} must be numbers with commas, got "{text}"') from error
            arguments[key] = values
    if arguments.get("attention_resolutions", ()) is None:
        arguments["attention_resolutions"] = ()
    if arguments.get("num_head_channels") == -1:
        arguments["num_head_channels"] = None
    return arguments


def _betas(noise_schedule: str, steps: int) -> Tensor:
    if steps < 2:
        raise InputError(f"diffusion_steps must be at least 2, got {steps}")
    if noise_schedule == "linear":
        # the ends are those of 1000 steps, scaled to give the same levels with others
        scale = 1000 / steps
        return schedules.linear_betas(steps, scale * 1e-4, scale * 0.02)
    if noise_schedule == "cosine":
        return schedules.cosine_betas(steps)
    raise InputError(f'noise_schedule can be linear or cosine; got "{noise_schedule}"')
