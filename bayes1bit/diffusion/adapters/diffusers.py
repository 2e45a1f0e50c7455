"""Unconditional pipelines of the diffusers library.

A pipeline is a folder: a network's configuration and weights, and a scheduler's configuration,
in ``unet`` and ``scheduler`` beside ``model_index.json``, or all in one place as in
``google/ddpm-cifar10-32``. The scheduler's class does not matter here, only the schedule that the
network was trained with.
"""

import re
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from torch import Tensor, nn

from bayes1bit.diffusion.adapters import schedules
from bayes1bit.diffusion.adapters.checkpoint import load_weights, read_json, read_weights
from bayes1bit.diffusion.adapters.settings import PriorSettings
from bayes1bit.diffusion.adapters.variance_preserving import Prediction, from_variance_preserving
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LAYOUT = (
    f"a folder with unet/{CONFIG}, unet/{WEIGHTS[0]} and scheduler/{SCHEDULER}, or with these "
    "files side by side"
)
# early versions of the library named the layers of attention otherwise
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class _Unpacked(nn.Module):
    """A diffusers network that returns its output alone."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.unet(x, t, return_dict=False)[0]
        return output


def from_diffusers(
    path_or_id: str | Path, *, revision: str | None = None, **settings: Unpack[PriorSettings]
) -> DiffusionPrior:
    """A prior from an unconditional ``UNet2DModel`` and its noise schedule.

    Schedules: ``linear``, ``scaled_linear``, ``squaredcos_cap_v2``, ``trained_betas``.
    Predictions: ``epsilon``, ``v_prediction``, ``sample``. Pictures have values from -1 to 1, as
    the library's own pipelines assume.

    Args:
        path_or_id: The pipeline's folder, or its id on the Hugging Face Hub.
        revision: Commit of the pipeline on the Hub, which must be given for an id: a branch can
            change under you.
        **settings: See :class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`.

    Returns:
        The prior.

    Raises:
        InputError: If there is no such pipeline, its files are missing or damaged, its network is
            conditional or of another class, or its schedule is not a variance-preserving one of
            those above.
    """
    folder = _find(path_or_id, revision)
    _check_index(folder)
    unet = folder / "unet" if (folder / "unet" / CONFIG).is_file() else folder
    scheduler = folder / "scheduler" if unet != folder else folder
    for part in (unet / CONFIG, scheduler / SCHEDULER):
        if not part.is_file():
            raise InputError(f"{folder} is not a diffusers pipeline: no {part}; expected {LAYOUT}")
    schedule, prediction = _schedule(scheduler / SCHEDULER)
    config = read_json(unet / CONFIG)
    event_shape = _event_shape(config, unet / CONFIG)
    network = _network(config, unet)
    return from_variance_preserving(
        network, schedule, event_shape, prediction_type=prediction, **settings
    )


def _find(path_or_id: str | Path, revision: str | None) -> Path:
    """The folder, after a download if it is not a local one."""
    path = Path(path_or_id)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path_or_id)):
        raise InputError(f"{path_or_id} is not a folder; expected {LAYOUT}, or an id on the Hub")
    if revision is None:
        raise InputError(
            f"there is no folder {path_or_id}; to download it from the Hugging Face Hub, name the "
            "commit as revision=..., so that it is always the same network"
        )
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, f"unet/{CONFIG}", SCHEDULER, f"scheduler/{SCHEDULER}", INDEX]
    try:
        # a pickle only where there is nothing else
        for name in WEIGHTS:
            patterns = [*wanted, name, f"unet/{name}"]
            folder = Path(
                snapshot_download(str(path_or_id), revision=revision, allow_patterns=patterns)
            )
            if (folder / name).exists() or (folder / "unet" / name).exists():
                break
    # whatever stops a download is the same to its user
    except Exception as error:
        raise InputError(f"cannot download {path_or_id} at {revision}: {error}") from error
    return folder


def _check_index(folder: Path) -> None:
    """Refuse pipelines whose network does not see the picture itself, or not it alone."""
    if not (folder / INDEX).is_file():
        return
    parts = {
        name: value[-1]
        for name, value in read_json(folder / INDEX).items()
        if not name.startswith("_") and isinstance(value, list) and value and value[-1]
    }
    kind = parts.get("unet", "UNet2DModel")
    others = sorted(parts.keys() - {"unet", "scheduler"})
    if kind != "UNet2DModel" or others:
        raise InputError(
            f"{folder} is a pipeline with {', '.join(others) or kind}; expected an unconditional "
            "one, of a UNet2DModel and a scheduler alone"
        )


def _event_shape(config: dict[str, Any], path: Path) -> tuple[int, int, int]:
    """Shape of pictures, if the configuration is that of an unconditional network."""
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise InputError(f"{path} is of a {kind}; expected a UNet2DModel")
    for key in ("num_class_embeds", "class_embed_type"):
        if config.get(key) is not None:
            raise InputError(
                f"{path} is of a class-conditional network ({key} is {config[key]}); expected an "
                "unconditional one"
            )
    embedding = config.get("time_embedding_type", "positional")
    if embedding != "positional":
        raise InputError(
            f"{path} has time embeddings of type {embedding}; expected positional ones, as "
            "variance-preserving networks in discrete time have"
        )
    if config.get("center_input_sample"):
        raise InputError(f"{path} is of a network for values in [0, 1]; expected [-1, 1]")
    size = config.get("sample_size")
    sides = size if isinstance(size, list) and len(size) == 2 else [size, size]
    match [config.get("in_channels", 3), config.get("out_channels", 3), *sides]:
        case [int(channels), int(outputs), int(height), int(width)]:
            pass
        case _:
            raise InputError(
                f"{path} does not say the sample_size and the channels of its pictures in numbers"
            )
    if outputs not in (channels, 2 * channels):
        raise InputError(
            f"{path} is of a network from {channels} channels to {outputs}; expected as many, or "
            "twice as many with a learned variance"
        )
    return channels, height, width


def _network(config: dict[str, Any], folder: Path) -> nn.Module:
    """The network with its weights."""
    from diffusers import UNet2DModel

    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds no weights; expected {' or '.join(WEIGHTS)}")
    try:
        # only the shapes: no fresh weights are drawn and thrown away
        with torch.device("meta"):
            unet = UNet2DModel.from_config(config)
    except (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        raise InputError(f"{folder / CONFIG} does not describe a UNet2DModel: {error}") from error
    weights = {_renamed(name): tensor for name, tensor in read_weights(path).items()}
    load_weights(unet, weights, path, f"the UNet2DModel of {folder / CONFIG}")
    return _Unpacked(unet)


def _renamed(name: str) -> str:
    """Present name of a tensor of an attention layer."""
    return re.sub(
        rf"(?<=\.)({'|'.join(RENAMED)})(?=\.(?:weight|bias)$)",
        lambda match: RENAMED[match.group()],
        name,
    )


def _schedule(path: Path) -> tuple[Tensor, Prediction]:
    """Shares of the signal in the variance at each step, and what the network predicts."""
    config = read_json(path)
    if config.get("rescale_betas_zero_snr"):
        raise InputError(
            f"{path} has a schedule of zero terminal SNR, whose last level is infinite; use "
            "from_variance_preserving without its last step"
        )
    betas = config.get("trained_betas")
    if betas is None:
        betas = _betas(config, path)
    # before there was prediction_type there was this switch
    default = "epsilon" if config.get("predict_epsilon", True) else "sample"
    prediction = config.get("prediction_type", default)
    try:
        # an unknown prediction is refused where it is used
        return schedules.alphas_cumprod(betas), cast(Prediction, prediction)
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error


def _betas(config: dict[str, Any], path: Path) -> Tensor:
    kind, steps = config.get("beta_schedule"), config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    numbers = all(isinstance(value, int | float) for value in (start, end))
    if not isinstance(steps, int) or steps < 2 or not numbers or min(start, end) <= 0:
        raise InputError(
            f"{path} must say two or more num_train_timesteps and positive beta_start and "
            f"beta_end, got {steps}, {start} and {end}"
        )
    if kind == "linear":
        return schedules.linear_betas(steps, start, end)
    if kind == "scaled_linear":
        return schedules.scaled_linear_betas(steps, start, end)
    if kind == "squaredcos_cap_v2":
        return schedules.cosine_betas(steps)
    raise InputError(
        f'{path} has beta_schedule "{kind}"; expected linear, scaled_linear or squaredcos_cap_v2, '
        "or trained_betas: the schedule of a variance-preserving model"
    )
