"""Benchmarks: what they compute is right, and interrupted ones go on."""

import math
from dataclasses import replace

import pyro
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bayes1bit.bench.recovery import (
    BASELINES,
    Condition,
    Problem,
    back_projection,
    run_recovery,
    shown_pictures,
)
from bayes1bit.bench.recovery_figure import plot_recovery
from bayes1bit.bench.reverse import reverse_table, shares_table
from bayes1bit.bench.runs import FinishedRuns
from bayes1bit.bench.speed import compare, operator_memory, target_overhead
from bayes1bit.bench.table import format_table
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import BIHT, DiffOneBit, ProximalStep, SplitGibbsSMC

SHAPE = (1, 16, 16)
SOLVERS = ("VarianceCorrected", "StochasticMultistep")


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
    scores = {(row["method"], row["n/m"]): row["mean PSNR"] for row in rows}
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
    for kept in (1, 8, len(lines[-1])):
        path.write_text("\n".join([*lines[:-1], lines[-1][:kept]]))
        run_recovery(problem, {}, path, progress=False)
        assert path.read_text().splitlines() == lines


def test_back_projection_has_the_best_factor(problem):
    measurement, truth = problem.measure(0, problem.conditions[0]), problem.pictures[0]
    estimate = back_projection(measurement, truth, problem.prior)
    error = (estimate - truth).square().sum()
    for factor in (0.99, 1.01):
        assert (factor * estimate - truth).square().sum() > error


def test_every_method_sees_the_same_bits(problem):
    condition = Condition("logistic", 0.3, 4)
    first = problem.measure(1, condition)
    torch.randn(10)
    assert torch.equal(first.y, problem.measure(1, condition).y)
    assert not torch.equal(first.y, problem.measure(0, condition).y)
    assert (first.link, first.scale, first.m) == ("logistic", 0.3, 64)


def test_operator_noise_and_algorithm_have_their_own_random_numbers(problem):
    purposes = ("operator", "noise", "algorithm")
    seeds = [problem.stream(purpose, i) for purpose in purposes for i in range(3)]
    assert len(set(seeds)) == 9


def test_dither_has_thresholds_of_its_own(problem):
    condition = problem.conditions[0]
    dithered = replace(problem, dither=2.0)
    plain, other = (p.measure(1, condition) for p in (problem, dithered))
    assert plain.threshold == 0.0
    assert other.threshold.shape == plain.y.shape
    assert 1.0 < other.threshold.std() < 3.0
    assert torch.equal(other.threshold, dithered.measure(1, condition).threshold)
    # the noise is the same, so bits of outputs beyond all thresholds are
    far = (plain.operator(problem.pictures[1]).abs() > other.threshold.abs() + 3).flatten()
    assert far.any()
    assert torch.equal(plain.y[far], other.y[far])
    assert problem.key("a", condition, 0) != dithered.key("a", condition, 0)
    with pytest.raises(InputError, match="dither must not be negative"):
        replace(problem, dither=-1.0)


def test_noise_can_be_unknown_to_the_methods(problem, tmp_path):
    unknown = replace(problem, dither=1.0, unknown_noise=True, ratios=(2,))
    condition = unknown.conditions[0]
    assert unknown.key("a", condition, 0) != replace(unknown, unknown_noise=False).key(
        "a", condition, 0
    )
    measurement = unknown.measure(0, condition)
    trace = pyro.poutine.trace(unknown.model(measurement)).get_trace(measurement.y)
    assert {name for name in trace.stochastic_nodes if name != "y"} == {"x", "scale"}
    found = {}

    def joint(model):
        algorithm = SplitGibbsSMC(model, 16, progress=False)
        run = algorithm.run
        algorithm.run = lambda y: found.setdefault("posterior", run(y))
        return algorithm

    rows = run_recovery(
        replace(unknown, pictures=unknown.pictures[:1]),
        {"joint": joint},
        tmp_path / "r.csv",
        progress=False,
    )
    scale = found["posterior"].latents["scale"]
    assert abs(float(scale.mean()) - condition.noise) < 3 * float(scale.std())
    assert rows[-1]["mean PSNR"] > rows[1]["mean PSNR"]


