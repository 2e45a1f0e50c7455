"""Parameters of the observation distributions: one type, one shape."""

import torch
from torch import Size, Tensor

from bayes1bit.errors import InputError


def broadcast(**parameters: Tensor | float) -> list[Tensor]:
    """Make tensors of one dtype and shape of the parameters.

    Types are promoted as torch's arithmetic does it, and numbers follow the tensors. A tensor that
    already has the common dtype and shape is handed back as it is, so that a parameter can be
    recognised as the output of the operator that made it.

    Args:
        parameters: Tensors and numbers by name.

    Returns:
        A tensor for each parameter, in the given order.

    Raises:
        InputError: If a parameter is not a number or a ``float32`` or ``float64`` tensor, or if
            shapes do not broadcast.
    """
    tensors = {name: value for name, value in parameters.items() if isinstance(value, Tensor)}
    for name, value in parameters.items():
        if name not in tensors and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{name} must be a tensor or a number, not {type(value).__name__}")
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise InputError(f"{name} must be float32 or float64, not {tensor.dtype}")
    given = list(tensors.values()) or [torch.empty(())]
    dtype = _promoted(given)
    try:
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors.values()))
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise InputError(f"these shapes do not broadcast: {shapes}") from error
    for name in parameters.keys() - tensors.keys():
        tensors[name] = torch.tensor(parameters[name], dtype=dtype, device=given[0].device)
    return [expand_to(tensors[name].to(dtype), shape) for name in parameters]


def expand_to(tensor: Tensor, shape: Size) -> Tensor:
    """Expand a tensor, or hand it back as it is if it has that shape."""
    return tensor if tensor.shape == shape else tensor.expand(shape)


def count_wrong(value: Tensor, wrong: Tensor) -> str:
    """Say how many of the values are wrong, and show the first."""
    first = value[wrong][0].item()
    return f"{int(wrong.sum())} of its {value.numel()} values are not, such as {first}"


def describe_wrong_outcomes(value: Tensor, wrong: Tensor) -> str:
    """Say that outcomes must be 0 or 1, which are not, and how to convert -1 and +1."""
    hint = ""
    if bool(((value == 1) | (value == -1)).all()):
        hint = ": convert -1 and +1 with (y + 1) / 2"
    return f"y must be 0 or 1, {count_wrong(value, wrong)}{hint}"


def _promoted(tensors: list[Tensor]) -> torch.dtype:
    """Widest type of the tensors with dimensions; scalars count only if there are no others."""
    decisive = [tensor for tensor in tensors if tensor.ndim] or tensors
    double = any(tensor.dtype == torch.float64 for tensor in decisive)
    return torch.float64 if double else torch.float32
