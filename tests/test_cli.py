"""The command line: results, files, and one clear sentence for everything that can go wrong."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bayes1bit import zoo
from bayes1bit.cli import app
from bayes1bit.cli.sensing import sense
from bayes1bit.diffusion.training import run as training
from bayes1bit.errors import InputError
from bayes1bit.infer import ALGORITHMS, DAPS, DiffOneBit, ProximalStep
from bayes1bit.measurement import Measurement
from bayes1bit.operators import Gaussian, Hadamard
from bayes1bit.pictures import read_signal
from bayes1bit.posterior import Posterior

REPOSITORY = Path(__file__).resolve().parent.parent


class Quick(DiffOneBit):
    """A recovery in three levels."""

    def __init__(self, model, num_samples=16, *, site=None, progress=True):
        super().__init__(
            model,
            num_samples,
            num_levels=3,
            data_step=ProximalStep(),
            site=site,
            progress=progress,
        )


@pytest.fixture(autouse=True)
def quick_method(monkeypatch, tmp_path):
    """Work in an empty folder, where ``--method quick`` is :class:`Quick`."""
    monkeypatch.chdir(tmp_path)

    monkeypatch.setitem(ALGORITHMS, "quick", Quick)


@pytest.fixture
def run(tiny_prior):
    """Run a command line; ``TINY`` and ``PICTURE`` stand for the tiny prior and its example."""
    names = {"TINY": str(tiny_prior), "PICTURE": str(tiny_prior / "examples" / "01.png")}

    def invoke(*arguments):
        return CliRunner().invoke(app, [names.get(str(a), str(a)) for a in arguments])

    return invoke


def json_of(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# --- help -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["demo", "measure", "recover", "methods", "priors", "train"])
def test_help_ends_with_examples(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"\n    bayes1bit {command}" in result.stdout.split("Examples:")[1]


@pytest.mark.parametrize("command", ["recovery", "exact", "calibration", "regression"])
def test_help_of_benchmarks_ends_with_examples(run, command):
    result = run("bench", command, "--help")
    assert result.exit_code == 0
    assert f"\n    bayes1bit bench {command}" in result.stdout.split("Examples:")[1]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["bench"], ["bench", "--help"]])
def test_groups_show_their_help(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_version(run):
    assert run("--version").stdout.startswith("bayes1bit ")


def test_help_imports_nothing_heavy():
    code = (
        "import sys, bayes1bit.cli as cli, typer.testing as t;"
        "assert t.CliRunner().invoke(cli.app, ['demo', '--help']).exit_code == 0;"
        "print([m for m in ('diffusers', 'matplotlib', 'arviz', 'xarray', 'torchmetrics')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# --- demo -------------------------------------------------------------------------------------


def test_demo_writes_and_reports(run, tiny_prior):
    result = run("demo", "--prior", "TINY", "--method", "quick", "--num-samples", 4)
    assert result.exit_code == 0, result.stderr
    for text in (
        "01.png of tiny, recovered by quick",
        "16 bits, n/m = 4",
        "PSNR of the mean",
        "SSIM of samples, average",
        "coverage of 90% intervals",
        "bits reproduced by the mean",
        "seconds",
    ):
        assert text in result.stdout
    assert re.search(r"denoiser calls per sample +3\n", result.stdout)
    files = {"recovery.png", "posterior.nc", "measurement.nc"}
    assert {path.name for path in Path("demo").iterdir()} == files
    assert all(str(Path("demo") / name) in result.stdout for name in files)
    posterior = Posterior.load("demo/posterior.nc")
    assert posterior.samples.shape == (4, 1, 8, 8)
    measurement = Measurement.load("demo/measurement.nc")
    truth = read_signal(tiny_prior / "examples" / "01.png", (1, 8, 8), (-1, 1))
    assert torch.equal(measurement.truth, truth)
    assert torch.equal(measurement.y, posterior.observed["y"])
    assert Path("demo/recovery.png").read_bytes().startswith(b"\x89PNG")
    assert "level" in result.stderr  # the progress bar


def test_demo_as_json(run):
    arguments = ("--ratio", 2, "--noise", 0.1, "--example", 2, "--num-samples", 2, "--out", "x/y")
    result = run("demo", "--prior", "TINY", "--method", "quick", "--json", *arguments)
    summary = json_of(result)
    assert summary["example"] == "02.png"
    assert summary["measurements"] == 32
    assert summary["noise"] == 0.1
    assert summary["shape"] == [1, 8, 8]
    assert summary["nfe"] == 3
    assert summary["files"]["posterior"] == str(Path("x/y/posterior.nc"))
    posterior = Posterior.load("x/y/posterior.nc")
    measurement = Measurement.load("x/y/measurement.nc")
    # scores written out again; float32
    error = (posterior.mean - measurement.truth).square().mean()
    assert summary["psnr_mean"] == pytest.approx(float(10 * (4 / error).log10()), abs=1e-3)
    errors = (posterior.samples - measurement.truth).square().mean((1, 2, 3))
    assert summary["psnr_samples"] == pytest.approx(
        float((10 * (4 / errors).log10()).mean()), abs=1e-3
    )
    assert summary["coverage_90"] == pytest.approx(
        float(posterior.covers(measurement.truth).float().mean())
    )
    agreed = (measurement.operator(posterior.mean).sign() == measurement.y).float().mean()
    assert summary["bit_agreement"] == pytest.approx(float(agreed))


@pytest.mark.parametrize("command", [("demo",), ("recover", "PICTURE")])
def test_what_a_run_costs_is_said_before_it(run, command):
    options = (*command, "--prior", "TINY", "--num-samples", 2)
    first, *_ = run(*options, "--method", "quick").stderr.splitlines()
    assert first == "quick, denoiser calls per sample: 50"
    method = "diff-onebit num_levels=3 data_step=proximal"
    first, *_ = run(*options, "--method", method).stderr.splitlines()
    assert first == f"{method}, denoiser calls per sample at its default settings: 50"


def test_quiet_prints_nothing(run):
    result = run("demo", "--prior", "TINY", "--method", "quick", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_one_sample_gives_valid_json(run):
    """The spread of one sample is NaN, which JSON does not have."""
    result = run(
        "demo", "--prior", "TINY", "--method", "quick", "--num-samples", 1, "--json", "--quiet"
    )
    assert json_of(result)["std_average"] is None


def test_the_seed_decides_everything(run):
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        options = ("--method", "quick", "--seed", seed, "--out", out, "--ratio", 1, "--quiet")
        assert run("recover", "PICTURE", "--prior", "TINY", *options).exit_code == 0
    a, b, c = (Posterior.load(out) for out in "abc")
    assert torch.equal(a.samples, b.samples)
    assert torch.equal(a.observed["y"], b.observed["y"])
    assert not torch.equal(a.samples, c.samples)
    assert not torch.equal(a.observed["y"], c.observed["y"])


def test_settings_follow_the_method(run):
    method = "diff-onebit num_levels=4 data_step=proximal"
    summary = json_of(run("demo", "--prior", "TINY", "--method", method, "--json", "--quiet"))
    assert (summary["method"], summary["nfe"]) == (method, 4)
    settings = Posterior.load("demo/posterior.nc").settings
    assert settings["num_levels"] == 4
    assert settings["data_step"].startswith("ProximalStep")


def test_one_estimate_has_no_spread(run):
    """Classical algorithms give one signal, whatever number of samples is asked for."""
    method = ("--method", "biht norm=8")
    result = run("recover", "PICTURE", "--prior", "TINY", *method, "--picture", "p.png")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"samples +1\n", result.stdout)
    assert "PSNR of the mean" in result.stdout
    for absent in ("coverage", "average std", "nan"):
        assert absent not in result.stdout
    summary = json_of(run("recover", "PICTURE", "--prior", "TINY", *method, "--json", "--quiet"))
    assert summary["std_average"] is None
    assert "coverage_90" not in summary


# --- measure and recover ----------------------------------------------------------------------


def test_measure_then_recover(run):
    options = ("--ratio", 4, "--noise", 0.2, "--link", "logistic", "--flip", 0.01)
    measured = json_of(
        run("measure", "PICTURE", "--prior", "TINY", "--out", "m.nc", "--json", *options)
    )
    record = Measurement.load("m.nc")
    assert isinstance(record.operator, Hadamard)
    assert (record.m, record.scale, record.link, record.flip) == (16, 0.2, "logistic", 0.01)
    assert (record.threshold, record.data_range, record.truth) == (0.0, (-1.0, 1.0), None)
    assert measured["share_of_ones"] == pytest.approx(float((record.y > 0).double().mean()))
    result = run(
        *("recover", "m.nc", "--prior", "TINY", "--method", "quick", "--num-samples", 3),
        *("--out", "sub/p.nc", "--picture", "sub/p.svg", "--json"),
    )
    summary = json_of(result)
    assert summary["simulated"] is False
    assert "psnr_mean" not in summary
    assert summary["files"] == {
        "posterior": str(Path("sub/p.nc")),
        "picture": str(Path("sub/p.svg")),
    }
    assert torch.equal(Posterior.load("sub/p.nc").observed["y"], record.y)
    assert "<svg" in Path("sub/p.svg").read_text()


def test_measure_prints_a_table(run):
    result = run("measure", "PICTURE", "--prior", "TINY", "--out", "m.nc", "--threshold", 0.25)
    assert "threshold         0.25" in result.stdout
    assert "measurement  m.nc" in result.stdout
    assert Measurement.load("m.nc").threshold == 0.25


def test_measure_and_recover_resize_when_asked(run):
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, :16] = pixels[:, 32:] = 255
    Image.fromarray(pixels).save("wide.png")
    options = ("wide.png", "--prior", "TINY", "--resize", "--quiet")
    assert run("measure", *options, "--out", "m.nc").exit_code == 0
    y = Measurement.load("m.nc").y
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("black.png")
    run("measure", "black.png", "--prior", "TINY", "--out", "black.nc")
    assert torch.equal(y, Measurement.load("black.nc").y)  # the middle is black
    assert run("recover", *options, "--method", "quick").exit_code == 0
    assert torch.equal(y, Posterior.load("posterior.nc").observed["y"])


def test_measure_of_any_array(run):
    np.save("a.npy", np.linspace(0, 1, 10))
    run(
        *("measure", "a.npy", "--shape", "10", "--range", "0,1", "--measurements", 25),
        *("--operator", "gaussian", "--seed", 3, "--out", "m.nc"),
    )
    record = Measurement.load("m.nc")
    assert record.operator.to_dict() == Gaussian((10,), 25, seed=3).to_dict()
    assert record.data_range == (0.0, 1.0)


def test_range_may_start_with_a_minus(run):
    result = run(
        *("measure", "PICTURE", "--shape", "1,8,8", "--range", "-1,1"),
        *("--operator", "dct", "--out", "m.nc"),
    )
    assert result.exit_code == 0, result.stderr
    assert Measurement.load("m.nc").data_range == (-1.0, 1.0)


def test_dither_is_random_and_kept(run):
    result = run("measure", "PICTURE", "--prior", "TINY", "--out", "m.nc", "--dither", 2, "--json")
    assert json_of(result)["threshold"] is None
    thresholds = Measurement.load("m.nc").threshold
    assert thresholds.shape == (16,)
    # the standard deviation of 16 normal draws is within 60% of theirs in all but 1 of 1000 runs
    assert 0.8 < thresholds.std() < 3.2


def test_operator_thresholds_and_noise_have_their_own_random_numbers():
    """One seed must not give the same stream to the operator's rows and to the thresholds."""
    n, m = 400, 400
    measurement = sense(torch.zeros(n), (-1, 1), m, seed=0, operator="gaussian", dither=1.0)
    rows = measurement.operator.matrix * m**0.5
    overlap = (rows @ measurement.threshold / m).abs().max()
    # of 400 correlations of 400 independent draws the largest is below 0.25 (five deviations)
    assert overlap < 0.25


