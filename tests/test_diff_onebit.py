"""Diff-OneBit on a prior whose posterior is known."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import DataStep, DiffOneBit, GradientStep, ProximalStep
from bayes1bit.observation import OneBit
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior

SHAPE = (1, 8, 8)


def problem(scale=0.1, m=64, link="probit", seed=0):
    pyro.set_rng_seed(seed)
    prior = GaussianMixturePrior(torch.randn(4, *SHAPE).sign(), 0.2)
    operator = Hadamard(SHAPE, m, seed=seed)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), scale, link=link).to_event(1), obs=y)

    truth = prior.sample()
    y = pyro.condition(model, {"x": truth})()
    return prior, model, truth, y


@pytest.mark.parametrize("link", ["probit", "logistic"])
@pytest.mark.parametrize("data_step", [GradientStep(20), ProximalStep()], ids=repr)
def test_finds_the_component_of_the_truth(data_step, link):
    prior, model, truth, y = problem(link=link)
    posterior = DiffOneBit(model, 6, data_step=data_step, progress=False).run(y)
    assert isinstance(posterior, Posterior)
    assert posterior.samples.shape == (6, *SHAPE)
    component = prior.component_log_probs(truth).argmax()
    assert (prior.component_log_probs(posterior.samples).argmax(-1) == component).all()
    # an estimate of the mode lies no further from the truth than a draw of the right component
    error = (posterior.mean - truth).square().mean().sqrt()
    assert error < 2**0.5 * prior.scale


def test_record_of_the_run():
    _, model, _, y = problem()
    posterior = DiffOneBit(model, 3, num_levels=12, progress=False).run(y)
    assert posterior.nfe == 12
    assert posterior.seconds > 0
    assert posterior.algorithm == "DiffOneBit"
    assert posterior.settings["num_levels"] == 12
    assert posterior.settings["data_step"] == "GradientStep(num_steps=20)"
    assert posterior.attributes["structure"].startswith("one-bit probit of a row-orthogonal")
    assert posterior.log_likelihood["y"].shape == (3, 64)
    assert set(posterior.predictive["y"].unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(posterior.observed["y"], y)


def test_seed_repeats_the_run():
    _, model, _, y = problem()
    runs = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        runs.append(DiffOneBit(model, 2, num_levels=8, progress=False).run(y).samples)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_without_fresh_noise_the_start_decides_everything():
    _, model, _, y = problem()
    algorithm = DiffOneBit(model, 2, num_levels=8, zeta=0.0, progress=False)
    pyro.set_rng_seed(5)
    first = algorithm.run(y).samples
    pyro.set_rng_seed(5)
    assert torch.equal(first, algorithm.run(y).samples)


def test_any_likelihood_runs_on_gradients():
    prior, _, truth, _ = problem()

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.StudentT(4.0, x.flatten(), 0.1).to_event(1), obs=y)

    y = pyro.condition(model, {"x": truth})()
    posterior = DiffOneBit(model, 2, lambda_=1.0, progress=False).run(y)
    assert posterior.attributes["structure"].startswith("gradients only: ")
    # per-pixel data of noise 0.1 on a component of spread 0.2
    assert (posterior.mean - truth).square().mean().sqrt() < 0.2


def test_errors():
    prior, model, _, y = problem()
    for setting, message in [
        ({"num_samples": 0}, "num_samples"),
        ({"num_levels": 1}, "num_levels"),
        ({"lambda_": 0.0}, "lambda_"),
        ({"zeta": 1.5}, "zeta"),
    ]:
        with pytest.raises(InputError, match=message):
            DiffOneBit(model, **setting)

    def with_scale(y=None):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(x.flatten(), scale).to_event(1), obs=y)

    with pytest.raises(InputError, match=r"infers the signal alone.*scale"):
        DiffOneBit(with_scale, progress=False).run(y)


def test_divergence_is_an_error():
    _, model, _, y = problem()

    class Broken(DataStep):
        def prepare(self, target):
            pass

        def __call__(self, target, x, rho):
            return x * torch.nan

    with pytest.raises(FloatingPointError, match="DiffOneBit diverged"):
        DiffOneBit(model, 2, num_levels=3, data_step=Broken(), progress=False).run(y)
