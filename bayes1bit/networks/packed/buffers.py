"""Memory for large results, used again once nobody holds the last ones.

Past 32 MiB the C library returns memory to the system when it is freed, and the system clears
every page of it again when it is first touched, which takes as long as a packed convolution does.
"""

import math
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, from_numpy

LARGE = 2**25
"""Bytes from which memory is kept."""
KEPT = 2
"""Free pieces that are kept: the result of one unit is free when the next but one has run."""

_free: deque[np.ndarray[Any, Any]] = deque(maxlen=KEPT)


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
    weakref.finalize(view, _free.append, memory).atexit = False
    return from_numpy(view)


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