def test_recover_measures_a_picture_first(run):
    options = ("--method", "quick", "--num-samples", 3, "--ratio", 2, "--noise", 0.1)
    result = run("recover", "PICTURE", "--prior", "TINY", *options)
    assert "measured here, then recovered by quick" in result.stdout
    assert "simulated from the input" in result.stdout
    assert "32 bits" in result.stdout
    assert "PSNR of the mean" in result.stdout
    assert Path("posterior.nc").exists()


def test_recover_compares_with_a_kept_truth(run):
    run("demo", "--prior", "TINY", "--method", "quick", "--out", "d")
    result = run(
        "recover", "d/measurement.nc", "--prior", "TINY", "--method", "quick", "--json", "--quiet"
    )
    assert {"psnr_mean", "ssim_mean", "coverage_90"} < json_of(result).keys()


# --- methods ----------------------------------------------------------------------------------


def test_methods_are_listed(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    result = run("methods")
    assert result.exit_code == 0, result.stderr
    blocks = result.stdout.rstrip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == list(ALGORITHMS)
    assert max(map(len, result.stdout.splitlines())) <= 100
    block = blocks[list(ALGORITHMS).index("daps")]
    words = " ".join(block.split())
    assert f"paper {DAPS.paper}" in words
    assert f"assumptions {DAPS.assumptions}" in words
    assert f"denoiser calls {DAPS.cost}" in words
    assert f"exactness {DAPS.exactness}" in words
    assert "num_levels=200, sigma_last=0.1, num_ode_steps=5, data_step=none" in words


def test_methods_fit_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, run("methods").stdout.splitlines())) <= 60


