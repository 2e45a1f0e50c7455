"""From a recipe and pictures to a prior's folder, on pictures of 8 by 8 with one bar each."""

import csv
import dataclasses
import gzip
import inspect
import io
import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from training_cases import TABLE, bars, log_rows, recipe, table, toml, toy_pictures

from bayes1bit.diffusion import ErrorTable, KarrasDenoiser
from bayes1bit.diffusion.training import Recipe, trainer
from bayes1bit.diffusion.training.card import write_card
from bayes1bit.diffusion.training.data import Signals, to_event_shape
from bayes1bit.diffusion.training.held_out import expected_loss, read
from bayes1bit.diffusion.training.loss import edm_loss
from bayes1bit.diffusion.training.network import NETWORKS, build_denoiser
from bayes1bit.diffusion.training.network_settings import KINDS
from bayes1bit.diffusion.training.readers import read_signals
from bayes1bit.diffusion.training.recipe import DataSettings, NoiseSettings, TrainingSettings
from bayes1bit.diffusion.training.run import run
from bayes1bit.diffusion.training.trainer import draw_batch, learning_rate_factor, train
from bayes1bit.errors import InputError
from bayes1bit.networks import BIDiffSR, BitUNet, PatchedUNet, SR3UNet
from bayes1bit.networks.pack import PackedConvolution
from bayes1bit.zoo import load_prior, open_prior

SHIPPED = Path(__file__).parent.parent / "priors"

BITS = {"kind": "bitunet", "widths": [16, 32], "blocks": 1, "octaves": 2, "knots": 3}
FAITHFUL = {
    "kind": "bidiffsr",
    "width": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "norm_groups": 4,
    "full_decoder": [0],
}
SHORT = {"signals": 16 * 8, "log_every": 2, "checkpoint_every": 100}


def with_network(network, **changes):
    """The toy recipe with another ``[network]`` table."""
    return {**table(**changes), "network": network}


def interrupt_at(monkeypatch, stop):
    """Have the user press Ctrl-C when step number ``stop`` (from 0) begins."""

    def draw(pictures, noise, settings, step):
        if step == stop:
            raise KeyboardInterrupt
        return draw_batch(pictures, noise, settings, step)

    monkeypatch.setattr(trainer, "draw_batch", draw)


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, train=bars(), test=bars(10))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_path):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "bars.toml").write_text(toml(TABLE))
    return run(folder / "bars.toml", data_path, folder / "out", progress=False)


# Recipes


def test_shipped_recipe_loads():
    loaded = Recipe.load(SHIPPED / "fashion32")
    assert loaded.data.event_shape == (1, 32, 32)
    assert loaded.card.title == "fashion32"
    assert loaded.training.steps > 1000
    assert loaded == Recipe.load(SHIPPED / "fashion32" / "recipe.toml")


def test_recipe_from_file_has_every_entry_and_the_defaults(tmp_path):
    (tmp_path / "recipe.toml").write_text(toml(TABLE))
    loaded = Recipe.load(tmp_path)
    for name, entries in TABLE.items():
        for key, value in entries.items():
            expected = tuple(value) if isinstance(value, list) else value
            assert getattr(getattr(loaded, name), key) == expected
    assert (loaded.data.low, loaded.data.high, loaded.training.seed) == (-1.0, 1.0, 0)
    assert loaded.training.steps == 40


def test_number_of_steps_rounds_up():
    assert TrainingSettings(signals=65, batch_size=64).steps == 2
    assert TrainingSettings(signals=64, batch_size=64).steps == 1


def test_whole_numbers_stand_for_real_ones():
    assert recipe(noise={"sigma_max": 20}).noise.sigma_max == 20.0
    assert isinstance(recipe(noise={"sigma_max": 20}).noise.sigma_max, float)


