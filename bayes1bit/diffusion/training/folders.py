"""Folders of files as arrays of signals: pictures, and recordings of sound.

A folder's subfolders ``train`` and ``test`` are its splits if one of them is there; a folder
without them is whichever split is asked for. Files are found at any depth and taken in the order
of their paths, which decides what is held out: the last ones. Hidden files are passed over.
"""

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayes1bit.errors import InputError
from bayes1bit.pictures import open_picture, resized_middle

if TYPE_CHECKING:
    from bayes1bit.diffusion.training.recipe import DataSettings

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
RECORDINGS = (".wav",)
SPLITS = ("train", "test")


def read_folder(
    folder: Path, split: str, settings: "DataSettings", count: int | None = None
) -> np.ndarray:
    """Read a folder of pictures, or of WAV files where the signals have one dimension.

    Args:
        folder: The folder, or the one that holds folders ``train`` and ``test``.
        split: "train" or "test".
        settings: The ``[data]`` table of a recipe.
        count: How many signals to read, the first ones; all if None.

    Returns:
        Pictures as bytes, shape (count, height, width, channels), or windows of recordings as
        float32 fractions of full scale, shape (count, length, channels). Neither is padded.

    Raises:
        InputError: If there are no such files, or one of them is damaged or does not fit.
    """
    if any((folder / name).is_dir() for name in SPLITS):
        folder = folder / split
    size = tuple(side - 2 * settings.pad for side in settings.event_shape[1:])
    if len(size) == 2:
        return _read_pictures(_files(folder, PICTURES)[:count], settings, size[0], size[1])
    return _read_recordings(_files(folder, RECORDINGS), settings, size[0], count)


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise InputError(f"{folder} holds no files {', '.join(suffixes)}, nor do its subfolders")
    return found


def _read_pictures(
    files: Sequence[Path], settings: "DataSettings", height: int, width: int
) -> np.ndarray:
    channels = settings.event_shape[0]
    pictures = np.empty((len(files), height, width, channels), np.uint8)
    for stored, path in zip(pictures, files, strict=True):
        picture = open_picture(
            path, channels, "PNG, JPEG or WebP picture", ("PNG", "JPEG", "WEBP")
        )
        if picture.size != (width, height):
            if not settings.resize:
                raise InputError(
                    f"{path} is {picture.width}x{picture.height} pixels (width x height), but the "
                    f"recipe wants {width}x{height}; data.resize = true crops the middle and "
                    "resizes it"
                )
            picture = resized_middle(picture, width, height)
        stored[:] = np.asarray(picture).reshape(height, width, channels)
    return pictures


def _read_recordings(
    files: Sequence[Path], settings: "DataSettings", length: int, count: int | None
) -> np.ndarray:
    rate, windows, total = settings.rate, [], 0
    for path in files:
        if total == count:
            break
        frames, its_rate = _read_wav(path, settings.event_shape[0])
        rate = rate or its_rate
        if its_rate != rate:
            origin = "the recipe's data.rate" if settings.rate else f"that of {files[0].name}"
            raise InputError(
                f"{path} has a sample rate of {its_rate} Hz, but {origin} is {rate} Hz; all "
                "recordings must have the same"
            )
        left = None if count is None else count - total
        cut = frames[: len(frames) // length * length].reshape(-1, length, frames.shape[1])[:left]
        windows.append(cut)
        total += len(cut)
    if not total:
        raise InputError(
            f"none of the {len(files)} recordings, such as {files[0]}, is as long as one signal, "
            f"{length} samples"
        )
    return np.concatenate(windows)


def _read_wav(path: Path, channels: int) -> tuple[np.ndarray, int]:
    """Fractions of full scale, shape (frames, channels), and the sample rate in Hz."""
    try:
        with wave.open(str(path), "rb") as file:
            stored, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            promised = file.getnframes() * stored * width
            content = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(
            f"{path} is damaged or not a WAV file of PCM samples ({str(error) or 'cut short'})"
        ) from error
    if stored != channels:
        raise InputError(
            f"{path} has {stored} channels, but the recipe's event_shape has {channels}"
        )
    if len(content) != promised:
        raise InputError(
            f"{path} is cut short: its header says {promised} bytes, it holds {len(content)}"
        )
    return _decode_pcm(content, width, path).reshape(-1, channels), rate


def _decode_pcm(content: bytes, width: int, path: Path) -> np.ndarray:
    if width == 1:  # the one unsigned kind
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        # the bytes become the upper three of four, which keeps the sign
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content, width = wide.tobytes(), 4
    if width not in (2, 4):
        raise InputError(f"{path} has samples of {8 * width} bits; give 8, 16, 24 or 32")
    return np.frombuffer(content, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)
