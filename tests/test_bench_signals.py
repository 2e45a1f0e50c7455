"""The recovery benchmark on signals of one dimension and on colour pictures."""

import math
from dataclasses import replace

import pyro
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bayes1bit.bench.recovery import Problem, run_recovery, shown_pictures
from bayes1bit.bench.recovery_figure import plot_recovery
from bayes1bit.bench.recovery_scores import R_PEAK, Scorer, varies
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import BIHT, DiffOneBit, ProximalStep
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior

LENGTH = 64


@pytest.fixture(scope="module")
def problem():
    """Three bumps of one sign each in a range that they do not fill."""
    index = torch.arange(LENGTH)
    centres = torch.tensor([16, 32, 48])[:, None]
    means = 1.5 * torch.exp(-0.5 * ((index - centres) / 3.0) ** 2)[:, None]
    prior = GaussianMixturePrior(means, 0.05, num_steps=10)
    prior.data_range = (-4.0, 4.0)
    return Problem(prior, prior.means[:2].clone(), ratios=(1, 2), noises=(0.2,), rate=360.0)


def method(model):
    return DiffOneBit(model, 8, num_levels=40, data_step=ProximalStep(), progress=False)


def test_signals_are_scored_by_snr_and_the_time_of_their_peak(problem, tmp_path):
    path = tmp_path / "r.csv"
    rows = run_recovery(problem, {"diff-onebit": method}, path, progress=False)
    expected = ["sample SNR", "mean SNR", R_PEAK, "coverage 90%", "bit agreement"]
    assert list(rows[0])[4:-2] == expected
    scores = {(row["method"], row["n/m"]): row for row in rows}
    for ratio in (1, 2):
        best = scores["diff-onebit", ratio]
        assert best["mean SNR"] > scores["back-projection", ratio]["mean SNR"] + 3
        assert best["mean SNR"] > scores["prior mean", ratio]["mean SNR"] + 3
        assert best[R_PEAK] < 1000 / 360
        assert scores["prior mean", ratio]["sample SNR"] is None
    header = path.read_text().splitlines()[0]
    assert "PSNR" not in header
    assert "SSIM" not in header
    assert run_recovery(problem, {"diff-onebit": method}, path, progress=False) == rows


def test_without_a_rate_there_are_no_r_peaks(problem, tmp_path):
    path = tmp_path / "r.csv"
    plain = replace(problem, rate=None)
    assert R_PEAK not in run_recovery(plain, {}, path, progress=False)[0]
    # a file without the score cannot be gone on with
    with pytest.raises(InputError, match="is not a recovery benchmark"):
        run_recovery(problem, {}, path, progress=False)


def test_scores_of_a_signal_by_hand():
    truths = torch.stack([torch.zeros(1, 4), torch.tensor([[2.0, 0.0, 0.0, 0.0]])])
    operator = Hadamard((1, 4), m=4, seed=0)
    problem = Problem(GaussianMixturePrior(truths, 0.1), truths, ratios=(1,))
    measurement = replace(problem.measure(1, problem.conditions[0]), scale=0.1, operator=operator)
    scorer = Scorer(truths, (-4.0, 4.0))
    off = torch.tensor([[0.2, 0.0, 0.0, 0.0]])
    posterior = Posterior(torch.stack([truths[1] + off, truths[1] + 3 * off]))
    scores = scorer.of_posterior(posterior, truths[1], measurement)
    # errors of 0.2 and 0.6 in samples, 0.4 in the mean, of a signal of energy 4
    decibels = [10 * math.log10(4 / error**2) for error in (0.2, 0.6, 0.4)]
    assert scores["sample SNR"] == pytest.approx(sum(decibels[:2]) / 2, abs=1e-4)
    assert scores["mean SNR"] == pytest.approx(decibels[2], abs=1e-4)
    # only the first element varies over the truths, and it is missed; all would be 75%
    assert scores["coverage 90%"] == 0.0


