r"""The convolution by exclusive or and population count, compiled by numba.

Each thread takes an equal run of rows of the batch, in blocks whose input stays in the cache, and
for a block

1. adds the shift, takes signs and packs them, channels last, into words with a border of zeros;
2. for every tile of a few neighbouring positions times 16 outputs counts the differing bits over
   the lines of the kernel, where the words of a line's taps lie next to each other;
3. turns counts into sums (:meth:`~bayes1bit.networks.packed.words.PackedWeights.border_table`),
   scales them, applies the RPReLU, adds the identity and stores the result.

Signs of 64 channels become the bits of a word, and a tile goes from counts to results in
registers: no loop of numba's compiles to that, so both are written as LLVM vectors. LLVM lowers
them to what the machine has: with AVX-512 a comparison into a mask register and ``vpopcntq``,
elsewhere more instructions of the same effect. From the counts on everything is float32, rounded
after every operation, in the order of the plain path.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import types
from numba.extending import intrinsic

from bayes1bit.networks.packed.llvm import FLOAT, INT, INT32, Loop, constant, load, repeat, step

WORD = 64
LANES, VECTORS = 8, 2
"""Counts in a vector, and vectors of outputs in a tile."""
OUTPUTS = LANES * VECTORS
WIDE, NARROW = 8, 4
"""Positions in a tile, of maps that are wider than 4 or not."""
ZERO = np.float32(0)
NEUTRAL = np.float32(-0.0)
"""What can be added to every number without changing it; 0 would turn -0 into 0."""

Array = np.ndarray[Any, Any]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit``, with a cache on disk if there is a place for one."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:
            return numba.njit(nogil=True, **options)(function)

    return decorate


def _sign_bits(lanes: int) -> Any:
    """Bits of x + shift >= 0 of as many neighbouring floats, from their addresses."""

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def sign_bits(context: Any, x: Any, shift: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            vector = ir.VectorType(FLOAT, lanes)
            values = [load(builder, address, vector, 4) for address in arguments]
            positive = builder.fcmp_ordered(">=", builder.fadd(*values), ir.Constant(vector, None))
            word = builder.bitcast(positive, ir.IntType(lanes))
            return word if lanes == WORD else builder.zext(word, INT)

        return types.uint64(types.int64, types.int64), build

    return sign_bits


def _count(builder: Any, arguments: Sequence[Any], positions: int) -> list[Any]:
    """Differing bits of a tile: for each position its vectors of outputs."""
    a, a_line, a_step, w, w_step, lines, length = arguments
    vector = ir.VectorType(INT, LANES)
    name = f"llvm.ctpop.v{LANES}i64"
    popcount = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(vector, [vector]), name
    )
    zeros = [ir.Constant(vector, None)] * (positions * VECTORS)
    with Loop(builder, lines, [a, w, *zeros]) as line:
        with Loop(builder, length, line.values) as word:
            a_word, w_row, *counts = word.values
            weights = [
                load(builder, step(builder, w_row, constant(8 * LANES), v), vector, 8)
                for v in range(VECTORS)
            ]
            for p in range(positions):
                signs = load(builder, step(builder, a_word, a_step, p), INT, 8)
                signs = repeat(builder, signs, LANES)
                for v in range(VECTORS):
                    differing = builder.call(popcount, [builder.xor(signs, weights[v])])
                    counts[VECTORS * p + v] = builder.add(counts[VECTORS * p + v], differing)
            word.next([builder.add(a_word, constant(8)), builder.add(w_row, w_step), *counts])
        _, w_row, *counts = word.results
        line.next([builder.add(line.values[0], a_line), w_row, *counts])
    return list(line.results[2:])


def _finish(builder: Any, counts: Sequence[Any], arguments: Sequence[Any]) -> None:
    """From counts to results, one position after the other."""
    border, table, row, identity, i_step, out, out_step, nowhere, starts, last = arguments
    integers, floats = ir.VectorType(INT32, OUTPUTS), ir.VectorType(FLOAT, OUTPUTS)
    scale, before, slope, after = (
        load(builder, step(builder, table, row, i), floats, 4) for i in range(4)
    )
    for p in range(len(counts) // VECTORS):
        halves = [
            builder.trunc(half, ir.VectorType(INT32, LANES))
            for half in counts[VECTORS * p : VECTORS * (p + 1)]
        ]
        differing = builder.shuffle_vector(*halves, ir.Constant(integers, list(range(OUTPUTS))))
        ends = builder.zext(builder.icmp_signed("==", last, constant(p)), INT)
        kind = builder.add(ends, ends)
        if p == 0:
            kind = builder.add(kind, starts)
        fixed = load(builder, builder.add(border, builder.mul(row, kind)), integers, 4)
        total = builder.sub(fixed, builder.add(differing, differing))
        t = builder.fadd(builder.fmul(builder.sitofp(total, floats), scale), before)
        positive = builder.fcmp_ordered(">", t, ir.Constant(floats, None))
        t = builder.fadd(builder.select(positive, t, builder.fmul(slope, t)), after)
        inside = builder.icmp_signed("<=", constant(p), last)
        source = builder.select(inside, step(builder, identity, i_step, p), identity)
        t = builder.fadd(t, load(builder, source, floats, 4))
        target = builder.select(inside, step(builder, out, out_step, p), nowhere)
        builder.store(t, builder.inttoptr(target, floats.as_pointer()), align=4)


def _convolve_tile(positions: int) -> Any:
    """Results of neighbouring positions and 16 outputs.

    The arguments are addresses, and distances in bytes, but for the numbers of lines and words
    and for the last two: the first position's packed words, the distance of lines and that of
    positions; the words of weights and the distance of their rows; lines of the kernel, words in
    a line; the border table, the table of scale, before, slope and after, the distance of rows
    in both; the identity and the distance of positions in it; the result and the distance of
    positions in it; where to put results of positions outside the map; whether the first
    position is that of its row; which position, counted from the first, is the last of its row.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        numbers = [builder.extract_value(arguments[0], i) for i in range(17)]
        _finish(builder, _count(builder, numbers[:7], positions), numbers[7:])
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def convolve_tile(context: Any, arguments: Any) -> Any:
        return types.void(types.UniTuple(types.int64, 17)), build

    return convolve_tile