def test_methods_as_json(run):
    facts = json_of(run("methods", "--json"))
    assert [fact["name"] for fact in facts] == list(ALGORITHMS)
    daps = facts[list(ALGORITHMS).index("daps")]
    assert (daps["paper"], daps["cost"]) == (DAPS.paper, DAPS.cost)
    assert daps["settings"]["misfit"] == "likelihood"


def test_methods_as_markdown(run):
    lines = run("methods", "--markdown").stdout.splitlines()
    assert lines[0] == "| name | paper | assumptions | denoiser calls | exactness |"
    assert len(lines) == 2 + len(ALGORITHMS)
    assert f"| `daps` | {DAPS.paper} | {DAPS.assumptions} |" in "\n".join(lines)


# --- priors and train -------------------------------------------------------------------------


def test_priors_lists_what_is_shipped(run, tiny_prior, monkeypatch):
    monkeypatch.setattr(zoo, "shipped_priors", lambda: {"tiny": tiny_prior})
    result = run("priors")
    assert result.exit_code == 0, result.stderr
    (facts,) = json_of(run("priors", "--json"))
    loss = f"{facts['held_out_loss']:.4f}"
    for text in ("tiny", "1x8x8", "306,340", "64 pictures", "0.6 MB", loss, "Do as you like."):
        assert text in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert facts["path"] == str(tiny_prior)
    assert facts["bytes"] == (tiny_prior / zoo.WEIGHTS).stat().st_size
    assert facts["error"] == {"sigma": 0.5, "mse": pytest.approx(0.1)}


