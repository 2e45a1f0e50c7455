"""Unknown parameters beside the signal: against quadrature, and what is refused and warned of."""

import math
from functools import lru_cache
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive
from scipy.special import roots_hermitenorm, roots_jacobi

from bayes1bit.diagnostics.calibration import sbc_ranks, sbc_test
from bayes1bit.diagnostics.convergence import rhat
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import (
    DPS,
    Algorithm,
    Draws,
    JointGibbs,
    Langevin,
    LookaheadSMC,
    SampleGiven,
    SplitGibbs,
    SplitGibbsSMC,
    Target,
)
from bayes1bit.infer.joint_path import JointSplitting, JointTempering, joint_path_of
from bayes1bit.infer.parameter_steps import HamiltonianStep, SliceStep
from bayes1bit.infer.parameters import Parameters
from bayes1bit.observation import OneBit
from bayes1bit.operators import Dense, Hadamard
from bayes1bit.posterior import Posterior

MEANS = torch.tensor([[-1.0, -0.6], [1.0, 0.8], [0.2, -1.4]])
PRIOR = GaussianMixturePrior(MEANS, 0.4, torch.tensor([0.5, 0.3, 0.2]))
M = 12
MATRIX = torch.randn(M, 2, generator=torch.Generator().manual_seed(0))
DITHER = torch.linspace(-1.5, 1.5, M)[
    torch.randperm(M, generator=torch.Generator().manual_seed(1))
]
OPERATOR = Dense(MATRIX)
SHAPE, RATE = 1.0, 6.0
"""Of the Beta prior of twice the flip probability."""
EXACT = {"prior_step": SampleGiven(), "progress": False}


def sensor(y=None):
    """A one-bit sensor of unknown noise, offset and share of wrong bits."""
    x = pyro.sample("x", PRIOR)
    scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.5))
    offset = pyro.sample("offset", dist.Normal(0.0, 0.5))
    flips = pyro.sample("flips", dist.Beta(SHAPE, RATE))
    bits = OneBit(OPERATOR(x) + offset, scale, DITHER, flip=0.5 * flips)
    return pyro.sample("y", bits.to_event(1), obs=y)


def unknown_scale(threshold):
    """A sensor of which nothing but the noise is unknown."""

    def model(y=None):
        x = pyro.sample("x", PRIOR)
        scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.5))
        return pyro.sample("y", OneBit(OPERATOR(x), scale, threshold).to_event(1), obs=y)

    return model


def simulate(model, seed):
    """All sites of a run of a model."""
    pyro.set_rng_seed(seed)
    trace = pyro.poutine.trace(model).get_trace()
    return {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "sample"}


STATISTICS = {
    "x0": lambda s: s.x[..., 0],
    "x1": lambda s: s.x[..., 1],
    "x0 squared": lambda s: s.x[..., 0].square(),
    "right": lambda s: (s.x[..., 0] > 0.1).to(s.x),
    "log scale": lambda s: s.scale.log(),
    "log scale squared": lambda s: s.scale.log().square(),
    "offset": lambda s: s.offset,
    "offset squared": lambda s: s.offset.square(),
    "flips": lambda s: s.flips,
    "offset times x1": lambda s: s.offset * s.x[..., 1],
}


