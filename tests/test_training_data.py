"""Folders of pictures and of recordings as training data."""

import struct
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from bayes1bit.diffusion.training.data import Signals, read_split
from bayes1bit.diffusion.training.recipe import DataSettings
from bayes1bit.errors import InputError

GREY = DataSettings((1, 8, 6), held_out=1)
COLOUR = DataSettings((3, 8, 6), held_out=1)
LINES = DataSettings((1, 10), held_out=1)


def pixels(seed, height=8, width=6, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_wav(path, frames, *, width=2, rate=100):
    """Write integers of shape (frames,) or (frames, channels) as a WAV file."""
    frames = np.asarray(frames)
    frames = frames.reshape(len(frames), -1)
    if width == 1:
        content = (frames + 128).astype(np.uint8).tobytes()
    else:
        wide = frames.astype("<i4").reshape(-1, 1).view(np.uint8)
        content = wide[:, :width].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return path


# Pictures


def test_pictures_come_in_the_order_of_their_paths_from_every_depth(tmp_path):
    names = ["b.png", "a/z.PNG", "a/y/x.webp", "c.png"]
    for seed, name in enumerate(names):
        save(pixels(seed), tmp_path / name, **({"lossless": True} if "webp" in name else {}))
    save(pixels(9), tmp_path / "a" / ".hidden.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    stored = read_split(tmp_path, "train", COLOUR)
    assert stored.dtype == torch.uint8
    for picture, seed in zip(stored, (2, 1, 0, 3), strict=True):
        assert np.array_equal(picture.numpy(), pixels(seed).transpose(2, 0, 1))
    assert torch.equal(read_split(str(tmp_path), "train", COLOUR, 2), stored[:2])
    signals = Signals.load(tmp_path, COLOUR)
    assert torch.equal(signals.train, stored[:3])
    assert torch.equal(signals.held_out, stored[3:])


def test_jpeg_is_read_and_channels_follow_the_recipe(tmp_path):
    save(pixels(0, channels=1), tmp_path / "a.png")
    save(np.full((8, 6, 3), (250, 0, 0), np.uint8), tmp_path / "b.jpg", quality=95)
    grey, colour = (read_split(tmp_path, "train", settings) for settings in (GREY, COLOUR))
    assert np.array_equal(grey[0, 0].numpy(), pixels(0, channels=1))
    assert torch.equal(colour[0], grey[0].expand(3, 8, 6))
    # luma of pure red is 0.299 of it
    assert grey[1].float().mean().item() == pytest.approx(0.299 * 250, abs=3)
    assert colour[1, 0].float().mean() > 240
    assert colour[1, 1:].float().mean() < 12


def test_subfolders_are_splits(tmp_path):
    save(pixels(0), tmp_path / "train" / "a.png")
    save(pixels(1), tmp_path / "test" / "a.png")
    save(pixels(2), tmp_path / "beside.png")
    for split, seed in (("train", 0), ("test", 1)):
        (picture,) = read_split(tmp_path, split, COLOUR)
        assert np.array_equal(picture.numpy(), pixels(seed).transpose(2, 0, 1))
    # a folder without them is whichever split is asked for
    assert len(read_split(tmp_path / "test", "train", COLOUR)) == 1
    (tmp_path / "test" / "a.png").unlink()
    with pytest.raises(InputError, match=r"test holds no files \.png, \.jpg"):
        read_split(tmp_path, "test", COLOUR)


def test_pictures_of_another_size_are_named_or_resized(tmp_path):
    # left and right thirds are white; the middle, 12x16 of the event's shape, is split in halves
    wide = np.full((16, 36), 255, np.uint8)
    wide[:, 12:24] = 0
    wide[8:, 12:24] = 100
    save(wide, tmp_path / "wide.png")
    save(pixels(0, channels=1), tmp_path / "fits.png")
    with pytest.raises(InputError, match=r"wide\.png is 36x16 pixels .* wants 6x8; data\.resize"):
        read_split(tmp_path, "train", GREY)
    fits, small = read_split(tmp_path, "train", DataSettings((1, 8, 6), resize=True))
    assert np.array_equal(fits[0].numpy(), pixels(0, channels=1))
    assert (small[0, :3] == 0).all()
    assert (small[0, 6:] == 100).all()
    with Image.open(tmp_path / "wide.png") as picture:
        middle = picture.crop((12, 0, 24, 16)).resize((6, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(small[0].numpy(), np.asarray(middle))


def test_padding_is_not_part_of_the_picture(tmp_path):
    save(pixels(0, 4, 2, 1), tmp_path / "a.png")
    (stored,) = read_split(tmp_path, "train", DataSettings((1, 8, 6), pad=2))
    assert np.array_equal(stored[0, 2:-2, 2:-2].numpy(), pixels(0, 4, 2, 1))
    assert stored.sum() == int(pixels(0, 4, 2, 1).sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), r"bad\.png is damaged or not a PNG, JPEG or WebP"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), r"bad\.png is damaged"),
        (lambda path: path.write_bytes(path.with_name("a.png").read_bytes()[:-60]), "damaged"),
        (lambda path: save(pixels(0).astype(np.uint16)[..., 0], path), "mode I;16"),
        (lambda path: save(pixels(0, channels=4), path), r"bad\.png has transparent pixels"),
        (lambda path: save(pixels(0), path.with_suffix(".gif")).rename(path), "damaged or not"),
    ],
)
def test_damaged_pictures_are_named(tmp_path, make, message):
    save(pixels(0), tmp_path / "a.png")
    make(tmp_path / "bad.png")
    with pytest.raises(InputError, match=message):
        read_split(tmp_path, "train", COLOUR)


