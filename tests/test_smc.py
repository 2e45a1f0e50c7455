"""LookaheadSMC, SplitGibbsSMC, TwistedSMC and MomentMatched against exact posteriors."""

import math

import pyro
import pytest
import torch

import bayes1bit as b1
from bayes1bit.bench.exact import ExactPosterior, GridPosterior
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import (
    LookaheadSMC,
    MomentMatched,
    ReverseDiffusion,
    SampleGiven,
    SplitGibbsSMC,
    Target,
    TwistedSMC,
)
from bayes1bit.infer.annealing import path_of
from bayes1bit.infer.confidence import (
    confidence,
    directional_variance,
    separating_variance,
)
from bayes1bit.infer.guidance import guided_denoise
from bayes1bit.infer.smoothing import SmoothedLikelihood
from bayes1bit.operators import Dense, Hadamard

MEANS = torch.tensor([[-1.0, -0.6], [1.0, 0.8], [0.2, -1.4]])
Y = torch.tensor([1.0, -1.0])


def plane_prior() -> GaussianMixturePrior:
    return GaussianMixturePrior(MEANS, 0.4, torch.tensor([0.5, 0.3, 0.2]))


def one_bit_model(prior, operator, **options):
    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", b1.OneBit(operator(x), **options).to_event(1), obs=y)

    return model


def radius_model(y=None):
    """A likelihood without structure."""
    x = pyro.sample("x", plane_prior())
    radius = x.square().sum().sqrt()
    return pyro.sample("y", pyro.distributions.Normal(radius, 0.3), obs=y)


def cases():
    rotation = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    general = torch.tensor([[1.0, 0.3], [0.4, -0.9], [0.7, 0.7]])
    yield "probit", Hadamard((2,), m=2, seed=1), Y, {"scale": 0.5}
    yield "logistic", Hadamard((2,), m=1, seed=1), Y[:1], {"scale": 0.3, "link": "logistic"}
    yield "threshold", Dense(rotation, (2,)), Y, {"scale": 0.4, "threshold": torch.ones(2) / 3}
    yield "flips", Hadamard((2,), m=2, seed=1), Y, {"scale": 0.3, "flip": 0.1}
    yield "general", Dense(general, (2,)), torch.tensor([1.0, -1.0, 1.0]), {"scale": 0.5}


CASES = {name: rest for name, *rest in cases()}


def moments(posterior):
    """Mean and second moments, which a bimodal posterior needs both of."""
    samples = posterior.samples.double()
    outer = samples[:, :, None] * samples[:, None, :]
    return torch.cat([samples.mean(0), outer.mean(0)[[0, 0, 1], [0, 1, 1]]])


def grid_moments(grid):
    return torch.stack(
        [
            grid.expectation(lambda x: x[:, 0]),
            grid.expectation(lambda x: x[:, 1]),
            grid.expectation(lambda x: x[:, 0].square()),
            grid.expectation(lambda x: x[:, 0] * x[:, 1]),
            grid.expectation(lambda x: x[:, 1].square()),
        ]
    ).double()


@pytest.mark.parametrize("case", CASES)
def test_split_gibbs_smc_gives_the_grid_posterior_and_its_evidence(case):
    operator, y, options = CASES[case]
    model = one_bit_model(plane_prior(), operator, **options)
    grid = GridPosterior(Target.from_model(model, y))
    pyro.set_rng_seed(3)
    posterior = SplitGibbsSMC(model, 4000, prior_step=SampleGiven(), progress=False).run(y)
    # values are of order 1: the standard error of 4000 nearly independent draws is below 0.016
    assert (moments(posterior) - grid_moments(grid)).abs().max() < 0.07
    # a handful of levels that each keep 80% of 4000 particles: standard error about 0.02
    assert posterior.log_evidence == pytest.approx(float(grid.log_evidence), abs=0.08)


