"""The closed forms of the mixture prior against quadrature, autograd and independent draws."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from pyro.distributions.testing.gof import auto_goodness_of_fit

from bayes1bit.diffusion import Ancestral, GaussianMixturePrior
from bayes1bit.errors import InputError

# p-values below this fail: with seeds fixed it never changes, and a bug gives far less
SMALLEST_P = 1e-3

WEIGHTS_1D = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS_1D = torch.tensor([[-2.0], [0.5], [1.5]], dtype=torch.float64)
MEANS_2D = torch.tensor([[-1.0, 0.5], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)


@pytest.fixture
def line():
    return GaussianMixturePrior(MEANS_1D, 0.4, WEIGHTS_1D)


@pytest.fixture
def plane():
    return GaussianMixturePrior(MEANS_2D, 0.3, WEIGHTS_1D)


def pictures(dtype=torch.float64, components=10, scale=0.25):
    generator = torch.Generator().manual_seed(11)
    means = torch.rand(components, 1, 8, 8, generator=generator, dtype=dtype) * 2 - 1
    return GaussianMixturePrior(means, scale, torch.arange(1, components + 1))


def reference(prior):
    """The same law made of torch's own distributions."""
    normal = torch.distributions.Normal(prior.means, prior.scale)
    return torch.distributions.MixtureSameFamily(
        # logits, because torch lifts probabilities off zero
        torch.distributions.Categorical(logits=prior.weights.log()),
        torch.distributions.Independent(normal, len(prior.event_shape)),
    )


def density_1d(x):
    return sum(
        w * scipy.stats.norm.pdf(x, mean, 0.4)
        for w, mean in zip(WEIGHTS_1D.tolist(), MEANS_1D[:, 0].tolist(), strict=True)
    )


def integral_1d(function, center, sigma):
    """Integral of a function over all x where prior and noise leave anything."""
    edges = [center - sigma, center, center + sigma, *MEANS_1D[:, 0].tolist()]
    points = [p for p in edges if -5 < p < 5]
    return scipy.integrate.quad(function, -6, 6, points=points, epsabs=0, epsrel=1e-11)[0]


def grid_2d(prior, half_width=6.0, count=301):
    """Points, and log prior density up to the cell's area, of a grid over the plane.

    The trapezoidal rule converges faster than any power for normals; the spacing of 0.04
    is a quarter of the smallest standard deviation here, and the error is that of rounding.
    """
    axis = torch.linspace(-half_width, half_width, count, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    return points, reference(prior).log_prob(points) + 2 * math.log(axis[1] - axis[0])


def posterior_2d(prior, noisy, sigma):
    points, log_prior = grid_2d(prior)
    log_noise = -(points - noisy).square().sum(1) / (2 * sigma**2)
    return points, (log_prior + log_noise).softmax(0)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("noisy", [-3.0, -0.7, 1.1, 2.5])
def test_denoise_is_the_posterior_mean_in_one_dimension(line, noisy, sigma):
    def joint(x):
        return density_1d(x) * math.exp(-((x - noisy) ** 2) / (2 * sigma**2))

    mean = integral_1d(lambda x: x * joint(x), noisy, sigma) / integral_1d(joint, noisy, sigma)
    answer = line.denoise(torch.tensor([noisy], dtype=torch.float64), sigma)
    assert answer.item() == pytest.approx(mean, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
def test_denoise_is_the_posterior_mean_in_two_dimensions(plane, sigma):
    noisy = torch.tensor([0.4, -0.3], dtype=torch.float64)
    points, posterior = posterior_2d(plane, noisy, sigma)
    torch.testing.assert_close(plane.denoise(noisy, sigma), posterior @ points, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 7.0])
def test_score_is_the_gradient_of_the_smoothed_log_density(plane, sigma):
    smoothed = GaussianMixturePrior(MEANS_2D, math.hypot(0.3, sigma), WEIGHTS_1D)
    x = (2 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0))).double()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(reference(smoothed).log_prob(x).sum(), x)
    torch.testing.assert_close(plane.score(x, sigma), gradient, rtol=1e-9, atol=1e-9)


