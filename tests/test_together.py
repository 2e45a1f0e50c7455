"""Chains of several data sets in one batch: each sees its own data, and no other."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from short_runs import SHORT

from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import (
    ALGORITHMS,
    DAPS,
    DPS,
    DiffOneBit,
    DiffPIR,
    ExactStep,
    LangevinStep,
    LeastSquaresStep,
    ProximalStep,
    SplitGibbs,
    Target,
    run_together,
)
from bayes1bit.infer.registry import make_algorithm
from bayes1bit.infer.together import StackedTarget
from bayes1bit.observation import OneBit
from bayes1bit.operators import DCT, Gaussian, Hadamard

SHAPE = (1, 4, 4)
PRIOR = GaussianMixturePrior(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, *SHAPE), 0.5)

INDEPENDENT = [
    name for name in SHORT if make_algorithm(f"{name} {SHORT[name]}", None).independent_chains
]


def one_bit(i, link="probit", flip=0.0, operator_class=Hadamard, m=8, prior=PRIOR, scale=0.4):
    """Model number ``i``, with an operator and thresholds of its own."""
    operator = operator_class(SHAPE, m, seed=i)
    threshold = 0.3 * torch.randn(m, generator=torch.Generator().manual_seed(i))

    def model(y):
        x = pyro.sample("x", prior)
        bits = OneBit(operator(x), scale, threshold, link=link, flip=flip)
        return pyro.sample("y", bits.to_event(1), obs=y)

    return model


def bits(i, m=8):
    return torch.randn(m, generator=torch.Generator().manual_seed(100 + i)).sign()


@pytest.mark.parametrize("name", INDEPENDENT)
def test_no_chain_learns_from_another(name):
    """Other data for the second of three change its own samples and no others, to the last bit."""

    def run(second):
        pyro.set_rng_seed(0)
        spec = f"{name} {SHORT[name]}"
        made = [make_algorithm(spec, one_bit(i), num_samples=2, progress=False) for i in range(3)]
        posteriors = run_together(made, [bits(0), second, bits(2)])
        return [posterior.samples for posterior in posteriors]

    before, after = run(bits(1)), run(-bits(1))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[1], after[1])


def test_published_methods_share_a_batch_and_smc_does_not():
    published = {"diff-onebit", "diffpir", "dps", "daps", "qcs-sgm", "pnp-onebit", "split-gibbs"}
    assert published | {"langevin"} == set(INDEPENDENT)
    assert not ALGORITHMS["langevin"](None, metropolis=True).independent_chains


@pytest.mark.parametrize(("link", "flip"), [("probit", 0.0), ("logistic", 0.1)])
def test_stacked_likelihood_is_that_of_each_target(link, flip):
    targets = [Target.from_model(one_bit(i, link, flip), bits(i)) for i in range(3)]
    stacked = StackedTarget(targets, chains=2)
    x = torch.randn(6, *SHAPE)
    parts = list(zip(targets, x.split(2), strict=True))

    expected = torch.cat([target.log_likelihood(part) for target, part in parts])
    torch.testing.assert_close(stacked.log_likelihood(x), expected)
    value, gradient = stacked.value_and_gradient(x)
    torch.testing.assert_close(value, expected)
    expected = torch.cat([target.value_and_gradient(part)[1] for target, part in parts])
    torch.testing.assert_close(gradient, expected)

    step = ProximalStep()
    expected = torch.cat([step(target, part, 0.5) for target, part in parts])
    torch.testing.assert_close(step(stacked, x, 0.5), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scaling", ["unit", "matched"])
def test_least_squares_step_is_that_of_each_target(scaling):
    targets = [Target.from_model(one_bit(i), bits(i)) for i in range(3)]
    x = torch.randn(6, *SHAPE)

    def moved(target, x):
        step = LeastSquaresStep(scaling)
        step.prepare(target)
        return step(target, x, 0.5)

    parts = zip(targets, x.split(2), strict=True)
    expected = torch.cat([moved(target, part) for target, part in parts])
    torch.testing.assert_close(moved(StackedTarget(targets, chains=2), x), expected)


def test_each_posterior_is_right():
    """Split Gibbs at a fixed coupling has the posterior with wider noise as its stationary law."""
    prior = GaussianMixturePrior(torch.tensor([[0.6, 0.5], [-0.7, 0.4], [0.1, -0.8]]), 0.4)
    rho, noise, chains = 0.3, 0.3, 2000

    def plane(i, scale):
        operator = DCT((2,), 2, seed=i)

        def model(y):
            x = pyro.sample("x", prior)
            return pyro.sample("y", OneBit(operator(x), scale, 0.2).to_event(1), obs=y)

        return model

    pyro.set_rng_seed(0)
    data = [torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -1.0])]
    settings = {"num_levels": 6, "rho_min": rho, "num_sweeps": 30, "num_steps": None}
    targets = [Target.from_model(plane(i, noise), y) for i, y in enumerate(data)]
    algorithm = SplitGibbs(plane(0, noise), 2 * chains, progress=False, **settings)
    samples = algorithm.draw(StackedTarget(targets, chains)).samples
    for i, (y, drawn) in enumerate(zip(data, samples.split(chains), strict=True)):
        wider = plane(i, (noise**2 + rho**2) ** 0.5)
        reference = GridPosterior(Target.from_model(wider, y))
        error = (drawn.mean(0) - reference.expectation(lambda x: x)).abs() / drawn.std(0)
        assert (error < 4.5 / chains**0.5).all()


def test_posteriors_have_the_record_of_their_own_data():
    algorithms = [DAPS(one_bit(i), 3, num_levels=4, progress=False) for i in range(2)]
    posteriors = run_together(algorithms, [bits(0), bits(1)])
    for i, posterior in enumerate(posteriors):
        assert posterior.samples.shape == (3, *SHAPE)
        assert torch.equal(posterior.observed["y"], bits(i))
        assert (posterior.nfe, posterior.settings["num_samples"]) == (4 * 5, 3)
        target = Target.from_model(one_bit(i), bits(i))
        expected = target.pointwise_log_likelihood(posterior.samples)["y"]
        torch.testing.assert_close(posterior.log_likelihood["y"].float(), expected)
        assert posterior.attributes["structure"] == target.describe()
    assert posteriors[0].seconds == posteriors[1].seconds > 0
    assert algorithms[0].num_samples == 3


def test_other_likelihoods_share_a_batch():
    def without_structure(y):
        x = pyro.sample("x", PRIOR)
        return pyro.sample("y", dist.StudentT(4.0, x.flatten(), 0.2).to_event(1), obs=y)

    operator = Hadamard(SHAPE, 8, seed=0)

    def counts(y):
        x = pyro.sample("x", PRIOR)
        return pyro.sample("y", dist.Poisson(operator(x).exp()).to_event(1), obs=y)

    data = [torch.ones(16), -torch.ones(16)]
    algorithms = [DPS(without_structure, 4, num_levels=60, progress=False) for _ in data]
    first, second = run_together(algorithms, data)
    assert first.mean.mean() > 0.7
    assert second.mean.mean() < -0.7

    targets = [Target.from_model(counts, torch.full((8,), float(i))) for i in range(2)]
    stacked = StackedTarget(targets, chains=1)
    x = torch.randn(2, *SHAPE)
    parts = zip(targets, x[:, None], strict=True)
    expected = [target.log_likelihood(part) for target, part in parts]
    torch.testing.assert_close(stacked.value_and_gradient(x)[0], torch.cat(expected))


def test_what_cannot_run_together():
    def pair(make, m=(8, 8)):
        return run_together([make(i) for i in range(2)], [bits(i, m[i]) for i in range(2)])

    def daps(model, **settings):
        return DAPS(model, 2, num_levels=3, progress=False, **settings)

    with pytest.raises(InputError, match="one algorithm for each data set is needed, got 0 and 0"):
        run_together([], [])
    with pytest.raises(InputError, match="got 1 and 2"):
        run_together([daps(one_bit(0))], [bits(0), bits(1)])
    with pytest.raises(
        InputError, match="chains of TwistedSMC with these settings depend on each"
    ):
        pair(lambda i: ALGORITHMS["twisted-smc"](one_bit(i)))
    with pytest.raises(InputError, match="same class and settings"):
        pair(lambda i: daps(one_bit(i), num_ode_steps=1 + i))
    other = GaussianMixturePrior(PRIOR.means, 0.5)
    with pytest.raises(InputError, match="same prior"):
        pair(lambda i: daps(one_bit(i, prior=other if i else PRIOR)))
    differ = "the same smallest noise and row-orthogonal operators of the same size"
    with pytest.raises(InputError, match=differ):
        pair(lambda i: daps(one_bit(i, scale=0.4 + i)))
    with pytest.raises(InputError, match=f"{differ}, but their models have: one-bit probit"):
        pair(lambda i: daps(one_bit(i, link="logistic" if i else "probit")))
    with pytest.raises(InputError, match=differ):
        pair(lambda i: daps(one_bit(i, operator_class=Gaussian)))
    with pytest.raises(InputError, match=differ):
        pair(lambda i: daps(one_bit(i, m=8 - i)), m=(8, 7))

    def unknown_scale(y):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        x = pyro.sample("x", PRIOR)
        return pyro.sample("y", OneBit(x.flatten(), scale).to_event(1), obs=y)

    with pytest.raises(InputError, match="DAPS infers the signal alone"):
        pair(lambda i: daps(unknown_scale), m=(16, 16))
    stacked = StackedTarget([Target.from_model(one_bit(i), bits(i)) for i in range(2)], chains=1)
    with pytest.raises(
        InputError, match="a batch of 3 cannot be dealt out equally to 2 data sets"
    ):
        stacked.log_likelihood(torch.zeros(3, *SHAPE))


def test_parts_of_algorithms_that_draw_share_a_batch():
    """Steps given as settings: exact draws, and Langevin with its rule for the step size."""
    for step in (ExactStep(), LangevinStep(5), LangevinStep(6, metropolis=True)):
        pyro.set_rng_seed(0)
        algorithms = [
            SplitGibbs(one_bit(i), 2, num_levels=3, num_sweeps=1, data_step=step, progress=False)
            for i in range(2)
        ]
        assert len(run_together(algorithms, [bits(0), bits(1)])) == 2
    algorithms = [
        DiffOneBit(
            one_bit(i), 2, num_levels=3, data_step=LeastSquaresStep("matched"), progress=False
        )
        for i in range(2)
    ]
    assert len(run_together(algorithms, [bits(0), bits(1)])) == 2
    assert DiffPIR(one_bit(0)).independent_chains
