"""Reading weights and configurations that others have written, without running anything.

A pickle is a program. Files of tensors are therefore read by safetensors, or by torch's reader
that knows tensors alone and refuses every other object.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        InputError: If the file cannot be read or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file, or from one that ``torch.save`` wrote.

    Args:
        path: The file. The suffix ``.safetensors`` says which of the two it is.

    Returns:
        The tensors on the CPU; floating-point ones in float32.

    Raises:
        InputError: If the file is missing, damaged, holds anything but tensors by name, asks for
            code to be run (none is), or holds values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a checkpoint (.safetensors, .pt, .bin)")
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in stored.items()
    }
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{path} holds NaN or infinite weights, in {name}")
    return weights


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: Path, of: str) -> None:
    """Put weights into a network whose every tensor they must name.

    Args:
        network: The network; where it is on the device "meta" it takes the tensors themselves.
        weights: Tensors by name.
        source: Where they are from, for the message.
        of: What network they should be of, for the message.

    Raises:
        InputError: If tensors are missing, foreign, or of other shapes.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    complaints = []
    if missing := sorted(expected.keys() - found.keys()):
        complaints.append(f"{len(missing)} of {len(expected)} tensors are missing ({missing[0]})")
    if foreign := sorted(found.keys() - expected.keys()):
        complaints.append(f"{len(foreign)} are foreign ({foreign[0]})")
    both = sorted(expected.keys() & found.keys())
    if reshaped := [name for name in both if expected[name] != found[name]]:
        name = reshaped[0]
        complaints.append(
            f"{len(reshaped)} have other shapes ({name}: {found[name]}, expected {expected[name]})"
        )
    if complaints:
        raise InputError(f"{source} does not hold the weights of {of}: {'; '.join(complaints)}")
    network.load_state_dict(weights, assign=any(p.is_meta for p in network.parameters()))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is damaged or not a safetensors file: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    # a damaged file can make the reader stumble in any way
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as tensors alone: it is damaged, not a checkpoint of torch, "
            "or asks for code to be run, which is never done here; where you trust it, load it "
            "yourself and save its tensors with safetensors.torch.save_file "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(stored, Mapping):
        raise InputError(f"{path} must hold tensors by name, not a {type(stored).__name__}")
    for name, value in stored.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{path} must hold tensors by name, but {name!r} is a {type(value).__name__}; "
                "take the network's state_dict out of it and save that alone"
            )
    return dict(stored)
