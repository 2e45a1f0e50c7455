"""Pictures for training: NumPy archives and IDX files, kept as bytes until a batch is drawn."""

import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes1bit.diffusion.training.recipe import DataSettings
from bayes1bit.errors import InputError

IDX_NAMES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}


@dataclass(frozen=True)
class Pictures:
    """A training split and a held-out split, stored as bytes of shape (count, *event_shape)."""

    train: Tensor
    held_out: Tensor
    settings: DataSettings

    @classmethod
    def load(cls, path: str | Path, settings: DataSettings) -> "Pictures":
        """Read the training split at ``path`` and set the last ``held_out`` pictures aside.

        Args:
            path: ``.npz`` archive with an array ``train``, ``.npy`` array, IDX file (plain or
                ``.gz``), or a folder with ``train-images-idx3-ubyte``.
            settings: The ``[data]`` table of the recipe.

        Raises:
            InputError: If the file cannot be read, or its pictures do not fit ``event_shape``.
        """
        stored = to_event_shape(read_pictures(path, "train"), settings)
        if len(stored) <= settings.held_out:
            raise InputError(
                f"{path} has {len(stored)} pictures, which leaves none to train on after "
                f"data.held_out = {settings.held_out}"
            )
        cut = len(stored) - settings.held_out
        return cls(stored[:cut], stored[cut:], settings)

    def scale(self, stored: Tensor) -> Tensor:
        """Map stored bytes to signal values in [low, high], float32."""
        low, high = self.settings.low, self.settings.high
        return stored.float() * ((high - low) / 255) + low


def read_pictures(path: str | Path, split: str) -> np.ndarray:
    """Read one split as bytes, shape (count, height, width) or (count, height, width, channels).

    Args:
        path: See :meth:`Pictures.load`.
        split: "train" or "test"; a file that holds a single array is that split.

    Raises:
        InputError: If nothing readable is at ``path``, or it does not hold 8-bit pictures.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [path / f"{IDX_NAMES[split]}{end}" for end in ("", ".gz")]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if not found:
            raise InputError(f"{path} holds no {IDX_NAMES[split]} or {IDX_NAMES[split]}.gz")
        path = found[0]
    try:
        pictures = _read_numpy(path, split) if path.suffix in (".npz", ".npy") else _read_idx(path)
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read pictures from {path}: {error}") from error
    if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4):
        raise InputError(
            f"{path} holds {pictures.dtype} of shape {pictures.shape}; pictures must be uint8 of "
            "shape (count, height, width) or (count, height, width, channels)"
        )
    return pictures


def to_event_shape(pictures: np.ndarray, settings: DataSettings) -> Tensor:
    """Bring stored pictures to bytes of shape (count, channels, height, width), padded.

    Raises:
        InputError: If the padded pictures do not have the recipe's ``event_shape``.
    """
    stored = torch.from_numpy(np.ascontiguousarray(pictures))
    stored = stored.unsqueeze(1) if stored.ndim == 3 else stored.movedim(-1, 1)
    stored = F.pad(stored, [settings.pad] * 4).contiguous()
    if tuple(stored.shape[1:]) != tuple(settings.event_shape):
        raise InputError(
            f"pictures have shape {tuple(stored.shape[1:])} after padding by {settings.pad}; "
            f"the recipe's event_shape is {tuple(settings.event_shape)}"
        )
    return stored


def _read_numpy(path: Path, split: str) -> np.ndarray:
    # whether it is an archive or an array is decided by its content
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            if split not in archive:
                raise InputError(f'{path} has no array "{split}"')
            pictures: np.ndarray = archive[split]
            return pictures


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