def without(name, key):
    changed = table()
    del changed[name][key]
    return changed


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({**TABLE, "noises": {}}, r"unknown table \[noises\]; a recipe has data, network"),
        (table(training={"epochs": 3}), "unknown key training.epochs; known keys: signals"),
        (without("training", "signals"), "key training.signals is missing"),
        (without("card", "terms"), "key card.terms is missing"),
        ({k: v for k, v in TABLE.items() if k != "card"}, "key card.title is missing"),
        ({**TABLE, "noise": 3}, r"\[noise\] must be a table"),
        (table(training={"signals": "many"}), "training.signals must be int, got 'many'"),
        (table(training={"signals": 3.5}), "training.signals must be int"),
        (table(training={"signals": True}), "training.signals must be int"),
        (table(training={"learning_rate": "fast"}), "training.learning_rate must be float"),
        (table(noise={"sigma_max": math.inf}), "noise.sigma_max must be finite"),
        (table(training={"learning_rate": math.nan}), "training.learning_rate must be finite"),
        (table(network={"widths": 32}), "network.widths must be a list"),
        (table(network={"widths": [32, 0.5]}), "network.widths must be int"),
        (table(network={"attention": [0, 1]}), "network.attention must be bool"),
        (table(data={"event_shape": [8]}), r"data.event_shape must be \[channels"),
        (table(data={"event_shape": []}), r"data.event_shape must be \[channels"),
        (table(data={"unit": 0.0}), "data.unit must be positive"),
        (table(data={"drop": [4]}), "data.drop needs data.labels"),
        (table(data={"event_shape": [1, 0, 8]}), "data.event_shape"),
        (table(data={"event_shape": [2, 8, 8]}), "1 or 3 channels"),
        (table(data={"low": 1.0, "high": 1.0}), "data.low < data.high"),
        (table(data={"pad": -1}), "data.pad must not be negative"),
        (table(data={"pad": 4}), r"data.pad = 4 on both sides leaves nothing"),
        (table(data={"rate": 360}), "data.rate is for recordings"),
        (table(data={"event_shape": [1, 8], "rate": -1}), "data.rate must not be negative"),
        (table(data={"event_shape": [1, 8], "resize": True}), "data.resize is for pictures"),
        (table(training={"evaluate_every": -1}), "training.evaluate_every must not be negative"),
        (with_network({**FAITHFUL, "dropout": 1.0}), r"network.dropout must be in \[0, 1\)"),
        (table(data={"held_out": 0}), "data.held_out must be positive"),
        (table(noise={"sigma_min": 0.0}), "0 < sigma_min < sigma_max"),
        (table(noise={"sigma_min": 30.0}), "0 < sigma_min < sigma_max"),
        (table(noise={"sigma_data": 0.0}), "noise.sigma_data must be positive"),
        (table(noise={"log_std": -1.0}), "noise.log_std must be positive"),
        (table(network={"patch": 0}), "network.patch must be positive"),
        (table(network={"kind": "vit"}), "network.kind is 'vit'; use one of unet, bitunet"),
        (table(network={"kind": 3}), "network.kind is 3; use one of"),
        (table(network={"kind": "bitunet"}), "unknown key network.attention; known keys: kind"),
        (with_network({**BITS, "layers": 2}), "unknown key network.layers"),
        (with_network({**BITS, "knots": 0}), "network.knots must be positive"),
        (with_network({**FAITHFUL, "pairs": 0}), "network.pairs must be positive"),
        (with_network({"kind": "sr3", "binarizer": "bnn"}), "unknown key network.binarizer"),
        ({**TABLE, "distillation": {}}, "key distillation.teacher is missing"),
        ({**TABLE, "distillation": {"teacher": "x", "weight": 1.1}}, r"weight must be in \[0, 1"),
        (table(training={"binary_from": 1.0}), r"training.binary_from must be in \[0, 1\)"),
        (table(network={"layers": 0}), "network.layers must be positive"),
        (table(training={"signals": 0}), "training.signals must be positive"),
        (table(training={"batch_size": 0}), "training.batch_size must be positive"),
        (table(training={"learning_rate": -1.0}), "training.learning_rate must be positive"),
        (table(training={"log_every": 0}), "training.log_every must be positive"),
        (table(training={"checkpoint_every": 0}), "training.checkpoint_every must be positive"),
        (table(training={"warmup_steps": -1}), "training.warmup_steps must not be negative"),
        (table(training={"weight_decay": -0.1}), "training.weight_decay must not be negative"),
        (table(training={"gradient_clip": -1.0}), "training.gradient_clip must not be negative"),
        (table(training={"seed": -1}), "training.seed must not be negative"),
        (table(training={"seed": 2**32}), "training.seed must be less"),
        (table(training={"ema_decay": 1.0}), "training.ema_decay"),
        (table(training={"precision": "float16"}), 'use "float32" or "bfloat16"'),
    ],
)
def test_recipe_refuses(tables, message):
    with pytest.raises(InputError, match=message):
        Recipe.from_table(tables)


def test_every_kind_of_network_is_built_from_its_settings():
    shipped = Recipe.load(SHIPPED / "fashion32-bi").network
    assert (shipped.kind, shipped.widths) == ("bitunet", (128, 256, 256))
    sr3 = {key: value for key, value in FAITHFUL.items() if key != "full_decoder"}
    for network, expected in (
        (TABLE["network"], PatchedUNet),
        (BITS, BitUNet),
        (FAITHFUL, BIDiffSR),
        ({**sr3, "kind": "sr3"}, SR3UNet),
    ):
        built = build_denoiser(Recipe.from_table(with_network(network))).network
        assert type(built) is expected
        if expected in (BitUNet, BIDiffSR):
            assert (built.sigma_min, built.sigma_max) == (0.05, 20.0)
    assert built.patch == 1


@pytest.mark.parametrize("kind", list(KINDS))
def test_keys_of_the_network_table_are_arguments_of_the_network(kind):
    """With the same defaults, but for the patches of what was here first."""
    arguments = inspect.signature(NETWORKS[kind]).parameters
    for field in dataclasses.fields(KINDS[kind]):
        if field.name != "kind":
            assert arguments[field.name].default == field.default, field.name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[data\npad = 2", "is not valid TOML"),
        (b"\xff\xfe\x00", "cannot read recipe"),
        (toml(table(training={"signals": 0})).encode(), r"recipe\.toml: training.signals"),
    ],
)
def test_recipe_file_errors_name_the_file(tmp_path, content, message):
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Recipe.load(tmp_path)


def test_missing_recipe_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.toml"):
        with pytest.raises(InputError, match="cannot read recipe"):
            Recipe.load(path)


def test_network_that_does_not_fit_is_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="multiples of 32"):
        train(recipe(network={"widths": [32, 40]}), toy_pictures(), tmp_path, progress=False)


# Pictures


def idx(pictures):
    header = struct.pack(">HBB", 0, 8, pictures.ndim)
    return header + struct.pack(f">{pictures.ndim}I", *pictures.shape) + pictures.tobytes()


PIXELS = np.arange(6 * 5 * 4, dtype=np.uint8).reshape(6, 5, 4)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def npy(array, path):
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)
    return path