def test_the_evidence_is_unbiased():
    operator, y, options = CASES["probit"]
    model = one_bit_model(plane_prior(), operator, **options)
    target = Target.from_model(model, y)
    exact = ExactPosterior.from_target(target).log_evidence
    pyro.set_rng_seed(5)
    algorithm = SplitGibbsSMC(model, 64, prior_step=SampleGiven(), progress=False)
    estimates = [algorithm.draw(target).log_evidence for _ in range(300)]
    ratios = (torch.tensor(estimates, dtype=torch.float64) - float(exact)).exp()
    error = ratios.std() / math.sqrt(len(ratios))
    assert error < 0.02
    assert abs(ratios.mean() - 1) < 4 * error


def test_reverse_diffusion_in_place_of_exact_draws_finds_the_posterior():
    generator = torch.Generator().manual_seed(11)
    means = torch.randn(6, 64, generator=generator)
    prior = GaussianMixturePrior(means, 0.3)
    model = one_bit_model(prior, Hadamard((64,), m=16, seed=2), scale=0.5)
    y = torch.randn(16, generator=generator).sign()
    exact = ExactPosterior.from_target(Target.from_model(model, y))
    pyro.set_rng_seed(7)
    posterior = SplitGibbsSMC(model, 1000, progress=False).run(y)
    shares = prior.component_log_probs(posterior.samples).exp().mean(0)
    assert 0.5 * (shares - exact.component_probs).abs().sum() < 0.05
    assert posterior.std.square().mean().sqrt() == pytest.approx(
        float(exact.std.square().mean().sqrt()), rel=0.05
    )
    assert posterior.log_evidence == pytest.approx(float(exact.log_evidence), abs=0.25)


def test_a_likelihood_without_structure_is_tempered():
    y = torch.tensor(1.2)
    grid = GridPosterior(Target.from_model(radius_model, y))
    pyro.set_rng_seed(2)
    posterior = SplitGibbsSMC(radius_model, 2000, prior_step=SampleGiven(), progress=False).run(y)
    assert posterior.attributes["structure"].startswith("gradients only: ")
    # the coupling widens a noise of 0.3 to about sqrt(1.1) times that
    assert (moments(posterior) - grid_moments(grid)).abs().max() < 0.12
    assert posterior.log_evidence == pytest.approx(float(grid.log_evidence), abs=0.15)


@pytest.mark.parametrize("num_sweeps", [0, 3])
@pytest.mark.parametrize("case", ["probit", "logistic", "general"])
def test_twisted_smc_gives_the_grid_posterior(case, num_sweeps):
    operator, y, options = CASES[case]
    model = one_bit_model(plane_prior(), operator, **options)
    grid = GridPosterior(Target.from_model(model, y))
    pyro.set_rng_seed(4)
    posterior = TwistedSMC(
        model, 4000, num_levels=100, num_sweeps=num_sweeps, prior_step=SampleGiven(),
        progress=False,
    ).run(y)  # fmt: skip
    # without sweeps the last weights are kept
    assert posterior.weights is None or num_sweeps == 0
    drawn = posterior.equally_weighted()
    # in two dimensions the finite chain itself is off by a few hundredths
    assert (moments(drawn) - grid_moments(grid)).abs().max() < 0.12
    assert posterior.log_evidence == pytest.approx(float(grid.log_evidence), abs=0.12)


def test_weaker_guidance_and_a_wider_twist_tend_to_the_same_posterior():
    operator, y, options = CASES["probit"]
    model = one_bit_model(plane_prior(), operator, **options)
    grid = GridPosterior(Target.from_model(model, y))
    pyro.set_rng_seed(9)
    for guidance in (0.0, 0.5):
        posterior = TwistedSMC(
            model, 2000, explore=2.0, guidance=guidance, inflation=2.0, num_levels=100,
            prior_step=SampleGiven(), progress=False,
        ).run(y)  # fmt: skip
        assert len(posterior.samples) == 2000
        assert (moments(posterior) - grid_moments(grid)).abs().max() < 0.12
        assert posterior.log_evidence == pytest.approx(float(grid.log_evidence), abs=0.12)


PLAIN = {"spacing": "adapted", "tilt": 0.0, "growing": False}


