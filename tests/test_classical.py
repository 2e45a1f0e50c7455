"""BIHT, Plan-Vershynin and Gaussian regression: one-bit recovery without a diffusion prior."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import minimize

from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Target
from bayes1bit.infer.biht import BIHT, keep_largest
from bayes1bit.infer.gaussian_gibbs import GaussianGibbs
from bayes1bit.infer.plan_vershynin import PlanVershynin, most_correlated
from bayes1bit.infer.sparse import SparseBasis
from bayes1bit.observation import OneBit
from bayes1bit.operators import Gaussian, Hadamard

N, M, SPARSITY = 64, 600, 5


def sparse_problem(shape=(N,), basis="identity", threshold=0.0, scale=0.05, m=M):
    """Many bits of a signal with few coefficients, of norm 3."""
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.zeros(1, *shape), 0.4)
    operator = Gaussian(shape, m, seed=1)
    coefficients = torch.zeros(N)
    coefficients[torch.randperm(N)[:SPARSITY]] = torch.randn(SPARSITY) + 1
    truth = SparseBasis(basis, torch.Size(shape)).synthesis(coefficients.view(1, *shape))[0]
    truth = 3 * truth / truth.norm()

    def model(y=None):
        x = pyro.sample("x", prior)
        observation = OneBit(operator(x), scale, threshold).to_event(1)
        return pyro.sample("y", observation, obs=y)

    y = pyro.condition(model, {"x": truth})()
    return model, operator, truth, y


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize(("shape", "basis"), [((N,), "identity"), ((1, 8, 8), "cosine")])
@pytest.mark.parametrize("algorithm", [BIHT, PlanVershynin])
def test_direction_of_a_sparse_signal(algorithm, shape, basis):
    model, operator, truth, y = sparse_problem(shape, basis)
    posterior = algorithm(model, sparsity=SPARSITY, basis=basis, norm=3.0, progress=False).run(y)
    assert posterior.samples.shape == (1, *shape)
    assert posterior.nfe == 0
    found = posterior.samples[0]
    assert found.norm().item() == pytest.approx(3.0, rel=1e-5)
    back_projected = cosine(operator.T(y), truth)
    assert cosine(found, truth) > max(0.97, back_projected + 0.03)


@pytest.mark.parametrize("algorithm", [BIHT, PlanVershynin])
def test_the_wrong_basis_is_worse(algorithm):
    model, _, truth, y = sparse_problem((1, 8, 8), "cosine")
    found = {
        basis: algorithm(model, sparsity=SPARSITY, basis=basis, norm=1.0, progress=False)
        .run(y)
        .samples[0]
        for basis in ("cosine", "identity")
    }
    assert cosine(found["cosine"], truth) > cosine(found["identity"], truth) + 0.1


@pytest.mark.parametrize("algorithm", [BIHT, PlanVershynin])
def test_thresholds_show_the_norm(algorithm):
    torch.manual_seed(3)
    model, _, truth, y = sparse_problem(threshold=0.1 * torch.randn(M), scale=0.02)
    found = algorithm(model, sparsity=SPARSITY, basis="identity", progress=False).run(y)
    assert found.samples.norm().item() == pytest.approx(3.0, rel=0.1)
    assert cosine(found.samples[0], truth) > 0.97


@pytest.mark.parametrize("algorithm", [BIHT, PlanVershynin])
def test_without_thresholds_the_prior_gives_the_norm(algorithm):
    model, _, _, y = sparse_problem()
    posterior = algorithm(model, sparsity=SPARSITY, basis="identity", progress=False).run(y)
    # zero mean, standard deviation 0.4, of which the largest level shows all but a percent
    assert posterior.samples.norm().item() == pytest.approx(0.4 * N**0.5, rel=0.01)
    assert posterior.nfe == 1


def test_biht_agrees_with_almost_all_bits():
    model, operator, _, y = sparse_problem(scale=1e-3)
    found = BIHT(model, sparsity=SPARSITY, basis="identity", norm=3.0, progress=False).run(y)
    right = (operator(found.samples[0]).sign() == y).float().mean()
    back_projected = keep_largest(operator.T(y)[None], SPARSITY)[0]
    start = (operator(back_projected).sign() == y).float().mean()
    assert right > 0.995 > start
    assert (found.samples != 0).sum() == SPARSITY


@pytest.mark.parametrize("sparsity", [1.0, 2.5, 6.0])
def test_closed_form_of_the_convex_program(sparsity):
    torch.manual_seed(1)
    b = torch.randn(8, dtype=torch.float64)
    x = most_correlated(b, sparsity)
    assert x.norm().item() == pytest.approx(1, rel=1e-9)
    assert x.abs().sum() <= sparsity**0.5 * (1 + 1e-9)

    # the same program for a general solver, with x = u - v and u, v >= 0 to make it smooth
    def value(uv):
        return -b.numpy() @ (uv[:8] - uv[8:])

    constraints = [
        {"type": "ineq", "fun": lambda uv: 1 - ((uv[:8] - uv[8:]) ** 2).sum()},
        {"type": "ineq", "fun": lambda uv: sparsity**0.5 - uv.sum()},
    ]
    start = [0.05] * 16
    found = minimize(value, start, bounds=[(0, 1)] * 16, constraints=constraints, tol=1e-10)
    assert -float(b @ x) == pytest.approx(found.fun, rel=1e-5)


def test_cosine_basis():
    torch.manual_seed(0)
    basis = SparseBasis("cosine", torch.Size((2, 4, 6)))
    x = torch.randn(3, 2, 4, 6)
    kept = x.clone()
    coefficients = basis.analysis(x)
    assert torch.equal(x, kept)
    torch.testing.assert_close(basis.synthesis(coefficients), x)
    torch.testing.assert_close(coefficients.norm(), x.norm())
    # a constant picture has one coefficient per channel
    flat = basis.analysis(torch.ones(1, 2, 4, 6))
    assert (flat.abs() > 1e-5).sum() == 2
    torch.testing.assert_close(flat[0, :, 0, 0], torch.full((2,), 24**0.5))


PLANE_Y = torch.tensor([1.0, -1.0, -1.0])


def plane(prior, operator, **settings):
    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.4, 0.3, **settings).to_event(1), obs=y)

    return model


@pytest.mark.parametrize(
    ("operator", "settings"),
    [
        (Hadamard((2,), 2, seed=1), {}),
        (Hadamard((2,), 2, seed=1), {"link": "logistic", "flip": 0.1}),
        (Gaussian((2,), 3, seed=1), {}),
        (Gaussian((2,), 3, seed=1), {"link": "logistic"}),
    ],
)
def test_gaussian_regression_against_a_grid(operator, settings):
    pyro.set_rng_seed(2)
    y = PLANE_Y[: operator.m]
    # a prior of its own, not the model's
    mixture = GaussianMixturePrior(torch.tensor([[2.0, 2.0], [-2.0, 0.0]]), 0.1)
    algorithm = GaussianGibbs(
        plane(mixture, operator, **settings),
        4000,
        mean=torch.tensor([0.2, -0.1]),
        variance=0.8,
        num_sweeps=40,
        progress=False,
    )
    samples = algorithm.draw(Target.from_model(algorithm.model, y)).samples
    normal = GaussianMixturePrior(torch.tensor([[0.2, -0.1]]), 0.8**0.5)
    reference = GridPosterior(Target.from_model(plane(normal, operator, **settings), y))
    summaries = torch.cat([samples, samples.square()], -1)
    expected = reference.expectation(lambda x: torch.cat([x, x.square()], -1))
    error = (summaries.mean(0) - expected).abs() / summaries.std(0)
    # independent chains: 4.5 standard errors
    assert (error < 4.5 / 4000**0.5).all(), error


def test_gaussian_regression_takes_the_moments_of_the_prior():
    pyro.set_rng_seed(3)
    means = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])
    # noise so large that the data say nothing
    prior, operator = GaussianMixturePrior(means, 0.5), Hadamard((2,), 2, seed=1)

    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 1e3).to_event(1), obs=y)

    samples = GaussianGibbs(model, 4000, progress=False).draw(
        Target.from_model(model, PLANE_Y[:2])
    )
    # mean (0, 2), and variances 1.25 and 0.25 that average to 0.75; the mean that the denoiser
    # gives at the largest level is right to a percent
    assert (samples.samples.mean(0) - torch.tensor([0.0, 2.0])).abs().max() < 0.08
    assert (samples.samples.var(0) - 0.75).abs().max() < 0.08


def test_errors():
    model, _, _, y = sparse_problem()
    for algorithm in (BIHT, PlanVershynin):
        for setting, message in [
            ({"sparsity": 0}, "sparsity must be at least 1"),
            ({"basis": "wavelet"}, '"cosine" or "identity"'),
            ({"norm": 0.0}, "norm must be positive"),
        ]:
            with pytest.raises(InputError, match=message):
                algorithm(model, **setting)
        with pytest.raises(InputError, match="at most n = 64, got 65"):
            algorithm(model, sparsity=65, progress=False).run(y)
    with pytest.raises(InputError, match="num_steps"):
        BIHT(model, num_steps=0)
    with pytest.raises(InputError, match="variance must be positive"):
        GaussianGibbs(model, variance=0.0)
    with pytest.raises(InputError, match="num_sweeps"):
        GaussianGibbs(model, num_sweeps=0)
    with pytest.raises(InputError, match=r"shape \(64,\), got \(2,\)"):
        GaussianGibbs(model, mean=torch.zeros(2), progress=False).run(y)


@pytest.mark.parametrize("algorithm", [BIHT, PlanVershynin, GaussianGibbs])
def test_other_models_are_refused(algorithm):
    prior = GaussianMixturePrior(torch.zeros(1, 4), 1.0)
    operator = Gaussian((4,), 3)

    def normal(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(operator(x), 1.0).to_event(1), obs=y)

    with pytest.raises(InputError, match=f"{algorithm.__name__} needs one-bit measurements"):
        algorithm(normal, progress=False).run(torch.zeros(3))

    unmeasured = DiffusionPrior(prior.denoiser, (4,), 0.01, 10.0)

    def one_bit(y):
        x = pyro.sample("x", unmeasured)
        return pyro.sample("y", OneBit(operator(x), 1.0).to_event(1), obs=y)

    with pytest.raises(InputError, match=r"no table of denoising errors: give (norm|variance)="):
        algorithm(one_bit, progress=False).run(torch.ones(3))