def test_priors_without_any(run, monkeypatch):
    monkeypatch.setattr(zoo, "shipped_priors", dict)
    assert "No prior comes with this installation" in run("priors").stdout
    assert json_of(run("priors", "--json")) == []
    assert [facts["name"] for facts in json_of(run("priors", "TINY", "--json"))] == ["tiny"]


def test_train_passes_its_arguments_on(run, monkeypatch):
    calls = []

    def fake(recipe, data, out, *, device, progress):
        calls.append((recipe, data, out, device, progress))
        return out

    monkeypatch.setattr(training, "run", fake)
    result = run("train", "r.toml", "--data", "d.npz", "--out", "prior", "--no-progress")
    assert (result.exit_code, result.stdout) == (0, "Trained prior: prior\n")
    run("train", "r.toml", "--data", "d.npz", "--out", "prior")
    paths = (Path("r.toml"), Path("d.npz"), Path("prior"), "cpu")
    assert calls == [(*paths, False), (*paths, True)]


# --- benchmarks -------------------------------------------------------------------------------


@pytest.fixture
def data():
    """Pictures of 8x8 pixels, of which none is constant, in the working folder."""
    pictures = np.random.default_rng(0).integers(0, 256, (24, 8, 8), np.uint8)
    np.savez("data.npz", train=pictures, test=pictures[::-1])
    return "data.npz"