def test_score_takes_a_level_per_signal():
    prior = pictures()
    x = torch.randn(2, 3, 1, 8, 8, dtype=torch.float64)
    levels = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)
    score = prior.score(x, levels)
    for i, level in enumerate(levels.tolist()):
        torch.testing.assert_close(score[:, i], prior.score(x[:, i], level))


@pytest.mark.parametrize(
    "weights", [None, torch.tensor([2.0, 5.0, 3.0]), torch.tensor([0.0, 1, 3])]
)
def test_log_prob_agrees_with_torch(weights):
    prior = GaussianMixturePrior(MEANS_2D, 0.3, weights)
    x = (2 * torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))).double()
    torch.testing.assert_close(prior.log_prob(x), reference(prior).log_prob(x))
    assert prior.log_prob(x[0, 0]).shape == ()
    assert prior.expand([5]).log_prob(x).shape == (4, 5)
    # one signal under a batch of priors is scored once for each
    assert prior.expand([5]).log_prob(x[0, 0]).shape == (5,)
    assert prior.log_prob(x, num_steps=3).shape == (4, 5)


def test_log_prob_of_pictures_agrees_with_torch_and_is_differentiable():
    prior = pictures()
    torch.manual_seed(0)
    x = prior.sample((6,)).requires_grad_()
    torch.testing.assert_close(prior.log_prob(x), reference(prior).log_prob(x))
    ours, theirs = (
        torch.autograd.grad(p.log_prob(x).sum(), x)[0] for p in (prior, reference(prior))
    )
    torch.testing.assert_close(ours, theirs)


def test_density_integrates_to_one(plane):
    points, _ = grid_2d(plane)
    area = (12 / 300) ** 2
    assert plane.log_prob(points).exp().sum().item() * area == pytest.approx(1, abs=1e-10)


def test_weights_are_normalised_and_equal_by_default():
    weights = GaussianMixturePrior(MEANS_2D, 0.3, torch.tensor([2, 5, 3])).weights
    torch.testing.assert_close(weights, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    torch.testing.assert_close(
        GaussianMixturePrior(MEANS_2D, 0.3).weights, torch.full((3,), 1 / 3, dtype=torch.float64)
    )


def test_a_component_of_weight_zero_is_never_seen():
    prior = GaussianMixturePrior(MEANS_2D, 0.1, torch.tensor([0.0, 1, 1]))
    torch.manual_seed(0)
    x = prior.sample((500,)).requires_grad_()
    assert torch.cdist(x, MEANS_2D).argmin(1).min() == 1
    (gradient,) = torch.autograd.grad(prior.log_prob(x).sum(), x)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(prior.denoise(x, 1.0)).all()
    assert torch.isfinite(prior.sample_given(x.detach(), 1.0)).all()
    assert torch.isfinite(prior.error(torch.tensor([0.1, 1.0, 10.0]))).all()


@pytest.mark.parametrize("sigma", [0.0, 0.8])
def test_component_log_probs_are_those_of_bayes(plane, sigma):
    x = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(MEANS_2D, math.hypot(0.3, sigma))
    joint = WEIGHTS_1D.log() + normal.log_prob(x.unsqueeze(-2)).sum(-1)
    answer = plane.component_log_probs(x, sigma)
    torch.testing.assert_close(answer, joint - joint.logsumexp(-1, keepdim=True))
    assert plane.component_log_probs(x[0, 0], sigma).shape == (3,)


def test_samples_follow_the_density_in_the_plane(plane):
    torch.manual_seed(1)
    samples = plane.sample((4000,))
    assert samples.dtype == torch.float64
    assert auto_goodness_of_fit(samples, plane.log_prob(samples).exp()) > SMALLEST_P


def test_samples_of_pictures_have_the_right_components_and_spread():
    prior = pictures()
    torch.manual_seed(2)
    samples = prior.sample((2000,))
    assert samples.shape == (2000, 1, 8, 8)
    component = torch.cdist(samples.flatten(1), prior.means.flatten(1)).argmin(1)
    counts = torch.bincount(component, minlength=10).numpy()
    expected = 2000 * (prior.weights / prior.weights.sum()).numpy()
    assert scipy.stats.chisquare(counts, expected).pvalue > SMALLEST_P
    rest = (samples - prior.means[component]).flatten() / prior.scale
    assert scipy.stats.kstest(rest.numpy(), "norm").pvalue > SMALLEST_P


def test_sample_shapes():
    prior = pictures(torch.float32)
    assert prior.sample().shape == (1, 8, 8)
    assert prior.expand([3]).sample((2, 4)).shape == (2, 4, 3, 1, 8, 8)
    assert prior.sample((2,)).dtype == torch.float32


@pytest.mark.parametrize("sigma", [0.3, 1.2])
def test_sample_given_follows_the_posterior_in_one_dimension(line, sigma):
    torch.manual_seed(3)
    noisy = 1.0
    draws = line.sample_given(torch.full((4000, 1), noisy, dtype=torch.float64), sigma)
    grid = np.linspace(-6, 6, 4001)
    joint = density_1d(grid) * np.exp(-((grid - noisy) ** 2) / (2 * sigma**2))
    distribution = scipy.integrate.cumulative_simpson(joint, x=grid, initial=0)

    def cdf(x):
        return np.interp(x, grid, distribution / distribution[-1])

    assert scipy.stats.kstest(draws[:, 0].numpy(), cdf).pvalue > SMALLEST_P


def test_sample_given_has_the_moments_of_the_posterior_in_two_dimensions(plane):
    torch.manual_seed(4)
    noisy, sigma, count = torch.tensor([0.4, -0.3], dtype=torch.float64), 0.9, 40_000
    points, posterior = posterior_2d(plane, noisy, sigma)
    mean = posterior @ points
    centred = points - mean
    covariance = (centred * posterior[:, None]).T @ centred
    draws = plane.sample_given(noisy.expand(count, 2), sigma)
    # four standard deviations of a mean, and (normal tails or lighter) of a covariance
    spread = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() < 4 * spread / count**0.5).all()
    bound = 4 * 2**0.5 * torch.outer(spread, spread) / count**0.5
    assert ((draws.T.cov() - covariance).abs() < bound).all()


