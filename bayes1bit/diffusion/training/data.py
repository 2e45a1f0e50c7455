"""Signals for training, kept as they are stored until a batch is drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bayes1bit.diffusion.training.folders import read_folder
from bayes1bit.diffusion.training.readers import IDX_NAMES, idx_files, read_labels, read_signals
from bayes1bit.diffusion.training.recipe import DataSettings
from bayes1bit.errors import InputError
from bayes1bit.pictures import check_values


@dataclass(frozen=True)
class Signals:
    """A training split and a held-out split, as stored, of shape (count, *event_shape)."""

    train: Tensor
    held_out: Tensor
    settings: DataSettings

    @classmethod
    def load(cls, path: str | Path, settings: DataSettings) -> "Signals":
        """Read the training split at ``path`` and set the last ``held_out`` signals aside.

        Args:
            path: See :func:`read_split`.
            settings: The ``[data]`` table of the recipe.

        Raises:
            InputError: If the file cannot be read, its signals do not fit ``event_shape``, or
                their values are not finite or outside [low, high].
        """
        stored = read_split(path, "train", settings)
        if len(stored) <= settings.held_out:
            raise InputError(
                f"{path} has {len(stored)} signals, which leaves none to train on after "
                f"data.held_out = {settings.held_out}"
            )
        cut = len(stored) - settings.held_out
        return cls(stored[:cut], stored[cut:], settings)

    def scale(self, stored: Tensor) -> Tensor:
        """Stored numbers to signal values; see :func:`scale`."""
        return scale(stored, self.settings)


def read_split(
    path: str | Path, split: str, settings: DataSettings, count: int | None = None
) -> Tensor:
    """Read the signals of a split that a recipe wants.

    Args:
        path: A file or folder that
            :func:`~bayes1bit.diffusion.training.readers.read_signals` reads, or a folder of
            pictures or recordings, see
            :func:`~bayes1bit.diffusion.training.folders.read_folder`.
        split: "train" or "test".
        settings: The ``[data]`` table of a recipe; signals whose label it drops are left out.
        count: How many, the first ones; all if None.

    Returns:
        Signals as stored, shape (count, *event_shape).

    Raises:
        InputError: See :meth:`Signals.load`.
    """
    path = Path(path)
    if path.is_dir() and not any(idx_files(path, name) for name in IDX_NAMES):
        if settings.drop:
            raise InputError(f"data.drop needs labels, which a folder of files has not: {path}")
        array = read_folder(path, split, settings, count)
    elif settings.drop:
        array = read_signals(path, split)
        labels = read_labels(path, split, settings.labels)
        if len(labels) != len(array):
            raise InputError(f"{path} has {len(labels)} labels for {len(array)} signals")
        array = array[~np.isin(labels, settings.drop)][:count]
    else:
        array = read_signals(path, split, count)
    stored = to_event_shape(array, settings)
    if stored.dtype != torch.uint8:
        check_values(scale(stored, settings), (settings.low, settings.high), str(path))
    return stored


def scale(stored: Tensor, settings: DataSettings) -> Tensor:
    """Map stored numbers to signal values, float32.

    Bytes are pictures, whose 0 to 255 become ``low`` to ``high``; other numbers are multiplied by
    ``unit``.
    """
    if stored.dtype == torch.uint8:
        return stored.float() * ((settings.high - settings.low) / 255) + settings.low
    return stored.float() * settings.unit


def to_event_shape(array: np.ndarray, settings: DataSettings) -> Tensor:
    """Bring stored signals to shape (count, *event_shape), padded.

    Args:
        array: Shape (count, *space) or (count, *space, channels).
        settings: The ``[data]`` table of a recipe.

    Raises:
        InputError: If the padded signals do not have the recipe's ``event_shape``.
    """
    dim = len(settings.event_shape) - 1
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype != np.uint8:
        array = array.astype(np.int16 if array.dtype == np.int16 else np.int32, copy=False)
    stored = torch.from_numpy(np.ascontiguousarray(array))
    if stored.ndim == dim + 1:
        stored = stored.unsqueeze(1)
    elif stored.ndim == dim + 2:
        stored = stored.movedim(-1, 1)
    else:
        raise InputError(
            f"signals of event_shape {tuple(settings.event_shape)} are stored in {dim + 1} "
            f"dimensions, or {dim + 2} with channels last; got an array of shape {array.shape}"
        )
    stored = F.pad(stored, [settings.pad] * (2 * dim)).contiguous()
    if tuple(stored.shape[1:]) != tuple(settings.event_shape):
        raise InputError(
            f"signals have shape {tuple(stored.shape[1:])} after padding by {settings.pad}; "
            f"the recipe's event_shape is {tuple(settings.event_shape)}"
        )
    return stored
