"""The regression benchmark: solvers, scores, and runs that are right and can be gone on with."""

import math
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bayes1bit.bench import regression_methods, regression_problem
from bayes1bit.bench.linear_classifiers import (
    cross_validated_ridge,
    fit_ridge,
    gaussian_posterior,
    ridge_objective,
)
from bayes1bit.bench.regression import run_regression, shown_templates
from bayes1bit.bench.regression_figure import plot_regression
from bayes1bit.bench.regression_methods import BASELINES, draw_intercepts, estimate_intercept
from bayes1bit.bench.regression_problem import Observer, Problem
from bayes1bit.bench.regression_scores import predict
from bayes1bit.diagnostics.probabilities import accuracy, log_loss, reliability_curve
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import MomentMatched, SampleGiven, SplitGibbsSMC
from bayes1bit.models import classification_images, observer_gain
from bayes1bit.models.psychophysics import SIGNAL_OF_OBSERVER
from bayes1bit.posterior import Posterior

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(regression_problem, "HELD_OUT", 2000)
    for name in ("NUTS_SAMPLES", "NUTS_WARMUP"):
        monkeypatch.setattr(regression_methods, name, 30)


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    means = torch.randn(6, *SHAPE).sign()
    prior = GaussianMixturePrior(means, 0.1)
    prior.data_range = (-1.0, 1.0)
    return Problem(prior, means, num_templates=2, trials=(40, 200))


def moment_matched(model):
    return MomentMatched(model, 16, num_levels=20, progress=False)


# --- solvers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression_data():
    rng = np.random.default_rng(0)
    covariates = rng.standard_normal((80, 5))
    logits = covariates @ np.array([1.0, -0.5, 0.0, 2.0, 0.3]) + 0.4
    return covariates, (rng.random(80) < 1 / (1 + np.exp(-logits))).astype(float)


def test_ridge_gradient_is_that_of_its_value(regression_data):
    covariates, answers = regression_data
    parameters = np.random.default_rng(1).standard_normal(6)
    _, gradient = ridge_objective(parameters, covariates, answers, 3.0)
    step = 1e-5
    for i, unit in enumerate(np.eye(6)):
        ends = [
            ridge_objective(parameters + sign * step * unit, covariates, answers, 3.0)[0]
            for sign in (1, -1)
        ]
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_ridge_value_is_the_penalised_likelihood(regression_data):
    covariates, answers = regression_data
    parameters = np.array([0.3, -0.2, 0.5, 0.1, 0.0, 0.7])
    p = 1 / (1 + np.exp(-(covariates @ parameters[:5] + 0.7)))
    expected = (
        -np.log(np.where(answers == 1, p, 1 - p)).sum() + 1.5 * np.square(parameters[:5]).sum()
    )
    value, _ = ridge_objective(parameters, covariates, answers, 3.0)
    assert value == pytest.approx(expected)


def test_ridge_is_a_stationary_point_and_leaves_the_intercept_free(regression_data):
    covariates, answers = regression_data
    fit = fit_ridge(covariates, answers, 2.0)
    parameters = np.append(fit.coefficients, fit.intercept)
    _, gradient = ridge_objective(parameters, covariates, answers, 2.0)
    assert np.abs(gradient).max() < 1e-3
    strong = fit_ridge(covariates, answers, 1e8)
    assert np.abs(strong.coefficients).max() < 1e-6
    share = answers.mean()
    assert strong.intercept == pytest.approx(math.log(share / (1 - share)), abs=1e-4)


def test_cross_validation_shrinks_noise_and_keeps_signal(regression_data):
    covariates, answers = regression_data
    penalties = (1e4, 1.0)
    rng = np.random.default_rng(0)
    assert cross_validated_ridge(covariates, answers, rng, penalties).penalty == 1.0
    noise = rng.standard_normal((80, 40))
    assert cross_validated_ridge(noise, answers, rng, penalties).penalty == 1e4
    with pytest.raises(InputError, match="at least 5 data"):
        cross_validated_ridge(covariates[:4], answers[:4], rng)


