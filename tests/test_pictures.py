"""Reading and writing of signals: known pixels, round trips, and every refusal."""

import numpy as np
import pytest
import torch
from PIL import Image

from bayes1bit.errors import InputError
from bayes1bit.pictures import (
    example_signals,
    is_picture,
    read_signal,
    signal_word,
    write_picture,
)

SHAPE = (1, 2, 3)
GREY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)
IN_RANGE = torch.tensor([[[-1.0, -0.6, -0.2], [0.2, 0.6, 1.0]]])


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_grey_picture_is_mapped_to_the_data_range(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    torch.testing.assert_close(read_signal(path, SHAPE, (-1, 1)), IN_RANGE)
    torch.testing.assert_close(read_signal(path, SHAPE, (0, 1)), (IN_RANGE + 1) / 2)


def test_rgb_picture_keeps_channels_first(tmp_path):
    array = np.stack([GREY, 255 - GREY, GREY // 3], -1)
    signal = read_signal(save(tmp_path / "a.png", array), (3, 2, 3), (0, 255))
    torch.testing.assert_close(signal, torch.from_numpy(array).movedim(-1, 0).float())


def test_rgb_picture_of_a_grey_signal_becomes_grey(tmp_path):
    path = save(tmp_path / "a.png", np.stack([GREY] * 3, -1))
    torch.testing.assert_close(read_signal(path, SHAPE, (-1, 1)), IN_RANGE)


def test_jpeg_is_read_by_content(tmp_path):
    flat = np.full((8, 8), 204, dtype=np.uint8)
    path = save(tmp_path / "a.jpg", flat, quality=100)
    # JPEG of a flat picture is exact to one grey level, 2 / 255
    torch.testing.assert_close(
        read_signal(path, (1, 8, 8), (-1, 1)), torch.full((1, 8, 8), 0.6), atol=0.008, rtol=0
    )


def test_stored_rotation_is_applied(tmp_path):
    picture = Image.fromarray(np.full((8, 16), 10, dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter for viewing
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_signal(tmp_path / "a.jpg", (1, 16, 8), (0, 1)).shape == (1, 16, 8)


def test_picture_of_another_size_is_cut_and_resized_when_asked(tmp_path):
    # left and right thirds are white; the middle, of the signal's shape, is split in halves
    wide = np.full((16, 36), 255, np.uint8)
    wide[:, 12:24] = 0
    wide[8:, 12:24] = 102
    path = save(tmp_path / "wide.png", wide)
    with pytest.raises(InputError, match=r"36x16 pixels .* must be 6x8; .* --resize"):
        read_signal(path, (1, 8, 6), (-1, 1))
    signal = read_signal(path, (1, 8, 6), (-1, 1), resize=True)
    assert signal.shape == (1, 8, 6)
    torch.testing.assert_close(signal[:, :3], torch.full((1, 3, 6), -1.0))
    torch.testing.assert_close(signal[:, 6:], torch.full((1, 2, 6), -0.2))
    fits = save(tmp_path / "fits.png", GREY)
    torch.testing.assert_close(read_signal(fits, SHAPE, (-1, 1), resize=True), IN_RANGE)


def test_arrays_are_not_resized(tmp_path):
    np.save(tmp_path / "a.npy", IN_RANGE.numpy())
    with pytest.raises(InputError, match=r"pictures can be resized, but .*a\.npy is an array"):
        read_signal(tmp_path / "a.npy", SHAPE, (-1, 1), resize=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_array_is_taken_as_it_is(tmp_path, dtype):
    np.save(tmp_path / "a.npy", IN_RANGE.numpy().astype(dtype))
    signal = read_signal(tmp_path / "a.npy", SHAPE, (-1, 1))
    assert signal.dtype == torch.float32
    torch.testing.assert_close(signal, IN_RANGE, atol=1e-3, rtol=0)


def test_array_of_bytes_is_mapped_and_two_dimensions_are_one_channel(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    torch.testing.assert_close(read_signal(tmp_path / "a.npy", SHAPE, (-1, 1)), IN_RANGE)


def test_array_of_any_event_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 5))
    assert read_signal(tmp_path / "a.npy", (5,), (0, 1)).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_an_array_of_one_dimension_is_one_channel(tmp_path):
    np.save(tmp_path / "a.npy", np.linspace(-4, 4, 5))
    signal = read_signal(tmp_path / "a.npy", (1, 5), (-4, 4))
    assert signal.tolist() == [[-4, -2, 0, 2, 4]]
    np.save(tmp_path / "b.npy", np.linspace(-4, 4, 5)[None])
    assert torch.equal(read_signal(tmp_path / "b.npy", (1, 5), (-4, 4)), signal)


def test_rounding_beyond_the_range_is_allowed(tmp_path):
    np.save(tmp_path / "a.npy", np.array([-1.0009, 1.0009]))
    read_signal(tmp_path / "a.npy", (2,), (-1, 1))


@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 4, 6)])
def test_written_picture_reads_back(tmp_path, shape):
    signal = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1
    write_picture(tmp_path / "a.png", signal, (-1, 1))
    # half a grey level
    torch.testing.assert_close(
        read_signal(tmp_path / "a.png", shape, (-1, 1)), signal, atol=1.001 / 255, rtol=0
    )


def test_examples_are_sorted_pictures_and_arrays(tmp_path):
    assert example_signals(tmp_path) == []
    folder = tmp_path / "examples"
    folder.mkdir()
    for name in ("b.png", "c.npy", "a.npy", "a.png", "notes.txt"):
        (folder / name).touch()
    names = [path.name for path in example_signals(tmp_path)]
    assert names == ["a.npy", "a.png", "b.png", "c.npy"]


@pytest.mark.parametrize(
    ("shape", "word"), [((1, 8, 8), "picture"), ((3, 8, 8), "picture"), ((1, 8), "signal")]
)
def test_what_a_signal_is_called(shape, word):
    assert signal_word(shape) == word


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8), (8,), (1, 1, 8, 8)])
def test_what_is_not_a_picture(shape):
    assert not is_picture(shape)