@lru_cache
def reference(seed=1):
    """Log evidence, and means and deviations of the statistics, by quadrature of all five."""
    y = simulate(sensor, seed)["y"].double()
    axis = torch.linspace(-2.8, 2.6, 50, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    prior = (PRIOR.log_prob(x.float()).double() + 2 * (axis[1] - axis[0]).log()).exp()
    nodes, normal = map(torch.as_tensor, roots_hermitenorm(14))
    normal = normal / normal.sum()
    flips, beta = map(torch.as_tensor, roots_jacobi(8, RATE - 1, SHAPE - 1))
    flips, beta = (1 + flips) / 2, beta / beta.sum()
    margin = y * (x @ MATRIX.double().T - DITHER.double())
    total, firsts, seconds = 0.0, 0.0, 0.0
    for scale, weight in zip((-1 + 0.5 * nodes).exp(), normal, strict=True):
        for offset, more in zip(0.5 * nodes, normal, strict=True):
            right = torch.special.ndtr((margin + y * offset) / scale)
            for f, last in zip(flips, beta, strict=True):
                mass = ((1 - f) * right + f / 2).prod(1) * prior * weight * more * last
                state = SimpleNamespace(x=x, scale=scale, offset=offset, flips=f)
                values = torch.stack([g(state).expand(len(x)) for g in STATISTICS.values()])
                total = total + mass.sum()
                firsts, seconds = firsts + values @ mass, seconds + values.square() @ mass
    mean = firsts / total
    return y.float(), float(total.log()), mean, (seconds / total - mean.square()).sqrt()


def deviations(posterior):
    """Errors of the statistics' means in posterior standard deviations."""
    _, _, mean, std = reference()
    state = SimpleNamespace(**{k: v.double() for k, v in posterior.get_samples().items()})
    values = torch.stack([g(state) for g in STATISTICS.values()])
    return (values.mean(1) - mean).abs() / std


# Draws of parameters


def log_gamma_density(z):
    """Logarithms of gamma variables of shape 1 to 3, and normals that depend on them."""
    shape = torch.linspace(1, 3, len(z), dtype=z.dtype)
    normal = -0.5 * (z[:, 1] - 0.5 * z[:, 0]).square() / 0.6**2
    return shape * z[:, 0] - z[:, 0].exp() + normal


@pytest.mark.parametrize("kind", ["slice", "nuts", "hmc"])
def test_steps_leave_their_densities_invariant(kind):
    torch.manual_seed(0)
    num, num_warmup, num_kept = (400, 10, 60) if kind == "slice" else (40, 60, 600)
    step = (
        SliceStep(torch.tensor([1.0, 3.0]).double())
        if kind == "slice"
        else HamiltonianStep(kind, num_warmup)
    )
    z, kept = torch.full((num, 2), -2.0, dtype=torch.float64), []
    for i in range(num_warmup + num_kept):
        z = step(log_gamma_density, z)
        if i >= num_warmup:
            kept.append(z)
    draws = torch.stack(kept)
    shape = torch.linspace(1, 3, num, dtype=torch.float64)
    mean, variance = torch.digamma(shape), torch.polygamma(1, shape)
    residual = draws[..., 1] - 0.5 * draws[..., 0]
    values = {
        "mean": (draws[..., 0] - mean) / variance.sqrt(),
        "variance": (draws[..., 0] - mean).square() / variance - 1,
        "residual": residual / 0.6,
        "residual's variance": (residual / 0.6).square() - 1,
    }
    for name, value in values.items():
        # the means of the chains are independent of each other
        each = value.mean(0)
        error = each.std() / num**0.5
        assert error < 0.03, name
        assert abs(each.mean()) < 4.5 * error, name


def test_a_slice_step_never_leaves_the_support():
    torch.manual_seed(0)

    def inside(z):
        return torch.where((z[:, 0] > 0) & (z[:, 0] < 1), 0.0, torch.nan)

    step, z = SliceStep(torch.tensor([5.0])), torch.full((2000, 1), 0.01)
    for _ in range(4):
        z = step(inside, z)
    assert ((z > 0) & (z < 1)).all()
    assert float(z.mean()) == pytest.approx(0.5, abs=5 / (12 * 2000) ** 0.5)


def test_a_parameter_given_the_signal_follows_its_conditional_law():
    """One parameter, whose support depends on another that is known from the first draw."""
    x = torch.tensor([0.6, -0.4])
    y = simulate(sensor, 3)["y"]

    def model(y):
        signal = pyro.sample("x", PRIOR)
        scale = pyro.sample("scale", dist.Uniform(0.2, 1.4))
        return pyro.sample("y", OneBit(OPERATOR(signal), scale, DITHER).to_event(1), obs=y)

    path = joint_path_of(Target.from_model(model, y))
    assert isinstance(path, JointSplitting)
    pyro.set_rng_seed(0)
    path = path.spread(1500)
    for _ in range(4):
        path = path.update(x.expand(1500, 2), 0.0)
    scales = torch.linspace(0.2, 1.4, 2001, dtype=torch.float64)
    margin = y.double() * (MATRIX.double() @ x.double() - DITHER.double())
    weights = torch.special.log_ndtr(margin / scales[:, None]).sum(1).softmax(0)
    for function in (lambda s: s, torch.square, torch.log):
        mean = (weights * function(scales)).sum()
        std = ((weights * function(scales).square()).sum() - mean.square()).sqrt()
        draws = function(path.latents["scale"].double())
        assert abs(draws.mean() - mean) < 4.5 * std / 1500**0.5


# Coordinates and forms


def hierarchy(y=None):
    """Gains of three channels of four measurements, whose spread is unknown too."""
    x = pyro.sample("x", PRIOR)
    spread = pyro.sample("spread", dist.HalfNormal(1.0))
    with pyro.plate("channels", 3):
        gain = pyro.sample("gain", dist.LogNormal(0.0, spread))
    width = pyro.sample("width", dist.Uniform(0.1, 1.0))
    shift = pyro.sample("shift", dist.Uniform(-width, width))
    loc = gain.repeat_interleave(4) * OPERATOR(x) - shift
    return pyro.sample("y", OneBit(loc, 0.4, DITHER, link="logistic").to_event(1), obs=y)


def test_log_joint_is_the_sum_of_the_sites_of_pyros_trace():
    y = simulate(sensor, 0)["y"]
    target = Target.from_model(sensor, y)
    runs = [simulate(sensor, seed) for seed in range(3)]
    latents = {name: torch.stack([r[name] for r in runs]) for name in target.latents}
    x = torch.stack([r["x"] for r in runs])
    expected = []
    for r in runs:
        known = {name: r[name] for name in (*target.latents, "x")}
        trace = pyro.poutine.trace(pyro.condition(sensor, known)).get_trace(y)
        expected.append(trace.log_prob_sum(lambda name, _: name != "x"))
    torch.testing.assert_close(target.log_joint(x, latents), torch.stack(expected))


def test_coordinates_have_the_jacobian_of_supports_that_depend_on_other_sites():
    torch.manual_seed(0)
    target = Target.from_model(hierarchy, simulate(hierarchy, 0)["y"])
    parameters = Parameters(target)
    assert parameters.shapes == {"spread": (), "gain": (3,), "width": (), "shift": ()}
    z = parameters.draw(5).double().float()
    latents = parameters.constrain(z)
    assert (latents["shift"].abs() < latents["width"]).all()
    x = PRIOR.sample((5,))
    # the map and its Jacobian, by hand
    spread, gain, width = z[:, 0].exp(), z[:, 1:4].exp(), 0.1 + 0.9 * z[:, 4].sigmoid()
    torch.testing.assert_close(latents["gain"], gain)
    torch.testing.assert_close(latents["shift"], width * (2 * z[:, 5].sigmoid() - 1))
    jacobian = z[:, :4].sum(1)
    for i, length in ((4, torch.tensor(0.9)), (5, 2 * width)):
        jacobian = jacobian + (length * z[:, i].sigmoid() * (-z[:, i]).sigmoid()).log()
    expected = target.log_joint(x, latents) + jacobian
    torch.testing.assert_close(parameters.log_density(z, x, 1.0), expected, rtol=1e-4, atol=1e-4)
    assert spread.shape == (5,)


@pytest.mark.parametrize("model", [sensor, hierarchy], ids=["sensor", "hierarchy"])
def test_forms_of_particles_score_as_the_model_does(model):
    torch.manual_seed(1)
    target = Target.from_model(model, simulate(model, 1)["y"])
    path = joint_path_of(target).spread(6)
    assert isinstance(path, JointSplitting)
    x = PRIOR.sample((6,))
    value = path.log_likelihood(path.features(x), 0.0)
    expected = target.log_likelihood(x, path.latents)
    # a logistic law is a mixture of normals, without its tail
    tolerance = (
        {"rtol": 2e-3, "atol": 2e-3} if model is hierarchy else {"rtol": 1e-4, "atol": 1e-4}
    )
    torch.testing.assert_close(value, expected, **tolerance)
    density = path.log_density(x, 0.0)(path.z)
    expected = path.parameters.log_density(path.z, x, 1.0)
    torch.testing.assert_close(density, expected, **tolerance)
    # the coupling is one that the noise of every particle can supply
    assert path.coupling(0.0) ** 2 * path.largest <= path.softening.form.scale.square().min()


def test_negative_gains_and_bernoulli_sites_have_forms():
    def model(y=None):
        x = pyro.sample("x", PRIOR)
        gain = pyro.sample("gain", dist.Normal(0.0, 2.0))
        logits = gain * OPERATOR(x) + 0.3
        return pyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=y)

    torch.manual_seed(2)
    target = Target.from_model(model, simulate(model, 1)["y"])
    path = joint_path_of(target).spread(6)
    assert isinstance(path, JointSplitting)
    assert (path.latents["gain"] < 0).any()
    x = PRIOR.sample((6,))
    value = path.log_likelihood(path.features(x), 0.0)
    expected = target.log_likelihood(x, path.latents)
    # the logistic law as a mixture of normals
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("u", [0.0, 0.8])
def test_sweeps_leave_the_target_of_each_particles_parameters_invariant(u):
    """With parameters far from the typical ones, on which the damping rests."""
    y = reference()[0]
    pyro.set_rng_seed(4)
    path = joint_path_of(Target.from_model(sensor, y))
    z = torch.tensor([[-0.3, 0.8, -1.0], [-1.8, -0.6, -3.0]])
    path = path.at(z.repeat_interleave(1500, 0))
    axis = torch.linspace(-2.8, 2.6, 200)
    grid = torch.cartesian_prod(axis, axis)
    masses = []
    for one in z:
        there = path.at(one.expand(len(grid), 3))
        log_mass = PRIOR.log_prob(grid) + there.log_likelihood(there.features(grid), u)
        masses.append(log_mass.double().softmax(0))
    # from the right law, as chains do not cross between modes
    x = torch.cat([grid[mass.multinomial(1500, replacement=True)] for mass in masses])
    for _ in range(30):
        x = SampleGiven()(PRIOR, path.noisy_copy(x, u), path.coupling(u))
    for mass, draws in zip(masses, x.split(1500), strict=True):
        for function in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: x[:, 0] * x[:, 1]):
            values = function(grid).double()
            mean = mass @ values
            std = (mass @ values.square() - mean.square()).sqrt()
            assert abs(function(draws).double().mean() - mean) < 4.5 * std / 1500**0.5