def test_recovery_under_several_conditions(problem, tmp_path):
    several = replace(problem, noises=(0.1, 2.0), links=("probit", "logistic"))
    rows = run_recovery(several, {}, tmp_path / "r.csv", progress=False)
    assert [(r["link"], r["noise"], r["method"], r["n/m"]) for r in rows] == [
        (link, noise, name, ratio)
        for link in ("probit", "logistic")
        for noise in (0.1, 2.0)
        for name in BASELINES
        for ratio in (2, 4)
    ]
    psnr = {(r["link"], r["noise"], r["method"], r["n/m"]): r["mean PSNR"] for r in rows}
    for link in ("probit", "logistic"):
        clean, noisy = (psnr[link, noise, "back-projection", 2] for noise in (0.1, 2.0))
        assert clean > noisy + 0.5
    # a smaller benchmark finds its runs among those of the larger one
    lines = (tmp_path / "r.csv").read_text()
    smaller = replace(several, noises=(2.0,), links=("logistic",))
    again = run_recovery(smaller, {}, tmp_path / "r.csv", progress=False)
    assert (tmp_path / "r.csv").read_text() == lines
    assert again == [r for r in rows if r["link"] == "logistic" and r["noise"] == 2.0]


def test_recovery_needs_something_to_do(problem):
    with pytest.raises(InputError, match='links are probit, logistic, got "cauchit"'):
        replace(problem, links=("cauchit",))
    for missing in ({"ratios": ()}, {"noises": ()}, {"links": ()}, {"pictures": torch.empty(0)}):
        with pytest.raises(InputError, match="at least one picture, ratio, noise and link"):
            replace(problem, **missing)


def test_one_estimate_and_a_diverged_run(problem, tmp_path):
    class Diverging(DiffOneBit):
        def draw(self, target):
            raise FloatingPointError("diverged")

    methods = {
        "biht": lambda model: BIHT(model, norm=12.0, progress=False),
        "diverging": lambda model: Diverging(model, 4, progress=False),
    }
    small = replace(problem, ratios=(2,))
    for _ in range(2):  # run, then read again
        rows = run_recovery(small, methods, tmp_path / "r.csv", progress=False)
        biht, diverging = rows[-2:]
        assert (biht["coverage 90%"], biht["diverged"]) == (None, 0)
        assert biht["sample PSNR"] == pytest.approx(biht["mean PSNR"])
        assert diverging["diverged"] == 2
        assert all(diverging[name] is None for name in problem.scorer.names)
    assert "diverged" not in run_recovery(small, {}, tmp_path / "r.csv", progress=False)[0]


def test_pictures_share_a_batch_where_chains_are_independent(problem, tmp_path):
    """A batch of all pictures, what is left of it after an interruption, and one that diverges."""
    batches = []

    class Recorded(DiffOneBit):
        def draw(self, target):
            batches.append(self.num_samples)
            if len(batches) == 3:
                raise FloatingPointError("diverged")
            return super().draw(target)

    def recorded(model):
        return Recorded(model, 4, num_levels=10, data_step=ProximalStep(), progress=False)

    three = replace(problem, pictures=problem.pictures[[0, 1, 0]], ratios=(2,), together=3)
    path = tmp_path / "r.csv"
    run_recovery(replace(three, together=1, pictures=three.pictures[:1]), {"a": recorded}, path)
    (row,) = run_recovery(three, {"a": recorded}, path, progress=False)[2:]
    assert batches == [4, 8]
    assert row["mean PSNR"] > 10
    assert len(path.read_text().splitlines()) == 1 + 3 * 3
    # the third batch diverges; then its pictures run alone
    run_recovery(three, {"b": recorded}, path, progress=False)
    assert batches == [4, 8, 12, 4, 4, 4]

    def smc(model):
        return SplitGibbsSMC(model, 4, progress=False)

    alone = run_recovery(replace(three, together=1), {"smc": smc}, tmp_path / "1.csv")
    shared = run_recovery(three, {"smc": smc}, tmp_path / "2.csv", progress=False)
    for row in (*alone, *shared):
        row.pop("seconds")
    assert shared == alone
    with pytest.raises(InputError, match="together must be at least 1, got 0"):
        replace(three, together=0)


def test_one_picture_has_no_pixels_that_vary(problem, tmp_path):
    one = replace(problem, pictures=problem.pictures[:1], ratios=(4,))
    rows = run_recovery(one, {"diff-onebit": method}, tmp_path / "r.csv", progress=False)
    assert rows[-1]["coverage 90%"] is None
    assert rows[-1]["mean PSNR"] > 0


