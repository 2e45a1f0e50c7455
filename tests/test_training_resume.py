"""A training that is killed goes on as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from training_cases import log_rows, recipe, table, toml, toy_pictures

from bayes1bit.diffusion.training.held_out import FIELDS
from bayes1bit.diffusion.training.log import StepLog
from bayes1bit.diffusion.training.trainer import train
from bayes1bit.files import complete_or_absent, discard_incomplete

TOY = {"signals": 16 * 60, "precision": "float32", "log_every": 1, "checkpoint_every": 2}
PROGRAM = """
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from training_cases import toy_pictures
from bayes1bit.diffusion.training import Recipe
from bayes1bit.diffusion.training.trainer import train
train(Recipe.load(sys.argv[2]), toy_pictures(), sys.argv[2], progress=False)
"""


def start(out):
    """A process of its own that trains in a folder."""
    arguments = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__), str(out)]
    return subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})


def steps_logged(out):
    log = StepLog(out / "training.csv", ["step", "seconds", "loss"])
    return max((int(row["step"]) for row in log.rows()), default=0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_training_ends_with_the_same_weights(tmp_path):
    """Killed at three random moments after some more steps, mostly while something is written."""
    whole, out = tmp_path / "whole", tmp_path / "parts"
    out.mkdir()
    (out / "recipe.toml").write_text(toml(table(training=TOY)))
    train(recipe(training=TOY), toy_pictures(), whole, progress=False)
    moments = random.Random(7)
    for _ in range(3):
        target = steps_logged(out) + moments.randint(2, 12)
        process = start(out)
        while steps_logged(out) < target and process.poll() is None:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert steps_logged(out) < 60
    process = start(out)
    assert process.wait() == 0
    ours, theirs = (load_file(p / "checkpoint.safetensors") for p in (out, whole))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert [int(row["step"]) for row in log_rows(out)] == list(range(1, 61))
    assert [row["loss"] for row in log_rows(out)] == [row["loss"] for row in log_rows(whole)]
    assert (out / "held_out.csv").read_bytes() == (whole / "held_out.csv").read_bytes()
    # what was being written at a kill is gone
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors",
        "held_out.csv",
        "recipe.toml",
        "training.csv",
    ]


def test_a_checkpoint_is_replaced_whole(tmp_path, monkeypatch):
    """Killed within the writing of the second checkpoint, a run has the first, untouched."""
    from bayes1bit.diffusion.training import checkpoint

    short = recipe(training={**TOY, "signals": 16 * 4})
    save, seen = checkpoint.save_file, []

    def half(tensors, path, metadata):
        save(tensors, path, metadata=metadata)
        seen.append(path)
        if len(seen) == 2:
            path.write_bytes(path.read_bytes()[:1000])
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        train(short, toy_pictures(), tmp_path / "parts", progress=False)
    monkeypatch.undo()
    # a killed process leaves the half behind, which the next one clears away
    leftover = tmp_path / "parts" / ".checkpoint-abc.safetensors"
    leftover.write_bytes(b"half")
    train(short, toy_pictures(), tmp_path / "parts", progress=False)
    train(short, toy_pictures(), tmp_path / "whole", progress=False)
    ours, theirs = (
        load_file(tmp_path / name / "checkpoint.safetensors") for name in ("parts", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not leftover.exists()


def test_lines_cut_off_in_the_middle_do_not_count(tmp_path):
    log = StepLog(tmp_path / "a.csv", FIELDS)
    assert log.rows() == []
    log.forget_after(3)
    assert not log.path.exists()
    log.append([10, "all", 1, 2, 3], [12, "all", 1, 2, 3])
    log.append([25, "all", 1, 2, 3])
    complete = log.path.read_text()
    assert complete.splitlines()[0] == ",".join(FIELDS)
    for cut in range(len(complete)):
        log.path.write_text(complete[:cut])
        kept = [row["step"] for row in log.rows()]
        assert kept == ["10", "12", "25"][: max(0, complete[:cut].count("\n") - 1)]
        # resumed after step 11: what was cut or came later is gone, the header is there
        log.forget_after(11)
        assert [row["step"] for row in log.rows()] == kept[:1]
        log.append([13, "all", 1, 2, 3])
        assert [row["step"] for row in log.rows()] == [*kept[:1], "13"]


def test_only_leftovers_of_the_same_file_are_discarded(tmp_path):
    with complete_or_absent(tmp_path / "a.csv") as temporary:
        temporary.write_text("x")
    for name in (".a-1.csv", ".a-2.csv", ".b-1.csv", ".a-1.txt", "a-1.csv"):
        (tmp_path / name).write_text("half")
    discard_incomplete(tmp_path / "a.csv")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.csv",
        ".b-1.csv",
        ".a-1.txt",
        "a-1.csv",
    }
