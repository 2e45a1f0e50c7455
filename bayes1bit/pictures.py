"""Signals as files: 8-bit pictures and NumPy arrays.

A prior says which values its signals take, such as -1 for black and 1 for white. Pictures store
0 to 255, so their values are mapped onto that range; an array of floats is taken as it is and must
lie in the range already. Sizes must fit exactly, unless the reader is told to resize: resizing and
cropping change a picture, and are better done by eye.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayes1bit.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

RANGE_TOLERANCE = 1e-3
"""How far values may lie outside a data range, as a share of its width."""

_MODES = {1: "L", 3: "RGB"}
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def read_signal(
    path: str | Path,
    event_shape: Sequence[int],
    data_range: tuple[float, float],
    *,
    resize: bool = False,
) -> Tensor:
    """Read a signal from a picture or an array.

    Args:
        path: A PNG or JPEG picture of 8 bits per channel, whose 0 to 255 are mapped to the data
            range and which is converted to grey or to RGB as the number of channels asks; or a
            ``.npy`` array of floats, taken as they are, or of uint8, mapped as those of pictures.
            An array of one channel may lack that dimension: (height, width), or (length,).
        event_shape: Shape of the signal; (channels, height, width) with 1 or 3 channels for
            pictures, anything for arrays.
        data_range: Lowest and highest value of signals.
        resize: Whether to cut the middle out of a picture of another size, and resize it.

    Returns:
        The signal, shape event_shape, float32.

    Raises:
        InputError: If the file is missing, damaged, of another kind or of another size, if an
            array is to be resized, or if values are NaN, infinite or outside the data range.
    """
    path, shape = Path(path), tuple(event_shape)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give {_wanted_file(shape)}")
    if path.suffix == ".npy":
        if resize:
            raise InputError(f"pictures can be resized, but {path} is an array")
        stored = _read_array(path, shape)
    else:
        stored = _read_picture(path, shape, resize)
    if stored.dtype != torch.uint8:
        check_values(stored, data_range, str(path))
        return stored
    low, high = data_range
    return stored.float() * ((high - low) / 255) + low


def write_picture(path: str | Path, signal: Tensor, data_range: tuple[float, float]) -> None:
    """Write a signal as a PNG picture, the inverse of ``read_signal`` up to rounding.

    Args:
        path: File to write; it appears only when complete.
        signal: Shape (channels, height, width) with 1 or 3 channels.
        data_range: Values of black and white.

    Raises:
        InputError: If the signal is not a picture, holds values that are not finite or lie
            outside the data range, or the file cannot be written.
    """
    from PIL import Image

    from bayes1bit.files import complete_or_absent

    if not is_picture(signal.shape):
        raise InputError(f"a picture has shape (1 or 3, height, width), got {tuple(signal.shape)}")
    check_values(signal, data_range, "the signal")
    low, high = data_range
    levels = ((signal.detach().cpu().double() - low) * (255 / (high - low))).round().clamp(0, 255)
    array = levels.to(torch.uint8).movedim(0, -1).squeeze(-1).numpy()
    with complete_or_absent(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def example_signals(prior_folder: str | Path) -> list[Path]:
    """Example signals that come with a prior, none of which it was trained on.

    Args:
        prior_folder: The prior's folder.

    Returns:
        The ``.png`` and ``.npy`` files of its subfolder ``examples``, sorted by name; empty if it
        has none.
    """
    files = Path(prior_folder).glob("examples/*")
    return sorted(file for file in files if file.suffix in (".png", ".npy"))


def is_picture(event_shape: Sequence[int]) -> bool:
    """Whether signals of a shape are grey or colour pictures: (1 or 3, height, width)."""
    return len(event_shape) == 3 and event_shape[0] in _MODES


def signal_word(event_shape: Sequence[int]) -> str:
    """What to call a signal of a shape in a sentence: "picture" or "signal"."""
    return "picture" if is_picture(event_shape) else "signal"


def check_values(values: Tensor, data_range: tuple[float, float], name: str) -> None:
    """Refuse values that are not finite or not in the data range.

    Args:
        values: Any shape.
        data_range: Lowest and highest value; :data:`RANGE_TOLERANCE` is allowed beyond.
        name: Whose values they are, for the message.

    Raises:
        InputError: If such values are found.
    """
    if not bool(values.isfinite().all()):
        count = int((~values.isfinite()).sum())
        raise InputError(f"{name} holds NaN or infinite values ({count} of {values.numel()})")
    low, high = data_range
    least, most = float(values.min()), float(values.max())
    slack = RANGE_TOLERANCE * (high - low)
    if least < low - slack or most > high + slack:
        raise InputError(
            f"{name} has values from {least:g} to {most:g}, but the data range is "
            f"[{low:g}, {high:g}]; rescale them to it"
        )


def _wanted_file(shape: tuple[int, ...]) -> str:
    if is_picture(shape):
        return "a PNG or JPEG picture or a .npy array"
    return f"a .npy array of shape {shape}"


def _read_array(path: Path, shape: tuple[int, ...]) -> Tensor:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is damaged or not a .npy array of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path} is an archive of arrays; give a .npy file with one array")
    _check_kind(path, array)
    if array.shape != shape:
        if len(shape) < 2 or shape[0] != 1 or array.shape != shape[1:]:
            raise InputError(f"{path} has shape {array.shape}, but the signal must have {shape}")
        array = array[None]
    return torch.from_numpy(array.astype(array.dtype if array.dtype == np.uint8 else np.float32))


def _check_kind(path: Path, array: "np.ndarray") -> None:
    if array.dtype.kind != "f" and array.dtype != "uint8":
        raise InputError(f"{path} holds {array.dtype}; give floats in the data range, or uint8")
    if array.size == 0:
        raise InputError(f"{path} is an empty array")


def _read_picture(path: Path, shape: tuple[int, ...], resize: bool) -> Tensor:
    import numpy as np

    if not is_picture(shape):
        raise InputError(
            f"a signal of shape {shape} cannot be read from {path}: give a .npy array, as "
            "pictures have shape (1 or 3, height, width)"
        )
    channels, height, width = shape
    picture = open_picture(path, channels, "PNG or JPEG picture or .npy array")
    if picture.size != (width, height):
        if not resize:
            raise InputError(
                f"{path} is {picture.width}x{picture.height} pixels (width x height), but the "
                f"signal must be {width}x{height}; resize or crop the picture first, as measure "
                "and recover do with --resize"
            )
        picture = resized_middle(picture, width, height)
    array = np.array(picture)
    return torch.from_numpy(array).reshape(height, width, channels).movedim(-1, 0).contiguous()


def open_picture(
    path: Path, channels: int, wanted: str, formats: Sequence[str] = ("PNG", "JPEG")
) -> "Image":
    """Decode a picture of 8 bits per channel, the way up that viewers show it.

    Args:
        path: Picture file.
        channels: 1 to convert it to grey, 3 to RGB.
        wanted: What the file should have been, for the message of an error.
        formats: Formats to accept, by Pillow's names.

    Raises:
        InputError: If the file is damaged, of another format, of more than 8 bits per channel, or
            has transparent pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=formats) as stored:
            # cameras store how to turn a picture, and every viewer turns it
            stored.load()
            picture = ImageOps.exif_transpose(stored)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "cannot identify it" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{path} is damaged or not a {wanted} ({reason})") from error
    _check_mode(path, picture)
    return picture.convert(_MODES[channels])


def resized_middle(picture: "Image", width: int, height: int) -> "Image":
    """Cut out the largest middle part of this aspect, and resize it.

    Args:
        picture: Picture of any size.
        width: Width of the result in pixels.
        height: Its height.
    """
    from PIL.Image import Resampling

    part = (
        max(1, min(picture.width, round(picture.height * width / height))),
        max(1, min(picture.height, round(picture.width * height / width))),
    )
    left, top = ((picture.width - part[0]) // 2, (picture.height - part[1]) // 2)
    # cut first: a filter that reaches over the edge of a box would mix in what is outside
    cut = picture.crop((left, top, left + part[0], top + part[1]))
    return cut.resize((width, height), Resampling.LANCZOS)


def _check_mode(path: Path, picture: "Image") -> None:
    if picture.mode not in _EIGHT_BIT:
        raise InputError(
            f"{path} has pixels of mode {picture.mode}; give a grey or RGB picture of 8 bits per "
            "channel, or a .npy array"
        )
    transparent = picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info
    if transparent and picture.convert("RGBA").getextrema()[3] != (255, 255):
        raise InputError(f"{path} has transparent pixels; flatten the picture first")
