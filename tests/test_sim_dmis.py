"""SIM-DMIS: the back-projection is the signal plus noise of the level that it is said to have."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit.diffusion import Ancestral, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer.sim_dmis import SIMDMIS, back_projection, second_moment
from bayes1bit.infer.target import Target
from bayes1bit.observation import OneBit
from bayes1bit.operators import Gaussian, Hadamard

SHAPE = (1, 16, 32)


def make_target(operator, likelihood):
    pyro.set_rng_seed(1)
    prior = GaussianMixturePrior(torch.zeros(1, *SHAPE), 1.5)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    truth = prior.sample()
    y = pyro.condition(model, {"x": truth})()
    return Target.from_model(model, y), truth


LIKELIHOODS = {
    "probit": lambda t: OneBit(t, 0.5),
    "logistic": lambda t: OneBit(t, 0.5, link="logistic"),
    "dither": lambda t: OneBit(t, 0.5, torch.linspace(-1, 1, t.shape[-1])),
    "flips": lambda t: OneBit(t, 0.5, flip=0.1),
    "affine": lambda t: OneBit(-2 * t + 0.3, 0.5),
    "normal": lambda t: dist.Normal(t, 0.5),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize(
    "operator", [Hadamard(SHAPE, 512, seed=1), Gaussian(SHAPE, 2048, seed=1)], ids=repr
)
def test_scale_and_level_of_the_back_projection(operator, name):
    target, truth = make_target(operator, LIKELIHOODS[name])
    estimate, sigma = back_projection(target, second_moment(target.prior))
    error = estimate[0] - truth
    if name == "normal" and isinstance(operator, Gaussian):
        # the Fisher information is taken as white, which A^T A is not: direction alone
        assert torch.cosine_similarity(estimate.flatten(), truth.flatten(), 0) > 0.85
        return
    # slope of the estimate on the signal: its standard error is sigma / |x|, below 0.06
    slope = (estimate[0] * truth).sum() / truth.square().sum()
    assert slope.item() == pytest.approx(1.0, abs=0.15)
    # 512 squared errors, whose mean also feels the slope
    assert error.square().mean().sqrt().item() == pytest.approx(sigma, rel=0.12)


def test_back_projection_is_blind_to_gain():
    """The bits are the same whatever the units of the sensor, and so is the estimate."""
    first, _ = make_target(Hadamard(SHAPE, 256, seed=1), lambda t: OneBit(t, 0.5))
    second, _ = make_target(Hadamard(SHAPE, 256, seed=1), lambda t: OneBit(3 * t, 1.5))
    (a, level), (b, same) = (back_projection(target, 2.25) for target in (first, second))
    torch.testing.assert_close(a, b)
    assert level == pytest.approx(same, rel=1e-5)


def problem():
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.randn(4, 1, 8, 8).sign(), 0.2)
    operator = Hadamard((1, 8, 8), 64, seed=0)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.1).to_event(1), obs=y)

    return model, pyro.condition(model, {"x": prior.sample()})()


def test_samples_are_one_signal_unless_the_solver_is_random():
    model, y = problem()
    samples = SIMDMIS(model, 3, progress=False).run(y).samples
    assert torch.equal(samples[0], samples[2])
    samples = SIMDMIS(model, 3, solver=Ancestral(), progress=False).run(y).samples
    assert not torch.equal(samples[0], samples[2])


def test_noise_constant_sets_the_level():
    model, y = problem()
    target = Target.from_model(model, y)
    _, sigma = back_projection(target, second_moment(target.prior))
    pyro.set_rng_seed(0)
    own = SIMDMIS(model, 1, progress=False).run(y).samples
    same = SIMDMIS(model, 1, noise_constant=sigma * 64**0.5, progress=False).run(y).samples
    torch.testing.assert_close(own, same, rtol=1e-4, atol=1e-4)
    other = SIMDMIS(model, 1, noise_constant=8.0, progress=False).run(y).samples
    assert (own - other).abs().max() > 1e-3


def test_up_and_down_meet():
    """With many steps the inversion and the sampling cancel above the level of the estimate."""
    prior = GaussianMixturePrior(torch.tensor([[0.5, -0.2]]), 1.0)
    operator = Gaussian((2,), 50, seed=3)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.1).to_event(1), obs=y)

    y = operator(torch.tensor([0.3, 0.9])).sign()
    target = Target.from_model(model, y)
    estimate, sigma = back_projection(target, second_moment(prior))
    reached = SIMDMIS(model, 1, num_steps=1500, progress=False).run(y).samples
    # the flow of N(m, S^2 I): deviations from m shrink as sqrt(sigma^2 + S^2)
    expected = prior.means + (estimate - prior.means) * (1 + sigma**2) ** -0.5
    torch.testing.assert_close(reached, expected, rtol=0.02, atol=0.01)


def test_uninformative_data_are_refused():
    prior = GaussianMixturePrior(torch.ones(1, 3), 0.5)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(x.square(), 0.5).to_event(1), obs=y)

    with pytest.raises(InputError, match="gradient of the log-likelihood is zero"):
        SIMDMIS(model, 1, progress=False).run(torch.ones(3))