def array_file(array):
    return lambda path: np.save(path, array)


def bytes_file(content):
    return lambda path: path.write_bytes(content)


def cut_picture(path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    save(path, noise)
    path.write_bytes(path.read_bytes()[:2000])


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=GREY)


def pickled(path):
    with path.open("wb") as file:
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)


REFUSED = {
    "missing": ("a.png", lambda path: None, SHAPE, "there is no file"),
    "folder": ("a.png", lambda path: path.mkdir(), SHAPE, "there is no file"),
    "text": ("a.png", bytes_file(b"hello"), SHAPE, "damaged or not a PNG or JPEG"),
    "empty": ("a.png", bytes_file(b""), SHAPE, "damaged or not a PNG or JPEG"),
    "cut picture": ("a.png", cut_picture, (1, 64, 64), "damaged or not a PNG or JPEG"),
    "gif": ("a.gif", lambda path: save(path, GREY), SHAPE, "damaged or not a PNG or JPEG"),
    "wrong size": ("a.png", lambda path: save(path, GREY), (1, 8, 9), "is 3x2 pixels.*be 9x8"),
    "16 bits": ("a.png", lambda path: save(path, GREY.astype(np.uint16)), SHAPE, "mode I;16"),
    "transparent": (
        "a.png",
        lambda path: save(path, np.stack([GREY] * 4, -1)),
        SHAPE,
        "has transparent pixels",
    ),
    "vector from picture": ("a.png", lambda path: save(path, GREY), (6,), "give a .npy array"),
    "missing line": ("a.npy", lambda path: None, (1, 6), r"give a .npy array of shape \(1, 6\)"),
    "line from picture": ("a.png", lambda path: save(path, GREY), (1, 6), "give a .npy array"),
    "line of another length": (
        "a.npy",
        array_file(np.zeros(5)),
        (1, 6),
        r"has shape \(5,\), but the signal must have \(1, 6\)",
    ),
    "two channels": ("a.png", lambda path: save(path, GREY), (2, 2, 3), "give a .npy array"),
    "text array": ("a.npy", bytes_file(b"hello"), SHAPE, "damaged or not a .npy array"),
    "empty file": ("a.npy", bytes_file(b""), SHAPE, "damaged or not a .npy array"),
    "cut array": ("a.npy", bytes_file(b"\x93NUMPY\x01\x00"), SHAPE, "damaged or not a .npy"),
    "pickle": ("a.npy", pickled, SHAPE, "damaged or not a .npy array"),
    "archive": ("a.npy", archive, SHAPE, "is an archive"),
    "integers": ("a.npy", array_file(GREY.astype(np.int64)), SHAPE, "holds int64"),
    "complex": ("a.npy", array_file(GREY.astype(complex)), SHAPE, "holds complex128"),
    "no values": ("a.npy", array_file(np.zeros((0, 3))), (1, 0, 3), "is an empty array"),
    "wrong shape": ("a.npy", array_file(np.zeros((5, 5))), SHAPE, r"\(5, 5\).*\(1, 2, 3\)"),
    "channels last": ("a.npy", array_file(np.zeros((2, 3, 3))), (3, 2, 3), r"must have \(3, 2, 3"),
    "NaN": ("a.npy", array_file(np.array([0.0, np.nan])), (2,), r"NaN or infinite.*1 of 2"),
    "infinite": ("a.npy", array_file(np.array([0.0, np.inf])), (2,), "NaN or infinite"),
    "out of range": (
        "a.npy",
        array_file(np.array([0.0, 2.0])),
        (2,),
        r"from 0 to 2.*the data range is \[-1, 1\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_file_and_the_fault(tmp_path, case):
    name, make, shape, message = REFUSED[case]
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as refusal:
        read_signal(path, shape, (-1, 1))
    assert str(path) in str(refusal.value)


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(InputError, match="damaged or not"):
        read_signal(save(tmp_path / "a.png", GREY), SHAPE, (-1, 1))


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (torch.zeros(8, 8), "a picture has shape"),
        (torch.zeros(2, 8, 8), "a picture has shape"),
        (torch.full((1, 8, 8), 2.0), "data range"),
        (torch.full((1, 8, 8), torch.nan), "NaN"),
    ],
)
def test_what_is_not_a_picture_is_not_written(tmp_path, signal, message):
    with pytest.raises(InputError, match=message):
        write_picture(tmp_path / "a.png", signal, (-1, 1))
    assert not list(tmp_path.iterdir())


def test_unwritable_picture(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_picture(tmp_path / "file" / "a.png", torch.zeros(1, 8, 8), (-1, 1))
