r"""What a network costs, binary and full precision apart: counted, and measured.

The literature on binarized networks counts a binary parameter as a 32nd of a full-precision one
and a binary operation as a 64th, since a processor handles 64 bits at once:

.. math::

    \text{Params} = P_{full} + P_{binary} / 32, \qquad \text{OPs} = O_{full} + O_{binary} / 64.

One operation is one multiply-accumulate of a convolution, a linear layer or a matrix product of
attention. The published figures of BI-DiffSR and SR3 (36.67 G and 176.41 G on 3x256x256) come out
to the last digit when group normalisation is counted as well, with 5 operations per number, and
nearest upsampling with 1, which are the conventions of the counter fvcore. They are kept here.

Counting says what could be gained. What is gained is a matter of kernels, so
:func:`measure_shares` takes the time.

Bethge et al., "Binary DenseNet", ICCV workshops 2019; Liu et al., "Bi-Real Net", ECCV 2018.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bayes1bit.errors import InputError
from bayes1bit.networks.binary_units import BinaryUnit
from bayes1bit.networks.packed.unit import PackedUnit
from bayes1bit.networks.unet_blocks import SelfAttention

BITS_PER_PARAMETER = 32
BITS_PER_OPERATION = 64
ELEMENTWISE = {
    torch.ops.aten.native_group_norm: 5,
    torch.ops.aten.upsample_nearest1d: 1,
    torch.ops.aten.upsample_nearest2d: 1,
}
"""Operations per number that comes out."""
FULL_PRECISION = (nn.Conv1d, nn.Conv2d, nn.Linear, SelfAttention)


@dataclass(frozen=True)
class Counts:
    """Parameters and operations of one pass of one signal.

    Attributes:
        full_parameters: Parameters in full precision.
        binary_parameters: Weights of which only the sign is used.
        full_operations: Operations in full precision.
        binary_operations: Multiply-accumulates of one bit with one bit.
    """

    full_parameters: int
    binary_parameters: int
    full_operations: int
    binary_operations: int

    @property
    def parameters(self) -> float:
        """Full-precision parameters plus a 32nd of the binary ones."""
        return self.full_parameters + self.binary_parameters / BITS_PER_PARAMETER

    @property
    def operations(self) -> float:
        """Full-precision operations plus a 64th of the binary ones."""
        return self.full_operations + self.binary_operations / BITS_PER_OPERATION

    @property
    def full_share(self) -> float:
        """Share of full precision in :attr:`operations`."""
        return self.full_operations / self.operations


@dataclass(frozen=True)
class Shares:
    """Where the time of a forward pass goes.

    Attributes:
        seconds: Time of one pass.
        binary: Share of the binary units, packed or not.
        full_precision: Share of convolutions, linear layers and attention in full precision.
        other: Share of the rest: normalisations, activations, moving numbers about.
    """

    seconds: float
    binary: float
    full_precision: float
    other: float


def count(network: nn.Module, input_shape: Sequence[int]) -> Counts:
    """Count parameters and operations of a network by the rule of the literature.

    Nothing is computed: shapes alone go through the network, so any size can be counted. Count a
    network before it is packed.

    Args:
        network: Module called as ``network(x, noise_label)``, or with a third tensor if it has
            ``condition_channels``.
        input_shape: Shape (channels, *space) of one signal.

    Returns:
        The counts.

    Raises:
        InputError: If the network is packed already.
    """
    if any(isinstance(module, PackedUnit) for module in network.modules()):
        raise InputError("a packed network cannot be counted; count it before it is packed")
    binary_operations = 0

    def add(unit: BinaryUnit, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal binary_operations
        binary_operations += unit.weight.numel() * output[0, 0].numel()

    units = [module for module in network.modules() if isinstance(module, BinaryUnit)]
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    on_meta = {name: tensor.detach().to("meta") for name, tensor in state.items()}
    handles = [unit.register_forward_hook(add) for unit in units]
    try:
        with _evaluating(network), _Operations() as operations:
            inputs = _inputs(network, input_shape, 1, torch.device("meta"))
            torch.func.functional_call(network, on_meta, inputs)
    finally:
        for handle in handles:
            handle.remove()
    binary_parameters = sum(unit.weight.numel() for unit in units)
    return Counts(
        sum(parameter.numel() for parameter in network.parameters()) - binary_parameters,
        binary_parameters,
        operations.total - binary_operations,
        binary_operations,
    )


def measure_shares(
    network: nn.Module, input_shape: Sequence[int], *, batch: int = 1, repeats: int = 5
) -> Shares:
    """Measure how the time of a forward pass divides.

    Args:
        network: As for :func:`count`; packed or not.
        input_shape: Shape (channels, *space) of one signal.
        batch: Signals per pass.
        repeats: Passes that are timed, after one that is not.

    Returns:
        The time of a pass and the shares, which add up to 1.
    """
    device = next(network.parameters()).device
    spent = {"binary": 0.0, "full_precision": 0.0}
    running: list[tuple[nn.Module, float]] = []

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        running.append((module, _now(device)))

    def stop(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, since = running.pop()
        # a layer inside a layer is timed with that
        if not running:
            binary = isinstance(module, BinaryUnit | PackedUnit)
            spent["binary" if binary else "full_precision"] += _now(device) - since

    inputs = _inputs(network, input_shape, batch, device)
    handles = []
    with _evaluating(network):
        network(*inputs)
        try:
            for module in network.modules():
                if isinstance(module, (BinaryUnit, PackedUnit, *FULL_PRECISION)):
                    handles += [
                        module.register_forward_pre_hook(start),
                        module.register_forward_hook(stop),
                    ]
            begin = _now(device)
            for _ in range(repeats):
                network(*inputs)
            total = _now(device) - begin
        finally:
            for handle in handles:
                handle.remove()
    binary, full = spent["binary"] / total, spent["full_precision"] / total
    return Shares(total / repeats, binary, full, 1 - binary - full)


class _Operations(TorchDispatchMode):
    """Sums up the operations of everything that torch executes."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in ELEMENTWISE:
            size = output[0] if isinstance(output, tuple) else output
            self.total += ELEMENTWISE[operator] * size.numel()
        elif operator in flop_registry:
            # torch counts two for a multiply-accumulate
            self.total += flop_registry[operator](*args, **(kwargs or {}), out_val=output) // 2
        return output


def _inputs(
    network: nn.Module, input_shape: Sequence[int], batch: int, device: torch.device
) -> tuple[Tensor, ...]:
    """A batch of noise at level 1, with a condition of noise if the network wants one."""
    dtype = next(network.parameters()).dtype
    x = torch.ones(batch, *input_shape, dtype=dtype, device=device)
    condition_channels = getattr(network, "condition_channels", 0)
    condition = x.new_ones(batch, condition_channels, *input_shape[1:])
    return (x, x.new_zeros(batch), *((condition,) if condition_channels else ()))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        # hooks on shapes see nothing in a caller's inference mode
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