@pytest.mark.parametrize(
    "settings", [{}, PLAIN, {**PLAIN, "order": 1}], ids=["tilted", "plain", "first-order"]
)
@pytest.mark.parametrize("case", CASES)
def test_lookahead_smc_gives_the_grid_posterior_and_its_evidence(case, settings):
    operator, y, options = CASES[case]
    model = one_bit_model(plane_prior(), operator, **options)
    grid = GridPosterior(Target.from_model(model, y))
    pyro.set_rng_seed(10)
    posterior = LookaheadSMC(
        model, 4000, lookahead=2.0, num_levels=60, prior_step=SampleGiven(), progress=False,
        **settings,
    ).run(y)  # fmt: skip
    assert (moments(posterior) - grid_moments(grid)).abs().max() < 0.08
    assert posterior.log_evidence == pytest.approx(float(grid.log_evidence), abs=0.08)


@pytest.mark.parametrize(
    "settings",
    [{}, {**PLAIN, "num_levels": 24, "lookahead": 7.0, "softening": 400.0}, {**PLAIN, "order": 1}],
)
def test_lookahead_finds_one_component_among_a_thousand(settings):
    generator = torch.Generator().manual_seed(21)
    means = torch.randn(1000, 64, generator=generator)
    prior = GaussianMixturePrior(means, 0.1)
    operator = Hadamard((64,), m=48, seed=2)
    y = operator(means[17]).sign()
    model = one_bit_model(prior, operator, scale=0.3)
    exact = ExactPosterior.from_target(Target.from_model(model, y))
    assert exact.component_probs[17] > 0.99
    pyro.set_rng_seed(12)
    posterior = LookaheadSMC(model, 1024, progress=False, **settings).run(y)
    shares = prior.component_log_probs(posterior.samples).exp().mean(0)
    assert 0.5 * (shares - exact.component_probs).abs().sum() < 0.02
    assert posterior.std.square().mean().sqrt() == pytest.approx(
        float(exact.std.square().mean().sqrt()), rel=0.05
    )
    # over seeds the error has a standard deviation of 0.2
    assert posterior.log_evidence == pytest.approx(float(exact.log_evidence), abs=0.6)


def test_lookahead_is_exact_for_one_normal_component():
    """Its one step draws from the posterior itself."""
    prior = GaussianMixturePrior(torch.zeros(1, 2), 0.7)
    operator, y, options = CASES["probit"]
    model = one_bit_model(prior, operator, **options)
    target = Target.from_model(model, y)
    exact = float(ExactPosterior.from_target(target).log_evidence)
    algorithm = LookaheadSMC(model, 64, progress=False)
    pyro.set_rng_seed(6)
    x, u, log_evidence = algorithm.first_cloud(target, path_of(target))
    assert (len(x), u) == (15 * 64, 0.0)
    # all that is random is the draw, and the denoised signal that pure noise leaves
    assert log_evidence == pytest.approx(exact, abs=0.005)
    estimates = [algorithm.draw(target).log_evidence for _ in range(100)]
    ratios = (torch.tensor(estimates, dtype=torch.float64) - exact).exp()
    error = ratios.std() / math.sqrt(len(ratios))
    assert error < 0.02
    assert abs(ratios.mean() - 1) < 4 * error


@pytest.mark.parametrize("algorithm", [LookaheadSMC, SplitGibbsSMC, TwistedSMC])
def test_samples_come_in_no_order(algorithm):
    """Modes that one bit cannot tell apart: R-hat and ESS are those of independent draws."""
    means = torch.tensor([[-2.0, 1.0], [2.0, 1.0]])
    model = one_bit_model(
        GaussianMixturePrior(means, 0.2), Dense(torch.tensor([[0.0, 1.0]])), scale=0.5
    )
    pyro.set_rng_seed(8)
    samples = algorithm(model, 400, progress=False).run(torch.ones(1)).samples
    left = samples[:, 0] < 0
    assert left.float().mean() == pytest.approx(0.5, abs=0.1)
    changes = int((left[1:] != left[:-1]).sum())
    # 200 on average for independent draws, standard deviation 10
    assert 150 < changes < 250


def test_lookahead_goes_on_with_more_particles_where_sweeps_are_long_walks():
    operator, y, options = CASES["probit"]
    model = one_bit_model(plane_prior(), operator, **options)
    target = Target.from_model(model, y)
    path, algorithm = path_of(target), LookaheadSMC(model, 100, carry=2.0, progress=False)
    counts = [algorithm.num_particles(target, path, u) for u in (0.0, 1e-6, 1.0, 100.0)]
    assert counts[:2] == [100, 200]
    assert 200 < counts[2] <= 1500
    assert algorithm.walk_length(target, path, 0.0) == 0
    assert algorithm.walk_length(target, path, 1e12) == 1


