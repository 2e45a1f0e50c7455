"""Split Gibbs against posteriors on a grid, and on a problem whose posterior is exact."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.bench.exact import ExactPosterior, GridPosterior
from bayes1bit.diffusion import GaussianMixturePrior, Heun
from bayes1bit.errors import InputError
from bayes1bit.infer import DataStep, Target
from bayes1bit.infer.data_steps import LangevinStep
from bayes1bit.infer.split_gibbs import SplitGibbs
from bayes1bit.observation import OneBit
from bayes1bit.operators import DCT, Gaussian, Hadamard

PRIOR = GaussianMixturePrior(torch.tensor([[0.6, 0.5], [-0.7, 0.4], [0.1, -0.8]]), 0.4)
NOISE = 0.3


def plane(operator, scale, **settings):
    def model(y):
        x = pyro.sample("x", PRIOR)
        return pyro.sample("y", OneBit(operator(x), scale, 0.2, **settings).to_event(1), obs=y)

    return model


def draw(model, y, num_samples, **settings):
    """Samples without the report of a run, whose predictive draws would take most of the time."""
    algorithm = SplitGibbs(model, num_samples, progress=False, **settings)
    return algorithm.draw(Target.from_model(model, y)).samples


def assert_agrees(samples, reference, tolerance=0.0):
    """Moments within 4.5 standard errors of independent draws, and so much more."""

    def summaries(x):
        return torch.cat([x, x.square(), (x.sum(-1, keepdim=True) > 0.3).float()], -1)

    values = summaries(samples)
    error = (values.mean(0) - reference.expectation(summaries)).abs() / values.std(0)
    assert (error < 4.5 / len(samples) ** 0.5 + tolerance).all(), error


@pytest.mark.parametrize("rho", [0.2, 0.6])
def test_stationary_law_is_the_posterior_with_wider_noise(rho):
    """Row-orthogonal probit: at any rho the noise variance is s^2 + c rho^2, c = 1 here."""
    pyro.set_rng_seed(0)
    operator, y = DCT((2,), 2, seed=1), torch.tensor([1.0, -1.0])
    samples = draw(
        plane(operator, NOISE), y, 3000, num_levels=6, rho_min=rho, num_sweeps=30, num_steps=None
    )
    wider = plane(operator, (NOISE**2 + rho**2) ** 0.5)
    assert_agrees(samples, GridPosterior(Target.from_model(wider, y)))


@pytest.mark.parametrize(
    ("operator", "settings"),
    [
        (DCT((2,), 2, seed=1), {"link": "logistic"}),
        (DCT((2,), 2, seed=1), {"flip": 0.1}),
        (Gaussian((2,), 3, seed=4), {}),
    ],
)
def test_small_rho_gives_the_posterior(operator, settings):
    pyro.set_rng_seed(1)
    y = torch.tensor([1.0, -1.0, 1.0])[: operator.m]
    model = plane(operator, NOISE, **settings)
    samples = draw(
        model, y, 2000, num_levels=12, rho_max=3.0, rho_min=0.1, num_sweeps=40, num_steps=None
    )
    # rho adds at most 0.1^2 |a|^2 to a noise variance of 0.09 or more
    assert_agrees(samples, GridPosterior(Target.from_model(model, y)), tolerance=0.02)


def test_gradients_alone_suffice():
    def model(y):
        x = pyro.sample("x", PRIOR)
        return pyro.sample("y", dist.StudentT(3.0, x.square().sum(), 0.3), obs=y)

    pyro.set_rng_seed(2)
    y = torch.tensor(0.8)
    samples = draw(
        model,
        y,
        1000,
        num_levels=8,
        rho_max=2.0,
        rho_min=0.1,
        num_sweeps=20,
        num_steps=None,
        data_step=LangevinStep(30, metropolis=True),
    )
    assert_agrees(samples, GridPosterior(Target.from_model(model, y)), tolerance=0.05)


SHAPE = (1, 8, 8)


def pictures():
    pyro.set_rng_seed(3)
    prior = GaussianMixturePrior(torch.randn(20, *SHAPE).sign(), 0.2)
    operator = Hadamard(SHAPE, 32, seed=0)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.3).to_event(1), obs=y)

    return model, pyro.condition(model, {"x": prior.sample()})()


def test_reverse_diffusion_of_few_steps():
    model, y = pictures()
    exact = ExactPosterior.from_target(Target.from_model(model, y))
    posterior = SplitGibbs(model, 64, progress=False).run(y)
    assert 200 < posterior.nfe < 260
    # every pixel's mean has a standard error of an eighth of its deviation, 64 of them at once
    error = (posterior.mean - exact.mean) / exact.std
    assert error.abs().max() < 5 / 8
    assert error.square().mean().sqrt() < 1.5 / 8
    # spread: 64 draws of 64 pixels know it to two percent; rho and few steps cost some more
    assert (posterior.std / exact.std).mean().item() == pytest.approx(1, abs=0.1)


def test_cost_and_seed():
    model, y = pictures()
    settings = {"num_levels": 3, "num_sweeps": 1, "rho_min": 0.1, "progress": False}
    runs = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        runs.append(SplitGibbs(model, 4, num_steps=2, **settings).run(y))
    # four walks of two steps, and the prior's mean once for all four chains
    assert runs[0].nfe == 8.25
    assert torch.equal(runs[0].samples, runs[1].samples)
    assert not torch.equal(runs[0].samples, runs[2].samples)
    heun = SplitGibbs(model, 4, num_steps=2, solver=Heun(), **settings).run(y)
    # Heun takes two calls for a step, but for the last
    assert heun.nfe == 12.25


def test_errors():
    model, y = pictures()
    for setting, message in [
        ({"num_levels": 0}, "num_levels"),
        ({"rho_max": 0.0}, "rho_max must be positive"),
        ({"rho_min": -1.0}, "rho_min must be positive"),
        ({"num_sweeps": -1}, "num_sweeps"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": None, "solver": Heun()}, "a solver needs num_steps"),
    ]:
        with pytest.raises(InputError, match=message):
            SplitGibbs(model, **setting)
    with pytest.raises(InputError, match=r"rho_max 0\.1 is less than rho_min 0\.2"):
        SplitGibbs(model, rho_max=0.1, rho_min=0.2, progress=False).run(y)


def test_divergence_is_an_error():
    model, y = pictures()

    class Broken(DataStep):
        def prepare(self, target):
            pass

        def __call__(self, target, x, rho):
            return x * torch.nan

    with pytest.raises(FloatingPointError, match="SplitGibbs diverged at rho = "):
        SplitGibbs(model, 2, data_step=Broken(), progress=False).run(y)
