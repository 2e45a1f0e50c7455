"""Pyro's NUTS against posteriors on a grid."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Target
from bayes1bit.infer.nuts import NUTS, potential_energy
from bayes1bit.observation import OneBit
from bayes1bit.operators import Gaussian

Y = torch.tensor([1.0, -1.0, 1.0])
OPERATOR = Gaussian((2,), 3, seed=4)


def plane(prior):
    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(OPERATOR(x), 0.4, 0.1).to_event(1), obs=y)

    return model


def small_mixture():
    return GaussianMixturePrior(torch.tensor([[0.3, 0.2], [-0.3, 0.1]]), 0.5)


def assert_agrees(samples, reference, effective):
    """First and second moments within 4.5 standard errors of so many independent draws."""
    summaries = torch.cat([samples, samples.square()], -1)
    expected = reference.expectation(lambda x: torch.cat([x, x.square()], -1))
    error = (summaries.mean(0) - expected).abs() / summaries.std(0)
    assert (error < 4.5 / effective**0.5).all(), error


def test_agrees_with_a_grid():
    pyro.set_rng_seed(0)
    model = plane(small_mixture())
    posterior = NUTS(model, 300, num_chains=2, num_warmup=60, progress=False).run(Y)
    assert posterior.samples.shape == (300, 2)
    assert posterior.nfe == 0
    # draws of NUTS from nearly normal posteriors are worth at least a third of their number
    assert_agrees(posterior.samples, GridPosterior(Target.from_model(model, Y)), 300 / 3)


def test_gradients_alone_suffice():
    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(x.square().sum(), 0.5), obs=y)

    pyro.set_rng_seed(1)
    prior, y = small_mixture(), torch.tensor(0.4)
    target = Target.from_model(model, y)
    assert target.structure is None
    samples = NUTS(model, 150, num_chains=1, num_warmup=60, progress=False).draw(target).samples
    assert_agrees(samples, GridPosterior(target), 150 / 3)


@pytest.mark.parametrize("structured", [True, False])
def test_energy_of_a_prior_that_is_only_a_denoiser(structured):
    """The flow's density gives the energy and the force that the closed form does."""
    mixture = small_mixture()
    prior = DiffusionPrior(mixture.denoiser, (2,), mixture.sigma_min, mixture.sigma_max)

    def on_pixels(prior):
        def model(y):
            x = pyro.sample("x", prior)
            return pyro.sample("y", dist.Normal(x.sin(), 0.5).to_event(1), obs=y)

        return model

    model_of, y = (plane, Y) if structured else (on_pixels, Y[:2])
    energies, forces = [], []
    for p, steps in [(prior, 20), (mixture, 1)]:
        target = Target.from_model(model_of(p), y)
        assert (target.structure is not None) == structured
        points = [torch.tensor(point, requires_grad=True) for point in ([0.5, -0.4], [0.0, 0.9])]
        values = [potential_energy(target, point, steps) for point in points]
        sum(values).backward()
        energies.append((values[1] - values[0]).detach())
        forces.append(torch.stack([point.grad for point in points]))
    # 20 Runge-Kutta steps over four decades of levels are right to about 0.01
    torch.testing.assert_close(energies[0], energies[1], rtol=0, atol=0.03)
    torch.testing.assert_close(forces[0], forces[1], rtol=0, atol=0.03)


def test_errors():
    model = plane(small_mixture())
    for setting, message in [
        ({"num_samples": 10, "num_chains": 4}, "must divide num_samples, got 4 and 10"),
        ({"num_chains": 0}, "num_chains"),
        ({"num_warmup": -1}, "num_warmup"),
        ({"target_accept_prob": 1.0}, "target_accept_prob"),
        ({"max_tree_depth": 0}, "max_tree_depth"),
        ({"flow_steps": 0}, "flow_steps"),
    ]:
        with pytest.raises(InputError, match=message):
            NUTS(model, **setting)

    mixture = GaussianMixturePrior(torch.zeros(1, 65), 1.0)
    prior = DiffusionPrior(mixture.denoiser, (65,), mixture.sigma_min, mixture.sigma_max)

    def large(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)

    with pytest.raises(InputError, match=r"65 dimensions \(more than 64\)"):
        NUTS(large, progress=False).run(torch.zeros(65))