def test_a_growing_cloud_has_what_the_denoiser_explains():
    prior, sizes = plane_prior(), []
    algorithm = LookaheadSMC(lambda: None, 100, lookahead=8.0, progress=False)
    levels = [*algorithm._levels(prior), 0.0]
    for sigma in levels:
        explained = 1 - float(prior.error(sigma) / prior.error(prior.sigma_max)) if sigma else 1.0
        sizes.append(algorithm._size(prior, sigma))
        assert sizes[-1] == pytest.approx(800 * min(1, max(2 * explained, 1 / 8)), abs=1)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (100, 800)
    algorithm.growing = False
    assert {algorithm._size(prior, sigma) for sigma in levels} == {800}


@pytest.mark.parametrize("settings", [{}, PLAIN], ids=["tilted", "plain"])
def test_lookahead_does_without_structure(settings):
    y = torch.tensor(1.2)
    grid = GridPosterior(Target.from_model(radius_model, y))
    pyro.set_rng_seed(2)
    posterior = LookaheadSMC(
        radius_model, 2000, num_levels=60, prior_step=SampleGiven(), progress=False, **settings
    ).run(y)
    # the coupling widens a noise of 0.3 to about sqrt(1.1) times that
    assert (moments(posterior) - grid_moments(grid)).abs().max() < 0.12
    assert posterior.log_evidence == pytest.approx(float(grid.log_evidence), abs=0.15)


def test_confidence_is_that_of_the_jacobian():
    """Two far components: the variance along their difference is not that of the average."""
    means = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    prior = GaussianMixturePrior(means, 0.2)
    model = one_bit_model(prior, Dense(torch.eye(3), (3,)), scale=0.5)
    likelihood = SmoothedLikelihood(Target.from_model(model, torch.ones(3)), 0.6)
    assert likelihood.curvature == pytest.approx(1 / (0.25 + 0.6))
    sigma, x = 0.9, torch.tensor([[0.2, 0.1, -0.3], [-0.1, 0.5, 0.2]])
    error = float(prior.error(sigma))
    directional = []
    for noisy in x:
        jacobian = torch.func.jacrev(lambda z: prior.denoise(z[None], sigma)[0])(noisy)
        clean = prior.denoise(noisy[None], sigma)[0]
        g = torch.func.grad(lambda z: likelihood(z[None], error).sum())(clean)
        directional.append(float(sigma**2 * g @ jacobian @ g / (g @ g)))
    guided = guided_denoise(prior, x, sigma, lambda d: likelihood(d, error))
    variance = directional_variance(guided, sigma, error)
    assert variance == pytest.approx(sum(directional) / 2, rel=1e-4)
    assert variance > 1.5 * error
    # the curvature that is left is that of the right variance
    h = likelihood.curvature
    power = confidence(likelihood, error, variance)
    assert power * h / (1 + h * error) == pytest.approx(h / (1 + h * variance))
    # a normal prior is what the smoothing takes it for
    normal = GaussianMixturePrior(torch.zeros(1, 3), 0.7)
    error = float(normal.error(sigma))
    guided = guided_denoise(normal, x, sigma, lambda d: likelihood(d, error))
    assert directional_variance(guided, sigma, 0.0) == pytest.approx(error, rel=1e-4)