# The joint posterior


def test_smc_gives_the_joint_posterior_and_its_evidence():
    y, log_evidence, _, _ = reference()
    pyro.set_rng_seed(0)
    posterior = SplitGibbsSMC(sensor, 800, **EXACT).run(y)
    # five standard errors of independent draws, which particles nearly are
    assert (deviations(posterior) < 5 / 800**0.5).all(), deviations(posterior)
    # the log of the average of several thousand weights at each of ten levels
    assert posterior.log_evidence == pytest.approx(log_evidence, abs=0.15)


@pytest.mark.parametrize(
    ("nuisance", "num_chains", "num_draws"), [("slice", 80, 6), ("nuts", 40, 4)]
)
def test_gibbs_gives_the_joint_posterior(nuisance, num_chains, num_draws):
    y, *_ = reference()
    pyro.set_rng_seed(1)
    posterior = JointGibbs(
        sensor,
        num_chains * num_draws,
        num_chains=num_chains,
        num_warmup=8,
        num_sweeps=2,
        nuisance=nuisance,
        **EXACT,
    ).run(y)
    # the draws are worth one for each chain or more
    assert (deviations(posterior) < 4.5 / num_chains**0.5).all(), deviations(posterior)
    assert "one-bit probit" in posterior.attributes["structure"]
    assert posterior.num_chains == num_chains


