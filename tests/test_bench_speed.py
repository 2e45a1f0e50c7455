"""Goodness of fit of data steps: right draws pass, wrong ones do not."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.bench import speed
from bayes1bit.bench.speed import compare, data_step_speed, goodness_of_fit
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import ExactStep, LangevinStep, Target
from bayes1bit.observation import OneBit, Quantized
from bayes1bit.operators import Dense, Hadamard

RHO, PARTICLES = 0.8, 64
OPERATOR = Hadamard((1, 16, 16), 128, seed=0)
LIKELIHOODS = {
    "probit": lambda t: OneBit(t, 0.5, 0.3),
    "logistic": lambda t: OneBit(t, 0.5, link="logistic"),
    "flips": lambda t: OneBit(-t, 0.2, flip=0.1),
}
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)


@pytest.fixture
def coarse(monkeypatch):
    """A grid that is fine enough for the few outputs of a test, whose own error is a hundredth."""
    monkeypatch.setattr(speed, "GRID", 301)


def make_target(likelihood, operator=OPERATOR):
    prior = GaussianMixturePrior(torch.zeros(1, *operator.event_shape), 1.0)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    return Target.from_model(model, model()), prior.sample((PARTICLES,))


@every_likelihood
@pytest.mark.usefixtures("coarse")
def test_exact_draws_pass(likelihood):
    """By the Kolmogorov distribution a right one fails in one seed of ten thousand."""
    torch.manual_seed(0)
    target, x = make_target(likelihood)
    distance, p_value = goodness_of_fit(target, x, ExactStep()(target, x, RHO), RHO)
    assert p_value > 1e-4
    assert distance < 2.2 / (PARTICLES * 128) ** 0.5


@every_likelihood
@pytest.mark.usefixtures("coarse")
def test_wrong_draws_fail(likelihood):
    """Each is off by a fifth of the coupling, or does not see the data."""
    torch.manual_seed(1)
    target, x = make_target(likelihood)
    z = ExactStep()(target, x, RHO)
    wrong = {
        "blind": x + RHO * torch.randn_like(x),
        "narrow": ExactStep()(target, x, 0.8 * RHO),
        "wide": x + 1.2 * (z - x),
        "shifted": z + 0.2 * RHO * OPERATOR.T(torch.ones(PARTICLES, 128)) / OPERATOR.row_gram**0.5,
    }
    for name, draws in wrong.items():
        assert goodness_of_fit(target, x, draws, RHO)[1] < 1e-4, name


def test_distribution_functions_are_right_to_three_digits():
    """Against draws by inversion, evenly spaced, of a likelihood with a closed form."""
    operator = Dense(2 * torch.eye(2, dtype=torch.float64), row_gram=4.0)
    prior = GaussianMixturePrior(torch.zeros(1, 2, dtype=torch.float64), 1.0)

    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(operator(x), 0.3).to_event(1), obs=y)

    y = torch.tensor([0.5, -1.0], dtype=torch.float64)
    target = Target.from_model(model, y)
    count = 1_000
    x = torch.tensor([[0.2, 0.1]], dtype=torch.float64).expand(count, 2)
    variance = (2 * RHO) ** 2
    gain = variance / (variance + 0.09)
    mean = 2 * x + gain * (y - 2 * x)
    levels = (torch.arange(count, dtype=torch.float64)[:, None] + 0.5) / count
    t = mean + (gain * 0.09) ** 0.5 * torch.special.ndtri(levels)
    distance, _ = goodness_of_fit(target, x, t / 2, RHO)
    # half a step of the even spacing, and the grid's own error, with nine points to a deviation
    assert distance < 0.5 / count + 3e-4


@pytest.mark.usefixtures("coarse")
def test_large_langevin_steps_fail():
    """They settle on a variance that is too large by a quarter and more."""
    torch.manual_seed(2)
    target, x = make_target(LIKELIHOODS["probit"])
    draws = LangevinStep(100, step_size=0.1)(target, x, RHO)
    assert goodness_of_fit(target, x, draws, RHO)[1] < 1e-4


@pytest.mark.usefixtures("coarse")
def test_other_likelihoods_are_judged_if_they_separate():
    torch.manual_seed(3)
    target, x = make_target(lambda t: Quantized(t, 0.5, torch.tensor([-1.0, 0.0, 1.0])))
    assert goodness_of_fit(target, x, x, RHO)[1] < 1e-4
    target, x = make_target(LIKELIHOODS["probit"], Dense(torch.randn(4, 6)))
    with pytest.raises(InputError, match="row-orthogonal operator, but this model has"):
        goodness_of_fit(target, x, x, RHO)


def test_table_of_data_steps(monkeypatch):
    monkeypatch.setattr(speed, "BLOCK", 1e-4)
    torch.manual_seed(4)
    rows = data_step_speed(n=256, m=128, particles=16)
    assert [(row["link"], row["step size"]) for row in rows] == [
        ("probit", "0.01"),
        ("probit", "own"),
        ("logistic", "0.01"),
        ("logistic", "own"),
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["Langevin ms"] / row["exact ms"])
        assert row["ratio"] > 1
        assert row["its p-value"] > 1e-4
        assert math.isfinite(row["p-value"])


def test_rounds_are_as_many_as_asked_for():
    calls = []
    compare(lambda: calls.append(0), lambda: [0] * 10_000_000, rounds=2)
    many = len(calls)
    calls.clear()
    compare(lambda: calls.append(0), lambda: [0] * 10_000_000, rounds=1)
    assert 0 < len(calls) < many