def test_sample_given_agrees_with_reverse_diffusion(line):
    """200 ancestral steps are the reverse SDE, within what 3,000 draws can tell."""
    torch.manual_seed(5)
    noisy, sigma = torch.full((3000, 1), 1.0, dtype=torch.float64), 1.2
    exact = line.sample_given(noisy, sigma)
    walked = line.sample_given(noisy, sigma, num_steps=200, solver=Ancestral())
    assert scipy.stats.ks_2samp(exact[:, 0], walked[:, 0]).pvalue > SMALLEST_P
    # too few ancestral steps lose variance, which the same test sees
    few = line.sample_given(noisy, sigma, num_steps=3, solver=Ancestral())
    assert scipy.stats.ks_2samp(exact[:, 0], few[:, 0]).pvalue < 1e-6


def test_sample_given_agrees_with_the_corrected_walk_for_pictures():
    prior = pictures()
    torch.manual_seed(6)
    clean, sigma = prior.sample((500,)), 0.8
    noisy = clean + sigma * torch.randn_like(clean)
    errors = [
        (draw - prior.denoise(noisy, sigma)).square().mean().item()
        for draw in (
            prior.sample_given(noisy, sigma),
            prior.sample_given(noisy, sigma, num_steps=10),
            clean,
        )
    ]
    # all three are draws from p(x | x_sigma): 32,000 squares have a standard deviation of 0.8%,
    # and correlations between the pixels double it; the walk of 10 steps is within 3% in variance
    assert errors[0] == pytest.approx(errors[2], rel=0.04)
    assert errors[1] == pytest.approx(errors[2], rel=0.06)


