"""Training in several processes, on the CPU."""

import builtins
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from training_cases import log_rows, recipe, table, toml, toy_pictures

from bayes1bit.diffusion.training.processes import Processes
from bayes1bit.diffusion.training.trainer import train
from bayes1bit.errors import InputError

TOY = {"signals": 16 * 12, "precision": "float32", "log_every": 2, "checkpoint_every": 6}
PROGRAM = """
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from training_cases import toy_pictures
from bayes1bit.diffusion.training import Recipe
from bayes1bit.diffusion.training.processes import Processes
from bayes1bit.diffusion.training.trainer import train
recipe = Recipe.load(sys.argv[2])
processes = Processes("cpu", recipe.training.batch_size)
assert processes.count == 2
train(recipe, toy_pictures(), sys.argv[2], progress=False, processes=processes)
processes.end()
"""


def test_one_process_has_the_whole_batch_to_itself():
    alone, batch = Processes("cpu", 7), torch.randn(7, 2)
    assert alone.is_main
    assert torch.equal(alone.share(batch), batch)
    assert alone.seed(5) == 5
    parameter = torch.nn.Parameter(torch.ones(2))
    loss = parameter.square().sum()
    loss.backward()
    averaged = alone.average(loss, [parameter])
    assert averaged.item() == 2
    assert not averaged.requires_grad
    assert parameter.grad.tolist() == [2, 2]
    alone.wait()
    alone.end()


def test_shares_make_up_the_batch_and_seeds_differ():
    batch, parts, seeds = torch.arange(12).view(6, 2), [], set()
    for index in range(3):
        process = Processes("cpu", 6)
        process.index, process.count = index, 3
        parts.append(process.share(batch))
        seeds.add(process.seed(2**32 - 1))
        assert process.is_main == (index == 0)
    assert torch.equal(torch.cat(parts), batch)
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_several_processes_need_accelerate(monkeypatch):
    actual = builtins.__import__

    def without(name, *rest):
        if name == "accelerate":
            raise ImportError(name)
        return actual(name, *rest)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'bayes1bit\[train\]'"):
        Processes("cpu", 16)


def launch(program, *arguments):
    pytest.importorskip("accelerate")
    # what accelerate launch does for GPUs; for CPUs it would want MPI
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc_per_node", "2", str(program), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(tmp_path):
    whole, out, program = tmp_path / "whole", tmp_path / "two", tmp_path / "program.py"
    out.mkdir()
    (out / "recipe.toml").write_text(toml(table(training=TOY)))
    program.write_text(PROGRAM)
    done = launch(program, os.path.dirname(__file__), out)
    assert done.returncode == 0, done.stderr
    train(recipe(training=TOY), toy_pictures(), whole, progress=False)
    ours, theirs = (load_file(p / "checkpoint.safetensors") for p in (out, whole))
    assert ours.keys() == theirs.keys()
    compared = total = 0
    for name, moment in theirs.items():
        kind, _, parameter = name.partition("exp_avg_sq.")
        if kind == "adam.":
            # a bias in front of a normalisation has no gradient but rounding, which Adam makes
            # steps of full size
            moves = moment.sqrt() > 1e-5
            compared, total = compared + int(moves.sum()), total + moves.numel()
            for state in ("network", "average"):
                mine, other = (w[f"{state}.{parameter}"][moves] for w in (ours, theirs))
                # twelve steps of up to 5e-3 move weights by a hundred times this
                torch.testing.assert_close(mine, other, rtol=1e-3, atol=5e-4)
    assert compared > 0.75 * total
    # one process alone wrote
    assert [row["step"] for row in log_rows(out)] == [row["step"] for row in log_rows(whole)]
    for one, other in zip(log_rows(out), log_rows(whole), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), abs=2e-4)
    assert len((out / "held_out.csv").read_text().splitlines()) == 1 + 2 * 6
    # and an odd batch is refused by both
    (out / "recipe.toml").write_text(toml(table(training={**TOY, "batch_size": 15})))
    done = launch(program, os.path.dirname(__file__), out)
    assert done.returncode != 0
    assert "training.batch_size = 15 cannot be divided among 2 processes" in done.stderr
