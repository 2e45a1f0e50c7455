"""Benchmarks of networks: speed of whole denoisers, and binarizers trained alike."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from bayes1bit.bench import binarizers, network_speed, speed
from bayes1bit.bench.binarizers import (
    BIDIFFSR,
    DIVERGED,
    ERRORS,
    LOSS,
    NETWORKS,
    ORDERS,
    check_orders,
    held_out_loss,
    run_binarizers,
)
from bayes1bit.bench.network_speed import (
    PRIOR,
    Candidate,
    _measure_loading,
    candidates,
    denoiser_speed,
    held_bytes,
    loading_peak,
)
from bayes1bit.cli import app
from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.training.data import Signals
from bayes1bit.diffusion.training.network import build_denoiser
from bayes1bit.diffusion.training.recipe import DataSettings, NoiseSettings, Recipe
from bayes1bit.errors import InputError
from bayes1bit.networks import BINARIZERS, BitUNet, SR3UNet, count, pack
from bayes1bit.networks.packed import PackedUnit
from bayes1bit.networks.unet import parameter_count
from bayes1bit.zoo import open_prior

SHAPE = (1, 32, 32)


def command(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def complaint(*arguments):
    result = command(*arguments)
    assert result.exit_code == 2
    return result.stderr


# --- speed ------------------------------------------------------------------------------------


def small(kind, **settings):
    return KarrasDenoiser(kind(SHAPE, patch=8, **settings), 0.5)


@pytest.fixture
def small_networks(monkeypatch):
    """Two networks that take no time, and no process to load them in."""
    bits = partial(small, BitUNet, widths=(64,), blocks=1, middle_blocks=0, octaves=1, knots=2)
    full = partial(small, SR3UNet, width=16, multipliers=(1,), blocks=1)
    networks = {
        PRIOR: Candidate("trained", full, full),
        "bits": Candidate("random", bits, lambda: pack(bits())),
    }
    monkeypatch.setattr(network_speed, "candidates", lambda: networks)
    monkeypatch.setattr(network_speed, "loading_peak", lambda name: 2.5)
    monkeypatch.setattr(network_speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "BLOCK", 1e-4)
    return networks


def test_table_of_denoisers(small_networks):
    rows = denoiser_speed(3)
    assert [row["network"] for row in rows] == [PRIOR, "bits"]
    for row, candidate in zip(rows, small_networks.values(), strict=True):
        counts = count(candidate.build().network, SHAPE)
        assert row["ratio"] == pytest.approx(row[f"{PRIOR} ms"] / row["ms"])
        # a count without its operations, as some contexts of torch make it, would be negative
        assert row["OPs M"] == pytest.approx(counts.operations / 1e6)
        assert row["OPs M"] > 0
        assert row["full M"] == counts.full_parameters / 1e6
        assert row["binary M"] == counts.binary_parameters / 1e6
        assert row["share"] == pytest.approx(row["memory MB"] / rows[0]["memory MB"])
        assert (row["batch"], row["MB to load"]) == (3, 2.5)
    assert rows[0]["share"] == 1


def test_networks_of_the_table_are_comparable():
    networks = candidates()
    prior = parameter_count(networks[PRIOR].build())
    twin = networks["SR3, its full-precision twin"].build()
    assert parameter_count(twin) == pytest.approx(prior, rel=0.05)
    faithful = count(networks["BI-DiffSR, packed"].build().network, SHAPE)
    without = count(networks["BI-DiffSR, full_decoder=(), packed"].build().network, SHAPE)
    # the published one has 96% of its operations in full precision
    assert faithful.full_share > 0.95
    assert without.operations < faithful.operations / 5
    for name, candidate in networks.items():
        units = [m for m in candidate.load().modules() if isinstance(m, PackedUnit)]
        assert bool(units) == name.endswith("packed")


def test_held_memory_is_counted_once():
    layer = nn.Linear(100, 50)
    layer.again = layer.weight.detach()[:10]
    assert held_bytes(nn.Sequential(layer, layer)) == 4 * (100 * 50 + 50)


def test_packed_inference_holds_no_weights_in_float():
    network = small(BitUNet, widths=(64, 64), blocks=1).network
    packed = pack(network)
    x, label = torch.randn(1, *SHAPE), torch.zeros(1)
    binary = count(network, SHAPE).binary_parameters
    before = held_bytes(packed)
    with torch.inference_mode():
        packed(x, label)
    after = held_bytes(packed)
    # what the kernel makes for itself it makes anew in each call
    assert after == before
    # but a gradient needs them
    packed(x.requires_grad_(), label)
    assert held_bytes(packed) - after == 4 * binary


def test_peak_of_loading_is_what_loading_takes(monkeypatch, capsys):
    megabytes = 80
    made = Candidate("random", None, lambda: torch.ones(megabytes, 250_000))
    monkeypatch.setattr(network_speed, "candidates", lambda: {"large": made})
    _measure_loading("large")
    # pages of a few megabytes may come and go
    assert float(capsys.readouterr().out) == pytest.approx(megabytes, abs=5)


@pytest.mark.slow
def test_loading_needs_at_least_what_is_held():
    name = "SR3, its full-precision twin"
    assert loading_peak(name) > 0.9 * held_bytes(candidates()[name].load()) / 1e6


def test_command_speed_times_networks_in_place_of_operators(monkeypatch, small_networks):
    monkeypatch.setattr(network_speed, "convolution_speed", lambda: [{"channels": 64}])
    monkeypatch.setattr(network_speed, "option_speed", lambda batch: [{"batch": batch}])
    for name in ("operator_speed", "operator_memory", "target_overhead", "data_step_speed"):
        monkeypatch.setattr(speed, name, lambda name=name: [{"part": name}])
    result = command("speed", "--networks", "--batch", 2, "--json")
    assert result.exit_code == 0, result.stderr
    convolutions, denoisers, with_options = json.loads(result.stdout).values()
    assert convolutions == [{"channels": 64}]
    assert [row["batch"] for row in denoisers] == [2, 2]
    assert with_options == [{"batch": 2}]
    assert len(json.loads(command("speed", "--json").stdout)) == 4
    assert "--networks" in complaint("speed", "--batch", 2)


# --- binarizers -------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Few pictures."""
    monkeypatch.setattr(binarizers, "BATCH", 2)
    monkeypatch.setattr(binarizers, "HELD_OUT", 8)