def test_sample_given_keeps_shapes_and_gives_independent_draws():
    prior = pictures(torch.float32)
    single = prior.sample_given(torch.zeros(1, 8, 8), 0.5)
    assert single.shape == (1, 8, 8)
    assert single.dtype == torch.float32
    many = prior.sample_given(torch.zeros(2, 3, 1, 8, 8), 0.5)
    assert many.shape == (2, 3, 1, 8, 8)
    assert len(many.flatten(0, 1).flatten(1).unique(dim=0)) == 6


@pytest.mark.parametrize("build", ["line", "plane", "pictures"])
def test_error_agrees_with_an_independent_estimate(build, request):
    prior = pictures() if build == "pictures" else request.getfixturevalue(build)
    torch.manual_seed(7)
    clean = prior.sample((20_000,))
    # off the grid of the prior's own table
    for sigma in (0.0123, 0.21, 0.77, 1.9, 6.1, 44.0):
        noisy = clean + sigma * torch.randn_like(clean)
        squares = (clean - prior.denoise(noisy, sigma)).square().flatten(1).mean(1)
        # the prior averages 512 draws of the posterior variance, which spreads less than the
        # squares; 1% is for interpolation
        bound = 4 * squares.std().item() * (1 / 512 + 1 / 20_000) ** 0.5
        assert prior.error(sigma).item() == pytest.approx(
            squares.mean().item(), abs=bound + 0.01 * squares.mean().item()
        )


def test_error_in_one_dimension_agrees_with_quadrature(line):
    grid = torch.linspace(-40, 40, 8_001, dtype=torch.float64)
    for sigma in (0.1, 0.6, 3.0):
        smoothed = GaussianMixturePrior(MEANS_1D, math.hypot(0.4, sigma), WEIGHTS_1D)
        p = reference(smoothed).log_prob(grid[:, None]).exp()
        # E Var(x | x_sigma) = E x^2 - E D^2
        second = (WEIGHTS_1D * (MEANS_1D[:, 0].square() + 0.4**2)).sum().item()
        denoised = line.denoise(grid[:, None], sigma)[:, 0]
        exact = second - torch.trapezoid(p * denoised.square(), grid).item()
        # 512 draws whose posterior variances differ by about their mean: 4.4%, three times
        assert line.error(sigma).item() == pytest.approx(exact, rel=0.13)


def test_error_has_the_right_limits():
    prior = pictures()
    variance = torch.cov(prior.means.flatten(1).T, correction=0, aweights=prior.weights).trace()
    total = prior.scale**2 + variance.item() / 64
    # 4 standard deviations of 512 draws of components: the table's own Monte Carlo error
    assert prior.error(1e6).item() == pytest.approx(total, rel=0.02)
    assert prior.error(1e-4).item() == pytest.approx(1e-8, rel=1e-3)
    assert prior.error(0.0).item() == 0


def test_error_of_one_component_is_exact():
    prior = GaussianMixturePrior(torch.ones(1, 3), 0.5)
    sigma = torch.tensor([[1e-6, 0.1], [3.0, 1e6]], dtype=torch.float64)
    torch.testing.assert_close(
        prior.error(sigma), sigma**2 * 0.25 / (sigma**2 + 0.25), rtol=1e-12, atol=0
    )