@pytest.mark.parametrize(("settings", "kind"), [(COLOUR, ".png"), (LINES, ".wav")])
def test_folders_without_such_files_are_refused(tmp_path, settings, kind):
    with pytest.raises(InputError, match=rf"holds no files \{kind}"):
        read_split(tmp_path, "train", settings)


def test_a_folder_has_no_labels(tmp_path):
    save(pixels(0), tmp_path / "a.png")
    with pytest.raises(InputError, match=r"data\.drop needs labels"):
        read_split(tmp_path, "train", DataSettings((3, 8, 6), labels="kind", drop=(1,)))


# Recordings


@pytest.mark.parametrize(("width", "full"), [(1, 2**7), (2, 2**15), (3, 2**23), (4, 2**31)])
def test_samples_of_every_width_are_fractions_of_full_scale(tmp_path, width, full):
    frames = np.array([-full, -full // 2, -1, 0, 1, 3, full // 4, full - 1, 5, -7], np.int64)
    write_wav(tmp_path / "a.wav", frames, width=width)
    (signal,) = read_split(tmp_path, "train", LINES)
    assert signal.dtype == torch.float32
    torch.testing.assert_close(
        signal[0].double(), torch.from_numpy(frames / full), rtol=2**-24, atol=0
    )


def test_recordings_are_cut_into_windows_one_after_the_other(tmp_path):
    first, second = np.arange(25), 100 + np.arange(31)
    write_wav(tmp_path / "b" / "a.wav", second)
    write_wav(tmp_path / "a.WAV", first)
    write_wav(tmp_path / "c.wav", np.arange(9))
    stored = (read_split(tmp_path, "train", LINES) * 2**15).round().int()
    expected = np.concatenate([first[:20], second[:30]]).reshape(5, 1, 10)
    assert np.array_equal(stored.numpy(), expected)
    assert len(read_split(tmp_path, "train", LINES, 3)) == 3
    signals = Signals.load(tmp_path, DataSettings((1, 10), held_out=2, unit=0.5))
    assert (len(signals.train), len(signals.held_out)) == (3, 2)
    torch.testing.assert_close(signals.scale(signals.train[0, 0, 1]), torch.tensor(0.5 / 2**15))


def test_channels_of_a_recording_are_those_of_the_signal(tmp_path):
    frames = np.arange(40).reshape(20, 2)
    write_wav(tmp_path / "a.wav", frames)
    stored = read_split(tmp_path, "train", DataSettings((2, 10), held_out=1)) * 2**15
    assert np.array_equal(stored.int().numpy(), frames.reshape(2, 10, 2).transpose(0, 2, 1))
    with pytest.raises(InputError, match=r"a\.wav has 2 channels, but .* event_shape has 1"):
        read_split(tmp_path, "train", LINES)


def test_recordings_have_one_rate(tmp_path):
    write_wav(tmp_path / "a.wav", np.arange(10), rate=100)
    assert len(read_split(tmp_path, "train", DataSettings((1, 10), rate=100))) == 1
    with pytest.raises(InputError, match=r"a\.wav .* 100 Hz, but the recipe's data\.rate is 99"):
        read_split(tmp_path, "train", DataSettings((1, 10), rate=99))
    write_wav(tmp_path / "b.wav", np.arange(10), rate=50)
    with pytest.raises(InputError, match=r"b\.wav .* 50 Hz, but that of a\.wav is 100 Hz"):
        read_split(tmp_path, "train", LINES)


def test_recordings_shorter_than_a_signal_are_refused(tmp_path):
    write_wav(tmp_path / "a.wav", np.arange(9))
    with pytest.raises(InputError, match="as long as one signal, 10 samples"):
        read_split(tmp_path, "train", LINES)


def floating(path):
    """Write a WAV file of floating-point samples, which the standard library does not read."""
    body = np.zeros(10, np.float32).tobytes()
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 100, 400, 4, 32)
    content = b"WAVE" + header + struct.pack("<4sI", b"data", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), r"bad\.wav is damaged or not a WAV file"),
        (lambda path: path.write_bytes(b"RIFFnonsense"), r"bad\.wav is damaged"),
        (lambda path: path.write_bytes(write_wav(path, range(10)).read_bytes()[:-3]), "cut short"),
        (lambda path: path.write_bytes(write_wav(path, range(10)).read_bytes()[:30]), "damaged"),
        (floating, r"bad\.wav .* PCM"),
    ],
)
def test_damaged_recordings_are_named(tmp_path, make, message):
    write_wav(tmp_path / "a.wav", np.arange(10))
    make(tmp_path / "bad.wav")
    with pytest.raises(InputError, match=message):
        read_split(tmp_path, "train", LINES)
