"""The benchmark of priors: which signals are compared, and what their distances tell."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bayes1bit.bench.prior import (
    SignalSets,
    _distances,
    _jackknife,
    choose_signals,
    denoising_error,
    feature_space,
    sample_quality,
)
from bayes1bit.cli import app
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError

PICTURE, LINE = (1, 16, 16), (1, 128)


def mixture(shape, scale=0.1):
    means = torch.randn(20, *shape, generator=torch.Generator().manual_seed(0)).sign()
    return GaussianMixturePrior(means, scale)


def distances(prior, sets):
    rows = sample_quality(prior, sets, feature_space(prior, sets.train[0]))
    return {(row["signals"], row["against"]): row for row in rows}


@pytest.mark.parametrize("shape", [PICTURE, LINE], ids=["pictures", "lines"])
def test_exact_samples_are_as_far_as_the_data_from_each_other(shape):
    torch.manual_seed(0)
    prior = mixture(shape)
    sets = choose_signals(prior.sample((1600,)), prior.sample((800,)), 400)
    rows = distances(prior, sets)
    # the same law everywhere: the ratio is one up to chance, of which the row tells
    assert rows["samples", "held-out"]["ratio"] == pytest.approx(1, abs=0.6)
    assert rows["samples", "training"]["ratio"] == pytest.approx(1, abs=0.6)
    assert rows["training", "other training"]["ratio"] == pytest.approx(1, abs=0.6)
    assert rows["held-out", "training"]["ratio"] == 1
    assert rows["held-out", "training"]["its error"] == pytest.approx(0, abs=1e-12)
    assert rows["training, 15% noise", "held-out"]["ratio"] > 1.2
    assert all((row["sets"], row["count"]) == (2, 400) for row in rows.values())
    too_wide = distances(mixture(shape, 0.4), sets)["samples", "held-out"]
    assert too_wide["ratio"] > 5
    assert too_wide["Frechet"] > 10 * too_wide["error"]


def test_held_out_signals_of_another_kind_do_not_speak_against_the_prior():
    torch.manual_seed(0)
    prior = mixture(LINE)
    # as heartbeats of other people are
    sets = choose_signals(prior.sample((800,)), 1.2 * prior.sample((400,)), 400)
    rows = distances(prior, sets)
    floor = rows["training", "other training"]["Frechet"]
    assert rows["held-out", "training"]["Frechet"] > 5 * floor
    assert rows["samples", "held-out"]["ratio"] == pytest.approx(1, abs=0.2)
    assert rows["samples", "training"]["Frechet"] < 2 * floor


def test_standard_error_is_the_spread_over_new_sets():
    torch.manual_seed(0)
    values, errors = [], []
    for _ in range(80):
        drawn = _distances(torch.randn(1, 200, 6), torch.randn(2, 200, 6) + 0.4)
        values.append(drawn[0])
        errors.append(_jackknife(drawn[1:]))
    # a standard deviation of 80 is known to 8%; the jackknife's bias has order 1 / groups
    ratio = torch.tensor(errors).square().mean().sqrt() / torch.stack(values).std()
    assert ratio.item() == pytest.approx(1, abs=0.25)


def test_one_set_of_samples_is_held_against_every_set_of_data():
    x, y = torch.randn(1, 50, 3), torch.randn(4, 50, 3)
    mean = sum(_distances(x, y[i : i + 1]) for i in range(4)) / 4
    torch.testing.assert_close(_distances(x, y), mean)


def test_signals_are_chosen_at_random_without_repetition():
    train, held_out = torch.arange(1000), torch.arange(1000, 1330)
    sets = choose_signals(train, held_out, 100, seed=3)
    assert [part.shape for part in sets] == [(3, 100)] * 3
    known = torch.cat([sets.train, sets.others]).flatten()
    assert len(known.unique()) == 600
    assert known.max() > 900
    assert known.max() < 1000 <= sets.held_out.min()
    assert len(sets.held_out.unique()) == 300
    again, other = (choose_signals(train, held_out, 100, seed=seed) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(sets, again, strict=True))
    assert not torch.equal(sets.train, other.train)


@pytest.mark.parametrize(
    ("num_train", "num_held_out", "count", "shape"),
    [(12_031, 601, 2000, (1, 601)), (300, 601, 2000, (1, 150)), (9000, 9000, 40, (5, 40))],
)
def test_sets_have_equal_size_whatever_the_splits(num_train, num_held_out, count, shape):
    sets = choose_signals(torch.arange(num_train), torch.arange(num_held_out), count)
    assert [part.shape for part in sets] == [shape] * 3


def test_too_few_signals_are_refused():
    with pytest.raises(InputError, match="38 training signals and 90 held-out ones are too few"):
        choose_signals(torch.arange(38), torch.arange(90), 50)


def test_denoising_error_is_that_of_the_table_at_the_levels_of_the_prior():
    torch.manual_seed(0)
    prior = mixture(PICTURE)
    prior.sigma_min, prior.sigma_max = 0.1, 2.0
    rows = denoising_error(prior, prior.sample((400,)))
    assert [row["sigma"] for row in rows] == [0.1, 0.2, 0.5, 1.0, 2.0]
    for row in rows:
        assert row["count"] == 400
        assert row["ratio"] == pytest.approx(row["held-out error"] / row["shipped table"])
        # two Monte Carlo estimates of one number, from 400 and 512 draws; where components are
        # just told apart, a few draws that are not make most of it
        assert row["ratio"] == pytest.approx(1, rel=0.3)


def test_command_compares_samples_with_both_splits(tiny_prior, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "data.npz"
    train = rng.integers(0, 256, (2060, 8, 8), dtype=np.uint8)
    np.savez(path, train=train, test=train[:25])
    arguments = ["bench", "prior", str(tiny_prior), "--data", str(path), "--seed", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    tables = json.loads(result.stdout)
    quality, error = tables.values()
    assert next(iter(tables)) == (
        "squared Frechet distance in 52 random 2-D convolutional features, seed 0"
    )
    assert [(row["signals"], row["against"]) for row in quality][:4] == [
        ("samples", "held-out"),
        ("held-out", "training"),
        ("samples", "training"),
        ("training", "other training"),
    ]
    assert {row["count"] for row in quality} == {25}
    assert {row["count"] for row in error} == {25}
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout) == tables
    assert "ratio" in CliRunner().invoke(app, arguments).stdout


def test_the_last_training_signals_which_training_left_out_are_not_compared(
    tiny_prior, tmp_path, monkeypatch
):
    seen = {}

    def record(prior, sets, features):
        seen["sets"] = sets
        return []

    monkeypatch.setattr("bayes1bit.bench.prior.sample_quality", record)
    train = np.zeros((2060, 8, 8), dtype=np.uint8)
    train[60:] = 255
    np.savez(tmp_path / "data.npz", train=train, test=train)
    result = CliRunner().invoke(
        app, ["bench", "prior", str(tiny_prior), "--data", str(tmp_path / "data.npz")]
    )
    assert result.exit_code == 0, result.stderr
    assert isinstance(seen["sets"], SignalSets)
    # the recipe sets 2000 aside: black ones are left
    assert (seen["sets"].train == -1).all()
    assert (seen["sets"].held_out == 1).any()
