"""``bayes1bit bench large`` on a small network."""

import json

import pytest
from typer.testing import CliRunner

from bayes1bit.bench import large
from bayes1bit.cli import app
from bayes1bit.diffusion import ADM_PRESETS

FLAGS = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8",
    "learn_sigma": True,
}


def command(*arguments):
    return CliRunner().invoke(app, ["bench", "large", *arguments])


def test_steps_are_timed_in_a_fresh_process():
    rows = large.run_large(FLAGS, m=64, num_levels=3)
    steps = [row["step"] for row in rows]
    assert steps == [
        "packages are imported",
        "load the checkpoint",
        "denoise one picture",
        "Diff-OneBit, 3 levels",
    ]
    assert rows[0]["seconds"] is None
    assert all(row["seconds"] > 0 for row in rows[1:])
    peaks = [row["peak MB"] for row in rows]
    assert peaks == sorted(peaks)
    # a process that has imported torch
    assert peaks[0] > 50


def test_command_shows_what_it_ran(monkeypatch):
    calls = []

    def run(flags, *, num_levels, seed):
        calls.append((flags, num_levels, seed))
        return [{"step": "load the checkpoint", "seconds": 1.5, "peak MB": 300.0}]

    monkeypatch.setattr(large, "run_large", run)
    result = command("--preset", "imagenet256", "--levels", "2", "--seed", "3", "--json")
    assert calls == [(ADM_PRESETS["imagenet256"], 2, 3)]
    ((title, rows),) = json.loads(result.stdout).items()
    assert title.startswith("imagenet256, n = 196,608, m = 12,288, ")
    assert rows[0]["peak MB"] == 300.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "cats"], '--preset can be ffhq256, imagenet256; got "cats"'),
        (["--levels", "1"], "--levels"),
    ],
)
def test_wrong_options(arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_help_ends_with_examples():
    result = command("--help")
    assert "\n    bayes1bit bench large" in result.stdout.split("Examples:")[1]
