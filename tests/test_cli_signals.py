"""The commands with priors of one-dimensional signals and of colour pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prior_cases import picture_recipe, untrained_prior
from typer.testing import CliRunner

from bayes1bit.cli import app
from bayes1bit.cli.bench_common import read_split
from bayes1bit.diagnostics.waveforms import r_peak_error
from bayes1bit.measurement import Measurement
from bayes1bit.pictures import write_picture
from bayes1bit.posterior import Posterior
from bayes1bit.zoo import load_prior, open_prior

QUICK = "diff-onebit num_levels=3 data_step=proximal"
LENGTH = 64

LINE_RECIPE = """\
[data]
event_shape = [1, 64]
low = -4.0
high = 4.0
unit = 0.0005
labels = "aami"
drop = [4]

[network]
kind = "sr3"
patch = 2
width = 16
multipliers = [1, 2]
blocks = 1
middle_blocks = 1
norm_groups = 4

[noise]
sigma_data = 0.4
sigma_max = 20.0

[training]
signals = 64

[card]
title = "line"
summary = "An untrained network for tests."
source = "Nothing."
terms = "Do as you like."
unit = "mV"
"""


@pytest.fixture(scope="module")
def line_prior(tmp_path_factory):
    """Folder of an untrained prior of 1x64 signals in [-4, 4], with two examples."""
    folder = untrained_prior(tmp_path_factory.mktemp("priors") / "line", LINE_RECIPE)
    (folder / "examples").mkdir()
    np.save(folder / "examples" / "a.npy", np.linspace(-1, 2, LENGTH, dtype=np.float32))
    np.save(folder / "examples" / "b.npy", np.sin(np.arange(LENGTH, dtype=np.float32))[None])
    return folder


@pytest.fixture(scope="module")
def colour_prior(tmp_path_factory):
    """Folder of an untrained prior of 3x16x16 pictures in [-1, 1], with one example."""
    folder = untrained_prior(
        tmp_path_factory.mktemp("priors") / "colour", picture_recipe("colour", [3, 16, 16])
    )
    ramp = torch.linspace(-1, 1, 16).expand(3, 16, 16) * torch.tensor([1, 0.5, -1])[:, None, None]
    write_picture(folder / "examples" / "a.png", ramp, (-1, 1))
    return folder


@pytest.fixture
def run(line_prior, colour_prior, monkeypatch, tmp_path):
    """Run a command line in an empty folder; ``LINE`` and ``COLOUR`` stand for the priors."""
    monkeypatch.chdir(tmp_path)
    names = {"LINE": str(line_prior), "COLOUR": str(colour_prior)}

    def invoke(*arguments):
        return CliRunner().invoke(app, [names.get(str(a), str(a)) for a in arguments])

    return invoke


@pytest.fixture
def beats(run):
    """Signals that are not of the class to drop, and in the working folder all as stored."""
    generator = np.random.default_rng(0)
    stored = generator.integers(-2000, 2000, (12, LENGTH)).astype(np.int16)
    labels = np.array([0, 4, 0, 0, 4, 0, 1, 4, 2, 3, 0, 0], dtype=np.uint8)
    np.savez("beats.npz", train=stored, test=stored, train_aami=labels, test_aami=labels)
    return torch.from_numpy(stored[labels != 4].astype(np.float32) / 2000)[:, None]


def json_of(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_demo_of_a_signal(run):
    result = run("demo", "--prior", "LINE", "--method", QUICK, "--num-samples", 4)
    assert result.exit_code == 0, result.stderr
    for text in ("a.npy of line", "1x64", "SNR of the mean", "coverage of 90% intervals"):
        assert text in result.stdout
    for absent in ("PSNR", "SSIM", "black", "picture "):
        assert absent not in result.stdout.replace("picture      demo", "")
    assert Path("demo/recovery.png").read_bytes().startswith(b"\x89PNG")


def test_demo_of_a_signal_as_json(run, line_prior):
    summary = json_of(
        run("demo", "--prior", "LINE", "--method", QUICK, "--example", 2, "--json", "--quiet")
    )
    assert (summary["example"], summary["shape"]) == ("b.npy", [1, LENGTH])
    truth = torch.from_numpy(np.load(line_prior / "examples" / "b.npy"))
    posterior = Posterior.load("demo/posterior.nc")
    error = (posterior.mean - truth).square().sum()
    expected = float(10 * (truth.square().sum() / error).log10())
    assert summary["snr_mean"] == pytest.approx(expected, abs=1e-3)
    errors = (posterior.samples - truth).square().sum((1, 2))
    expected = float((10 * (truth.square().sum() / errors).log10()).mean())
    assert summary["snr_samples"] == pytest.approx(expected, abs=1e-3)
    assert not {"psnr_mean", "ssim_mean", "coverage_90_inside"} & summary.keys()


def test_measure_then_recover_a_signal(run, line_prior):
    signal = line_prior / "examples" / "a.npy"
    result = run("measure", signal, "--prior", "LINE", "--out", "m.nc", "--ratio", 2)
    assert result.exit_code == 0, result.stderr
    measurement = Measurement.load("m.nc")
    assert (measurement.event_shape, measurement.m) == ((1, LENGTH), 32)
    assert measurement.data_range == (-4.0, 4.0)
    result = run("recover", "m.nc", "--prior", "LINE", "--method", QUICK, "--picture", "r.svg")
    assert result.exit_code == 0, result.stderr
    # letters are drawn as paths, with the text in a comment
    assert "value in mV" in Path("r.svg").read_text()
    result = run("recover", signal, "--prior", "LINE", "--method", QUICK)
    assert "SNR of the mean" in result.stdout


@pytest.mark.parametrize("command", ["measure", "recover"])
def test_a_picture_is_not_a_signal(run, colour_prior, command):
    picture = colour_prior / "examples" / "a.png"
    result = run(command, picture, "--prior", "LINE", "--out", "x.nc")
    assert result.exit_code == 2
    assert "give a .npy array" in result.stderr
    assert not Path("x.nc").exists()


def test_a_prior_without_example_signals(run, line_prior, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("recipe.toml", "weights.safetensors"):
        (bare / name).write_bytes((line_prior / name).read_bytes())
    result = run("demo", "--prior", bare)
    assert result.exit_code == 2
    assert "comes without example signals; use bayes1bit recover with a signal" in result.stderr


def test_demo_of_a_colour_picture(run):
    summary = json_of(run("demo", "--prior", "COLOUR", "--method", QUICK, "--json", "--quiet"))
    assert summary["shape"] == [3, 16, 16]
    assert {"psnr_mean", "ssim_mean", "coverage_90_inside"} <= summary.keys()
    assert Path("demo/recovery.png").read_bytes().startswith(b"\x89PNG")


def test_bench_recovery_of_signals(run, beats):
    result = run(
        *("bench", "recovery", "--data", "beats.npz", "--prior", "LINE", "--pictures", 3),
        *("--methods", QUICK, "--ratios", "2,4", "--num-samples", 4, "--every", 4),
        *("--r-peaks", "--figure", "figure.png", "--json"),
    )
    rows = json_of(result)["rows"]
    assert len(rows) == 3 * 2
    assert {"mean SNR", "sample SNR", "R peak error", "coverage 90%"} <= rows[-1].keys()
    assert rows[-1]["coverage 90%"] is not None
    assert Path("figure.png").read_bytes().startswith(b"\x89PNG")
    assert "line float32, 4 samples, every 4 seed 0" in Path("runs/recovery.csv").read_text()


def test_every_kth_signal_is_taken(run, beats, line_prior):
    folder = open_prior(line_prior)
    torch.testing.assert_close(read_split(Path("beats.npz"), "test", folder, 4), beats[:4])
    taken = read_split(Path("beats.npz"), "test", folder, 3, every=3)
    torch.testing.assert_close(taken, beats[[0, 3, 6]])
    assert len(read_split(Path("beats.npz"), "test", folder, 9, every=4)) == 3


def test_the_rate_can_be_told(run, beats, line_prior):
    result = run(
        *("bench", "recovery", "--data", "beats.npz", "--prior", "LINE", "--pictures", 1),
        *("--methods", "biht norm=1", "--ratios", 4, "--r-peaks", "--rate", 90, "--json"),
    )
    row = json_of(result)["rows"][0]
    prior = load_prior(line_prior)
    mean = prior.denoise(torch.zeros(1, 1, LENGTH), prior.sigma_max)[0]
    assert row["method"] == "prior mean"
    assert row["R peak error"] == pytest.approx(float(r_peak_error(mean, beats[0], 90.0)))
    assert row["R peak error"] > 0


def test_bench_recovery_of_encoded_pictures(run):
    offsets, content = [0], b""
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save("a.webp", lossless=True)
        content += Path("a.webp").read_bytes()
        offsets.append(len(content))
    stored = np.frombuffer(content, np.uint8)
    np.savez("faces.npz", train=stored[:0], train_offsets=[0], test=stored, test_offsets=offsets)
    result = run(
        *("bench", "recovery", "--data", "faces.npz", "--prior", "COLOUR", "--pictures", 2),
        *("--methods", QUICK, "--ratios", 4, "--num-samples", 2, "--figure", "f.png", "--json"),
    )
    rows = json_of(result)["rows"]
    assert [row["method"] for row in rows] == ["prior mean", "back-projection", QUICK]
    assert rows[-1]["sample SSIM"] is not None


def test_bench_recovery_of_a_folder_of_larger_pictures(run):
    Path("wide").mkdir()
    for i, size in enumerate(((40, 24), (16, 16))):
        Image.new("RGB", size, (255, 0, 60 * i)).save(f"wide/{i}.png")
    options = ("--prior", "COLOUR", "--pictures", 2, "--methods", QUICK, "--ratios", 4)
    result = run("bench", "recovery", "--data", "wide", *options)
    assert result.exit_code == 2
    assert "0.png is 40x24 pixels" in result.stderr
    result = run("bench", "recovery", "--data", "wide", *options, "--resize", "--quiet")
    assert result.exit_code == 0, result.stderr
    assert ", wide resized seed 0" in Path("runs/recovery.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prior", "LINE", "--data", "beats.npz", "--resize"), "--resize needs a folder"),
        (("--prior", "LINE", "--data", ".", "--resize"), "--resize is for pictures"),
        (("--prior", "LINE", "--data", "beats.npz", "--rate", 90), "--rate is for --r-peaks"),
        (
            ("--prior", "LINE", "--data", "beats.npz", "--r-peaks", "--rate", 0),
            "--rate must be a positive number",
        ),
        (
            ("--prior", "LINE", "--data", "beats.npz", "--r-peaks", "--rate", 50),
            "sampling rate must be at least 60 Hz",
        ),
        (("--prior", "COLOUR", "--data", "pictures.npz", "--r-peaks"), "R peaks are of heartbea"),
    ],
)
def test_what_bench_recovery_refuses(run, beats, arguments, message):
    np.savez("pictures.npz", test=np.zeros((2, 16, 16, 3), np.uint8))
    result = run("bench", "recovery", *arguments, "--methods", QUICK)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(("prior", "truths"), [("LINE", "prior"), ("COLOUR", "test")])
def test_bench_calibration(run, beats, prior, truths):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    np.savez("pictures.npz", test=pictures)
    data = "beats.npz" if prior == "LINE" else "pictures.npz"
    result = run(
        *("bench", "calibration", "--prior", prior, "--data", data, "--truths", truths),
        *("--methods", QUICK, "--runs", 3, "--num-samples", 7, "--figures", "drawn", "--json"),
    )
    (row,) = json_of(result)["rows"]
    assert (row["runs"], row["NFE"]) == (3, 3)
    assert 0 <= row["SBC p"] <= 1
    assert len(list(Path("drawn").iterdir())) == 2
