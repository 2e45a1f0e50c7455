"""A binary unit whose weights are packed, for a trained network.

The float unit that is trained simulates its one-bit convolution with float32 arithmetic. A packed
one computes the same numbers from one bit a weight: on the CPU with numba, everywhere else, or
where numba is not installed, as the float unit does.
"""

import functools
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.packed.buffers import empty
from bayes1bit.networks.packed.checks import check_call, check_tables
from bayes1bit.networks.packed.reference import reference_unit
from bayes1bit.networks.packed.words import PackedWeights

WEIGHTS = "weight_bits"
TABLES = ("scale", "shift", "before", "slope", "after")
NO_TRAINING = (
    "a packed network cannot be trained: its weights are single bits without a gradient; train "
    "the float network, then pack it"
)


class PackedUnit(nn.Module):
    r"""Shift, sign, one-bit convolution, scale, RPReLU and identity in one pass.

    The result equals that of :func:`~bayes1bit.networks.packed.reference.reference_unit`, which
    states the equation, bit for bit. Weights take one bit each, in memory as in the state
    dict, where they are the bytes ``weight_bits``. Buffers are constants: load a state dict to
    change them.

    Args:
        weights: Packed weights of a 1x1, 3x3 or 1x3 kernel, in stride 1 with zero padding. A
            1x3 or 1x1 kernel also takes signals in one dimension.
        scale: Factor of each output, shape (out_channels,); 1 if left out.
        shift: Added to the input before its sign, shape (pairs, in_channels).
        before: Shift before the PReLU, shape (pairs, out_channels); this and the next two are
            given together or not at all.
        slope: Slope of the PReLU where its input is not positive, shape (pairs, out_channels).
        after: Shift after the PReLU, shape (pairs, out_channels).

    Raises:
        InputError: If the shapes do not fit each other.
    """

    words: Tensor
    scale: Tensor | None
    shift: Tensor | None
    before: Tensor | None
    slope: Tensor | None
    after: Tensor | None

    def __init__(
        self,
        weights: PackedWeights,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        before: Tensor | None = None,
        slope: Tensor | None = None,
        after: Tensor | None = None,
    ) -> None:
        super().__init__()
        tables = (scale, shift, before, slope, after)
        self.shape = weights.shape
        self.pairs = check_tables(weights.shape, *tables)
        # the state dict holds single bits in place of this padded form
        self.register_buffer("words", weights.words, persistent=False)
        for name, table in zip(TABLES, tables, strict=True):
            kept = None if table is None else table.detach().float().contiguous().clone()
            self.register_buffer(name, kept)
        self._arguments: tuple[np.ndarray[Any, Any], ...] | None = None
        super().train(False)

    @classmethod
    def from_tensors(
        cls,
        weight: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        before: Tensor | None = None,
        slope: Tensor | None = None,
        after: Tensor | None = None,
    ) -> "PackedUnit":
        """Pack the signs of float weights.

        Args:
            weight: Weights, shape (out_channels, in_channels, kh, kw) or (out_channels,
                in_channels, kw); only their signs are kept, with sign(0) = 1.
            scale: As for the class, and so are the others.
            shift: As for the class.
            before: As for the class.
            slope: As for the class.
            after: As for the class.

        Raises:
            InputError: If the shapes do not fit, or weights hold NaN.
        """
        return cls(PackedWeights.from_float(weight), scale, shift, before, slope, after)

    @property
    def weights(self) -> PackedWeights:
        """The packed weights."""
        return PackedWeights(self.words, self.shape)

    def forward(
        self, x: Tensor, bins: Tensor | None = None, identity: Tensor | None = None
    ) -> Tensor:
        """Apply the unit.

        Tensors whose memory has channels last are read in place; others are copied into that
        order first. The sign of NaN is taken as -1.

        Args:
            x: Input, shape (batch, in_channels, height, width) or (batch, in_channels, length),
                float32.
            bins: Pair of each sample, shape (batch,), int64 in [0, pairs). May be left out with
                one pair.
            identity: Added to the result, float32, of its shape.

        Returns:
            Shape (batch, out_channels, height, width) or (batch, out_channels, length), with
            channels last in memory.

        Raises:
            InputError: If shapes, types or bins do not fit, or a gradient is asked for.
        """
        if torch.is_grad_enabled() and (
            x.requires_grad or (identity is not None and identity.requires_grad)
        ):
            raise InputError(NO_TRAINING)
        check_call(self.shape, self.pairs, x, bins, identity)
        convolution = _load_convolution() if x.device.type == "cpu" else None
        if convolution is None or x.numel() == 0:
            scale, shift, before, slope, after = self._tables()
            signs = self.weights.signs()
            return reference_unit(x, signs, scale, shift, before, slope, after, bins, identity)
        if self._arguments is None:
            self._arguments = self._kernel_arguments()
        positions = x.shape[2:] if x.ndim == 4 else (1, x.shape[2])
        array = _channels_last(x)
        out = empty((len(x), *positions, self.shape[0]))
        convolution.convolve(
            array,
            self.shape[2:],
            *self._arguments,
            np.zeros(len(x), np.int64) if bins is None else bins.contiguous().numpy(),
            None if identity is None else array if identity is x else _channels_last(identity),
            out.numpy(),
            torch.get_num_threads(),
        )
        result = out.movedim(-1, 1)
        return result.squeeze(2) if x.ndim == 3 else result

    def train(self, mode: bool = True) -> "PackedUnit":
        """Refuse to train; evaluation is the only mode.

        Raises:
            InputError: If ``mode`` is true.
        """
        if mode:
            raise InputError(NO_TRAINING)
        return super().train(False)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        out_channels, in_channels, height, width = self.shape
        return f"{in_channels}, {out_channels}, kernel={height}x{width}, pairs={self.pairs}"

    def _tables(self) -> list[Tensor | None]:
        tables = (getattr(self, name) for name in TABLES)
        return [None if table is None else table.float() for table in tables]

    def _kernel_arguments(self) -> tuple[np.ndarray[Any, Any], ...]:
        """Arrays that the kernel reads; what is left out becomes a neutral element."""
        out_channels, in_channels, *_ = self.shape
        # t + (-0.0) is t for every t, but (-0.0) + 0.0 is 0.0
        neutral = (1.0, -0.0, -0.0, 1.0, -0.0)
        widths = (out_channels, in_channels, out_channels, out_channels, out_channels)
        scale, shift, before, slope, after = (
            torch.full((self.pairs, width), value) if table is None else table
            for table, value, width in zip(self._tables(), neutral, widths, strict=True)
        )
        after_sums = torch.stack([scale.expand_as(slope), before, slope, after], 1)
        after_sums = F.pad(after_sums, (0, self.words.shape[1] - out_channels))
        arrays = (self.words, self.weights.border_table(), after_sums, shift)
        return tuple(array.contiguous().numpy() for array in arrays)

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedUnit":
        self._arguments = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arguments": None}

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + WEIGHTS] = self.weights.bits()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self._arguments = None
        bits = state_dict.pop(prefix + WEIGHTS, None)
        if bits is not None:
            try:
                loaded = PackedWeights.from_bits(bits, self.shape)
                self.words = loaded.words.to(self.words.device)
            except InputError as error:
                error_msgs.append(f"{prefix}{WEIGHTS}: {error}")
        elif strict:
            missing_keys.append(prefix + WEIGHTS)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _channels_last(x: Tensor) -> np.ndarray[Any, Any]:
    """Array (batch, height, width, channels), of the tensor's own memory if its order allows."""
    moved = x.detach().movedim(1, -1)
    if not moved.is_contiguous():
        moved = empty(moved.shape).copy_(moved)
    array: np.ndarray[Any, Any] = moved.numpy()
    return array if x.ndim == 4 else array[:, None]


@functools.cache
def _load_convolution() -> ModuleType | None:
    """The numba kernels, or None where numba is not installed."""
    try:
        from bayes1bit.networks.packed import convolution
    except ImportError:
        return None
    return convolution