def npz(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: npz(folder / "a.npz", train=PIXELS, test=PIXELS[:1]),
        lambda folder: npy(PIXELS, folder / "a.npy"),
        lambda folder: npy(PIXELS, folder / "a.npz"),
        lambda folder: npz(folder / "a.npy", train=PIXELS),
        lambda folder: write(folder / "pictures", idx(PIXELS)),
        lambda folder: write(folder / "pictures.gz", gzip.compress(idx(PIXELS))),
        lambda folder: write(folder / "d" / "train-images-idx3-ubyte", idx(PIXELS)).parent,
        lambda folder: (
            write(folder / "d" / "train-images-idx3-ubyte.gz", gzip.compress(idx(PIXELS))).parent
        ),
    ],
)
def test_every_format_gives_the_same_bytes(tmp_path, make):
    path = make(tmp_path)
    for given in (path, str(path)):
        pictures = read_signals(given, "train")
        assert pictures.dtype == np.uint8
        assert np.array_equal(pictures, PIXELS)


def test_splits_are_kept_apart(tmp_path):
    both = npz(tmp_path / "a.npz", train=PIXELS, test=PIXELS[:2])
    assert len(read_signals(both, "test")) == 2
    folder = write(tmp_path / "d" / "t10k-images-idx3-ubyte", idx(PIXELS[:3])).parent
    assert len(read_signals(folder, "test")) == 3
    with pytest.raises(InputError, match="holds no train-images-idx3-ubyte"):
        read_signals(folder, "train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.npz", "cannot read signals"),
        (lambda folder: folder / "nothing", "cannot read signals"),
        (lambda folder: folder, "holds no train-images-idx3-ubyte"),
        (lambda folder: npz(folder / "a.npz", other=PIXELS), 'no array "train"'),
        (lambda folder: write(folder / "a.npz", b"PK\x03\x04 not a zip"), "cannot read signals"),
        (lambda folder: write(folder / "a.npy", b""), "cannot read signals"),
        (lambda folder: write(folder / "a.npy", b"nonsense"), "cannot read signals"),
        (lambda folder: npy(PIXELS.astype(complex), folder / "a.npy"), "must be numbers"),
        (lambda folder: npy(PIXELS[0, 0], folder / "a.npy"), r"shape \(4,\)"),
        (lambda folder: npy(np.array([print], object), folder / "a.npy"), "cannot read signals"),
        (lambda folder: write(folder / "a", b""), "neither .npz, .npy nor an IDX file"),
        (lambda folder: write(folder / "a.png", b"\x89PNG....."), "neither .npz, .npy nor"),
        (lambda folder: write(folder / "a", b"\0\0\x0d\x03" + bytes(12)), "neither .npz"),
        (lambda folder: write(folder / "a", idx(PIXELS)[:9]), "header is incomplete"),
        (lambda folder: write(folder / "a", idx(PIXELS)[:16]), "it holds 0"),
        (lambda folder: write(folder / "a", idx(PIXELS)[:-1]), "says 120 bytes .* it holds 119"),
        (lambda folder: write(folder / "a", idx(PIXELS) + b"x"), "it holds 121"),
        (lambda folder: write(folder / "a", b"\0\0\x08\x04" + b"\xff" * 16), "is damaged"),
        (lambda folder: write(folder / "a.gz", idx(PIXELS)), "cannot read signals"),
        (
            lambda folder: write(folder / "a.gz", gzip.compress(idx(PIXELS))[:-20]),
            "cannot read signals",
        ),
    ],
)
def test_unreadable_pictures_are_an_error(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        read_signals(make(tmp_path), "train")


def test_a_truncated_archive_is_an_error(tmp_path):
    whole = npz(tmp_path / "whole.npz", train=PIXELS).read_bytes()
    for cut in (len(whole) // 2, len(whole) - 5):
        with pytest.raises(InputError, match="cannot read signals"):
            read_signals(write(tmp_path / "cut.npz", whole[:cut]), "train")
    damaged = bytearray(whole)
    damaged[len(whole) // 2 - 40] ^= 255
    with pytest.raises(InputError, match="cannot read signals"):
        read_signals(write(tmp_path / "damaged.npz", bytes(damaged)), "train")


def test_an_object_array_is_not_unpickled(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for path in (
        npy(np.array([Attack()], object), tmp_path / "a.npy"),
        npz(tmp_path / "a.npz", train=np.array([Attack()], object)),
    ):
        with pytest.raises(InputError, match="cannot read signals"):
            read_signals(path, "train")
    assert not (tmp_path / "executed").exists()


def test_padding_is_black_and_on_every_side():
    stored = to_event_shape(PIXELS + 1, DataSettings((1, 9, 8), pad=2))
    assert stored.shape == (6, 1, 9, 8)
    assert stored.dtype == torch.uint8
    assert np.array_equal(stored[:, 0, 2:-2, 2:-2].numpy(), PIXELS + 1)
    assert stored.sum() == int((PIXELS + 1).sum())


def test_colours_become_leading_channels():
    colour = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3), dtype=np.uint8)
    stored = to_event_shape(colour, DataSettings((3, 4, 5)))
    assert np.array_equal(stored.numpy(), colour.transpose(0, 3, 1, 2))


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"\(1, 7, 6\) after padding by 1; .* \(1, 8, 8\)"):
        to_event_shape(PIXELS, DataSettings((1, 8, 8), pad=1))


BEATS = np.arange(-12, 12, dtype=np.int16).reshape(4, 6)


def test_signals_in_one_dimension_have_a_unit(tmp_path):
    settings = DataSettings((1, 6), unit=0.25, low=-3.0, high=3.0, held_out=1)
    signals = Signals.load(npy(BEATS, tmp_path / "a.npy"), settings)
    assert signals.train.dtype == torch.int16
    assert torch.equal(
        signals.scale(signals.train), torch.from_numpy(BEATS[:3, None] * 0.25).float()
    )
    channels = DataSettings((6, 4), unit=0.25, low=-3.0, high=3.0, held_out=1)
    stored = to_event_shape(BEATS.T.reshape(1, 4, 6), channels)
    assert torch.equal(stored[0], torch.from_numpy(BEATS.T.reshape(4, 6).T.copy()))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (BEATS * 2, "data range"),
        (np.array([[0.0, np.nan]] * 3), "NaN"),
        (BEATS[None], "stored in 2"),
    ],
)
def test_signals_that_do_not_fit_their_recipe_are_refused(tmp_path, array, message):
    settings = DataSettings((1, array.shape[1]), unit=0.25, low=-3.0, high=3.0, held_out=1)
    if array.ndim == 3:
        array = array[None]
    with pytest.raises(InputError, match=message):
        Signals.load(npy(array, tmp_path / "a.npy"), settings)