sign_bits_64, sign_bits_8 = _sign_bits(64), _sign_bits(8)
tile_wide, tile_narrow = _convolve_tile(WIDE), _convolve_tile(NARROW)


@compiled()
def _pack_row(x: Array, shift: Array, packed: Array) -> None:
    """Signs of one row (width, channels) into words (width, words)."""
    width, channels = x.shape
    whole = channels // WORD
    for position in range(width):
        a, s = x.ctypes.data + 4 * channels * position, shift.ctypes.data
        for word in range(whole):
            packed[position, word] = sign_bits_64(a + 4 * WORD * word, s + 4 * WORD * word)
        start, bits, place = whole * WORD, np.uint64(0), np.uint64(0)
        while start + 8 <= channels:
            bits |= sign_bits_8(a + 4 * start, s + 4 * start) << place
            start += 8
            place += np.uint64(8)
        while start < channels:
            if x[position, start] + shift[start] >= ZERO:
                bits |= np.uint64(1) << place
            start += 1
            place += np.uint64(1)
        if channels > whole * WORD:
            packed[position, whole] = bits


@compiled()
def convolve_rows(
    first: int,
    last: int,
    packed: Array,
    spare: Array,
    kernel_height: int,
    kernel_width: int,
    x: Array,
    identity: Array,
    bins: Array,
    words: Array,
    border: Array,
    tables: Array,
    shift: Array,
    out: Array,
) -> None:
    """Rows first to last of the batch, counted through all samples: one thread's share.

    ``packed``, shape (lines, positions, words), and ``spare``, shape (3, 8, 16), are scratch.
    ``bins`` are rows of ``tables`` and ``shift``, which with ``border`` are as
    :mod:`~bayes1bit.networks.packed.constants` fills them; the rest is as in
    :func:`~bayes1bit.networks.packed.convolution.convolve`, where an identity that is left out
    has no channels.
    """
    height, width, outputs = out.shape[1:]
    block, line, per_position = packed.shape
    halo, margin = kernel_height // 2, kernel_width // 2
    padded = words.shape[1]
    tile = WIDE if width > NARROW else NARROW
    added = identity.shape[3] == outputs
    spare[0] = NEUTRAL
    packed[:, :margin] = 0
    packed[:, margin + width :] = 0
    row = first
    while row < last:
        sample, top = row // height, row % height
        bottom = min(height, top + last - row, top + block - 2 * halo)
        row += bottom - top
        k = bins[sample]
        for y in range(top - halo, bottom + halo):
            target = packed[y - top + halo, margin : margin + width]
            if 0 <= y < height:
                _pack_row(x[sample, y], shift[k], target)
            else:
                target[:] = 0
        for y in range(top, bottom):
            vertical = (y == 0) + 2 * (y == height - 1)
            for left in range(0, width, tile):
                here = min(tile, width - left)
                for o in range(0, padded, OUTPUTS):
                    rest = outputs - o
                    at = 4 * (((sample * height + y) * width + left) * outputs + o)
                    if rest >= OUTPUTS:
                        result, result_step = out.ctypes.data + at, 4 * outputs
                        source, source_step = spare[0].ctypes.data, 0
                        if added:
                            source, source_step = identity.ctypes.data + at, 4 * outputs
                    else:
                        result, result_step = spare[1].ctypes.data, 4 * OUTPUTS
                        source, source_step = spare[0].ctypes.data, 4 * OUTPUTS
                        if added:
                            for p in range(here):
                                spare[0, p, :rest] = identity[sample, y, left + p, o:]
                    arguments = (
                        packed[y - top, left].ctypes.data,
                        8 * line * per_position,
                        8 * per_position,
                        words.ctypes.data + 8 * o,
                        8 * padded,
                        kernel_height,
                        kernel_width * per_position,
                        border[4 * vertical].ctypes.data + 4 * o,
                        tables[k].ctypes.data + 4 * o,
                        4 * padded,
                        source,
                        source_step,
                        result,
                        result_step,
                        spare[2].ctypes.data,
                        int(left == 0),
                        width - 1 - left,
                    )
                    if tile == WIDE:
                        tile_wide(arguments)
                    else:
                        tile_narrow(arguments)
                    if rest < OUTPUTS:
                        for p in range(here):
                            out[sample, y, left + p, o:] = spare[1, p, :rest]


@compiled(parallel=True)
def convolve_parallel(rows: int, packed: Array, spare: Array, shared: tuple[Any, ...]) -> None:
    """All rows of the batch, with as many threads as there are parts of scratch memory."""
    threads = len(packed)
    for t in numba.prange(threads):
        first, last = rows * t // threads, rows * (t + 1) // threads
        convolve_rows(first, last, packed[t], spare[t], *shared)
