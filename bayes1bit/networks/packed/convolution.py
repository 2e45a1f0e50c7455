"""One call of the compiled convolution: its constants, scratch memory and threads."""

import math
import threading
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from bayes1bit.networks.packed.buffers import keep_smaller
from bayes1bit.networks.packed.constants import KINDS, fill_border, fill_constants
from bayes1bit.networks.packed.kernels import (
    NARROW,
    OUTPUTS,
    WIDE,
    WORD,
    Array,
    convolve_parallel,
    convolve_rows,
)

BLOCK = 2048
"""Words of packed input in a block: as float32 input they are 512 KiB, half of a usual L2."""

GRAIN = 2**19
"""Words to compare that are worth another thread: ten microseconds of work or more."""

# it is imported when it is first needed
keep_smaller()
_scratch = threading.local()
_one_at_a_time = threading.Lock()


def _scratch_array(name: str, shape: Sequence[int], kind: Any) -> Array:
    """Memory that this Python thread keeps for all its calls, grown when one needs more."""
    size = math.prod(shape)
    kept: Array | None = getattr(_scratch, name, None)
    if kept is None or len(kept) < size:
        kept = np.empty(size, kind)
        setattr(_scratch, name, kept)
    return kept[:size].reshape(shape)


def convolve(
    x: Array,
    kernel: tuple[int, int],
    words: Array,
    tables: tuple[Array, ...],
    places: Array,
    interpolated: bool,
    identity: Array | None,
    out: Array,
    threads: int,
) -> None:
    """Run the kernel on contiguous arrays with channels last.

    Calls from several Python threads are safe: each has its own scratch memory, and those that
    use more than one thread wait for each other, because not every threading layer of numba
    allows for two at a time.

    Args:
        x: Input, shape (batch, height, width, in_channels), float32.
        kernel: Height and width of the kernel.
        words: Packed weights, shape (kh * kw * words, padded outputs), int64.
        tables: Shift, scale, before, slope and after, shape (1 or pairs, channels) each, in
            float32 or as int16 with the bits of half precision.
        places: Bin of each sample in [0, pairs), or its place among knots, shape (batch,),
            float32.
        interpolated: Whether rows of the tables belong to knots, between which constants are
            interpolated, and not to bins.
        identity: Added to the result if given, shape of ``out``.
        out: Where the result goes, shape (batch, height, width, outputs), float32.
        threads: Threads to use; no more than numba has are.
    """
    batch, height, width, channels = x.shape
    most: int = vars(numba.config)["NUMBA_NUM_THREADS"]
    work = batch * height * width * words.size
    threads = max(1, min(threads, most, batch * height, work // GRAIN))
    tile = WIDE if width > NARROW else NARROW
    line = -(-width // tile) * tile + kernel[1] - 1
    per_position = -(-channels // WORD)
    block = min(height, max(4, BLOCK // (line * per_position))) + kernel[0] - 1
    packed = _scratch_array("packed", (threads, block, line, per_position), np.uint64)
    spare = _scratch_array("spare", (threads, 3, WIDE, OUTPUTS), np.float32)
    after_sums = _scratch_array("after_sums", (batch, 4, words.shape[1]), np.float32)
    shift = _scratch_array("shift", (batch, channels), np.float32)
    rows = _scratch_array("rows", (batch,), np.int64)
    border = _scratch_array("border", (KINDS, words.shape[1]), np.int32)
    fill_constants(places, interpolated, tables, after_sums, shift, rows)
    fill_border(words, *kernel, channels, border)
    if identity is None:
        identity = np.empty((batch, height, width, 0), np.float32)
    shared = (*kernel, x, identity, rows, words, border, after_sums, shift, out)
    if threads == 1:
        convolve_rows(0, batch * height, packed[0], spare[0], *shared)
        return
    with _one_at_a_time:
        before_call = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            convolve_parallel(batch * height, packed, spare, shared)
        finally:
            numba.set_num_threads(before_call)