def test_bench_recovery(run, data):
    arguments = (
        *("bench", "recovery", "--data", data, "--prior", "TINY", "--pictures", 2),
        *("--methods", "quick num_samples=3,  biht   norm=8", "--ratios", "2,4"),
        *("--noise", "0.5,1", "--links", "probit,logistic", "--num-samples", 2),
        *("--averages", "sub/averages.csv", "--figure", "figure.png", "--json"),
    )
    result = run(*arguments)
    rows = json_of(result)["rows"]
    assert len(rows) == 2 * 2 * 4 * 2
    assert list(rows[0])[:4] == ["method", "n/m", "noise", "link"]
    assert {row["method"] for row in rows} >= {"quick num_samples=3", "biht norm=8"}
    assert all(row["NFE"] == 3 for row in rows if row["method"] == "quick num_samples=3")
    with open("sub/averages.csv", newline="") as file:
        averages = list(csv.DictReader(file))
    assert [row["method"] for row in averages] == [row["method"] for row in rows]
    for written, row in zip(averages, rows, strict=True):
        assert written["mean PSNR"] == str(row["mean PSNR"])
        assert (written["coverage 90%"] == "") == (row["coverage 90%"] is None)
    assert Path("figure.png").read_bytes().startswith(b"\x89PNG")
    assert result.stderr.splitlines()[:2] == [
        "quick num_samples=3, denoiser calls per sample at its default settings: 50",
        "biht norm=8, denoiser calls per sample at its default settings: "
        "0 (one call per run for the default norm)",
    ]
    before = Path("runs/recovery.csv").read_text()
    assert len(before.splitlines()) == 1 + 2 * len(rows)
    assert json_of(run(*arguments))["rows"] == rows
    assert Path("runs/recovery.csv").read_text() == before


def test_settings_of_a_method_tell_runs_apart(run, data):
    for method in ("diff-onebit num_levels=2", "diff-onebit num_levels=3"):
        options = ("--methods", method, "--ratios", 4, "--pictures", 1, "--quiet")
        result = run("bench", "recovery", "--data", data, "--prior", "TINY", *options)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    lines = Path("runs/recovery.csv").read_text().splitlines()
    # the two baselines are not run again
    assert len(lines) == 1 + 2 + 1 + 1


def test_bench_exact(run, data):
    result = run(
        *("bench", "exact", "--data", data, "--problems", "plane, pictures", "--count", 3),
        *("--seeds", 2, "--noise", 0.3, "--link", "logistic", "--threshold", "random"),
        *("--methods", "quick", "--num-samples", 8, "--json"),
    )
    rows = json_of(result)["rows"]
    assert [(row["problem"], row["method"], row["runs"]) for row in rows] == [
        (name, method, 2)
        for name in (
            "2 pixels, n/m = 1, logistic 0.3, hadamard, dithered",
            "3 pictures 1x8x8, n/m = 8, logistic 0.3, hadamard, dithered",
        )
        for method in ("exact", "quick")
    ]
    assert "data.npz 8 samples" in Path("runs/exact.csv").read_text()


def test_bench_exact_without_data(run):
    rows = json_of(
        run("bench", "exact", "--seeds", 1, "--methods", "quick", "--ratio", 2, "--json")
    )["rows"]
    assert [row["problem"].split(",")[:2] for row in rows[::2]] == [
        ["2 pixels", " n/m = 2"],
        ["8x8", " n/m = 2"],
    ]