def test_signals_are_told_apart_as_their_own_errors_allow():
    """The factor is the slope of a normal model, from Jacobians written out."""
    means = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    prior = GaussianMixturePrior(means, 0.2)
    model = one_bit_model(prior, Dense(torch.eye(3), (3,)), scale=0.5)
    target = Target.from_model(model, torch.ones(3))
    likelihood = SmoothedLikelihood(target, 0.6)
    sigma, x = 0.9, torch.tensor([[0.2, 0.1, -0.3], [-0.1, 0.5, 0.2]])
    error = float(prior.error(sigma))
    clean = prior.denoise(x, sigma)
    g = torch.func.grad(lambda z: likelihood(z, error).sum())(clean)
    q, apart = g[1] - g[0], clean[1] - clean[0]
    excess = 0.0
    for noisy in x:
        jacobian = torch.func.jacrev(lambda z: prior.denoise(z[None], sigma)[0])(noisy)
        excess += float(q @ (sigma**2 * jacobian - error * torch.eye(3)) @ q)
    slope = 1 / (1 + excess / float(-2 * q @ apart))
    variance = separating_variance(prior, likelihood, x, sigma, error)
    assert 0.3 < slope < 0.9
    assert confidence(likelihood, error, variance) == pytest.approx(slope, rel=1e-4)
    # softer data are trusted more
    assert slope < confidence(likelihood.softened(5.0), error, variance) < 1
    # a normal prior is what the smoothing takes it for, and equal signals have no direction
    normal = GaussianMixturePrior(torch.zeros(1, 3), 0.7)
    error = float(normal.error(sigma))
    variance = separating_variance(normal, likelihood, x, sigma, error)
    assert variance == pytest.approx(error, rel=1e-4)
    assert separating_variance(prior, likelihood, x[:1], sigma, 0.3) == 0.3
    # batches compare their own signals, two at least
    error, four = float(prior.error(sigma)), torch.cat([x, x])
    for prior.max_batch in (1, 2):
        assert separating_variance(prior, likelihood, four, sigma, error) == pytest.approx(
            error + (1 / slope - 1) * (1 + likelihood.curvature * error) / likelihood.curvature,
            rel=1e-4,
        )


def test_softened_likelihoods_follow_the_path():
    for operator, y, options in (CASES["logistic"], CASES["flips"], CASES["general"]):
        target = Target.from_model(one_bit_model(plane_prior(), operator, **options), y)
        path, x = path_of(target), torch.randn(5, 2)
        softened = SmoothedLikelihood(target, 2.0).softened(0.7)
        assert softened.curvature == SmoothedLikelihood(target, 0.7).curvature
        torch.testing.assert_close(
            softened(x, 0.0), path.log_likelihood(path.features(x), 0.7), atol=1e-5, rtol=1e-5
        )

    def model(y=None):
        x = pyro.sample("x", plane_prior())
        return pyro.sample("y", pyro.distributions.Normal(x.sum(), 0.5), obs=y)

    target = Target.from_model(model, torch.tensor(1.0))
    plain = SmoothedLikelihood(target)
    softened = plain.softened(3.0)
    assert softened.curvature == pytest.approx(plain.curvature / 4)
    torch.testing.assert_close(softened(x, 0.0), target.log_likelihood(x) / 4)
    # h v is added to the path's own 1 + u
    torch.testing.assert_close(
        softened(x, 0.2), target.log_likelihood(x) / (4 + 0.2 * plain.curvature)
    )


def test_twisted_smc_is_exact_for_one_normal_component():
    """Where the prior is normal the chain is the prior, whatever its steps."""
    prior = GaussianMixturePrior(torch.zeros(1, 2), 0.7)
    operator, y, options = CASES["probit"]
    model = one_bit_model(prior, operator, **options)
    target = Target.from_model(model, y)
    exact = float(ExactPosterior.from_target(target).log_evidence)
    pyro.set_rng_seed(6)
    algorithm = TwistedSMC(model, 64, num_levels=8, num_sweeps=0, progress=False)
    estimates = [algorithm.draw(target).log_evidence for _ in range(200)]
    ratios = (torch.tensor(estimates, dtype=torch.float64) - exact).exp()
    error = ratios.std() / math.sqrt(len(ratios))
    assert error < 0.02
    assert abs(ratios.mean() - 1) < 4 * error


def test_guidance_is_exact_for_one_normal_component_and_one_measurement():
    """The guided mean is that of the posterior; only the white variance is not."""
    prior = GaussianMixturePrior(torch.zeros(1, 2), 0.7)
    model = one_bit_model(prior, Hadamard((2,), m=1, seed=1), scale=0.5)
    y = Y[:1]
    grid = GridPosterior(Target.from_model(model, y))
    pyro.set_rng_seed(8)
    posterior = MomentMatched(model, 4000, num_levels=60, num_sweeps=0, progress=False).run(y)
    assert (posterior.mean - grid.mean).abs().max() < 0.06
    swept = MomentMatched(
        model, 4000, num_levels=60, num_sweeps=10, prior_step=SampleGiven(), progress=False
    ).run(y)
    assert (moments(swept) - grid_moments(grid)).abs().max() < 0.05