def test_figure_of_a_resumed_recovery(problem, tmp_path):
    several = replace(problem, noises=(0.5, 1.0))
    methods = {
        "diff-onebit": method,
        "biht": lambda model: BIHT(model, norm=12.0, progress=False),
    }
    path = tmp_path / "r.csv"
    run_recovery(several, methods, path, progress=False)
    shown = shown_pictures(path)
    key = several.key("diff-onebit", several.conditions[0], 1)
    parts = shown.load(key)
    assert set(parts) == {"mean", "sample", "std"}
    posterior = _posterior_of(several, 1)
    # half precision has 11 bits
    torch.testing.assert_close(parts["mean"], posterior.mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(parts["std"], posterior.std, rtol=1e-3, atol=1e-3)
    assert set(shown.load(several.key("biht", several.conditions[0], 0))) == {"mean", "sample"}
    assert shown.load(several.key("biht", several.conditions[0], 9)) == {}

    def never(model):
        raise AssertionError("it was run")

    rows = run_recovery(several, dict.fromkeys(methods, never), path, progress=False)
    figure = plot_recovery(several, list(methods), rows, shown_pictures(path))
    FigureCanvasAgg(figure).draw()
    texts = [axes.get_title() for axes in figure.findobj(Axes)]
    for title in ("truth", "diff-onebit", "biht", "probit noise 0.5", "probit noise 1"):
        assert texts.count(title) == 1
    pictures = [axes for axes in figure.findobj(Axes) if axes.get_images()]
    # for two pictures: the truth, three panels of one method and two of the other
    assert sum(axes.get_images()[0].get_array().shape == (16, 16) for axes in pictures) == 12
    panel = next(axes for axes in figure.findobj(Axes) if axes.get_title() == "probit noise 1")
    expected = [r["mean PSNR"] for r in rows if (r["method"], r["noise"]) == ("biht", 1.0)]
    assert any(list(line.get_ydata()) == expected for line in panel.get_lines())


def _posterior_of(problem, picture):
    measurement = problem.measure(picture, problem.conditions[0])
    algorithm = method(measurement.model(problem.prior))
    pyro.set_rng_seed(problem.stream("algorithm", picture))
    return algorithm.run(measurement.y)


def test_figure_refuses_what_it_cannot_draw(problem, tmp_path):
    shown = shown_pictures(tmp_path / "r.csv")
    with pytest.raises(InputError, match="there is no method to draw"):
        plot_recovery(problem, [], [], shown)
    with pytest.raises(InputError, match=r"signals of shape \(2, 8, 8\) cannot be drawn"):
        plot_recovery(replace(problem, pictures=torch.zeros(2, 2, 8, 8)), ["a"], [], shown)


def test_finished_runs_keep_missing_values(tmp_path):
    path = tmp_path / "runs.csv"
    runs = FinishedRuns(path, ("name",), ("score", "count"), "test")
    runs.add(("a\u2028b",), {"count": 2, "score": None})
    again = FinishedRuns(path, ("name",), ("score", "count"), "test")
    assert again["a\u2028b",] == {"score": None, "count": 2.0} == runs["a\u2028b",]


def test_finished_runs_after_a_header_cut_short(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("name,sc")
    runs = FinishedRuns(path, ("name",), ("score",), "test")
    runs.add(("a",), {"score": 1})
    assert path.read_text() == "name,score\na,1\n"


@pytest.mark.parametrize(
    "content",
    [b"other", b"a,b\n1,2\n", b"name,score\nx,high\n", b"name,score\nx,1,2\n", b"\xff\n"],
)
def test_finished_runs_leave_other_files_alone(tmp_path, content):
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a test benchmark of this version; rename it"):
        FinishedRuns(path, ("name",), ("score",), "test")
    assert path.read_bytes() == content


def test_finished_runs_need_a_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        FinishedRuns(tmp_path, ("name",), ("score",), "test")


def test_reverse_table_shows_the_variance_that_plain_steps_lose():
    torch.manual_seed(0)
    rows = reverse_table(torch.randn(4, 256).sign(), steps=(10,), num_samples=256)
    errors = {row["solver"]: row["error %"] for row in rows}
    assert abs(errors["VarianceCorrected()"]) < 2
    assert -45 < errors["Ancestral()"] < -30
    assert all(row["NFE"] == (19 if row["solver"] == "Heun()" else 10) for row in rows)


def test_shares_table_shows_which_components_first_order_steps_prefer():
    """Near its pictures one component is lonely; steps of second order mind it less."""
    torch.manual_seed(0)
    means = torch.randn(1, 64) + 0.3 * torch.randn(6, 64)
    means[0] = torch.randn(64)
    rows = shares_table(means, steps=(6,), num_samples=20_000)
    assert [row["levels"] for row in rows] == ["adapted"] * 2 + ["geometric"] * 2
    assert {row["steps"] for row in rows} == {6}
    uneven = {(row["levels"], row["solver"]): row["uneven %"] for row in rows}
    # six equal shares of 20,000 walks
    assert all(
        row["chance %"] == pytest.approx(100 * math.sqrt(5 / 20_000), rel=0.1) for row in rows
    )
    for spacing in ("adapted", "geometric"):
        first, second = (uneven[spacing, f"{name}()"] for name in SOLVERS)
        assert second < first
        assert first > 5


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