@pytest.mark.parametrize(
    ("options", "setup"),
    [
        (("--prior", "TINY", "--truths", "test"), '"tiny float32, data.npz"'),
        (("--prior", "mixture", "--count", 4), "mixture of 4 of data.npz"),
    ],
)
def test_bench_calibration(run, data, options, setup):
    result = run(
        *("bench", "calibration", "--data", data, *options, "--runs", 4, "--num-samples", 7),
        *("--methods", "quick", "--ratio", 2, "--figures", "drawn", "--json"),
    )
    (row,) = json_of(result)["rows"]
    assert (row["method"], row["runs"], row["NFE"]) == ("quick", 4, 3)
    names = {path.name for path in Path("drawn").iterdir()}
    assert names == {"quick-ranks.png", "quick-coverage.png"}
    lines = Path("runs/calibration.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert all(line.startswith(f"{setup},quick,2,0.5,probit") for line in lines[1:])


# --- what can go wrong ------------------------------------------------------------------------

DEMO = ("demo", "--prior", "TINY", "--method", "quick")
MEASURE = ("measure", "PICTURE", "--prior", "TINY", "--out", "m.nc")
RECOVER = ("recover", "good.nc", "--prior", "TINY", "--method", "quick")
RECOVERY = ("bench", "recovery", "--data", "none.npz", "--prior", "TINY", "--out", "r.csv")
CALIBRATION = ("bench", "calibration", "--prior", "TINY", "--out", "r.csv")
BARE = ("measure", "PICTURE", "--out", "m.nc")

REFUSED = {
    # usage
    "no such command": (("dmo",), "No such command 'dmo'"),
    "no such option": ((*DEMO, "--loud"), "No such option: --loud"),
    "no such global option": (("--loud",), "No such option: --loud"),
    "not a number": ((*DEMO, "--ratio", "four"), "Invalid value for '--ratio'"),
    "missing argument": (("measure", "--out", "m.nc"), "Missing argument 'SIGNAL'"),
    "missing option": (("measure", "PICTURE"), "Missing option '--out'"),
    "no samples": ((*DEMO, "--num-samples", 0), "Invalid value for '--num-samples'"),
    "negative seed": ((*DEMO, "--seed", -1), "Invalid value for '--seed'"),
    "huge seed": ((*DEMO, "--seed", 2**63), "seed must be below 2^63"),
    # names
    "prior": (("demo", "--prior", "mars"), 'there is no prior "mars"; shipped priors:'),
    "empty folder": (("demo", "--prior", "."), "holds no weights.safetensors"),
    "method": (
        (*DEMO, "--method", "magic"),
        'unknown method "magic"; methods are lookahead-smc, split-gibbs-smc, twisted-smc',
    ),
    "setting": ((*DEMO, "--method", "dps levels=3"), 'dps has no setting "levels"'),
    "range of a setting": (
        (*DEMO, "--method", "dps num_levels=1"),
        "num_levels must be at least 2, got 1",
    ),
    "samples of a method": (
        (*DEMO, "--method", "nuts", "--num-samples", 5),
        "num_chains must divide num_samples",
    ),
    "recover method": ((*RECOVER, "--method", "magic"), 'unknown method "magic"'),
    "device": ((*DEMO, "--device", "abacus"), 'device "abacus" cannot be used here'),
    "meta": ((*DEMO, "--device", "meta"), "holds no values"),
    "bench device": (("bench", "exact", "--device", "abacus"), 'device "abacus" cannot be used'),
    "train device": (
        ("train", "r", "--data", "d", "--out", "o", "--device", "abacus"),
        'device "abacus" cannot be used here',
    ),
    "precision": ((*DEMO, "--precision", "int1"), 'precision is "int1"; use one of float32'),
    "operator": ((*MEASURE, "--operator", "eye"), "operators are hadamard, dct, gaussian"),
    "link": ((*MEASURE, "--link", "cauchit"), "link must be 'probit' or 'logistic'"),
    # numbers
    "no measurement": ((*DEMO, "--ratio", 1000), "leaves no measurement of a signal with 64 val"),
    "infinite ratio": ((*DEMO, "--ratio", "inf"), "--ratio must be a positive number, got inf"),
    "NaN ratio": ((*DEMO, "--ratio", "nan"), "--ratio must be a positive number, got nan"),
    "negative ratio": ((*DEMO, "--ratio", -4), "--ratio must be a positive number, got -4"),
    "too many": ((*DEMO, "--ratio", 0.5), "m must be between 1 and n = 64"),
    "zero measurements": ((*MEASURE, "--measurements", 0), "--measurements must be at least 1"),
    "ratio and number": (
        (*MEASURE, "--ratio", 2, "--measurements", 5),
        "give --ratio or --measurements, not both",
    ),
    "no noise": ((*DEMO, "--noise", 0), "--noise must be a positive number, got 0"),
    "NaN noise": ((*MEASURE, "--noise", "nan"), "--noise must be a positive number, got nan"),
    "NaN threshold": ((*MEASURE, "--threshold", "nan"), "threshold must be finite, got nan"),
    "dither": ((*MEASURE, "--dither", -1), "--dither must be a positive number, got -1"),
    "two thresholds": (
        (*MEASURE, "--dither", 1, "--threshold", 1),
        "give --threshold or --dither, not both",
    ),
    "flip": ((*MEASURE, "--flip", 0.5), "flip must be at least 0 and below 0.5"),
    "example": ((*DEMO, "--example", 3), 'prior "tiny" has examples 1 to 2'),
    "example 0": ((*DEMO, "--example", 0), 'prior "tiny" has examples 1 to 2'),
    # shape and range
    "shape and prior": ((*MEASURE, "--shape", "64"), "give --prior, or --shape with --range"),
    "shape alone": ((*BARE, "--shape", "1,8,8"), "--shape and --range go together"),
    "range alone": ((*BARE, "--range", "-1,1"), "--shape and --range go together"),
    "bad shape": ((*BARE, "--shape", "8x8", "--range", "0,1"), "--shape must be whole numbers"),
    "bad range": ((*BARE, "--shape", "1,8,8", "--range", "0"), "--range must be two numbers"),
    "zero size": ((*BARE, "--shape", "0,8", "--range", "0,1"), "sizes must be positive"),
    "falling range": ((*BARE, "--shape", "1,8,8", "--range", "1,0"), "the range rise"),
    # input files
    "missing picture": (
        ("measure", "none.png", "--prior", "TINY", "--out", "m.nc"),
        "there is no file none.png",
    ),
    "corrupt picture": (
        ("measure", "broken.png", "--prior", "TINY", "--out", "m.nc"),
        "broken.png is damaged or not a PNG or JPEG picture",
    ),
    "wrong size": (
        (*BARE, "--shape", "1,16,16", "--range", "-1,1"),
        "is 8x8 pixels (width x height), but the signal must be 16x16",
    ),
    "resized array": (
        ("measure", "bright.npy", "--prior", "TINY", "--out", "m.nc", "--resize"),
        "pictures can be resized, but bright.npy is an array",
    ),
    "resized file": ((*RECOVER, "--resize"), "--resize is for pictures; good.nc is taken as"),
    "NaN array": (
        ("recover", "nan.npy", "--prior", "TINY", "--method", "quick"),
        "nan.npy holds NaN or infinite values (64 of 64)",
    ),
    "out of range": (
        ("recover", "bright.npy", "--prior", "TINY", "--method", "quick"),
        "has values from 0 to 255, but the data range is [-1, 1]",
    ),
    "missing measurement": (
        ("recover", "none.nc", "--prior", "TINY"),
        "there is no file none.nc; give a measurement file",
    ),
    "corrupt measurement": (
        ("recover", "broken.nc", "--prior", "TINY"),
        "broken.nc is damaged or not a NetCDF file",
    ),
    "other signals": (
        ("recover", "flat.nc", "--prior", "TINY", "--method", "quick"),
        "operator measures signals of shape (64,), but those of the prior have shape (1, 8, 8)",
    ),
    "other range": (
        ("recover", "unit.nc", "--prior", "TINY", "--method", "quick"),
        "has the data range [0.0, 1.0], but signals of the prior have [-1.0, 1.0]",
    ),
    "ratio of a file": ((*RECOVER, "--ratio", 4), "--ratio and --noise are for pictures"),
    "noise of a file": ((*RECOVER, "--noise", 1), "--ratio and --noise are for pictures"),
    "recipe": (("train", "none", "--data", "d", "--out", "o"), "cannot read recipe none"),
    "training data": (
        ("train", "TINY", "--data", "none.npz", "--out", "o"),
        "cannot read signals from none.npz",
    ),
    # benchmarks
    "bench method": ((*RECOVERY, "--methods", "dps,magic"), 'unknown method "magic"'),
    "bench no method": ((*RECOVERY, "--methods", "dps,"), "a method is missing"),
    "bench method twice": ((*RECOVERY, "--methods", "dps, dps"), 'method "dps" is there twice'),
    "bench link": ((*RECOVERY, "--links", "cauchit"), "--links can be probit, logistic"),
    "bench link twice": ((*RECOVERY, "--links", "probit,probit"), "--links has a word twice"),
    "bench noise": ((*RECOVERY, "--noise", "0.5,-1"), "--noise must be a positive number"),
    "bench noise twice": ((*RECOVERY, "--noise", "1,1.0"), "--noise has a number twice"),
    "bench ratios": ((*RECOVERY, "--ratios", "2;4"), "--ratios must be numbers with commas"),
    "bench data": (RECOVERY, "cannot read signals from none.npz"),
    "bench figure": ((*RECOVERY, "--figure", "a.bmp"), "the name must end in .png, .pdf, .svg"),
    "bench averages": ((*RECOVERY, "--averages", "broken.nc/a"), "cannot write broken.nc/a"),
    "foreign runs": (
        ("bench", "exact", "--problems", "plane", "--out", "broken.nc"),
        "broken.nc is not an exact benchmark",
    ),
    "pictures without data": (
        ("bench", "exact", "--problems", "pictures"),
        "the problem pictures needs --data",
    ),
    "problem": (("bench", "exact", "--problems", "cube"), "--problems can be plane, small, pict"),
    "bench operator": (("bench", "exact", "--operator", "dct"), "--operator can be hadamard, gau"),
    "bench threshold": (("bench", "exact", "--threshold", "one"), "--threshold can be zero, rand"),
    "few pictures": (
        ("bench", "exact", "--data", "none.npz", "--problems", "pictures"),
        "cannot read signals from none.npz",
    ),
    "one estimate": (
        (*CALIBRATION, "--methods", "biht"),
        'needs 63 samples (--num-samples) of every method, but "biht" gives 1',
    ),
    "mixture": ((*CALIBRATION, "--prior", "mixture"), "--prior mixture and --truths test need"),
    "truths": ((*CALIBRATION, "--truths", "test"), "--prior mixture and --truths test need"),
    "truths of a mixture": (
        (*CALIBRATION, "--truths", "test", "--prior", "mixture"),
        "--truths test judges a trained prior",
    ),
    "bench figures": ((*CALIBRATION, "--figures", "broken.nc"), "broken.nc is not a folder"),
    # output files
    "output in a file": ((*DEMO, "--out", "broken.nc"), "cannot write broken.nc/recovery.png"),
    "measure into a file": (
        ("measure", "PICTURE", "--prior", "TINY", "--out", "broken.nc/m.nc"),
        "cannot write broken.nc/m.nc: broken.nc is not a folder",
    ),
    "output is a folder": ((*RECOVER, "--out", "."), "cannot write .: it is a folder"),
    "picture format": ((*RECOVER, "--picture", "a.bmp"), "the name must end in .png, .pdf, .svg"),
    "picture in a file": ((*RECOVER, "--picture", "broken.nc/a.png"), "cannot write broken.nc/a"),
}


@pytest.fixture
def files(quick_method):
    """Good and bad input files in the working folder."""
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Path("broken.nc").write_bytes(b"nothing")
    np.save("nan.npy", np.full((1, 8, 8), np.nan))
    np.save("bright.npy", np.linspace(0, 255, 64).reshape(8, 8))
    y = torch.ones(16)
    Measurement(y, Hadamard((1, 8, 8), 16), scale=0.5).save("good.nc")
    Measurement(y, Hadamard((64,), 16), scale=0.5).save("flat.nc")
    Measurement(y, Hadamard((1, 8, 8), 16), scale=0.5, data_range=(0, 1)).save("unit.nc")
    return {path.name for path in Path().iterdir()}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence_and_code_2(run, files, case):
    arguments, message = REFUSED[case]
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    left = {path for path in Path().rglob("*") if path.is_file()}
    assert {str(path) for path in left} == files


def test_prior_without_examples(run, tiny_prior, tmp_path):
    for name in ("recipe.toml", zoo.WEIGHTS):
        (tmp_path / name).write_bytes((tiny_prior / name).read_bytes())
    result = run("demo", "--prior", tmp_path)
    assert result.exit_code == 2
    assert "comes without example pictures" in result.stderr


def fail_with(exception):
    class Failing(Quick):
        def draw(self, target):
            raise exception

    return Failing


def test_divergence_is_reported_as_such(run, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "quick", fail_with(FloatingPointError("it diverged")))
    result = run(*DEMO, "--quiet")
    assert (result.exit_code, result.stderr) == (2, "Error: it diverged\n")


def test_defects_are_not_hidden(run, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "quick", fail_with(RuntimeError("a defect")))
    result = run(*DEMO)
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)


def test_long_messages_are_one_line(run, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "quick", fail_with(InputError("first\n  second")))
    assert run(*DEMO, "--quiet").stderr == "Error: first second\n"


def test_interruption_leaves_nothing(run, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "quick", fail_with(KeyboardInterrupt()))
    result = run(*DEMO, "--quiet")
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")
    assert not list(Path("demo").iterdir())


def process(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "bayes1bit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        # a job in the background of a script inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_process_refuses_with_code_2():
    with process("recover", "none.nc", "--prior", "mars") as done:
        out, error = done.communicate(timeout=240)
    assert (done.returncode, out) == (2, "")
    assert error == "Error: there is no file none.nc; give a measurement file\n"


def test_interrupted_process_leaves_nothing(tiny_prior):
    with process("demo", "--prior", str(tiny_prior), "--num-samples", "64") as running:
        while running.stderr.read(1) not in ("|", ""):  # until the progress bar starts
            pass
        running.send_signal(signal.SIGINT)
        out, error = running.communicate(timeout=240)
    assert (running.returncode, out) == (130, "")
    assert error.endswith("Interrupted.\n")
    assert not list(Path("demo").iterdir())