def test_signals_of_some_labels_are_left_out(tmp_path):
    path = tmp_path / "a.npz"
    labels = np.array([0, 4, 0, 5], np.uint8)
    np.savez(path, train=BEATS, train_kind=labels, train_short=labels[1:], train_real=labels / 2)
    settings = DataSettings((1, 6), low=-12, high=12, labels="kind", drop=(4, 5), held_out=1)
    signals = Signals.load(path, settings)
    assert torch.equal(
        torch.cat([signals.train, signals.held_out])[:, 0], torch.from_numpy(BEATS[::2])
    )
    for name, message in [
        ("none", 'no array "train_none"'),
        ("short", "3 labels for 4 signals"),
        ("real", "one integer"),
    ]:
        with pytest.raises(InputError, match=message):
            Signals.load(path, dataclasses.replace(settings, labels=name))
    with pytest.raises(InputError, match=r"needs an \.npz archive"):
        Signals.load(npy(BEATS, tmp_path / "a.npy"), settings)


def test_archives_of_encoded_pictures_are_read(tmp_path):
    files = []
    for pixels in PIXELS:
        Image.fromarray(pixels).save(file := io.BytesIO(), format="PNG")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "a.npz", train=np.concatenate(files), train_offsets=offsets)
    np.testing.assert_array_equal(read_signals(tmp_path / "a.npz", "train"), PIXELS)
    np.testing.assert_array_equal(read_signals(tmp_path / "a.npz", "train", 2), PIXELS[:2])
    np.savez(tmp_path / "cut.npz", train=np.concatenate(files)[:-30], train_offsets=offsets)
    with pytest.raises(InputError, match="cannot read signals"):
        read_signals(tmp_path / "cut.npz", "train")


def test_flip_mirrors_half_of_the_batch():
    plain = toy_pictures()
    flipped = toy_pictures(dataclasses.replace(plain.settings, flip=True))
    settings = recipe(training={"batch_size": 64}).training
    x, sigma, eps = draw_batch(plain, NoiseSettings(), settings, 3)
    mirrored, *rest = draw_batch(flipped, NoiseSettings(), settings, 3)
    assert torch.equal(rest[0], sigma)
    assert torch.equal(rest[1], eps)
    same = (mirrored == x).flatten(1).all(1)
    other = (mirrored == x.flip(-1)).flatten(1).all(1)
    assert bool((same | other).all())
    # columns are changed by a flip, rows are not
    assert 5 < int((~same).sum()) < 40


def test_the_last_pictures_are_held_out(tmp_path):
    path = npy(PIXELS, tmp_path / "a.npy")
    pictures = Signals.load(path, DataSettings((1, 5, 4), held_out=2))
    assert np.array_equal(pictures.train[:, 0].numpy(), PIXELS[:4])
    assert np.array_equal(pictures.held_out[:, 0].numpy(), PIXELS[4:])
    for held_out in (6, 7):
        with pytest.raises(InputError, match="has 6 signals, which leaves none to train on"):
            Signals.load(path, DataSettings((1, 5, 4), held_out=held_out))


def test_bytes_fill_the_data_range():
    pictures = toy_pictures(dataclasses.replace(recipe().data, low=-0.5, high=2.0))
    values = pictures.scale(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.tensor([-0.5, 0.0, 2.0]), rtol=1e-6, atol=1e-6)


# One step