def test_gaussian_posterior_agrees_with_a_grid():
    """One coefficient: means within three standard errors if each draw is worth two thirds."""
    torch.manual_seed(0)
    z = torch.randn(60, 1)
    y = (torch.rand(60) < (1.2 * z[:, 0] - 0.5).sigmoid()).float()
    b = torch.linspace(-2, 1, 61).double()
    beta = torch.linspace(-0.5, 4, 91).double()
    log_tau = torch.linspace(-4, 4, 81).double()
    # the coefficient's prior with the scale summed over
    scales = log_tau.exp()
    mixture = (torch.distributions.Normal(0.0, scales).log_prob(beta[:, None])
               - 0.5 * log_tau.square()).logsumexp(1)  # fmt: skip
    logits = beta[:, None, None] * z[:, 0].double() + b[:, None]
    likelihood = torch.nn.functional.logsigmoid((2 * y - 1) * logits).sum(-1)
    mass = (likelihood + mixture[:, None] - 0.5 * b.square()).flatten().softmax(0).view(91, 61)
    pyro.set_rng_seed(0)
    draws = gaussian_posterior(z, y, 200, 100)
    assert draws.coefficients.shape == (200, 1)
    for values, marginal, drawn in (
        (beta, mass.sum(1), draws.coefficients[:, 0]),
        (b, mass.sum(0), draws.intercept),
    ):
        mean = (values * marginal).sum()
        std = ((values - mean).square() * marginal).sum().sqrt()
        assert abs(drawn.mean() - mean) < 0.25 * std
        assert 0.75 < drawn.std() / std < 1.25


# --- scores -----------------------------------------------------------------------------------


def test_scores_of_probabilities_by_hand():
    p = torch.tensor([0.1, 0.15, 0.7, 0.7, 1.0])
    y = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    curve = reliability_curve(p, y, num_bins=4)
    nan = torch.nan
    torch.testing.assert_close(
        torch.stack(list(curve)),
        torch.tensor([[0.125, nan, 0.7, 1.0], [0.5, nan, 0.5, 1.0], [0.4, 0, 0.4, 0.2]]).double(),
        equal_nan=True,
        rtol=0,
        atol=1e-6,
    )
    assert curve.calibration_error == pytest.approx(0.4 * 0.375 + 0.4 * 0.2, abs=1e-6)
    expected = -(math.log(0.9) + math.log(0.15) + math.log(0.7) + math.log(0.3)) / 5
    assert log_loss(p, y) == pytest.approx(expected, abs=1e-6)
    assert log_loss(torch.tensor([0.0]), torch.tensor([1.0])) == math.inf
    assert accuracy(p, y) == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.5, 0.5], [1.0], "one shape"),
        ([], [], "at least 1"),
        ([1.5], [1.0], "between 0 and 1"),
        ([0.5], [-1.0], "outcomes must be 0 or 1"),
    ],
)
def test_scores_refuse_what_is_no_probability_or_outcome(p, y, message):
    for function in (reliability_curve, log_loss, accuracy):
        with pytest.raises(InputError, match=message):
            function(torch.tensor(p), torch.tensor(y))