def test_what_varies_is_seen_beside_the_range_of_pictures_and_the_deviation_of_signals():
    deviation = torch.tensor([0.0, 0.01, 0.06, 0.5])
    assert varies(deviation[None], (-4.0, 4.0)).tolist() == [[False, False, True, True]]
    picture = varies(deviation.reshape(1, 2, 2), (-4.0, 4.0))
    assert picture.flatten().tolist() == [False, False, False, True]
    assert not varies(torch.zeros(1, 4), (-1.0, 1.0)).any()


def test_pictures_have_the_scores_that_they_always_had():
    names = Scorer(torch.zeros(2, 3, 8, 8), (-1.0, 1.0)).names
    assert names == (
        "sample PSNR",
        "mean PSNR",
        "sample SSIM",
        "mean SSIM",
        "coverage 90%",
        "bit agreement",
        "NFE",
        "seconds",
    )


def test_pictures_have_no_r_peaks():
    prior = GaussianMixturePrior(torch.zeros(1, 1, 8, 8), 0.1)
    with pytest.raises(InputError, match="R peaks are of heartbeats"):
        Problem(prior, torch.zeros(1, 1, 8, 8), rate=360.0)


def test_figure_of_signals(problem, tmp_path):
    methods = {
        "diff-onebit": method,
        "biht": lambda model: BIHT(model, norm=4.0, progress=False),
    }
    path = tmp_path / "r.csv"
    rows = run_recovery(problem, methods, path, progress=False)
    figure = plot_recovery(problem, [*methods, "missing"], rows, shown_pictures(path))
    FigureCanvasAgg(figure).draw()
    panels = {axes.get_ylabel() or axes.get_title(): axes for axes in figure.findobj(Axes)}
    assert {"mean, signal 1", "sample, signal 2", "biht", "missing"} <= panels.keys()
    mean, truth = panels["mean, signal 1"].get_lines()
    assert truth.get_ydata() == pytest.approx(problem.pictures[0].flatten().tolist())
    key = problem.key("diff-onebit", problem.conditions[0], 0)
    parts = shown_pictures(path).load(key)
    assert mean.get_ydata() == pytest.approx(parts["mean"].flatten().tolist())
    band = panels["mean, signal 1"].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(float((parts["mean"] + 2 * parts["std"]).max()), abs=1e-5)
    # one estimate has no band, and what was not kept no line but the truth
    assert not panels["biht"].collections
    assert len(panels["missing"].get_lines()) == 1
    curves = panels["SNR in dB: mean (line), sample (dots)"]
    expected = [row["mean SNR"] for row in rows if row["method"] == "diff-onebit"]
    assert any(list(line.get_ydata()) == expected for line in curves.get_lines())


def test_colour_pictures_are_recovered_and_drawn(tmp_path):
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, 3, 8, 8).sign(), 0.2, num_steps=10)
    prior.data_range = (-1.0, 1.0)
    colour = Problem(prior, prior.means[:2].clone(), ratios=(2,))
    path = tmp_path / "r.csv"
    rows = run_recovery(colour, {"diff-onebit": method}, path, progress=False)
    assert rows[-1]["mean PSNR"] > rows[0]["mean PSNR"] + 3
    figure = plot_recovery(colour, ["diff-onebit"], rows, shown_pictures(path))
    FigureCanvasAgg(figure).draw()
    images = [axes.get_images()[0] for axes in figure.findobj(Axes) if axes.get_images()]
    # truth, mean and sample of two pictures are in colour, their deviations are not
    assert sum(image.get_array().shape == (8, 8, 3) for image in images) == 6


@pytest.mark.parametrize(
    ("shape", "m"),
    [((1, 256), 16), ((1, 256), 64), ((1, 256), 128), ((3, 64, 64), 768), ((3, 64, 64), 12288)],
)
def test_rows_of_the_operator_are_orthogonal_at_the_sizes_of_priors(shape, m):
    operator = Hadamard(shape, m=m, seed=1)
    v = torch.randn(2, m, generator=torch.Generator().manual_seed(0))
    assert operator.T(v).shape == (2, *shape)
    # single precision: a relative error of about 1e-6
    torch.testing.assert_close(
        operator(operator.T(v)), math.prod(shape) / m * v, rtol=1e-4, atol=1e-4
    )