def test_error_leaves_the_global_generator_alone_and_is_computed_once():
    prior = pictures()
    state = torch.random.get_rng_state()
    first = prior.error(0.5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert prior.has_error
    assert torch.equal(prior.expand([4]).error(0.5), first)


def test_denoise_takes_a_level_per_signal():
    prior = pictures()
    x = torch.randn(3, 4, 1, 8, 8, dtype=torch.float64)
    levels = torch.tensor([[0.1], [1.0], [9.0]], dtype=torch.float64)
    answer = prior.denoise(x, levels)
    assert answer.shape == x.shape
    for i, level in enumerate(levels.flatten().tolist()):
        torch.testing.assert_close(answer[i], prior.denoise(x[i], level))
        torch.testing.assert_close(answer[i, 0], prior.denoise(x[i, 0], level))
    every = torch.rand(3, 4, dtype=torch.float64)
    torch.testing.assert_close(
        prior.denoise(x, every)[1, 2], prior.denoise(x[1, 2], every[1, 2].item())
    )


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_denoise_at_level_zero_or_single_signals(plane, sigma):
    x = torch.tensor([0.4, -0.3], dtype=torch.float64)
    assert plane.denoise(x, sigma).shape == (2,)
    assert torch.equal(plane.denoise(x, 0.0), x)


def test_single_precision_is_enough_for_pictures_off_the_centre():
    generator = torch.Generator().manual_seed(0)
    means = 50 + torch.rand(20, 1, 28, 28, generator=generator, dtype=torch.float64)
    double = GaussianMixturePrior(means, 0.25)
    single = GaussianMixturePrior(means.float(), 0.25)
    torch.manual_seed(8)
    clean = double.sample((50,))
    for sigma in (0.1, 1.0, 10.0):
        noisy = clean + sigma * torch.randn_like(clean)
        answer = single.denoise(noisy.float(), sigma)
        # values near 50 are known to 4e-6; log odds near a tie may move by 1e-3
        torch.testing.assert_close(
            answer.double(), double.denoise(noisy, sigma), rtol=0, atol=2e-3
        )


def test_functions_work_under_vmap():
    prior = GaussianMixturePrior(MEANS_2D, 0.3, WEIGHTS_1D, validate_args=False)
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(prior.log_prob)(x), prior.log_prob(x))
    torch.testing.assert_close(
        torch.vmap(lambda v: prior.denoise(v, 0.7))(x), prior.denoise(x, 0.7)
    )
    torch.testing.assert_close(torch.vmap(lambda v: prior.score(v, 0.7))(x), prior.score(x, 0.7))
    gradient = torch.vmap(torch.func.grad(prior.log_prob))(x)
    torch.testing.assert_close(gradient, prior.score(x, 1e-6), rtol=1e-3, atol=1e-3)


def test_default_levels_reach_from_below_the_components_to_above_their_distance(plane):
    assert plane.sigma_min == pytest.approx(0.003)
    assert plane.sigma_max == pytest.approx(10 * (2.5**0.5 + 0.3))
    prior = GaussianMixturePrior(MEANS_2D, 0.3, sigma_min=0.1, sigma_max=5)
    assert (prior.sigma_min, prior.sigma_max) == (0.1, 5.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"means": torch.zeros(3)}, "floating tensor of shape"),
        ({"means": torch.zeros(3, 2, dtype=torch.int64)}, "floating tensor of shape"),
        ({"means": torch.tensor([[0.0, math.nan]])}, "NaN"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"scale": -1.0}, "scale must be positive"),
        ({"scale": math.nan}, "scale must be positive"),
        ({"weights": torch.ones(2)}, "weights of shape"),
        ({"weights": torch.ones(3, 1)}, "weights of shape"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0])}, "non-negative"),
        ({"weights": torch.zeros(3)}, "not all zero"),
        ({"weights": torch.tensor([1.0, math.nan, 1.0])}, "non-negative"),
        ({"weights": torch.tensor([1.0, math.inf, 1.0])}, "finite"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_max": 0.0}, "0 < sigma_min < sigma_max"),
        ({"num_steps": 1}, "num_steps"),
    ],
)
def test_refuses_what_is_not_a_mixture(arguments, message):
    with pytest.raises(InputError, match=message):
        GaussianMixturePrior(**{"means": MEANS_2D, "scale": 0.3, **arguments})


def test_refuses_signals_of_another_shape(plane):
    for method in (
        plane.log_prob,
        plane.component_log_probs,
        lambda x: plane.denoise(x, 1.0),
        lambda x: plane.score(x, 1.0),
        lambda x: plane.sample_given(x, 1.0),
    ):
        with pytest.raises(InputError, match=r"trailing shape \(2,\)"):
            method(torch.zeros(4, 3, dtype=torch.float64))
        with pytest.raises(InputError, match=r"trailing shape \(2,\)"):
            method(torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_sample_given_refuses_a_level_that_is_not_positive(plane, sigma):
    with pytest.raises(InputError, match="positive noise level"):
        plane.sample_given(torch.zeros(2, dtype=torch.float64), sigma)