@pytest.fixture(scope="module")
def pictures():
    stored = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    stored = torch.from_numpy(stored)[:, None]
    return Signals(stored[:16], stored[16:], DataSettings((1, 8, 8), held_out=8))


@pytest.fixture
def bench(tiny_prior, pictures, tmp_path, quick):
    def run(*names, steps=1, **settings):
        recipe, path = Recipe.load(tiny_prior), tmp_path / "runs.csv"
        return run_binarizers(
            recipe, pictures, names, path, steps=steps, progress=False, **settings
        )

    return run


def forbidden(*arguments, **settings):
    raise AssertionError("trained again")


def test_networks_have_equal_operations():
    recipe = open_prior(PRIOR).recipe
    counts = {
        name: count(build_denoiser(replace(recipe, network=network.settings)).network, SHAPE)
        for name, network in NETWORKS.items()
    }
    binarized = counts["bidiffsr"]
    # as published
    assert binarized.full_share == pytest.approx(0.96, abs=0.005)
    for name, counted in counts.items():
        if name != "full":
            assert counted.operations == pytest.approx(binarized.operations, rel=0.03)
    assert counts["full"].operations > 4 * binarized.operations
    assert set(BINARIZERS) <= set(NETWORKS)


def test_one_pair_with_cs_fusion_is_reactnet():
    recipe, outputs = open_prior(PRIOR).recipe, []
    for settings in (replace(BIDIFFSR, pairs=1), NETWORKS["reactnet"].settings):
        torch.manual_seed(0)
        denoiser = build_denoiser(replace(recipe, network=settings)).eval()
        outputs.append(denoiser(torch.ones(1, *SHAPE), torch.tensor(1.0)))
    assert torch.equal(*outputs)


def test_finished_networks_are_lines_and_not_trained_again(bench, monkeypatch, tmp_path):
    rows = bench("full", "bidiffsr")
    assert [row["network"] for row in rows] == [NETWORKS[n].title for n in ("full", "bidiffsr")]
    for row in rows:
        errors = [row[name] for name in ERRORS]
        assert errors == sorted(errors)
        assert row["parameters"] > 0
        assert row["OPs M"] > 0
        assert DIVERGED not in row
    monkeypatch.setattr(binarizers, "train", forbidden)
    assert bench("full", "bidiffsr") == rows
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 3
    for other in ({"steps": 2}, {"seed": 1}, {"setup": "other pictures"}):
        with pytest.raises(AssertionError, match="again"):
            bench("full", **other)