def radius(y=None):
    """A likelihood without structure, of an unknown noise."""
    x = pyro.sample("x", PRIOR)
    scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.5))
    length = pyro.deterministic("length", x.square().sum())
    with pyro.plate("repeats", 4):
        return pyro.sample("y", dist.Normal(length, scale), obs=y)


@pytest.mark.parametrize("signal", ["split-gibbs", "langevin num_steps=12"])
def test_other_likelihoods_are_sampled_by_gradients(signal):
    y = torch.tensor([1.3, 0.8, 1.0, 1.7])
    pyro.set_rng_seed(2)
    posterior = JointGibbs(
        radius, 240, signal=signal, num_chains=80, num_warmup=6, num_sweeps=2, **EXACT
    ).run(y)
    assert posterior.attributes["structure"].startswith("gradients only: ")
    # the law of the radius and the noise, on a grid
    axis = torch.linspace(-2.8, 2.6, 100, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    nodes, weights = map(torch.as_tensor, roots_hermitenorm(30))
    log_scale = -1 + 0.5 * nodes
    squared = x.square().sum(1)
    residual = (y.double() - squared[:, None]).square().sum(1)
    log_mass = -4 * log_scale - residual[:, None] / (2 * (2 * log_scale).exp()) + weights.log()
    log_mass = log_mass + PRIOR.log_prob(x.float()).double()[:, None]
    mass = log_mass.flatten().softmax(0).view(log_mass.shape)
    draws = posterior.get_samples()
    for values, grid in (
        (draws["scale"].log(), log_scale.expand(mass.shape)),
        (draws["x"].square().sum(1), squared[:, None].expand(mass.shape)),
        (draws["x"][:, 0], x[:, :1].expand(mass.shape)),
    ):
        mean = (mass * grid).sum()
        std = ((mass * grid.square()).sum() - mean.square()).sqrt()
        # one draw for each chain or more, and a twentieth for the coupling's smoothing
        assert abs(values.double().mean() - mean) < (4.5 / 80**0.5 + 0.05) * std


def test_a_plate_of_gains_is_inferred_with_its_hyperparameters():
    truth = simulate(hierarchy, 5)
    pyro.set_rng_seed(3)
    posterior = JointGibbs(
        hierarchy, 32, num_chains=8, num_warmup=4, num_sweeps=1, num_particles=8, **EXACT
    ).run(truth["y"])
    assert {name: value.shape for name, value in posterior.latents.items()} == {
        "spread": (32,),
        "gain": (32, 3),
        "width": (32,),
        "shift": (32,),
    }
    assert (posterior.latents["shift"].abs() < posterior.latents["width"]).all()
    assert posterior.latents["gain"].std(0).min() > 0
    # Pyro's Predictive takes the samples of all sites
    replicated = Predictive(hierarchy, posterior.get_samples())()["y"]
    assert replicated.flatten(1).shape == (32, M)


@pytest.mark.slow
def test_joint_posteriors_are_calibrated():
    """The rank of each truth among draws, over a hundred data sets."""
    ranks = []
    for seed in range(100):
        truth = simulate(sensor, 1000 + seed)
        algorithm = JointGibbs(sensor, 32, num_chains=32, num_warmup=10, num_sweeps=1, **EXACT)
        samples = algorithm.run(truth["y"]).get_samples()
        names = ("x", "scale", "offset", "flips")
        ranks.append(torch.cat([sbc_ranks(samples[name], truth[name]) for name in names]))
    assert (sbc_test(torch.stack(ranks), 32).p_values > 0.01).all()


# Signal algorithms


class Refreshed(Algorithm):
    """A user's own algorithm, whose move draws from the prior and leaves that invariant."""

    paper = "none"

    def draw(self, target):
        return Draws(target.prior.sample((self.num_samples,)))

    def move(self, prior_step):
        return lambda target, path, x, adapting: target.prior.sample((len(x),))


def signal_name(signal):
    return signal.__name__ if isinstance(signal, type) else type(signal).__name__


def test_algorithms_with_a_move_can_join():
    model, (y, *_) = unknown_scale(DITHER), reference()
    options = {"num_chains": 4, "num_warmup": 1, "num_sweeps": 1, **EXACT}
    for signal in (SplitGibbs, Langevin(model, metropolis=True), Refreshed):
        posterior = JointGibbs(model, 8, signal=signal, **options).run(y)
        assert posterior.samples.shape == (8, 2)
        assert posterior.settings["signal"].startswith(f"{signal_name(signal)}(num_samples=8")


def test_smc_as_the_signal_algorithm_draws_the_parameters_too():
    model, (y, *_) = unknown_scale(DITHER), reference()
    for signal in ("split-gibbs-smc explore=2", SplitGibbsSMC(model, explore=2.0)):
        posterior = JointGibbs(model, 12, signal=signal, progress=False).run(y)
        assert posterior.algorithm == "JointGibbs"
        assert posterior.num_chains == 1
        assert math.isfinite(posterior.log_evidence)
        assert posterior.latents["scale"].shape == (12,)


@pytest.mark.parametrize("signal", ["dps", DPS, LookaheadSMC, "twisted-smc", "nuts", "diffpir"])
def test_algorithms_without_a_move_are_refused(signal):
    with pytest.raises(InputError, match=r"no move of a Gibbs sampler.*invariant.*split-gibbs"):
        JointGibbs(sensor, 8, signal=signal)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nuisance": "gibbs"}, 'must be "slice", "nuts" or "hmc"'),
        ({"num_chains": 3}, "num_chains must divide num_samples, got 3 and 8"),
        ({"num_chains": 0}, "num_chains must divide"),
        ({"num_chains": 4, "num_particles": 3}, "num_particles must be at least num_chains"),
        ({"num_warmup": -1}, "num_warmup must not be negative"),
        ({"num_sweeps": 0}, "num_sweeps must be at least 1"),
        ({"signal": 3}, "signal must be the name, the class or an instance"),
        ({"signal": "magic"}, 'unknown method "magic"'),
        ({"signal": "joint-gibbs"}, "not JointGibbs itself"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        JointGibbs(sensor, 8, **settings)


# Models


def with_site(draw):
    """A model whose noise comes from ``draw(x)``."""

    def model(y=None):
        x = pyro.sample("x", PRIOR)
        bits = OneBit(OPERATOR(x), draw(x), DITHER)
        return pyro.sample("y", bits.to_event(1), obs=y)

    return model


REFUSED_MODELS = {
    "discrete": (
        with_site(lambda x: pyro.sample("k", dist.Poisson(3.0)) + 1),
        r'"k" is discrete \(Poisson\).*sum over its values',
    ),
    "depends on the signal": (
        with_site(lambda x: pyro.sample("s", dist.LogNormal(x.sum(), 1.0))),
        'prior of site "s" depends on the signal "x"',
    ),
    "nothing unknown": (with_site(lambda x: 0.5), "this model has none"),
}


@pytest.mark.parametrize("case", REFUSED_MODELS)
def test_models_without_fit_parameters_are_refused(case):
    model, message = REFUSED_MODELS[case]
    with pytest.raises(InputError, match=message):
        JointGibbs(model, 8, progress=False).run(reference()[0])


def test_a_prior_of_the_signal_that_parameters_change_is_refused():
    def model(y=None):
        size = pyro.sample("size", dist.LogNormal(0.0, 1.0))
        x = pyro.sample("x", GaussianMixturePrior(size * MEANS, 0.4))
        return pyro.sample("y", OneBit(OPERATOR(x), 0.5, DITHER).to_event(1), obs=y)

    with pytest.raises(InputError, match='prior of the signal "x" is made anew'):
        JointGibbs(model, 8, progress=False).run(reference()[0])


def test_algorithms_of_the_signal_alone_say_which_one_is_wanted():
    with pytest.raises(InputError, match=r"infers the signal alone.*JointGibbs"):
        SplitGibbs(sensor, 4, progress=False).run(reference()[0])


def test_scales_that_bits_cannot_tell_apart_are_warned_of():
    y = reference()[0]
    with pytest.warns(UserWarning, match=r"signs about zero.*\(scale\).*dither"):
        joint_path_of(Target.from_model(unknown_scale(0.0), y))
    joint_path_of(Target.from_model(unknown_scale(0.3), y))


def test_other_likelihoods_have_the_path_of_powers():
    target = Target.from_model(radius, torch.ones(4))
    assert target.latents == ("scale",)
    assert set(target.observed) == {"y"}
    assert isinstance(joint_path_of(target), JointTempering)


# Results


@pytest.fixture
def chains():
    """Two chains of six draws."""
    generator = torch.Generator().manual_seed(0)
    return Posterior(
        torch.randn(12, 2, generator=generator),
        latents={
            "scale": torch.rand(12, generator=generator),
            "gain": torch.rand(12, 3, generator=generator),
        },
        observed={"y": torch.ones(5)},
        log_likelihood={"y": -torch.rand(12, 5, generator=generator)},
        num_chains=2,
    )


def test_arviz_has_the_chains_and_the_other_sites(chains):
    data = chains.to_arviz()
    assert data.posterior["x"].dims == ("chain", "draw", "x_dim_0")
    assert data.posterior["gain"].dims == ("chain", "draw", "gain_dim_0")
    assert data.posterior["scale"].shape == (2, 6)
    assert data.log_likelihood["y"].shape == (2, 6, 5)
    assert data.sample_stats["lp"].shape == (2, 6)
    second = torch.from_numpy(data.posterior["scale"].values[1])
    assert torch.equal(second, chains.latents["scale"][6:])
    assert rhat(torch.from_numpy(data.posterior["gain"].values)).shape == (3,)


@pytest.mark.parametrize("weighted", [False, True])
def test_other_sites_survive_a_file(chains, tmp_path, weighted):
    if weighted:
        weights = torch.linspace(0, 1, 12)
        chains = Posterior(chains.samples, weights=weights, latents=chains.latents)
    chains.save(tmp_path / "posterior.nc")
    loaded = Posterior.load(tmp_path / "posterior.nc")
    assert loaded.num_chains == chains.num_chains
    assert torch.equal(loaded.samples, chains.samples)
    assert loaded.latents.keys() == {"scale", "gain"}
    for name, value in chains.latents.items():
        assert torch.equal(loaded.latents[name], value)


def test_other_sites_are_resampled_with_the_signal(chains):
    weights = torch.zeros(12)
    weights[7] = 1.0
    posterior = Posterior(chains.samples, weights=weights, latents=chains.latents)
    draws = posterior.get_samples()
    assert draws.keys() == {"x", "scale", "gain"}
    assert torch.equal(draws["gain"], chains.latents["gain"][7].expand(12, 3))


def test_the_summary_shows_the_other_sites(chains):
    summary = chains.summary()
    assert summary["scale mean"] == pytest.approx(float(chains.latents["scale"].mean()))
    assert summary["gain mean_max"] == pytest.approx(float(chains.latents["gain"].mean(0).max()))
    assert "scale std" in str(summary)
    assert "x (2,), scale, gain" in repr(chains)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latents": {"scale": torch.ones(5)}}, r"latents\['scale'\] has shape \(5,\)"),
        ({"latents": {"scale": torch.full((12,), math.nan)}}, "holds NaN"),
        ({"latents": {"x": torch.ones(12)}}, "the signal's own site"),
        ({"num_chains": 5}, "12 samples are not 5 chains"),
        ({"num_chains": 2, "weights": torch.ones(12)}, "weighted samples are no chains"),
    ],
)
def test_results_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Posterior(torch.randn(12, 2), **fields)


def test_reverse_diffusion_serves_as_prior_step():
    """Of a picture: a plate of thresholds, one for each row of the sensor."""
    torch.manual_seed(0)
    prior = GaussianMixturePrior(torch.randn(4, 1, 4, 4).sign(), 0.2)
    operator = Hadamard((1, 4, 4), 8, seed=0)

    def model(y=None):
        x = pyro.sample("x", prior)
        with pyro.plate("rows", 8):
            threshold = pyro.sample("threshold", dist.Normal(0.5, 0.2))
        return pyro.sample("y", OneBit(operator(x), 0.3, threshold).to_event(1), obs=y)

    y = simulate(model, 0)["y"]
    posterior = JointGibbs(model, 4, num_chains=2, num_warmup=1, progress=False).run(y)
    assert posterior.latents["threshold"].shape == (4, 8)
    assert posterior.nfe > 2
