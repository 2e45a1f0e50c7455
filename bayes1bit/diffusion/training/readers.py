"""Files of signals as arrays: NumPy archives, plain or of encoded pictures, and IDX files."""

import gzip
import io
import math
import struct
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from bayes1bit.errors import InputError

IDX_NAMES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
DAMAGED = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile)


def read_signals(path: str | Path, split: str, count: int | None = None) -> np.ndarray:
    """Read one split of a file of signals.

    Args:
        path: One of

            - an ``.npz`` archive with an array named after the split. A one-dimensional one holds
              encoded pictures (PNG, JPEG, WebP) one after the other, whose starts and end are in
              ``{split}_offsets``;
            - an ``.npy`` array;
            - an IDX file of bytes, plain or ``.gz``, or a folder with ``train-images-idx3-ubyte``
              and ``t10k-images-idx3-ubyte``.

        split: "train" or "test"; a file that holds a single array is that split.
        count: How many signals to read, the first ones; all if None.

    Returns:
        The numbers as they are stored, bytes, integers or floats, shape (count, *space) or
        (count, *space, channels).

    Raises:
        InputError: If nothing readable is at ``path``, or it does not hold such an array.
    """
    path = Path(path)
    if path.is_dir():
        found = idx_files(path, split)
        if not found:
            raise InputError(f"{path} holds no {IDX_NAMES[split]} or {IDX_NAMES[split]}.gz")
        path = found[0]
    numpy = path.suffix in (".npz", ".npy")
    try:
        signals = _read_numpy(path, split, count) if numpy else _read_idx(path)[:count]
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"cannot read signals from {path}: {error}") from error
    if signals.dtype.kind not in "uif" or signals.ndim not in (2, 3, 4):
        raise InputError(
            f"{path} holds {signals.dtype} of shape {signals.shape}; signals must be numbers of "
            "shape (count, length), (count, height, width) or either with channels last"
        )
    return signals


def idx_files(folder: Path, split: str) -> list[Path]:
    """The IDX files of a split that a folder holds, plain before compressed."""
    candidates = [folder / f"{IDX_NAMES[split]}{end}" for end in ("", ".gz")]
    return [candidate for candidate in candidates if candidate.is_file()]


def read_labels(path: str | Path, split: str, name: str) -> np.ndarray:
    """Read the labels ``{split}_{name}`` of the signals of a split from an ``.npz`` archive.

    Returns:
        Integer labels, shape (count,).

    Raises:
        InputError: If there is no such archive, or no integer labels by that name in it.
    """
    path, key = Path(path), f"{split}_{name}"
    if path.suffix != ".npz":
        raise InputError(f"data.labels needs an .npz archive with an array {key}, got {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels: np.ndarray = archive[key]
    except KeyError:
        raise InputError(f'{path} has no array "{key}", which data.labels asks for') from None
    except DAMAGED as error:
        raise InputError(f"cannot read labels from {path}: {error}") from error
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise InputError(
            f'"{key}" of {path} holds {labels.dtype} of shape {labels.shape}; labels must be one '
            "integer for each signal"
        )
    return labels


def _read_numpy(path: Path, split: str, count: int | None) -> np.ndarray:
    # whether it is an archive or an array is decided by its content
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded[:count]
        with loaded as archive:
            if split not in archive:
                raise InputError(f'{path} has no array "{split}"')
            signals: np.ndarray = archive[split]
            offsets = f"{split}_offsets"
            if signals.ndim == 1 and offsets in archive:
                end = None if count is None else count + 1
                return _decode(signals, archive[offsets][:end])
            return signals[:count]


def _decode(content: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    from PIL import Image

    files = (io.BytesIO(content[start:end].tobytes()) for start, end in pairwise(offsets))
    return np.stack([np.asarray(Image.open(file)) for file in files])


def _read_idx(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InputError(f"{path} is neither .npz, .npy nor an IDX file of bytes")
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise InputError(f"{path} is cut short: its IDX header is incomplete")
    shape = struct.unpack(f">{rank}I", content[4:header])
    body = np.frombuffer(content, np.uint8, offset=header)
    if body.size != math.prod(shape):
        raise InputError(
            f"{path} is damaged: its header says {math.prod(shape)} bytes (shape {shape}), "
            f"it holds {body.size}"
        )
    return body.reshape(shape)
