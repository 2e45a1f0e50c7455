"""Memory for large results, used again once nobody holds the last ones.

The C library returns large pieces of memory to the system when they are freed, and the system
clears every page of them again when it is first touched, which takes as long as a packed
convolution does. So results of units are kept here, and :func:`keep_smaller` has the C library
keep what torch needs between them.
"""

import math
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, from_numpy

LARGE = 2**23
"""Bytes from which memory is kept."""
KEPT = 2
"""Free pieces that are kept: the result of one unit is free when the next but one has run."""
ROOM = 2**27
"""Bytes of free pieces up to which more are kept: units differ in size."""
MOST_MAPPED = 2**25
"""Bytes up to which glibc learns to keep memory; the same on all machines of 64 bits."""

_free: deque[np.ndarray[Any, Any]] = deque()


def empty(shape: Sequence[int]) -> Tensor:
    """A float32 tensor on the CPU without defined values.

    Args:
        shape: Its shape.

    Returns:
        A tensor of its own memory, which another gets only after the last view of this one is
        gone. numpy asks the system for large pages, which torch does not.
    """
    size = math.prod(shape)
    if 4 * size < LARGE:
        return from_numpy(np.empty(shape, np.float32))
    memory = _taken(size)
    view = memory.reshape(shape)
    # the tensor and all its views hold on to this very array
    weakref.finalize(view, _give_back, memory).atexit = False
    return from_numpy(view)


def keep_smaller() -> None:
    """Let glibc keep freed memory of less than 32 MiB, by freeing such a piece.

    Its thresholds are dynamic (mallopt(3), M_MMAP_THRESHOLD): pieces up to the largest that was
    ever freed come from memory of its own from then on, of which it returns what exceeds twice
    that. Many programs do so by chance; here it decides whether a network loses a third of its
    time. The piece is never touched, so it takes no memory. Other allocators take no notice.
    """
    np.empty(MOST_MAPPED - 2**16, np.uint8)


def _taken(size: int) -> np.ndarray[Any, Any]:
    """A free piece of this size, or a new one."""
    for _ in range(len(_free)):
        try:
            piece = _free.popleft()
        except IndexError:  # another thread took it
            break
        if piece.size == size:
            return piece
        _free.append(piece)
    return np.empty(size, np.float32)


def _give_back(memory: np.ndarray[Any, Any]) -> None:
    """Keep a piece, and forget the oldest if there are too many."""
    _free.append(memory)
    # other threads come and go between any two lines, but not within a copy
    pieces = list(_free)
    spare = sum(piece.nbytes for piece in pieces) - ROOM
    for piece in pieces[:-KEPT]:
        if spare <= 0:
            break
        spare -= piece.nbytes
        try:
            _free.popleft()
        except IndexError:
            break
