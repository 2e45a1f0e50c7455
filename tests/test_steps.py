"""Data steps solve their subproblem, and exactly where they say so."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import minimize

from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import GradientStep, ProximalStep, Target
from bayes1bit.observation import OneBit, Quantized
from bayes1bit.operators import DCT, Gaussian, Hadamard

SHAPE = (1, 4, 4)


def make_target(likelihood, operator, m=8):
    torch.manual_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, *SHAPE, dtype=torch.float64), 0.5)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", likelihood(operator(x)).to_event(1), obs=y)

    y = pyro.condition(model, {"x": prior.sample()})()
    return Target.from_model(model, y)


LIKELIHOODS = {
    "probit": lambda t: OneBit(t, 0.5, 0.1),
    "logistic": lambda t: OneBit(-t, 0.2, link="logistic"),
    "flips": lambda t: OneBit(t, 0.3, flip=0.05),
    "normal": lambda t: dist.Normal(t, 0.5),
    "quantized": lambda t: Quantized(t, 0.3, torch.tensor([-0.5, 0.0, 0.5])),
}


def objective(target, x, z, rho):
    squared = (z - x).flatten(1).square().sum(1)
    return squared / (2 * rho**2) - target.log_likelihood(z)


@pytest.mark.parametrize("rho", [0.05, 0.7, 20.0])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_proximal_step_against_a_general_minimiser(name, rho):
    target = make_target(LIKELIHOODS[name], DCT(SHAPE, 8, seed=3))
    x = 2 * torch.randn(3, *SHAPE, dtype=torch.float64)
    step = ProximalStep(tolerance=1e-9)
    step.prepare(target)
    z = step(target, x, rho)
    reached = objective(target, x, z, rho)
    for i in range(len(x)):

        def value_and_gradient(flat, i=i):
            candidate = torch.from_numpy(flat).view(1, *SHAPE)
            value, gradient = target.value_and_gradient(candidate)
            difference = candidate - x[i : i + 1]
            total = difference.square().sum() / (2 * rho**2) - value.sum()
            return total.item(), (difference / rho**2 - gradient).flatten().numpy()

        # from the step's own answer: nothing nearby is better
        found = minimize(
            value_and_gradient, z[i].flatten().numpy(), jac=True, options={"gtol": 1e-10}
        )
        assert reached[i].item() <= found.fun + 1e-8 * (1 + abs(found.fun))
        if name != "flips":
            # convex: from anywhere the minimiser is the same
            found = minimize(
                value_and_gradient, x[i].flatten().numpy(), jac=True, options={"gtol": 1e-10}
            )
            expected = torch.from_numpy(found.x).view(SHAPE)
            torch.testing.assert_close(z[i], expected, rtol=1e-4, atol=1e-4 * rho)


@pytest.mark.parametrize("name", ["probit", "normal"])
def test_gradient_step_reaches_the_proximal_point(name):
    target = make_target(LIKELIHOODS[name], Hadamard(SHAPE, 8, seed=3))
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    gradient, exact = GradientStep(2000), ProximalStep(tolerance=1e-9)
    gradient.prepare(target)
    torch.testing.assert_close(
        gradient(target, x, 0.7), exact(target, x, 0.7), rtol=1e-5, atol=1e-5
    )


def test_gradient_step_never_goes_up_and_remembers_its_size():
    target = make_target(LIKELIHOODS["probit"], Gaussian(SHAPE, 8, seed=3))
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    step = GradientStep(5)
    step.prepare(target)
    for rho in (50.0, 5.0, 0.5):
        z = step(target, x, rho)
        assert (objective(target, x, z, rho) <= objective(target, x, x, rho)).all()
    # with the remembered size, five more steps at the largest level make progress at once
    before = objective(target, x, x, 50.0)
    assert (objective(target, x, step(target, x, 50.0), 50.0) < before - 1e-3).all()


def test_far_tail_in_single_precision():
    """A signal 300 noise deviations on the wrong side comes back to a finite, optimal point."""
    form_target = make_target(lambda t: OneBit(t, 0.01), Hadamard(SHAPE, 8, seed=3))
    structure = form_target.structure
    mean = (-3 * structure.one_bit.y).float().expand(2, 8)
    single = ProximalStep().minimise(structure, mean, 0.25)
    double = ProximalStep(tolerance=1e-10).minimise(structure, mean.double(), 0.25)
    assert single.isfinite().all()
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def test_errors():
    target = make_target(LIKELIHOODS["probit"], Gaussian(SHAPE, 8, seed=3))
    with pytest.raises(InputError, match="row-orthogonal operator, but this model has: one-bit"):
        ProximalStep().prepare(target)
    with pytest.raises(InputError, match="num_steps of at least 1"):
        GradientStep(0)
