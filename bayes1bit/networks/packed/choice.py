"""Which kernels compute a packed unit: numba's on the CPU, Triton's on a GPU, otherwise none.

Neither compiler is imported before it is needed, and where one is not installed, or a device has
none, plain torch computes the same.
"""

import functools
import importlib
import warnings
from types import ModuleType

import torch
from torch import Tensor

TRITON_DEVICES = ("cuda",)
"""Types of devices that Triton is used on; its interpreter runs on the CPU."""


def numba_for(x: Tensor) -> ModuleType | None:
    """:mod:`~bayes1bit.networks.packed.convolution` if it can compute this map, or None."""
    return _load("convolution") if x.device.type == "cpu" and x.numel() > 0 else None


def triton_for(x: Tensor) -> ModuleType | None:
    """:mod:`~bayes1bit.networks.packed.triton_kernels` if it can compute this map, or None."""
    return _checked(x.device) if x.device.type in TRITON_DEVICES and x.numel() > 0 else None


@functools.cache
def _load(name: str) -> ModuleType | None:
    """Kernels, or None where their compiler is not installed."""
    try:
        return importlib.import_module(f"bayes1bit.networks.packed.{name}")
    except ImportError:
        return None


@functools.cache
def _checked(device: torch.device) -> ModuleType | None:
    """Triton's kernels where they give the right numbers on a device.

    They are written for devices that they were not tried on, each with a compiler and a driver of
    its own, of which any may be missing a part or too old.
    """
    kernels = _load("triton_kernels")
    if kernels is None:
        return None
    try:
        fault = None if kernels.agrees(device) else "their numbers are not those of plain torch"
    except Exception as error:  # Triton, its compiler and the driver each raise their own
        fault = f"{type(error).__name__}: {error}"
    if fault is None:
        return kernels
    warnings.warn(f"packed units on {device} run without kernels: {fault}", stacklevel=2)
    return None
