"""Ready-made models: exact likelihoods, and every way in which Pyro runs a model."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from pyro.infer.importance import vectorized_importance_weights
from torch.distributions import Normal

from bayes1bit import models
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import DiffOneBit, GradientStep, Target
from bayes1bit.operators import Dense, Downsample, Hadamard

EVENT = (1, 4, 4)
M = 8
EDGES = torch.tensor([-1.0, 0.2, 1.5])
THRESHOLD = torch.linspace(-1, 1, M)
OPERATOR = Hadamard(EVENT, M, seed=3)
SMALL = Downsample(EVENT, 2)


@pytest.fixture(scope="module")
def prior():
    means = torch.randn(3, *EVENT, generator=torch.Generator().manual_seed(0))
    return GaussianMixturePrior(means, 0.3)


# written out in double precision, where the tails that occur here do not underflow


def probit_log_likelihood(x, y):
    z = y * (OPERATOR(x.double()) - THRESHOLD) / 0.5
    return ((1 - 2 * 0.1) * torch.special.ndtr(z) + 0.1).log().sum(-1)


def logistic_log_likelihood(x, y):
    z = (OPERATOR(x.double()) + 0.3) / 0.7
    return torch.nn.functional.logsigmoid((2 * y - 1) * z).sum(-1)


def quantized_log_likelihood(x, y):
    ends = torch.cat([torch.tensor([-torch.inf]), EDGES, torch.tensor([torch.inf])])
    z = (ends[:, None] - OPERATOR(x.double())[..., None, :]) / 0.5
    mass = torch.special.ndtr(z).diff(dim=-2)
    return mass.gather(-2, y[..., None, :].expand(*x.shape[:-3], 1, M)).log().sum((-1, -2))


def normal_log_likelihood(x, y):
    return Normal(SMALL(x.double()), 0.2).log_prob(y).sum(-1)


CASES = {
    "one_bit_cs": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, threshold=THRESHOLD, flip=0.1),
        M,
        probit_log_likelihood,
    ),
    "logistic_regression": (
        lambda prior: models.logistic_regression(prior, OPERATOR, intercept=0.3, scale=0.7),
        M,
        logistic_log_likelihood,
    ),
    "quantized_cs": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.5, EDGES),
        M,
        quantized_log_likelihood,
    ),
    "super_resolution": (
        lambda prior: models.super_resolution(prior, 2, 0.2),
        4,
        normal_log_likelihood,
    ),
}


@pytest.fixture(params=CASES)
def case(request, prior):
    """A model, its number of measurements, and its log-likelihood written out again."""
    make, m, log_likelihood = CASES[request.param]
    return make(prior), m, log_likelihood


def test_simulation_gives_data_that_the_model_can_score(case):
    model, m, _ = case
    pyro.set_rng_seed(0)
    y = model()
    assert y.shape == (m,)
    assert poutine.trace(model).get_trace(y).nodes["y"]["is_observed"]


def test_condition_scores_the_exact_likelihood(case, prior):
    model, _, log_likelihood = case
    pyro.set_rng_seed(0)
    x, y = prior.sample(), model()
    conditioned = poutine.condition(model, data={"x": x, "y": y})
    trace = poutine.trace(conditioned).get_trace()
    trace.compute_log_prob()
    # single precision
    torch.testing.assert_close(
        trace.nodes["y"]["log_prob"].double(), log_likelihood(x, y), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_signals_and_data(case, parallel):
    model, m, _ = case
    pyro.set_rng_seed(0)
    draws = Predictive(model, num_samples=5, parallel=parallel)()
    assert draws["x"].shape == (5, *EVENT)
    assert draws["y"].shape == (5, m)


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_of_posterior_samples(case, prior, parallel):
    model, m, _ = case
    pyro.set_rng_seed(0)
    samples = {"x": prior.sample((5,))}
    assert Predictive(model, samples, parallel=parallel)()["y"].shape == (5, m)


def test_vectorised_importance_weights_are_the_likelihood(case, prior):
    model, _, log_likelihood = case
    pyro.set_rng_seed(0)
    y = model()

    def guide(y=None):
        pyro.sample("x", prior)

    weights, model_trace, _ = vectorized_importance_weights(
        model, guide, y, num_samples=6, max_plate_nesting=1, normalized=False
    )
    x = model_trace.nodes["x"]["value"]
    assert x.shape == (6, 1, *EVENT)
    expected = log_likelihood(x[:, 0], y)
    # the prior's log density cancels, to rounding of numbers near 10
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-4)


def test_plate_of_signals(case):
    model, m, log_likelihood = case
    pyro.set_rng_seed(0)

    def signals():
        with pyro.plate("signals", 3):
            return model()

    trace = poutine.trace(signals).get_trace()
    trace.compute_log_prob()
    site = trace.nodes["y"]
    assert site["value"].shape == (3, m)
    expected = log_likelihood(trace.nodes["x"]["value"], site["value"])
    torch.testing.assert_close(site["log_prob"].double(), expected, rtol=1e-4, atol=1e-5)


def test_inference_runs_and_sees_the_operator(case):
    model, m, _ = case
    pyro.set_rng_seed(0)
    y = model()
    target = Target.from_model(model, y)
    assert target.structure is not None
    assert target.structure.operator.m == m
    algorithm = DiffOneBit(
        model, num_samples=2, num_levels=3, data_step=GradientStep(2), progress=False
    )
    assert algorithm.run(y).samples.shape == (2, *EVENT)


def test_one_bit_models_are_recognised_as_such(prior):
    y = torch.ones(M)
    model = models.one_bit_cs(prior, OPERATOR, 0.5, threshold=THRESHOLD, link="logistic")
    form = Target.from_model(model, y).structure.one_bit
    torch.testing.assert_close(form.threshold, THRESHOLD)
    model = models.logistic_regression(prior, OPERATOR, intercept=THRESHOLD, scale=0.5)
    form = Target.from_model(model, y).structure.one_bit
    assert form.link == "logistic"
    # from finite differences in single precision
    torch.testing.assert_close(form.threshold, -THRESHOLD, atol=1e-5, rtol=0)
    torch.testing.assert_close(form.scale, torch.full((M,), 0.5), atol=1e-5, rtol=0)


def test_logistic_regression_refuses_signs_and_integers(prior):
    model = models.logistic_regression(prior, OPERATOR)
    with pytest.raises(ValueError, match=r"support \(Boolean"):
        Target.from_model(model, -torch.ones(M))
    with pytest.raises(InputError, match=r"are torch\.int64; give floating-point 0 and 1"):
        Target.from_model(model, torch.ones(M, dtype=torch.int64))


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_super_resolution_is_downsampling(prior, kernel):
    pyro.set_rng_seed(0)
    model = models.super_resolution(prior, 2, 1e-6, kernel)
    trace = poutine.trace(model).get_trace()
    expected = Downsample(EVENT, 2, kernel)(trace.nodes["x"]["value"])
    torch.testing.assert_close(trace.nodes["y"]["value"], expected, atol=1e-4, rtol=0)


REFUSED = {
    "event shape": (
        lambda prior: models.one_bit_cs(prior, Hadamard((16,), M), 0.5),
        r"signals of shape \(16,\), but those of the prior have shape \(1, 4, 4\)",
    ),
    "zero scale": (lambda prior: models.one_bit_cs(prior, OPERATOR, 0), "scale must be positive"),
    "NaN scale": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, float("nan")),
        "scale must be positive and finite, got nan",
    ),
    "infinite scale": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, float("inf")),
        "scale must be positive and finite, got inf",
    ),
    "one bad scale": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, -THRESHOLD),
        "scale must be positive and finite, got -0.142857",
    ),
    "text": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, "loud"),
        "scale must be a number or a tensor, not str",
    ),
    "flag": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, True),
        "scale must be a number or a tensor, not bool",
    ),
    "threshold shape": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, threshold=torch.zeros(5)),
        r"threshold has shape \(5,\) for 8 measurements",
    ),
    "threshold": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, threshold=float("inf")),
        "threshold must be finite, got inf",
    ),
    "flip": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, flip=0.5),
        "flip must be at least 0 and below 0.5",
    ),
    "link": (lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, link="cauchit"), "link must"),
    "regression shape": (
        lambda prior: models.logistic_regression(prior, Dense(torch.ones(3, 16))),
        "make the operator with prior.event_shape",
    ),
    "regression scale": (
        lambda prior: models.logistic_regression(prior, OPERATOR, scale=-1.0),
        "scale must be positive",
    ),
    "intercept": (
        lambda prior: models.logistic_regression(prior, OPERATOR, intercept=torch.ones(3)),
        "intercept has shape",
    ),
    "quantizer shape": (
        lambda prior: models.quantized_cs(prior, Hadamard((16,), M), 0.5, EDGES),
        "make the operator with prior.event_shape",
    ),
    "quantizer scale": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.0, EDGES),
        "scale must be positive",
    ),
    "edges": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.5, EDGES.flip(0)),
        "strictly increasing",
    ),
    "factor": (lambda prior: models.super_resolution(prior, 3, 0.5), "factor 3 does not divide"),
    "kernel": (lambda prior: models.super_resolution(prior, 2, 0.5, "sinc"), "unknown kernel"),
    "resolution scale": (
        lambda prior: models.super_resolution(prior, 2, 0.0),
        "scale must be positive",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_are_checked_when_the_model_is_made(prior, case):
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        make(prior)
