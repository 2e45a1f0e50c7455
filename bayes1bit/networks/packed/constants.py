"""What a call of the convolution needs besides the weights, computed anew for each.

Constants at the levels of a batch and sums at the borders of a map take microseconds to compute,
so that nothing but the weights and the constants at the knots is held, and calls from several
threads share nothing that changes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from bayes1bit.networks.packed.kernels import Array, compiled
from bayes1bit.networks.packed.llvm import widen

KINDS = 16
"""Kinds of positions, by the borders of the map that they touch."""


def _read(context: Any, stored: Any) -> Any:
    """A float32, given as it is or as the bits of a number of half precision."""

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return arguments[0] if isinstance(stored, types.Float) else widen(builder, arguments[0])

    return types.float32(stored), build


def _count(context: Any, word: Any) -> Any:
    """Number of set bits."""

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), build


read: Any = intrinsic(_read)
count: Any = intrinsic(_count)


@compiled()
def _fill_row(table: Array, place: np.float32, interpolated: bool, row: Array) -> None:
    """Constants at one level, from a table of one row or one for each bin or knot."""
    width = table.shape[1]
    if len(table) > 1 and interpolated:
        # compared before it is rounded, because NaN has no integer
        below = int(min(place, np.float32(len(table) - 2))) if place > 0 else 0
        weight = place - np.float32(below)
        for i in range(width):
            low, high = read(table[below, i]), read(table[below + 1, i])
            row[i] = low + weight * (high - low)
        return
    only = int(place) if len(table) > 1 else 0
    for i in range(width):
        row[i] = read(table[only, i])


@compiled()
def fill_constants(
    places: Array,
    interpolated: bool,
    tables: tuple[Array, ...],
    after_sums: Array,
    shift: Array,
    rows: Array,
) -> None:
    """Constants of each sample; neighbours of one level share a row.

    Args:
        places: Bin or place among the knots of each sample, shape (batch,), float32.
        interpolated: Whether they are places among knots.
        tables: Shift, scale, before, slope and after, shape (1 or pairs, channels) each, in
            float32 or as int16 with the bits of half precision.
        after_sums: Where all but the shift go, shape (batch, 4, padded outputs), float32.
        shift: Where the shift goes, shape (batch, in_channels), float32.
        rows: Where the row of each sample goes, shape (batch,), int64.
    """
    row = -1
    for sample in range(len(places)):
        if sample == 0 or places[sample] != places[sample - 1]:
            row += 1
            _fill_row(tables[0], places[sample], interpolated, shift[row])
            for i in range(4):
                _fill_row(tables[1 + i], places[sample], interpolated, after_sums[row, i])
                after_sums[row, i, tables[1 + i].shape[1] :] = 0
        rows[sample] = row


@compiled()
def _outside(kind: int, tap: int, taps: int) -> bool:
    """Whether a tap is outside the map, on one axis of the kernel."""
    return taps > 1 and ((tap == 0 and kind & 1 > 0) or (tap == taps - 1 and kind & 2 > 0))


@compiled()
def fill_border(
    words: Array, kernel_height: int, kernel_width: int, channels: int, border: Array
) -> None:
    """The table of :meth:`~bayes1bit.networks.packed.words.PackedWeights.border_table`.

    Args:
        words: Packed weights, shape (kh * kw * words, padded outputs), int64.
        kernel_height: Height kh of the kernel.
        kernel_width: Its width kw.
        channels: Channels in.
        border: Where the table goes, shape (16, padded outputs), int32.
    """
    taps = kernel_height * kernel_width
    per_tap = len(words) // taps
    ones = np.empty(words.shape[1], np.int32)
    border[:] = taps * channels
    for tap in range(taps):
        ones[:] = 0
        for word in range(tap * per_tap, (tap + 1) * per_tap):
            for o in range(len(ones)):
                ones[o] += count(words[word, o])
        for kind in range(KINDS):
            above = _outside(kind // 4, tap // kernel_width, kernel_height)
            if above or _outside(kind % 4, tap % kernel_width, kernel_width):
                for o in range(len(ones)):
                    border[kind, o] += 2 * ones[o] - channels
