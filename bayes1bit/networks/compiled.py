"""Networks through torch's compiler, which fuses what lies between their matrix products."""

import functools
import warnings

import torch
from torch import nn

from bayes1bit.errors import InputError


def compile_network(network: nn.Module, device: str | torch.device) -> None:
    """Let a network be compiled by ``torch.compile``, in place, at its first call.

    Its parameters and their names stay what they are. The first call takes as long as the
    compiler, from tens of seconds to minutes; so do the first with another batch size, after which
    any size will do, and the first that needs a gradient. A compiled network can be differentiated
    once, not twice.

    Args:
        network: The network. A copy of it is not compiled.
        device: Where it will run.

    Raises:
        InputError: If torch has no working compiler for the device.
    """
    if (fault := compiler_fault(torch.device(device).type)) is not None:
        raise InputError(
            f'compile=True needs a compiler that torch.compile can use on "{device}" (on the CPU '
            f"g++ or clang++, and Python's header files), and there is none: {fault}; install "
            "one, or leave compile out"
        )
    network.compile()


@functools.cache
def compiler_fault(device_type: str) -> str | None:
    """What keeps ``torch.compile`` from working on a type of device; None if it works.

    A tiny function is compiled to find out, because whatever a compiler needs may be missing. It
    takes some seconds, once in a process, in which nothing is lost: most of them go to importing
    the compiler, which a network needs as well.
    """
    try:
        # torch's own modules use what they deprecate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(torch.nn.Softplus())(torch.zeros(4, device=device_type))
    except Exception as error:  # dynamo, the compiler and the linker each raise their own
        reason, *_ = str(error).strip().split("\n")
        return f"{type(error).__name__}: {reason}"
    return None
