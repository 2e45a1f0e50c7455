"""A binary unit whose weights are packed, for a trained network.

The float unit that is trained simulates its one-bit convolution with float32 arithmetic. A packed
one computes the same numbers from one bit a weight, on the CPU with numba and on a GPU with
Triton; elsewhere, or where these are not installed, as the float unit does.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError
from bayes1bit.networks.packed.buffers import empty
from bayes1bit.networks.packed.checks import check_call, check_tables
from bayes1bit.networks.packed.choice import numba_for, triton_for
from bayes1bit.networks.packed.reference import reference_unit
from bayes1bit.networks.packed.words import PackedWeights

WEIGHTS = "weight_bits"
TABLES = ("scale", "shift", "before", "slope", "after")
# t + (-0.0) is t for every t, but (-0.0) + 0.0 is 0.0
NEUTRAL = {"scale": 1.0, "shift": -0.0, "before": -0.0, "slope": 1.0, "after": -0.0}
NO_TRAINING = (
    "a packed network cannot be trained: its weights are single bits without a gradient; train "
    "the float network, then pack it"
)


class PackedUnit(nn.Module):
    r"""Shift, sign, one-bit convolution, scale, RPReLU and identity in one pass.

    The result equals that of :func:`~bayes1bit.networks.packed.reference.reference_unit`, which
    states the equation, bit for bit. Weights take one bit each, in memory as in the state
    dict, where they are the bytes ``weight_bits``. Tables that consist of numbers of half
    precision, as those of a stored prior do, are held in it; the state dict has all in float32.
    Buffers are constants: load a state dict to change them.

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
        # for the kernels of the device: arrays for numba's, tensors for Triton's
        self._arguments: tuple[Any, ...] | None = None
        self._shorten()
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
            scale: As :class:`PackedUnit` takes it, and so are the others.
            shift: As :class:`PackedUnit` takes it.
            before: As :class:`PackedUnit` takes it.
            slope: As :class:`PackedUnit` takes it.
            after: As :class:`PackedUnit` takes it.

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
        if (triton_kernels := triton_for(x)) is not None:
            if self._arguments is None:
                laid_out = triton_kernels.lay_out(self.weights)
                self._arguments = (*laid_out, *self._neutral_tables())
            words, border, *tables = self._arguments
            chosen = tables if bins is None else (table[bins] for table in tables)
            return triton_kernels.convolve(x, self.shape, words, border, *chosen, identity)
        if numba_for(x) is None:
            scale, shift, before, slope, after = self._tables()
            signs = self.weights.signs()
            return reference_unit(x, signs, scale, shift, before, slope, after, bins, identity)
        places = x.new_zeros(len(x)) if bins is None else bins.float()
        return self._convolve(x, places, identity, interpolated=False)

    def _convolve(
        self, x: Tensor, places: Tensor, identity: Tensor | None, *, interpolated: bool
    ) -> Tensor:
        """One pass of numba's kernel.

        Args:
            x: Input, checked.
            places: Bin of each sample, or its place among knots, shape (batch,).
            identity: Added to the result if given.
            interpolated: Whether they are places among knots.

        Returns:
            As :meth:`forward`.
        """
        convolution = numba_for(x)
        assert convolution is not None
        if self._arguments is None:
            self._arguments = self._kernel_arguments()
        words, *tables = self._arguments
        positions = x.shape[2:] if x.ndim == 4 else (1, x.shape[2])
        array = _channels_last(x)
        out = empty((len(x), *positions, self.shape[0]))
        convolution.convolve(
            array,
            self.shape[2:],
            words,
            tuple(tables),
            places.detach().float().contiguous().numpy(),
            interpolated,
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
        """Arrays that numba's kernel reads, of the buffers' own memory.

        They are the words, then the shift, scale, before, slope and after, of which those that
        are left out become a neutral row.
        """
        names = ("shift", "scale", "before", "slope", "after")
        given = {getattr(self, name).dtype for name in names if getattr(self, name) is not None}
        dtype = torch.float16 if given <= {torch.float16} else torch.float32
        arrays = [self.words.numpy()]
        for name in names:
            table = torch.atleast_2d(self._given_or_neutral(name))
            array = table.to(dtype).contiguous().numpy()
            # numba has no half precision
            arrays.append(array.view(np.int16) if dtype == torch.float16 else array)
        return tuple(arrays)

    def _shorten(self) -> None:
        """Hold the tables in half precision if that changes none of their numbers.

        The kernel reads tables of one type only, so they are all in half precision or none is.
        """
        tables = {name: getattr(self, name) for name in TABLES}
        given = {name: table.float() for name, table in tables.items() if table is not None}
        if any(table.is_meta for table in given.values()):
            return
        halves = {name: table.half() for name, table in given.items()}
        exact = all(torch.equal(halves[name].float(), given[name]) for name in given)
        for name, table in (halves if exact else given).items():
            setattr(self, name, table)

    def _neutral_tables(self) -> tuple[Tensor, Tensor]:
        """Tables where what is left out is a neutral element.

        Returns:
            Scale, before, slope and after, shape (pairs, 4, out_channels), and the shift, shape
            (pairs, in_channels).
        """
        scale, shift, before, slope, after = (
            torch.atleast_2d(self._given_or_neutral(name).float()).expand(self.pairs, -1)
            for name in TABLES
        )
        return torch.stack([scale, before, slope, after], 1), shift

    def _given_or_neutral(self, name: str) -> Tensor:
        """A table as it is held, or one row that changes nothing where it is left out."""
        table: Tensor | None = getattr(self, name)
        if table is not None:
            return table
        width = self.shape[1 if name == "shift" else 0]
        return self.words.new_full((width,), NEUTRAL[name], dtype=torch.float32)

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedUnit":
        self._arguments = None
        super()._apply(fn, recurse)
        self._shorten()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arguments": None}

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, table in zip(TABLES, self._tables(), strict=True):
            if table is not None:
                destination[prefix + name] = table
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
        # what is loaded is copied into these, so they have to hold any number
        for name, table in zip(TABLES, self._tables(), strict=True):
            setattr(self, name, table)
        bits = state_dict.pop(prefix + WEIGHTS, None)
        if bits is not None:
            try:
                words = PackedWeights.from_bits(bits, self.shape).words
                assign = local_metadata.get("assign_to_params_buffers", False)
                self.words = words if assign else words.to(self.words.device)
            except InputError as error:
                error_msgs.append(f"{prefix}{WEIGHTS}: {error}")
        elif strict:
            missing_keys.append(prefix + WEIGHTS)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self._shorten()


def _channels_last(x: Tensor) -> np.ndarray[Any, Any]:
    """Array (batch, height, width, channels), of the tensor's own memory if its order allows."""
    moved = x.detach().movedim(1, -1)
    if not moved.is_contiguous():
        moved = empty(moved.shape).copy_(moved)
    array: np.ndarray[Any, Any] = moved.numpy()
    return array if x.ndim == 4 else array[:, None]