def test_denoiser_calls_and_batches_are_counted_and_bounded():
    means = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    prior = GaussianMixturePrior(means, 0.3, max_batch=5)
    largest = []
    prior.denoiser.register_forward_hook(lambda module, arguments, output: largest.append(
        len(arguments[0])
    ))  # fmt: skip
    model = one_bit_model(prior, Hadamard((16,), m=4, seed=2), scale=0.5)
    y = torch.ones(4)
    posterior = MomentMatched(model, 12, num_levels=10, num_sweeps=0, progress=False).run(y)
    assert posterior.nfe == 20
    posterior = TwistedSMC(
        model, 12, num_levels=10, num_sweeps=2, prior_step=ReverseDiffusion(2), progress=False
    ).run(y)
    assert 20 < posterior.nfe <= 24
    SplitGibbsSMC(model, 12, progress=False).run(y)
    LookaheadSMC(model, 12, progress=False).run(y)
    assert max(largest) == 5


def test_a_diverging_prior_is_named_with_its_level():
    class Broken(torch.nn.Module):
        def forward(self, x, sigma):
            return x * float("nan")

    prior = DiffusionPrior(Broken(), (4,), 0.01, 10.0, error=lambda sigma: torch.as_tensor(0.1))
    model = one_bit_model(prior, Hadamard((4,), m=2, seed=0), scale=0.5)
    for algorithm in (SplitGibbsSMC, LookaheadSMC, TwistedSMC, MomentMatched):
        with pytest.raises(FloatingPointError, match=r"diverged at (u|rho|sigma) = "):
            algorithm(model, 4, progress=False).run(torch.ones(2))


def test_guidance_needs_an_error_table():
    prior = DiffusionPrior(plane_prior().denoiser, (2,), 0.01, 10.0)
    model = one_bit_model(prior, Hadamard((2,), m=2, seed=1), scale=0.5)
    for algorithm in (LookaheadSMC, TwistedSMC, MomentMatched):
        with pytest.raises(InputError, match="error"):
            algorithm(model, 4, progress=False).run(Y)
    # the other sampler does without: its levels are geometric then
    assert SplitGibbsSMC(model, 8, progress=False).run(Y).log_evidence is not None


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (SplitGibbsSMC, {"explore": -1.0}),
        (SplitGibbsSMC, {"efficiency": 1.0}),
        (SplitGibbsSMC, {"num_sweeps": 0}),
        (TwistedSMC, {"num_levels": 0}),
        (TwistedSMC, {"sigma_max": 0.0}),
        (TwistedSMC, {"threshold": 1.5}),
        (TwistedSMC, {"num_sweeps": -1}),
        (TwistedSMC, {"explore": 0.5}),
        (TwistedSMC, {"guidance": 1.5}),
        (TwistedSMC, {"inflation": 0.0}),
        (LookaheadSMC, {"num_sweeps": 0}),
        (LookaheadSMC, {"efficiency": 0.0}),
        (LookaheadSMC, {"lookahead": 0.5}),
        (LookaheadSMC, {"carry": 0.5}),
        (LookaheadSMC, {"num_levels": 0}),
        (LookaheadSMC, {"order": 3}),
        (LookaheadSMC, {"spacing": "karras"}),
        (LookaheadSMC, {"tilt": -0.1}),
        (LookaheadSMC, {"tilt": math.nan}),
        (LookaheadSMC, {"softening": 0.0}),
        (LookaheadSMC, {"trust": 0.0}),
        (LookaheadSMC, {"trust": 1.5}),
        (MomentMatched, {"num_levels": 0}),
        (MomentMatched, {"sigma_max": -1.0}),
        (MomentMatched, {"num_sweeps": -1}),
    ],
)
def test_settings_out_of_range_are_refused(algorithm, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        algorithm(lambda: None, 4, **settings)
