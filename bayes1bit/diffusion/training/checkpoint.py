"""Checkpoints of a training run, as safetensors: network, averaged weights, optimiser, step.

Nothing is pickled. Every tensor has a name that says where it belongs:
``network.NAME``, ``average.NAME``, ``adam.exp_avg.NAME``, ``adam.exp_avg_sq.NAME``; the metadata
hold the step and the seconds spent.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent

MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(
    path: Path,
    network: nn.Module,
    average: EMAModel,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> None:
    """Write the whole state of a run under its final name only when complete."""
    tensors: dict[str, Tensor] = {}
    for (name, parameter), shadow in zip(
        network.named_parameters(), average.shadow_params, strict=True
    ):
        tensors[f"network.{name}"] = parameter.detach()
        tensors[f"average.{name}"] = shadow
        for moment in MOMENTS:
            tensors[f"adam.{moment}.{name}"] = optimizer.state[parameter][moment]
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with complete_or_absent(path) as temporary:
        save_file(tensors, temporary, metadata={"bayes1bit": json.dumps(facts)})


def load_checkpoint(
    path: Path, network: nn.Module, average: EMAModel, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore a run from a checkpoint, in place.

    Returns:
        The facts saved with it (``step`` and ``seconds``).

    Raises:
        InputError: If the file is not a checkpoint of this network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = _read_facts((file.metadata() or {})["bayes1bit"])
            _check_tensors(file, network)
            with torch.no_grad():
                for (name, parameter), shadow in zip(
                    network.named_parameters(), average.shadow_params, strict=True
                ):
                    parameter.copy_(file.get_tensor(f"network.{name}"))
                    shadow.copy_(file.get_tensor(f"average.{name}"))
                    state = optimizer.state[parameter]
                    state["step"] = torch.tensor(float(facts["step"]), device=parameter.device)
                    for moment in MOMENTS:
                        stored = file.get_tensor(f"adam.{moment}.{name}")
                        state[moment] = stored.to(parameter.device)
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        reason = f"it has no entry {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{path} is not a checkpoint of this recipe's network ({reason}); expected is the "
            "safetensors file that bayes1bit train wrote with the same [network]: use another "
            "--out folder, or remove it to start afresh"
        ) from error
    average.optimization_step = facts["step"]
    return facts


def _read_facts(text: str) -> dict[str, Any]:
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError(f"its facts are {facts!r}, not a step and seconds")
    step, seconds = facts["step"], facts["seconds"]
    if type(step) is not int or step < 0 or not isinstance(seconds, int | float):
        raise ValueError(f"its facts are step {step!r} and {seconds!r} seconds, not numbers")
    return facts


def _check_tensors(file: Any, network: nn.Module) -> None:
    kinds = ("network", "average", *(f"adam.{moment}" for moment in MOMENTS))
    expected = {
        f"{kind}.{name}": f"F32 of shape {list(parameter.shape)}"
        for name, parameter in network.named_parameters()
        for kind in kinds
    }
    stored = {}
    for name in file.keys():  # noqa: SIM118
        part = file.get_slice(name)
        stored[name] = f"{part.get_dtype()} of shape {part.get_shape()}"
    if stored != expected:
        name = min(name for name in {*stored, *expected} if stored.get(name) != expected.get(name))
        wanted, found = expected.get(name, "absent"), stored.get(name, "absent")
        raise ValueError(f"{name} must be {wanted}, and is {found}")
