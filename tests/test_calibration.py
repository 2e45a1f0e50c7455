"""Calibration: exact posteriors pass, wrong ones are found, the benchmark goes on."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bayes1bit.bench.calibration import PROBS, STATISTICS, Study, run_calibration
from bayes1bit.bench.runs import FinishedRuns
from bayes1bit.diagnostics import (
    coverage_curve,
    expected_coverage,
    interval_coverage,
    interval_hits,
    plot_coverage,
    plot_sbc,
    pooled_coverage,
    sbc_ranks,
    sbc_test,
    tarp_rank,
)
from bayes1bit.diagnostics.uniformity import (
    count_below,
    largest_deviation_test,
    local_level_test,
    rank_edges,
    simultaneous_band,
)
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.weighted import merge_copies, normalize_weights, resample

RUNS, DRAWS, SIZE = 200, 63, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def conjugate(runs=RUNS, draws=DRAWS, scale=1.0, shift=0.0):
    """Truths, data and draws of x ~ N(0, I), y = x + N(0, I): the posterior is N(y/2, I/2).

    Draws are ``scale`` times as far from their mean as exact ones, and shifted by ``shift``
    posterior standard deviations.
    """
    truths = torch.randn(runs, SIZE)
    data = truths + torch.randn(runs, SIZE)
    noise = scale * torch.randn(runs, draws, SIZE) + shift
    return truths, data, data[:, None] / 2 + noise / 2**0.5


def all_ranks(truths, samples, weights=None, statistics=None):
    weights = [None] * len(truths) if weights is None else weights
    return torch.stack(
        [
            sbc_ranks(draws, truth, statistics, weight)
            for draws, truth, weight in zip(samples, truths, weights, strict=True)
        ]
    )


# Exact tests of uniformity


@pytest.mark.parametrize("num_samples", [1, 7, 63, 1000])
def test_p_values_of_uniform_ranks_are_uniform(num_samples):
    # A share q of 2000 p-values is below q, to 4 standard errors sqrt(q (1 - q) / 2000); p-values
    # are discrete, so that the share may be less by the largest jump, which is wide for few draws.
    ranks = torch.randint(0, num_samples + 1, (50, 2000))
    jump = {1: 0.12, 7: 0.08}.get(num_samples, 0.02)
    for p in (local_level_test(ranks, num_samples), largest_deviation_test(ranks, num_samples)[1]):
        for q in (0.01, 0.05, 0.2, 0.5):
            share, error = float((p <= q).double().mean()), 4 * (q * (1 - q) / 2000) ** 0.5
            assert q - jump - error < share < q + error


def test_p_value_by_hand():
    # Among one draw, 3 of 3 ranks are zero with probability 1/8, and so are none: p = 1/4.
    ranks = torch.tensor([[0], [0], [0]])
    assert float(local_level_test(ranks, 1)) == pytest.approx(0.25, abs=1e-12)
    deviation, p_value = largest_deviation_test(ranks, 1)
    assert float(deviation) == 0.5
    assert float(p_value) == pytest.approx(0.25, abs=1e-12)


def test_small_p_values_keep_their_digits():
    # All of 100 ranks zero among one draw: 2 / 2^100.
    p_value = float(local_level_test(torch.zeros(100, 1, dtype=torch.long), 1))
    assert p_value == pytest.approx(2.0**-99, rel=1e-9)


@pytest.mark.parametrize("prob", [0.5, 0.95])
def test_band_holds_whole_curves(prob):
    lower, upper = simultaneous_band(100, 20, prob)
    counts = count_below(torch.randint(0, 21, (100, 4000)), 20)
    inside = ((counts >= 100 * lower - 0.5) & (counts <= 100 * upper + 0.5)).all(1)
    # Never less than promised, to 4 standard errors below 0.008; more by the discreteness.
    assert prob - 0.03 < float(inside.double().mean()) < prob + 0.06


def test_many_draws_are_looked_at_on_a_grid():
    assert rank_edges(5).tolist() == [1, 2, 3, 4, 5]
    edges = rank_edges(5000)
    assert len(edges.unique()) == 100
    assert (edges[0], edges[-1]) == (1, 5000)


# Simulation-based calibration


def test_ranks_count_draws_below():
    samples = torch.tensor([[1.0, 0.0], [2.0, 5.0], [3.0, 6.0]])
    assert sbc_ranks(samples, torch.tensor([2.5, 9.0])).tolist() == [2, 3]
    assert sbc_ranks(samples, torch.tensor([2.5, 9.0]), lambda x: x.sum(1)).tolist() == [3]
    assert sbc_ranks(samples[:, 0], torch.tensor(0.5)).tolist() == [0]


@pytest.mark.parametrize("weights", [None, torch.ones(DRAWS), 5 * torch.ones(DRAWS)])
def test_equal_weights_change_no_rank(weights):
    samples, truth = torch.randn(DRAWS, 500), torch.randn(500)
    expected = (samples < truth).sum(0)
    assert torch.equal(sbc_ranks(samples, truth, None, weights), expected)


def test_ties_are_broken_evenly():
    samples, truth = torch.tensor([0.0, 1, 1, 1, 2])[:, None].expand(5, 4000), torch.ones(4000)
    counts = sbc_ranks(samples, truth).bincount(minlength=6)
    assert counts[[0, 5]].sum() == 0
    # Four equally likely ranks; 120 is 4.4 standard deviations of a count.
    assert bool(((counts[1:5] - 1000).abs() < 120).all())


def test_p_values_of_exact_posteriors_are_uniform():
    p_values = []
    for _ in range(40):
        truths, _, samples = conjugate(runs=60, draws=15)
        p_values.append(sbc_test(all_ranks(truths, samples), 15).p_values)
    shares = [float((torch.cat(p_values) <= q).double().mean()) for q in (0.1, 0.5, 0.9)]
    # 160 p-values: 4 standard errors are 0.10, 0.16 and 0.10, and discreteness takes up to 0.02.
    assert shares == pytest.approx([0.1, 0.5, 0.9], abs=0.16)


WRONG = [{"scale": 0.7}, {"scale": 1.4}, {"shift": 0.4}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_posteriors_are_found(wrong):
    truths, _, samples = conjugate(runs=400, **wrong)
    assert sbc_test(all_ranks(truths, samples), DRAWS).p_value < 1e-3


def test_the_combined_p_value_bounds_the_smallest():
    ranks = torch.randint(0, DRAWS + 1, (RUNS, 5))
    test = sbc_test(ranks, DRAWS)
    assert test.p_values.shape == (5,)
    assert test.p_value == pytest.approx(min(1.0, 5 * float(test.p_values.min())))
    assert sbc_test(ranks[:, 0], DRAWS).p_value == pytest.approx(float(test.p_values[0]))


def test_only_data_dependent_statistics_find_a_posterior_that_is_the_prior():
    truths, data, _ = conjugate()
    samples = torch.randn(RUNS, DRAWS, SIZE)
    assert sbc_test(all_ranks(truths, samples), DRAWS).p_value > 0.01
    ranks = torch.stack(
        [
            sbc_ranks(samples[i], truths[i], lambda x, y=data[i]: (x - y).norm(dim=1))
            for i in range(RUNS)
        ]
    )
    assert sbc_test(ranks, DRAWS).p_value < 1e-6
    assert expected_coverage(samples, truths).p_value > 0.01
    assert expected_coverage(samples, truths, data).p_value < 1e-6


def importance(truths, data, draws):
    """Draws of the prior, weighted by the likelihood."""
    samples = torch.randn(len(truths), draws, SIZE)
    return samples, (-0.5 * (samples - data[:, None]).square().sum(2)).softmax(1)


def test_weights_are_honoured():
    truths, data, _ = conjugate()
    samples, weights = importance(truths, data, 400)
    size = 1 / weights.square().sum(1)
    assert size.median() < 150  # far from equal weights
    assert sbc_test(all_ranks(truths, samples, weights), 400).p_value > 0.01
    assert expected_coverage(samples, truths, data, weights).p_value > 0.01
    coverage = interval_coverage(samples, truths, weights=weights)
    promised = torch.tensor(coverage.probs).double()
    # 4 standard errors, and 0.02 that weighted quantiles of about 100 effective draws may be off
    allowed = 4 * coverage.standard_error + 0.02
    assert bool(((coverage.coverage - promised).abs() < allowed).all())
    assert expected_coverage(samples, truths, data).p_value < 1e-3


def test_merged_copies_make_ranks_of_resampled_draws_uniform():
    # 63 draws that are copies of 8 exact ones.
    truths, _, samples = conjugate(runs=600, draws=8)
    copies = samples[:, torch.randint(8, (DRAWS,))]
    merged = [merge_copies(draws) for draws in copies]
    taken_for_independent = sbc_test(all_ranks(truths, copies)[:, :1], DRAWS).p_value
    seen_through = sbc_test(all_ranks(truths, copies, merged)[:, :1], DRAWS).p_value
    assert taken_for_independent < 1e-3
    assert seen_through > 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(3)), "samples have shape"),
        ((torch.zeros(0, 2), torch.zeros(2)), "samples have shape"),
        ((torch.zeros(3, 2), torch.full((2,), torch.nan)), "hold NaN"),
        ((torch.zeros(3, 2), torch.zeros(2), lambda x: x.sum()), "statistics made shape"),
        ((torch.zeros(3, 2), torch.zeros(2), lambda x: x.log().sum(1) * 0), "statistic of"),
        ((torch.zeros(3, 2), torch.zeros(2), None, torch.ones(2)), "one per sample"),
        ((torch.zeros(3, 2), torch.zeros(2), None, -torch.ones(3)), "non-negative"),
    ],
)
def test_bad_runs_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        sbc_ranks(*arguments)


@pytest.mark.parametrize(
    "ranks", [torch.zeros(5, 2), torch.full((5, 2), 9), torch.full((5, 2), -1), torch.zeros(0, 2)]
)
def test_bad_ranks_are_refused(ranks):
    with pytest.raises(InputError, match="ranks"):
        sbc_test(ranks, 8)


def test_bad_numbers_are_refused():
    ranks = torch.zeros(5, dtype=torch.long)
    with pytest.raises(InputError, match="num_samples"):
        sbc_test(ranks, 0)
    with pytest.raises(InputError, match="prob must"):
        coverage_curve(ranks, 3, prob=1.0)
    with pytest.raises(InputError, match="num_runs"):
        simultaneous_band(0, 3, 0.9)
    with pytest.raises(InputError, match="expected"):
        coverage_curve(ranks[:, None], 3)


# Expected coverage


def test_expected_coverage_of_exact_posteriors_is_the_level():
    truths, data, samples = conjugate()
    for references in (None, data):
        curve = expected_coverage(samples, truths, references)
        assert curve.p_value > 0.01
        assert bool(((curve.lower <= curve.coverage) & (curve.coverage <= curve.upper)).all())
        assert curve.deviation == pytest.approx(
            float((curve.coverage - curve.levels).abs().max()), abs=1e-12
        )


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_expected_coverage_finds_wrong_posteriors(wrong):
    truths, _, samples = conjugate(runs=800, **wrong)
    # Reference points along the direction of the bias see it best; any would with enough runs.
    references = truths.roll(1, 0) + 2
    assert expected_coverage(samples, truths, references).p_value < 1e-3


def test_too_narrow_posteriors_cover_less():
    # About a far point, balls reach from one side: narrow posteriors put truths at both ends.
    truths, _, samples = conjugate(scale=0.5)
    curve = expected_coverage(samples, truths, torch.full_like(truths, 100.0))
    low, high = curve.levels < 0.2, curve.levels > 0.8
    assert bool((curve.coverage[low] > curve.levels[low]).all())
    assert bool((curve.coverage[high] < curve.levels[high]).all())


def test_tarp_rank_by_hand():
    samples = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0]])
    assert tarp_rank(samples, torch.tensor([3.0, 0.0]), torch.zeros(2)) == 2
    with pytest.raises(InputError, match="reference"):
        tarp_rank(samples, torch.zeros(2), torch.zeros(3))


def test_bad_sets_of_runs_are_refused():
    truths, _, samples = conjugate(runs=3, draws=5)
    for arguments, message in (
        ((samples[:2], truths), "2 sets of samples"),
        ((samples[:1], truths[:1]), "at least 2 runs"),
        ((samples, truths, truths[:2]), "2 references"),
        ((samples, truths, None, [None]), "1 sets of weights"),
        (([samples[0], samples[1][:3], samples[2]], truths), "number of draws"),
    ):
        with pytest.raises(InputError, match=message):
            expected_coverage(*arguments)


# Intervals


def test_interval_coverage_of_exact_posteriors_is_nominal():
    truths, _, samples = conjugate(runs=500)
    result = interval_coverage(samples, truths)
    promised = torch.tensor(result.probs).double()
    # Four independent elements in each of 500 runs; the rare misses of a 95% interval leave the
    # standard error itself uncertain by 5%, of which 0.2 is four times.
    expected = (promised * (1 - promised) / 2000).sqrt()
    torch.testing.assert_close(result.standard_error, expected, rtol=0.2, atol=0)
    assert bool(((result.coverage - promised).abs() < 4 * expected + 0.002).all())


def test_standard_error_counts_runs_not_elements():
    # All elements of a run are one number: 400 runs are 400 trials, whatever the elements.
    truths, _, samples = conjugate(runs=400)
    truths, samples = truths[:, :1].expand(-1, 50), samples[..., :1].expand(-1, -1, 50)
    result = interval_coverage(samples, truths, probs=(0.5,))
    assert float(result.standard_error) == pytest.approx(0.5 / 20, rel=0.05)


@pytest.mark.parametrize(("scale", "sign"), [(0.7, -1), (1.4, 1)])
def test_interval_coverage_shows_wrong_spread(scale, sign):
    truths, _, samples = conjugate(scale=scale)
    result = interval_coverage(samples, truths)
    error = result.coverage - torch.tensor(result.probs).double()
    assert bool((sign * error > 2 * result.standard_error).all())


def test_intervals_count_only_selected_elements():
    samples = torch.linspace(-1, 1, 21)[:, None].expand(21, 3)
    truth = torch.tensor([0.0, 5.0, 0.8])
    assert interval_hits(samples, truth, (0.5, 0.9)).tolist() == pytest.approx([1 / 3, 2 / 3])
    where = torch.tensor([True, False, True])
    assert interval_hits(samples, truth, (0.5, 0.9), where).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probs": ()}, "probs"),
        ({"probs": (1.0,)}, "probs"),
        ({"where": torch.zeros(SIZE, dtype=torch.bool)}, "where"),
        ({"where": torch.ones(SIZE)}, "where"),
        ({"weights": torch.zeros(2, DRAWS)}, "weights are zero"),
    ],
)
def test_bad_interval_settings_are_refused(options, message):
    truths, _, samples = conjugate(runs=2)
    with pytest.raises(InputError, match=message):
        interval_coverage(samples, truths, **options)


def test_bad_hits_are_refused():
    with pytest.raises(InputError, match="at least 2 runs"):
        pooled_coverage(torch.zeros(1, 2), (0.5, 0.9))


# Figures


def rendered(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def test_sbc_figure_has_a_panel_for_each_statistic():
    ranks = torch.randint(0, DRAWS + 1, (RUNS, 7))
    figure = plot_sbc(ranks, DRAWS)
    assert rendered(figure).startswith(b"\x89PNG")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 7
    curve = shown[2].lines[-1].get_ydata()
    expected = (ranks[:, 2] < 32).double().mean() - 0.5
    assert curve[32] == pytest.approx(float(expected))
    assert shown[0].get_title().startswith("statistic 1, p = ")
    assert rendered(plot_sbc(ranks[:, 0], DRAWS, ["brightness"])).startswith(b"\x89PNG")


def test_coverage_figure_shows_both_kinds():
    truths, _, samples = conjugate(scale=0.7)
    curve, intervals = expected_coverage(samples, truths), interval_coverage(samples, truths)
    figure = plot_coverage(curve, intervals)
    assert rendered(figure).startswith(b"\x89PNG")
    assert len(figure.axes) == 2
    points = figure.axes[1].containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(points[:, 0], intervals.probs)
    np.testing.assert_allclose(points[:, 1], intervals.coverage)
    assert len(plot_coverage(curve).axes) == 1


@pytest.mark.parametrize("statistics", [1, 2, 7])
def test_nothing_in_a_figure_is_clipped_or_overlaps(statistics):
    curve = coverage_curve(torch.randint(0, 8, (50,)), 7)
    for figure in (
        plot_sbc(torch.randint(0, 8, (50, statistics)), 7),
        plot_coverage(curve),
        plot_coverage(curve, pooled_coverage(torch.rand(50, 2), (0.5, 0.9))),
    ):
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent(renderer)
        panels = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.get_visible()]
        for box in [legend, *panels]:
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        assert not any(legend.overlaps(box) for box in panels)
        assert not any(a.overlaps(b) for a, b in itertools.combinations(panels, 2))


def test_bad_figure_settings_are_refused():
    ranks = torch.zeros(5, 2, dtype=torch.long)
    with pytest.raises(InputError, match="1 names for 2 statistics"):
        plot_sbc(ranks, 8, ["one"])
    with pytest.raises(InputError, match="columns"):
        plot_sbc(ranks, 8, columns=0)


# The benchmark


class Importance(Algorithm):
    """Draws of the prior resampled by the likelihood; nearly exact with few bits."""

    paper = assumptions = cost = exactness = "test"

    def draw(self, target):
        x = target.prior.sample((1000,))
        weights = normalize_weights((target.log_likelihood(x).double()).softmax(0))
        return Draws(x[resample(weights, self.num_samples, "multinomial")])


class Narrow(Importance):
    """The same, drawn together towards the mean."""

    def draw(self, target):
        x = super().draw(target).samples
        return Draws(x.mean(0) + 0.5 * (x - x.mean(0)))


class PriorAlone(Algorithm):
    """Draws of the prior, whatever the bits."""

    paper = assumptions = cost = exactness = "test"

    def draw(self, target):
        return Draws(target.prior.sample((self.num_samples,)))


METHODS = {
    "importance": lambda model: Importance(model, 31, progress=False),
    "narrow": lambda model: Narrow(model, 31, progress=False),
    "prior": lambda model: PriorAlone(model, 31, progress=False),
}


@pytest.fixture(scope="module")
def study():
    torch.manual_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, 1, 4, 4), 0.5, num_steps=5)
    return Study(prior, num_runs=30, num_samples=31, ratio=2, noise=0.5)


def test_benchmark_passes_exact_and_finds_wrong_algorithms(study, tmp_path):
    path = tmp_path / "calibration.csv"
    results = run_calibration(study, METHODS, path, progress=False)
    rows = {result.method: result.row() for result in results}
    assert rows["importance"]["SBC p"] > 0.01
    assert rows["importance"]["TARP p"] > 0.01
    for prob in PROBS[:3]:  # 31 draws do not reach as far as 95%
        name = f"{100 * prob:g}%"
        error = abs(rows["importance"][name] - prob)
        assert error < 4 * rows["importance"][f"error {name}"] + 0.01
    assert rows["narrow"]["SBC p"] < 1e-3
    assert rows["narrow"]["90%"] < 0.8
    assert rows["prior"]["SBC p"] < 1e-3
    assert rows["prior"]["worst statistic"] == "log-likelihood"
    assert rows["prior"]["TARP p"] < 0.05
    assert len(path.read_text().splitlines()) == 1 + 3 * 30
    assert results[0].ranks.shape == (30, len(STATISTICS))
    assert rendered(plot_sbc(results[0].ranks, 31, STATISTICS)).startswith(b"\x89PNG")


def test_benchmark_goes_on_where_it_stopped(study, tmp_path):
    study = replace(study, num_runs=4)
    calls = []

    def counted(model):
        calls.append(model)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return METHODS["prior"](model)

    path = tmp_path / "calibration.csv"
    with pytest.raises(KeyboardInterrupt):
        run_calibration(study, {"prior": counted}, path, progress=False)
    path.write_text(path.read_text() + "half a li")
    resumed = run_calibration(study, {"prior": counted}, path, progress=False)[0]
    assert len(calls) == 5
    whole = run_calibration(
        study, {"prior": METHODS["prior"]}, tmp_path / "whole.csv", progress=False
    )[0]
    assert torch.equal(resumed.ranks, whole.ranks)
    assert torch.equal(resumed.tarp_ranks, whole.tarp_ranks)
    assert torch.equal(resumed.inside, whole.inside)
    run_calibration(replace(study, seed=1), {"prior": counted}, path, progress=False)
    assert len(calls) == 9


def test_held_out_truths_are_those_that_are_measured(study, tmp_path):
    # Far outside the prior: no interval holds them.
    truths = 50 + torch.randn(2, 1, 4, 4)
    held_out = replace(study, num_runs=2, truths=truths)
    result = run_calibration(
        held_out, {"prior": METHODS["prior"]}, tmp_path / "runs.csv", progress=False
    )[0]
    assert float(result.inside.sum()) == 0
    assert bool((result.ranks[:, STATISTICS.index("norm")] == 31).all())


def test_every_purpose_of_every_run_has_its_own_seed(study):
    purposes = ("study", "signals", "operator", "noise", "inference", "ties")
    studies = study, replace(study, seed=1)
    seeds = {s.stream(p, run) for s in studies for p in purposes for run in range(50)}
    assert len(seeds) == 2 * 6 * 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_runs": 1}, "num_runs"),
        ({"num_samples": 0}, "num_samples"),
        ({"seed": -1}, "seed"),
        ({"ratio": 17.0}, "ratio"),
        ({"truths": torch.zeros(3, 1, 4, 4)}, "3 truths for 30 runs"),
    ],
)
def test_bad_studies_are_refused(study, settings, message):
    with pytest.raises(InputError, match=message):
        replace(study, **settings)


def test_unsuitable_methods_truths_and_files_are_refused(study, tmp_path):
    short = {"prior": lambda model: PriorAlone(model, 30, progress=False)}
    with pytest.raises(InputError, match="made 30 samples"):
        run_calibration(study, short, tmp_path / "a.csv", progress=False)
    flat = replace(study, num_runs=2, truths=torch.zeros(2, 1, 4, 4))
    flat.prior.data_range = (-1.0, 1.0)
    try:
        with pytest.raises(InputError, match="no pixel varies"):
            run_calibration(flat, METHODS, tmp_path / "b.csv", progress=False)
    finally:
        flat.prior.data_range = None
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a calibration benchmark"):
        run_calibration(study, METHODS, other, progress=False)


def test_finished_runs_survive_reopening(tmp_path):
    path = tmp_path / "folder" / "runs.csv"
    runs = FinishedRuns(path, ("name", "run"), ("score",), "test")
    runs.add(("with, comma", "0"), {"score": 0.1})
    again = FinishedRuns(path, ("name", "run"), ("score",), "test")
    assert ("with, comma", "0") in again
    assert again["with, comma", "0"] == {"score": 0.1}
    assert ("with, comma", "1") not in again