def test_loss_is_the_squared_error_of_the_network_in_its_own_units():
    class Affine(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

        def forward(self, x, label):
            return self.weight * x + 0.01 * label.view(-1, 1, 1)

    torch.manual_seed(0)
    x, eps = torch.randn(2, 6, 3, 4, dtype=torch.float64).unbind()
    sigma = torch.tensor([0.05, 0.2, 0.66, 1.0, 5.0, 60.0], dtype=torch.float64)
    network, d = Affine(), 0.66
    total = 0.0
    for i, s in enumerate(sigma.tolist()):
        noisy = x[i] + s * eps[i]
        estimate = network(noisy / math.hypot(s, d), 10 * sigma[i : i + 1].log())
        # what the network would have to say for a perfect answer
        target = (x[i] - d**2 / (s**2 + d**2) * noisy) / (s * d / math.hypot(s, d))
        total += (estimate - target).square().mean().item()
    loss = edm_loss(KarrasDenoiser(network, d), x, sigma, eps)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(total / 6, rel=1e-10)


class Third(nn.Module):
    """A third of the signal."""

    def forward(self, x, label):
        return x / 3


def test_teacher_takes_its_share_of_the_target():
    torch.manual_seed(0)
    x, eps = torch.randn(2, 4, 1, 8, 8).unbind()
    sigma = torch.tensor([0.1, 0.5, 2.0, 10.0])
    denoiser = KarrasDenoiser(Third(), 0.5)
    s = sigma.view(-1, 1, 1, 1)

    def teacher(noisy, sigma):
        assert torch.equal(noisy, x + s * eps)
        return 0.25 * noisy

    for share in (0.0, 0.25, 1.0):
        target = (1 - share) * x + share * 0.25 * (x + s * eps)
        weight = (s**2 + 0.25) / (s * 0.5) ** 2
        expected = (weight * (denoiser(x + s * eps, sigma) - target) ** 2).mean()
        torch.testing.assert_close(edm_loss(denoiser, x, sigma, eps, teacher, share), expected)


def test_batch_depends_on_seed_and_step_alone():
    pictures, noise = toy_pictures(), recipe().noise

    def draw(seed, step):
        settings = dataclasses.replace(recipe().training, seed=seed)
        return draw_batch(pictures, noise, settings, step)

    reference = draw(0, 7)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(draw(0, 7), reference, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    # another seed gives other batches, not the same ones in another order
    noises = [draw(seed, step)[2] for seed in (0, 1, 2, 2**31, 2**32 - 1) for step in range(5, 10)]
    assert len({tuple(n.flatten()[:4].tolist()) for n in noises}) == 25


def test_batch_follows_the_recipe():
    pictures = toy_pictures()
    settings = dataclasses.replace(recipe().training, batch_size=4000)
    noise = NoiseSettings(log_mean=-0.5, log_std=0.8, sigma_min=0.001, sigma_max=500.0)
    x, sigma, eps = draw_batch(pictures, noise, settings, 3)
    assert x.shape == eps.shape == (4000, 1, 8, 8)
    # four standard deviations of a mean and of a standard deviation
    assert sigma.log().mean().item() == pytest.approx(-0.5, abs=4 * 0.8 / 4000**0.5)
    assert sigma.log().std().item() == pytest.approx(0.8, abs=4 * 0.8 / 8000**0.5)
    assert eps.std().item() == pytest.approx(1, abs=4 / (2 * eps.numel()) ** 0.5)
    known = {tuple(p.flatten().tolist()) for p in pictures.scale(pictures.train)}
    assert {tuple(p.flatten().tolist()) for p in x} == known
    clamped = dataclasses.replace(noise, sigma_min=0.5, sigma_max=0.7)
    _, sigma, _ = draw_batch(pictures, clamped, settings, 3)
    assert (sigma.min().item(), sigma.max().item()) == pytest.approx((0.5, 0.7))


def test_learning_rate_warms_up_and_falls_to_zero():
    settings = TrainingSettings(signals=1000, batch_size=1, warmup_steps=10)
    rates = [learning_rate_factor(step, settings) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[4] == pytest.approx(0.5, rel=1e-3)
    assert rates[9] == max(rates) == pytest.approx(1, rel=1e-3)
    assert rates[500] == pytest.approx(0.5)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 1e-5
    cold = dataclasses.replace(settings, warmup_steps=0)
    assert learning_rate_factor(0, cold) == 1


# A run


def test_training_reduces_the_loss(trained):
    pictures, settings = toy_pictures(), recipe()
    batch = dataclasses.replace(settings.training, batch_size=200, seed=1)
    x, sigma, eps = draw_batch(pictures, settings.noise, batch, 0)
    torch.manual_seed(0)
    fresh = build_denoiser(settings)
    after = load_prior(trained).denoiser
    with torch.no_grad():
        losses = [edm_loss(d, x, sigma, eps).item() for d in (fresh, after)]
    # a network that answers zero has loss 1; 40 steps reach 0.7 from the 1.4 of a fresh one
    assert losses[0] > 1
    assert losses[1] < 0.8


def test_log_has_a_line_for_every_interval(trained):
    rows = log_rows(trained)
    assert [int(row["step"]) for row in rows] == list(range(5, 41, 5))
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_interrupted_run_ends_with_the_same_weights(trained, data_path, tmp_path, monkeypatch):
    (tmp_path / "recipe.toml").write_text(toml(TABLE))
    out = tmp_path / "out"
    # checkpoints at 6, 12, 18; log lines at 5, 10, 15 and, after the last checkpoint, 20
    interrupt_at(monkeypatch, 21)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, data_path, out, progress=False)
    assert [int(row["step"]) for row in log_rows(out)] == [5, 10, 15, 20]
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoint.safetensors",
        "held_out.csv",
        "training.csv",
    ]
    monkeypatch.undo()
    torch.manual_seed(123)
    run(tmp_path, data_path, out, progress=False)
    assert [int(row["step"]) for row in log_rows(out)] == list(range(5, 41, 5))
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        ours, theirs = load_file(out / name), load_file(trained / name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def binary_recipe(teacher):
    changes = {"signals": 16 * 12, "checkpoint_every": 3, "log_every": 4, "binary_from": 0.5}
    distillation = {"teacher": str(teacher), "weight": 0.7}
    return {**with_network(BITS, training=changes), "distillation": distillation}


@pytest.fixture(scope="module")
def trained_bits(tmp_path_factory, data_path, trained):
    """The folder of a binary network that learnt from ``trained``."""
    folder = tmp_path_factory.mktemp("bits")
    (folder / "recipe.toml").write_text(toml(binary_recipe(trained)))
    return run(folder, data_path, folder / "out", progress=False)


# before the weights turn binary, when they do, and after
@pytest.mark.parametrize("stop", [4, 6, 10])
def test_interrupted_binary_run_ends_with_the_same_weights(
    trained_bits, data_path, tmp_path, monkeypatch, stop
):
    settings = Recipe.load(trained_bits)
    pictures = Signals.load(data_path, settings.data)
    interrupt_at(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        train(settings, pictures, tmp_path, progress=False)
    monkeypatch.undo()
    train(settings, pictures, tmp_path, progress=False)
    ours, theirs = (load_file(p / "checkpoint.safetensors") for p in (tmp_path, trained_bits))
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_interrupted_run_with_dropout_ends_with_the_same_weights(tmp_path, monkeypatch):
    settings = Recipe.from_table(with_network(FAITHFUL, training={**SHORT, "checkpoint_every": 3}))
    whole, _ = train(settings, toy_pictures(), tmp_path / "whole", progress=False)
    interrupt_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train(settings, toy_pictures(), tmp_path / "parts", progress=False)
    monkeypatch.undo()
    state = torch.random.get_rng_state()
    parts, _ = train(settings, toy_pictures(), tmp_path / "parts", progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, weight in parts.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name])


def test_units_are_told_how_far_training_is(tmp_path, monkeypatch):
    progress, real = [], []
    monkeypatch.setattr(trainer, "anneal", lambda network, p: progress.append(p))
    monkeypatch.setattr(trainer, "use_real_weights", lambda network, r: real.append(r))
    settings = recipe(training={**SHORT, "binary_from": 0.25})
    train(settings, toy_pictures(), tmp_path, progress=False)
    assert progress == [i / 8 for i in range(9)]
    assert real == 2 * [True] + 7 * [False]


def test_teacher_must_know_the_same_signals(trained, tmp_path):
    lighter = {**binary_recipe(trained), "data": {**TABLE["data"], "high": 2.0}}
    settings = Recipe.from_table(lighter)
    with pytest.raises(InputError, match=r"teacher \".*\" knows signals of shape \(1, 8, 8\) in"):
        train(settings, toy_pictures(settings.data), tmp_path / "out", progress=False)
    nobody = Recipe.from_table(binary_recipe("nobody"))
    with pytest.raises(InputError, match='no prior "nobody"'):
        train(nobody, toy_pictures(), tmp_path / "out", progress=False)


def test_run_interrupted_before_its_first_checkpoint_starts_afresh(tmp_path, monkeypatch):
    settings = recipe(training=SHORT)
    interrupt_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train(settings, toy_pictures(), tmp_path, progress=False)
    assert [int(row["step"]) for row in log_rows(tmp_path)] == [2, 4]
    monkeypatch.undo()
    train(settings, toy_pictures(), tmp_path, progress=False)
    assert [int(row["step"]) for row in log_rows(tmp_path)] == [2, 4, 6, 8]


def test_finished_run_is_only_written_again(trained, data_path, capsys):
    def contents():
        # safetensors writes its header in no fixed order, matplotlib the time into a picture
        files = {path.name: path.read_bytes() for path in trained.iterdir()}
        tensors = load_file(trained / "weights.safetensors")
        del files["weights.safetensors"], files["samples.png"]
        return files, open_prior(trained).facts, tensors

    files, facts, tensors = contents()
    # a prior's folder holds its own recipe
    run(trained, data_path, trained, progress=True)
    files_again, facts_again, tensors_again = contents()
    assert files == files_again
    assert facts == facts_again
    assert all(torch.equal(tensor, tensors_again[name]) for name, tensor in tensors.items())
    assert "training" in capsys.readouterr().err


def test_seed_changes_the_weights_and_global_generator_does_not(tmp_path):
    weights = []
    for i, seed in enumerate((0, 0, 1)):
        torch.manual_seed(i)
        state = torch.random.get_rng_state()
        settings = recipe(training={**SHORT, "signals": 32, "seed": seed})
        denoiser, _ = train(settings, toy_pictures(), tmp_path / str(i), progress=False)
        assert torch.equal(torch.random.get_rng_state(), state)
        weights.append(torch.cat([p.flatten() for p in denoiser.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_only_gradients_longer_than_the_limit_are_shortened(tmp_path):
    def weights(limit):
        settings = recipe(training={**SHORT, "signals": 48, "gradient_clip": limit})
        train(settings, toy_pictures(), tmp_path / str(limit), progress=False)
        stored = load_file(tmp_path / str(limit) / "checkpoint.safetensors")
        return stored["network.network.unet.conv_in.weight"]

    with torch.random.fork_rng():
        torch.manual_seed(recipe().training.seed)
        start = build_denoiser(recipe()).network.unet.conv_in.weight
    free = weights(0.0)
    assert torch.equal(weights(1e6), free)
    # a gradient far below the epsilon of AdamW moves next to nothing
    assert (weights(1e-14) - start).norm() < 1e-3 * (free - start).norm()


def test_weights_are_averaged_along_the_run(tmp_path):
    checkpoints = {}
    for decay in (0.0, 0.9):
        out = tmp_path / str(decay)
        settings = recipe(training={**SHORT, "signals": 64, "ema_decay": decay})
        denoiser, _ = train(settings, toy_pictures(), out, progress=False)
        assert not denoiser.training
        assert not any(p.requires_grad for p in denoiser.parameters())
        stored = checkpoints[decay] = load_file(out / "checkpoint.safetensors")
        for name, weight in denoiser.state_dict().items():
            assert torch.equal(weight, stored[f"average.{name}"])
    name = "network.unet.conv_in.weight"
    # without memory the average is the last weight; with it the training itself is the same
    last, average = (checkpoints[0.0][f"{kind}.{name}"] for kind in ("network", "average"))
    torch.testing.assert_close(last, average)
    assert torch.equal(checkpoints[0.9][f"network.{name}"], last)
    assert not torch.allclose(checkpoints[0.9][f"average.{name}"], last)


@pytest.mark.parametrize(("name", "cast"), [("float32", None), ("bfloat16", torch.bfloat16)])
def test_every_precision_trains_weights_of_full_precision(tmp_path, name, cast):
    settings = recipe(training={**SHORT, "signals": 64, "precision": name})
    denoiser, seconds = train(settings, toy_pictures(), tmp_path, progress=False)
    assert denoiser.autocast == cast
    assert {p.dtype for p in denoiser.parameters()} == {torch.float32}
    assert math.isfinite(float(log_rows(tmp_path)[-1]["loss"]))
    assert seconds > 0


def test_diverging_run_stops_and_keeps_no_broken_checkpoint(tmp_path):
    settings = recipe(training={**SHORT, "learning_rate": 1e30, "checkpoint_every": 2})
    with pytest.raises(FloatingPointError, match=r"lower training\.learning_rate"):
        train(settings, toy_pictures(), tmp_path, progress=False)
    if (tmp_path / "checkpoint.safetensors").exists():
        stored = load_file(tmp_path / "checkpoint.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in stored.values())


def other_network(path, trained):
    larger = recipe(network={"widths": [64, 64]}, training={**SHORT, "signals": 16})
    train(larger, toy_pictures(), path.parent / "other", progress=False)
    (path.parent / "other" / path.name).rename(path)


def deeper_network(path, trained):
    deeper = recipe(network={"layers": 2}, training={**SHORT, "signals": 16})
    train(deeper, toy_pictures(), path.parent / "other", progress=False)
    (path.parent / "other" / path.name).rename(path)


def changed(change):
    def write_changed(path, trained):
        tensors = load_file(trained / "checkpoint.safetensors")
        change(tensors)
        save_file(tensors, path, {"bayes1bit": json.dumps({"step": 3, "seconds": 1.0})})

    return write_changed


@pytest.mark.parametrize(
    "make",
    [
        other_network,
        deeper_network,
        changed(lambda tensors: tensors.pop("adam.exp_avg.network.unet.conv_in.bias")),
        changed(lambda tensors: tensors.update(extra=torch.zeros(1))),
        # a shape that would broadcast
        changed(lambda t: t.update({"network.network.unet.conv_in.bias": torch.zeros(1)})),
        changed(lambda t: t.update({"adam.exp_avg.network.unet.conv_in.bias": torch.zeros(1)})),
        lambda path, trained: save_file(load_file(trained / "checkpoint.safetensors"), path),
        lambda path, trained: path.write_bytes(b""),
        lambda path, trained: path.write_bytes(b"not a checkpoint at all"),
        lambda path, trained: path.write_bytes(
            (trained / "checkpoint.safetensors").read_bytes()[:-100]
        ),
        lambda path, trained: torch.save({"step": 3}, path),
    ],
)
def test_foreign_checkpoint_is_refused(trained, tmp_path, make):
    out = tmp_path / "out"
    out.mkdir()
    make(out / "checkpoint.safetensors", trained)
    with pytest.raises(InputError, match="is not a checkpoint of this recipe's network"):
        train(recipe(), toy_pictures(), out, progress=False)


@pytest.mark.parametrize(
    "facts",
    ["3", "[[", {}, {"step": 3}, {"step": -1, "seconds": 1.0}, {"step": "3", "seconds": 1.0}],
)
def test_checkpoint_with_other_facts_is_refused(trained, tmp_path, facts):
    tensors = load_file(trained / "checkpoint.safetensors")
    text = facts if isinstance(facts, str) else json.dumps(facts)
    save_file(tensors, tmp_path / "checkpoint.safetensors", {"bayes1bit": text})
    with pytest.raises(InputError, match=r"is not a checkpoint .*; expected is the safetensors"):
        train(recipe(), toy_pictures(), tmp_path, progress=False)


def test_refused_checkpoint_says_what_was_expected(trained, tmp_path):
    name = "average.network.unet.conv_in.bias"
    for change, found in (
        (lambda t: t.pop(name), "absent"),
        (lambda t: t.update({name: torch.zeros(3)}), r"F32 of shape \[3\]"),
        (lambda t: t.update({name: torch.zeros(32, dtype=torch.int64)}), r"I64 of shape \[32\]"),
    ):
        changed(change)(tmp_path / "checkpoint.safetensors", trained)
        with pytest.raises(
            InputError, match=rf"{name} must be F32 of shape \[32\], and is {found}"
        ):
            train(recipe(), toy_pictures(), tmp_path, progress=False)


# The prior's folder


def test_run_writes_a_prior(trained):
    assert sorted(path.name for path in trained.iterdir()) == [
        "MODEL_CARD.md",
        "checkpoint.safetensors",
        "error.csv",
        "held_out.csv",
        "recipe.toml",
        "samples.png",
        "training.csv",
        "weights.safetensors",
    ]
    prior = load_prior(trained)
    assert prior.event_shape == (1, 8, 8)
    assert (prior.sigma_min, prior.sigma_max) == (0.05, 20.0)
    assert prior.data_range == (-1.0, 1.0)
    assert prior.has_error
    assert prior.sample((2,)).shape == (2, 1, 8, 8)
    assert Recipe.load(trained) == recipe()


def test_shipped_weights_are_the_averaged_ones_in_half_precision(trained):
    average = load_file(trained / "checkpoint.safetensors")
    for name, weight in load_prior(trained).denoiser.state_dict().items():
        assert torch.equal(weight, average[f"average.{name}"].half().float())
    facts = open_prior(trained).facts
    assert facts["pictures"] == 640
    assert facts["held_out"] == 40
    assert facts["torch"] == torch.__version__
    assert facts["parameters"] == sum(
        tensor.numel() for name, tensor in average.items() if name.startswith("average.")
    )


def test_error_is_that_of_the_shipped_denoiser_on_held_out_pictures(trained):
    prior, pictures = load_prior(trained), toy_pictures()
    with (trained / "error.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sigma, error = (
        torch.tensor([float(row[key]) for row in rows], dtype=torch.float64)
        for key in ("sigma", "mean_squared_error")
    )
    assert len(sigma) == 32
    assert sigma.min().item() == pytest.approx(0.05)
    assert sigma.max().item() == pytest.approx(20)
    torch.testing.assert_close(prior.error(sigma), error)
    # the measurement draws its noise with a seed of its own, so that it can be repeated; weights
    # not yet rounded, or a network still in bfloat16, would differ by far more
    again = ErrorTable.measure(prior.denoise, pictures.scale(pictures.held_out), sigma, seed=0)
    torch.testing.assert_close(again.error, error, rtol=1e-6, atol=0)


def test_card_states_measured_facts(trained):
    text = (trained / "MODEL_CARD.md").read_text()
    prior, folder = load_prior(trained), open_prior(trained)
    for part in (
        "# Bars",
        "One bar.",
        "Made here.",
        "Free.",
        "1x8x8, values in [-1, 1]",
        f"{folder.facts['parameters']:,} parameters",
        "640 pictures",
        "batches of 16",
        "on 40 pictures",
        f"| 0.5 | {prior.error(0.5).item():.5f} |",
    ):
        assert part in text
    # levels outside the recipe's range are not shown
    errors, losses = text.split("## Held-out and training loss")
    shown = [line.split("|")[1].strip() for line in errors.splitlines() if line.startswith("| 0.")]
    assert shown == ["0.05", "0.1", "0.2", "0.5"]
    assert "| 50 |" not in text
    assert f"| held-out loss | {expected_loss(prior.error, folder.recipe.noise):.4f} |" in errors
    average = read(trained / "held_out.csv")[-1]
    assert f"| all | {average.held_out:.4f} | {average.training:.4f} |" in losses
    assert f"not selected: {prior.sampling}." in errors
    assert "Warning" not in text


def test_binary_prior_is_measured_and_described_as_it_is_loaded(trained_bits):
    prior, folder, pictures = load_prior(trained_bits), open_prior(trained_bits), toy_pictures()
    assert any(isinstance(m, PackedConvolution) for m in prior.denoiser.modules())
    clean = pictures.scale(pictures.held_out)
    again = ErrorTable.measure(prior.denoise, clean, folder.error.sigma, seed=0)
    torch.testing.assert_close(again.error, folder.error.error, rtol=1e-6, atol=0)
    facts = folder.facts
    assert facts["binary_parameters"] + facts["full_parameters"] == facts["parameters"]
    assert folder.size < facts["binary_parameters"] / 8 + 2 * facts["full_parameters"] + 20_000
    text = (trained_bits / "MODEL_CARD.md").read_text()
    for part in (
        "BitUNet on 2x2 patches",
        f"{facts['binary_parameters']:,} weights of one bit",
        f"{facts['full_parameters']:,} parameters, stored in half",
        f"{facts['binary_operations'] / 1e6:.1f} M on bits",
        f"{folder.size / 1e6:.2f} MB",
        "70% of the target",
    ):
        assert part in text


def test_card_can_be_written_for_any_prior(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(bytes(2_500_000))
    facts = {"parameters": 1234, "pictures": 5678, "seconds": 90, "held_out": 9, "torch": "x"}
    settings = recipe(noise={"sigma_min": 15.0, "sigma_max": 18.0})
    write_card(tmp_path, settings, facts, ErrorTable([1.0, 2.0], [0.1, 0.2]), "40 steps")
    text = (tmp_path / "MODEL_CARD.md").read_text()
    assert "1,234 parameters" in text
    assert "2.50 MB" in text


def test_samples_picture_is_an_image(trained):
    with Image.open(trained / "samples.png") as image:
        image.load()
        assert min(image.size) > 64
        assert image.getextrema()[0][0] < image.getextrema()[0][1]


def test_run_reports_what_it_cannot_use(data_path, tmp_path):
    (tmp_path / "recipe.toml").write_text(toml(TABLE))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        run(tmp_path, data_path, tmp_path / "file", progress=False)
    with pytest.raises(InputError, match="cannot read signals"):
        run(tmp_path, tmp_path / "nothing.npz", tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="cannot read recipe"):
        run(tmp_path / "nothing", data_path, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
