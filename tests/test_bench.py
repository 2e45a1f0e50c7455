"""Benchmarks: what they compute is right, and interrupted ones go on."""

import math
from dataclasses import replace

import pyro
import pytest
import torch

from bayes1bit.bench.prior import denoising_error, sample_quality
from bayes1bit.bench.recovery import KEY, SCORES, Problem, back_projection, run_recovery
from bayes1bit.bench.reverse import reverse_table
from bayes1bit.bench.speed import compare, operator_memory, target_overhead
from bayes1bit.bench.table import format_table
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import DiffOneBit, ProximalStep

SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def problem():
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, *SHAPE).sign(), 0.2, num_steps=10)
    prior.data_range = (-1.0, 1.0)
    return Problem(prior, prior.means[:2].clamp(-1, 1), ratios=(2, 4))


def method(model):
    return DiffOneBit(model, 8, num_levels=40, data_step=ProximalStep(), progress=False)


def test_recovery_averages_runs_and_beats_the_baselines(problem, tmp_path):
    path = tmp_path / "recovery.csv"
    rows = run_recovery(problem, {"diff-onebit": method}, path, progress=False)
    assert [(row["method"], row["n/m"]) for row in rows] == [
        (name, ratio)
        for name in ("prior mean", "back-projection", "diff-onebit")
        for ratio in (2, 4)
    ]
    assert len(path.read_text().splitlines()) == 1 + 3 * 2 * 2
    scores = {(row["method"], row["n/m"]): row["PSNR mean"] for row in rows}
    for ratio in (2, 4):
        best_baseline = max(scores["prior mean", ratio], scores["back-projection", ratio])
        assert scores["diff-onebit", ratio] > best_baseline
    assert rows[-1]["NFE"] == 40
    assert rows[0]["NFE"] is None


def test_recovery_goes_on_where_it_stopped(problem, tmp_path):
    path = tmp_path / "recovery.csv"
    calls = []

    def interrupted(model):
        calls.append(model)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return method(model)

    with pytest.raises(KeyboardInterrupt):
        run_recovery(problem, {"diff-onebit": interrupted}, path, progress=False)
    finished = path.read_text()
    resumed = run_recovery(problem, {"diff-onebit": interrupted}, path, progress=False)
    assert len(calls) == 3 + 2
    assert path.read_text().startswith(finished)
    whole = run_recovery(problem, {"diff-onebit": method}, tmp_path / "other.csv", progress=False)
    for one, other in zip(resumed, whole, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}
        )


def test_runs_of_another_setup_are_not_gone_on_with(problem, tmp_path):
    path = tmp_path / "recovery.csv"
    run_recovery(problem, {}, path, progress=False)
    lines = len(path.read_text().splitlines())
    for other in (replace(problem, setup="8 samples"), replace(problem, seed=1)):
        run_recovery(other, {}, path, progress=False)
        assert len(path.read_text().splitlines()) > lines
        lines = len(path.read_text().splitlines())
    run_recovery(problem, {}, path, progress=False)
    assert len(path.read_text().splitlines()) == lines


def test_recovery_refuses_a_foreign_file(problem, tmp_path):
    path = tmp_path / "foreign.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is not a recovery benchmark"):
        run_recovery(problem, {"diff-onebit": method}, path, progress=False)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_line_cut_short_is_run_again(problem, tmp_path):
    path = tmp_path / "recovery.csv"
    run_recovery(problem, {}, path, progress=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], ",".join(lines[-1].split(",")[:6])]) + "\n")
    run_recovery(problem, {}, path, progress=False)
    assert len(KEY) + len(SCORES) == len(path.read_text().splitlines()[-1].split(","))


def test_back_projection_has_the_best_factor(problem):
    measurement, truth = problem.measure(0, 2), problem.pictures[0]
    estimate = back_projection(measurement, truth, problem.prior)
    error = (estimate - truth).square().sum()
    for factor in (0.99, 1.01):
        assert (factor * estimate - truth).square().sum() > error


def test_every_method_sees_the_same_bits(problem):
    first = problem.measure(1, 4)
    torch.randn(10)
    assert torch.equal(first.y, problem.measure(1, 4).y)
    assert not torch.equal(first.y, problem.measure(0, 4).y)


def test_reverse_table_shows_the_variance_that_plain_steps_lose():
    torch.manual_seed(0)
    rows = reverse_table(torch.randn(4, 256).sign(), steps=(10,), num_samples=256)
    errors = {row["solver"]: row["error %"] for row in rows}
    assert abs(errors["VarianceCorrected()"]) < 2
    assert -45 < errors["Ancestral()"] < -30
    assert all(row["NFE"] == (19 if row["solver"] == "Heun()" else 10) for row in rows)


def test_sample_quality_puts_exact_samples_beside_the_training_set():
    torch.manual_seed(0)
    prior, other = (
        GaussianMixturePrior(torch.randn(20, *SHAPE).sign(), scale) for scale in (0.2, 0.3)
    )
    train, test = prior.sample((400,)), prior.sample((400,))

    def ratio(judged):
        rows = {row["pictures"]: row["Frechet"] for row in sample_quality(judged, train, test)}
        return rows["samples of the prior"] / rows["training set"]

    # both sets are draws of the same law: they differ by sampling error alone
    assert ratio(prior) < 2
    assert ratio(other) > 5
    errors = denoising_error(prior, test)
    for row in errors:
        # two Monte Carlo estimates of one number, from 400 and 512 draws; where components are
        # just told apart, a few draws that are not make most of it
        assert row["test error"] == pytest.approx(row["shipped table"], rel=0.3)


def test_speed_tables_have_finite_ratios():
    first, second = compare(lambda: sum(range(100)), lambda: sum(range(20_000)))
    assert first < second
    assert all(math.isfinite(r["ratio"]) for r in target_overhead(n=64, m=16, particles=4))
    (row,) = operator_memory()
    # the bound for n = 196,608, m = 12,288
    assert row["extra memory MB"] < 500


def test_table_aligns_numbers_and_text():
    text = format_table([{"name": "a", "x": 1.23456, "k": 2}, {"name": "bcd", "x": None, "k": 10}])
    assert text.splitlines() == [
        "name      x   k",
        "---------------",
        "a     1.235   2",
        "bcd       -  10",
    ]
    assert format_table([]) == ""