def test_all_are_trained_on_the_same_batches(bench, monkeypatch):
    seen = []

    def train(recipe, *arguments, **settings):
        seen.append((recipe.data, recipe.noise, recipe.training, recipe.distillation))
        raise FloatingPointError

    monkeypatch.setattr(binarizers, "train", train)
    bench("full", "bitunet", "bnn", "bidiffsr")
    assert len(seen) == 4
    assert all(other == seen[0] for other in seen)
    assert seen[0][2].steps == 1
    assert seen[0][3] is None


def test_divergence_is_a_row(bench, monkeypatch):
    train = binarizers.train

    def unlucky(recipe, *arguments, **settings):
        denoiser, seconds = train(recipe, *arguments, **settings)
        if recipe.card.title == "bnn":
            raise FloatingPointError("the loss is not finite")
        if recipe.card.title == "xnor":
            denoiser.network.tail.bias.fill_(torch.nan)
        return denoiser, seconds

    monkeypatch.setattr(binarizers, "train", unlucky)
    rows = bench("bnn", "xnor", "dorefa")
    assert [row[DIVERGED] for row in rows] == ["diverged", "diverged", ""]
    assert [row[LOSS] is None for row in rows] == [True, True, False]
    assert all(row["parameters"] > 0 for row in rows)


def test_network_that_answers_nothing_has_the_loss_one():
    class Nothing(nn.Module):
        def forward(self, x, noise_label):
            return torch.zeros_like(x)

    # another seed than that of the noise
    torch.manual_seed(1)
    deviation = 0.7
    clean = deviation * torch.randn(256, 1, 8, 8)
    loss = held_out_loss(KarrasDenoiser(Nothing(), deviation), clean, NoiseSettings())
    # a mean of 16,384 squares of unit normals, 4.5 deviations
    assert loss == pytest.approx(1, abs=4.5 * (2 / clean.numel()) ** 0.5)


def published():
    """Losses in the published orders."""
    worst_first = ("bnn", "dorefa", "xnor", "irnet", "baseline", "identity", "resampling")
    names = (*worst_first, "reactnet", "bbcu", "bidiffsr", "full", "bitunet")
    return {name: 1 - 0.05 * i for i, name in enumerate(names)}


def verdicts(losses):
    return {(r["worse"], r["better"]): r["holds"] for r in check_orders(losses)}


def test_orders_as_published_hold():
    rows = check_orders(published())
    assert len(rows) == sum(map(len, ORDERS.values()))
    assert {row["holds"] for row in rows} == {"yes"}
    first = rows[0]
    assert (first["published in"], first["worse"], first["better"]) == ("table", "BNN", "DoReFa")
    assert first["its loss"] == 0.95
    assert first["ratio"] == pytest.approx(1 / 0.95)


def test_exchanged_neighbours_are_told():
    losses = published()
    losses["bbcu"], losses["bidiffsr"] = losses["bidiffsr"], losses["bbcu"]
    title = {name: network.title for name, network in NETWORKS.items()}
    wrong = [pair for pair, holds in verdicts(losses).items() if holds == "no"]
    assert wrong == [(title["bbcu"], title["bidiffsr"])]


def test_divergence_is_worse_than_any_loss():
    # BNN as published, and DoReFa, which should be better than BNN, but not than XNOR-Net
    holds = verdicts({"bnn": None, "dorefa": None, "xnor": 1e9})
    assert list(holds.values()) == ["no", "yes"]
    assert verdicts({"bidiffsr": 0.1, "full": 0.05}) == {}


def test_command_binarizers(tiny_prior, tmp_path, quick):
    data, out = tmp_path / "pictures.npz", tmp_path / "runs.csv"
    rng = np.random.default_rng(0)
    np.savez(data, train=rng.integers(0, 256, (2016, 8, 8), dtype=np.uint8))
    options = ("--data", data, "--prior", tiny_prior, "--steps", 1, "--out", out)
    result = command("binarizers", *options, "--methods", "bbcu,bidiffsr")
    assert result.exit_code == 0, result.stderr
    assert "BI-DiffSR = + TaR and TaA" in result.stdout
    assert "holds" in result.stdout
    result = command("binarizers", *options, "--methods", "bidiffsr", "--json", "-q")
    (table,) = json.loads(result.stdout).values()
    assert list(table[0])[:3] == ["network", "parameters", "OPs M"]
    assert command("binarizers", *options, "--methods", "bidiffsr", "-q").stdout == ""
    assert "--methods can be full, bitunet" in complaint("binarizers", *options, "--methods", "x")
    examples = command("binarizers", "--help").stdout.split("Examples:")[1]
    assert "\n    bayes1bit bench binarizers" in examples


def test_foreign_file_is_refused(bench, tmp_path):
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is not a binarizers benchmark"):
        bench("full")