def test_predictions_average_probabilities_and_count_weights():
    observer = Observer(torch.zeros(1, 1, 2), 0.0, gain=2.0, background=-1.0)
    samples = torch.tensor([[0.0, -1.0], [-1.0, 1.0]]).view(2, 1, 1, 2)
    latents = {"intercept": torch.tensor([0.5, -1.0])}
    stimuli = torch.tensor([[1.0, 0.3], [0.0, -1.0]]).view(2, 1, 1, 2)
    logits = torch.tensor([[2.5, 0.5], [0.2, -5.0]])
    posterior = Posterior(samples, latents=latents)
    torch.testing.assert_close(
        predict(posterior, observer, stimuli), logits.double().sigmoid().mean(0), atol=1e-6, rtol=0
    )
    weighted = replace(posterior, weights=torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(
        predict(weighted, observer, stimuli), logits[1].double().sigmoid(), atol=1e-6, rtol=0
    )
    # and coefficients are the templates that have them
    coefficients = observer.gain * (samples + 1).flatten(1)
    torch.testing.assert_close(observer.coefficients_as_templates(coefficients), samples)


# --- intercepts -------------------------------------------------------------------------------


def test_intercept_of_a_typical_observer():
    torch.manual_seed(0)
    logits = 0.7 + SIGNAL_OF_OBSERVER * torch.randn(200_000)
    # the share of yes has a standard error of 0.001, the formula an error of about 0.01
    assert estimate_intercept(torch.bernoulli(logits.sigmoid())) == pytest.approx(0.7, abs=0.03)
    assert math.isfinite(estimate_intercept(torch.ones(5)))


def test_intercepts_given_templates_agree_with_a_grid():
    torch.manual_seed(0)
    logits, answers = torch.randn(1, 30), (torch.rand(30) < 0.8).float()
    b = torch.linspace(-3, 5, 801).double()
    likelihood = torch.nn.functional.logsigmoid((2 * answers - 1) * (logits + b[:, None])).sum(1)
    mass = (likelihood - 0.5 * b.square()).softmax(0)
    mean = (mass * b).sum()
    std = (mass * (b - mean).square()).sum().sqrt()
    drawn = draw_intercepts(logits.expand(4000, 30), answers, start=-2.0).double()
    # five standard errors of 4,000 draws
    assert abs(drawn.mean() - mean) < 5 * std / 4000**0.5
    assert abs(drawn.std() / std - 1) < 5 / (2 * 4000) ** 0.5


# --- runs -------------------------------------------------------------------------------------


def test_answers_are_those_of_a_noisy_observer(problem):
    assert problem.gain == pytest.approx(observer_gain(problem.pictures))
    held_out = problem.held_out(0)
    observer = problem.observer(0)
    logits = observer.logits(observer.template[None], held_out.stimuli)[0]
    # templates differ in norm, and the observer has an intercept
    agreement = ((logits + observer.intercept > 0) == (held_out.answers > 0)).float().mean()
    assert 0.68 < agreement < 0.85
    longer, shorter = problem.experiment(0, 200), problem.experiment(0, 40)
    assert torch.equal(longer.training.stimuli[:40], shorter.training.stimuli)
    assert not torch.equal(held_out.stimuli[:40], shorter.training.stimuli)
    assert problem.observer(1).intercept != observer.intercept


def test_diffusion_prior_predicts_best_with_few_answers(problem, tmp_path):
    """By an algorithm that infers the intercept, and by one that takes it as known."""
    methods = {
        "moment-matched": moment_matched,
        "split-gibbs-smc": lambda model: SplitGibbsSMC(
            model, 16, explore=1.0, prior_step=SampleGiven(), progress=False
        ),
    }
    path = tmp_path / "r.csv"
    small = replace(problem, trials=(60,))
    rows = run_regression(small, methods, path, progress=False)
    assert [row["method"] for row in rows] == [*BASELINES, *methods]
    loss = {row["method"]: row["log loss"] for row in rows}
    assert loss["ridge"] < math.log(2) + 0.02
    for method in methods:
        assert loss["observer"] - 0.01 < loss[method] < min(loss["ridge"], loss["gaussian-nuts"])
    by_name = {row["method"]: row for row in rows}
    assert by_name["observer"]["correlation"] == pytest.approx(1)
    assert by_name["ridge"]["coverage 90%"] is None
    assert 0.3 < by_name["gaussian-nuts"]["coverage 90%"] < 1
    assert by_name["moment-matched"]["NFE"] == 40
    shares = [by_name["moment-matched"][f"share {k}"] for k in range(1, 11)]
    assert sum(share for share in shares if share is not None) == pytest.approx(1)
    finished = path.read_text()

    def never(model):
        raise AssertionError("it was run")

    again = run_regression(small, dict.fromkeys(methods, never), path, progress=False)
    assert again == rows
    assert path.read_text() == finished
    figure = plot_regression(small, list(methods), rows, shown_templates(path))
    FigureCanvasAgg(figure).draw()
    drawn = [axes for axes in figure.findobj(Axes) if axes.get_images()]
    panels = [a for a in drawn if a.get_images()[0].get_array().shape == (8, 8)]
    assert len(panels) == len(BASELINES) + 2 * len(methods)
    panel = next(a for a in figure.findobj(Axes) if a.get_ylabel() == "held-out log loss, nats")
    assert [line.get_ydata()[0] for line in panel.get_lines()] == list(loss.values())


def test_a_run_goes_on_where_it_stopped(problem, tmp_path):
    """A run of moment-matched makes the algorithm twice: it does not take the intercept."""
    path, calls = tmp_path / "r.csv", []

    def interrupted(model):
        calls.append(model)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return moment_matched(model)

    small = replace(problem, trials=(20,))
    with pytest.raises(KeyboardInterrupt):
        run_regression(small, {"a": interrupted}, path, progress=False)
    finished = path.read_text()
    assert len(finished.splitlines()) == 1 + 4 + 3
    resumed = run_regression(small, {"a": interrupted}, path, progress=False)
    assert path.read_text().startswith(finished)
    assert len(calls) == 3 + 2
    whole = run_regression(small, {"a": moment_matched}, tmp_path / "o.csv", progress=False)
    assert resumed[-1]["log loss"] == pytest.approx(whole[-1]["log loss"])


def test_a_diverged_run_has_no_scores(problem, tmp_path):
    class Diverging(MomentMatched):
        def draw(self, target):
            raise FloatingPointError("diverged")

    one = replace(problem, trials=(20,), num_templates=1)
    methods = {"diverging": lambda model: Diverging(model, 4, progress=False)}
    rows = run_regression(one, methods, tmp_path / "r.csv", progress=False)
    assert rows[-1]["diverged"] == 1
    assert rows[-1]["log loss"] is None
    plot_regression(one, ["diverging"], rows, shown_templates(tmp_path / "r.csv"))


def test_problem_needs_templates_and_trials(problem):
    with pytest.raises(InputError, match="7 templates of 6 pictures"):
        replace(problem, num_templates=7)
    with pytest.raises(InputError, match="trials of 1 and more"):
        replace(problem, trials=(0,))
    with pytest.raises(InputError, match=r"templates of shape \(8, 8\) cannot be drawn"):
        plot_regression(replace(problem, pictures=torch.zeros(2, 8, 8)), [], [], shown_templates)


def test_model_of_classification_images(problem):
    """An agreement of 75% of answers with the same observer without noise, as it is meant to."""
    torch.manual_seed(0)
    stimuli = 0.5 * torch.randn(20_000, *SHAPE)
    gain = observer_gain(problem.pictures[:1], stimulus_std=0.5)
    model = classification_images(problem.prior, stimuli, gain, intercept=0.0)
    template = problem.pictures[0]
    pyro.set_rng_seed(0)
    answers = pyro.condition(model, {"x": template})()
    noiseless = ((template + 1) * stimuli).flatten(1).sum(1) > 0
    # five standard errors
    assert ((answers > 0) == noiseless).float().mean() == pytest.approx(0.75, abs=0.016)
    with pytest.raises(InputError, match=r"stimuli have shape \(3, 4\)"):
        classification_images(problem.prior, torch.zeros(3, 4), 1.0)
    with pytest.raises(InputError, match="gain must be positive"):
        classification_images(problem.prior, stimuli, 0.0)
    with pytest.raises(InputError, match="all background"):
        observer_gain(-torch.ones(2, *SHAPE))
