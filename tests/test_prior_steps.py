"""Prior steps draw the clean signal given a noisy one, and start at the prior."""

import pytest
import torch

from bayes1bit.diffusion import (
    Ancestral,
    DiffusionPrior,
    GaussianMixturePrior,
    Heun,
    count_evaluations,
    geometric_levels,
)
from bayes1bit.errors import InputError
from bayes1bit.infer import PosteriorMean, ReverseDiffusion, SampleGiven

DOUBLE = {"dtype": torch.float64}
NORMAL = GaussianMixturePrior(torch.tensor([[1.0, -0.5]], **DOUBLE), 0.7)
MIXTURE = GaussianMixturePrior(
    torch.tensor([[1.5, 0.0], [-1.0, 1.0]], **DOUBLE), 0.4, torch.tensor([0.7, 0.3])
)
BARE = DiffusionPrior(NORMAL.denoiser, (2,), NORMAL.sigma_min, NORMAL.sigma_max)


def assert_normal(draws, mean, variance):
    """Moments of independent normal draws, each within five standard errors."""
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / len(draws)) ** 0.5).all()
    products = (draws - mean).T @ (draws - mean) / len(draws)
    expected = variance * torch.eye(draws.shape[1], **DOUBLE)
    assert ((products - expected).abs() < 5 * variance * (2 / len(draws)) ** 0.5).all()


def conditional(prior, z, sigma):
    """Mean and variance of a normal prior's clean signal given the noisy one."""
    share = prior.scale**2 / (prior.scale**2 + sigma**2)
    return prior.means[0] + share * (z - prior.means[0]), share * sigma**2


@pytest.mark.parametrize("step", [ReverseDiffusion(), ReverseDiffusion(2), SampleGiven()], ids=str)
@pytest.mark.parametrize("sigma", [0.005, 0.3, 2.0])
def test_draws_of_a_normal_prior_have_the_right_law(step, sigma):
    """Any number of steps is exact, because each step adds what the denoiser does not know."""
    torch.manual_seed(0)
    z = torch.tensor([2.0, 1.0], **DOUBLE)
    draws = step(NORMAL, z.expand(20_000, 2), sigma)
    assert_normal(draws, *conditional(NORMAL, z, sigma))


def test_another_solver_is_used_where_one_is_given():
    """A walk that takes the denoiser's answer for the truth loses spread."""
    torch.manual_seed(1)
    z = torch.tensor([2.0, 1.0], **DOUBLE)
    _, variance = conditional(NORMAL, z, 2.0)
    draws = ReverseDiffusion(4, Ancestral())(NORMAL, z.expand(20_000, 2), 2.0)
    assert (draws.var(0) < 0.8 * variance).all()
    same = ReverseDiffusion(4, Heun())(NORMAL, z.expand(3, 2), 2.0)
    assert torch.equal(same[0], same[1])


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_reverse_diffusion_chooses_components_by_their_probability(sigma):
    """At a z between the components; the tolerance is that of 64 steps beside the exact draw."""
    torch.manual_seed(2)
    z = torch.tensor([[0.3, 0.5]], **DOUBLE)
    expected = MIXTURE.component_log_probs(z, sigma).exp()[0]
    assert 0.1 < expected[0] < 0.9
    for step, bias in ((SampleGiven(), 0.0), (ReverseDiffusion(64), 0.02)):
        draws = step(MIXTURE, z.expand(20_000, 2), sigma)
        share = (torch.cdist(draws, MIXTURE.means).argmin(1) == 0).double().mean()
        # some draws of a component are nearer to the other mean: told by the exact law itself
        component = (torch.rand(200_000, **DOUBLE) < expected[0]).long()
        weight = sigma**2 / (sigma**2 + MIXTURE.scale**2)
        centre = torch.lerp(z, MIXTURE.means[1 - component], weight)
        exact = centre + weight**0.5 * MIXTURE.scale * torch.randn_like(centre)
        target = (torch.cdist(exact, MIXTURE.means).argmin(1) == 0).double().mean()
        assert abs(share - target) < bias + 5 * (0.25 / 20_000 + 0.25 / 200_000) ** 0.5


@pytest.mark.parametrize("prior", [MIXTURE, BARE], ids=["mixture", "no table"])
def test_walks_get_shorter_as_sigma_falls(prior):
    step = ReverseDiffusion(12)
    whole = step.levels(prior, prior.sigma_max)
    assert len(whole) - 1 == 12
    sigmas = geometric_levels(prior.sigma_max, prior.sigma_min, 30).tolist()
    walks = [step.levels(prior, sigma) for sigma in sigmas]
    lengths = [len(walk) - 1 for walk in walks]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 1
    assert len(set(lengths)) > 8
    for sigma, walk in zip(sigmas, walks, strict=True):
        assert walk[0] == pytest.approx(sigma)
        assert walk[-1] == 0
        assert (walk.diff() < 0).all()
        assert walk[-2] == pytest.approx(prior.sigma_min) or len(walk) == 2
    # a walk that starts at a level of the whole one takes what is left of its steps
    enough = step.one_step_below(prior)
    for i, sigma in enumerate(whole[:-1].tolist()):
        assert len(step.levels(prior, sigma)) - 1 == (12 - i if sigma > enough else 1)


def test_one_step_suffices_where_the_prior_acts_as_a_normal():
    """A normal prior does at every level, but no prior for a solver that loses its spread."""
    sigma_max = NORMAL.sigma_max
    assert ReverseDiffusion(12).levels(NORMAL, sigma_max).tolist() == [sigma_max, 0]
    assert ReverseDiffusion(12, Heun()).num_calls(NORMAL, sigma_max) == 12
    step = ReverseDiffusion(12)
    enough = step.one_step_below(MIXTURE)
    assert MIXTURE.sigma_min < enough < MIXTURE.scale
    assert step.num_calls(MIXTURE, enough) == 1 < step.num_calls(MIXTURE, 1.01 * enough)
    z = MIXTURE.means[:1].expand(20_000, 2) + 0.1
    weight = enough**2 / (enough**2 + MIXTURE.scale**2)
    mean = torch.lerp(z[0], MIXTURE.means[0], weight)
    assert_normal(step(MIXTURE, z, enough), mean, float(weight * MIXTURE.scale**2))


def test_levels_below_and_above_the_range_of_the_prior():
    step = ReverseDiffusion(6)
    assert step.levels(MIXTURE, MIXTURE.sigma_min / 3).tolist() == [MIXTURE.sigma_min / 3, 0]
    above = step.levels(MIXTURE, 2 * MIXTURE.sigma_max)
    assert above[0] == 2 * MIXTURE.sigma_max
    assert len(above) - 1 == 6


def test_levels_lie_where_the_components_are_told_apart():
    """Geometric ones spread 10 of the 20 steps over each half of the logarithmic range."""
    levels = ReverseDiffusion(20).levels(MIXTURE, MIXTURE.sigma_max)[:-1]
    distance = float((MIXTURE.means[0] - MIXTURE.means[1]).norm())
    # a noise between a quarter of their distance and twice it
    inside = ((levels > distance / 4) & (levels < 2 * distance)).sum()
    bare = ReverseDiffusion(20).levels(
        DiffusionPrior(MIXTURE.denoiser, (2,), MIXTURE.sigma_min, MIXTURE.sigma_max),
        MIXTURE.sigma_max,
    )[:-1]
    torch.testing.assert_close(bare, geometric_levels(MIXTURE.sigma_max, MIXTURE.sigma_min, 20))
    assert inside > 1.5 * ((bare > distance / 4) & (bare < 2 * distance)).sum()


@pytest.mark.parametrize("step", [ReverseDiffusion(), ReverseDiffusion(5), SampleGiven()], ids=str)
def test_the_start_is_a_draw_of_the_prior(step):
    torch.manual_seed(3)
    draws = step.start(NORMAL, 20_000)
    assert draws.dtype == torch.float64
    # pure noise at the largest level hides the prior's mean but for a part in thousands
    assert_normal(draws, NORMAL.means[0], NORMAL.scale**2)


def test_the_start_of_a_mixture_has_its_components():
    torch.manual_seed(4)
    for step, bias in ((SampleGiven(), 0.0), (ReverseDiffusion(64), 0.02)):
        draws = step.start(MIXTURE, 20_000)
        share = MIXTURE.component_log_probs(draws).exp().mean(0)[0]
        assert abs(share - 0.7) < bias + 5 * (0.21 / 20_000) ** 0.5


def test_one_call_takes_as_many_denoiser_calls_as_it_has_steps():
    z = torch.zeros(3, 2, **DOUBLE)
    walk = ReverseDiffusion(9)
    assert 1 < walk.num_calls(MIXTURE, 1.0) == len(walk.levels(MIXTURE, 1.0)) - 1 < 9
    assert walk.num_calls(MIXTURE, MIXTURE.sigma_max) == 9
    for step in (walk, PosteriorMean()):
        with count_evaluations(MIXTURE) as evaluations:
            step(MIXTURE, z, 1.0)
        assert evaluations.signals == 3 * step.num_calls(MIXTURE, 1.0)
    with count_evaluations(MIXTURE) as evaluations:
        walk.start(MIXTURE, 3)
    assert evaluations.signals == 3 * 9


def test_posterior_mean_is_tweedies_formula():
    z = torch.tensor([[2.0, 1.0], [0.0, 0.0]], **DOUBLE)
    mean, _ = conditional(NORMAL, z, 0.8)
    torch.testing.assert_close(PosteriorMean()(NORMAL, z, 0.8), mean)


def test_the_start_is_noise_of_the_largest_level_before_the_step():
    """Which the denoiser's answer, linear for a normal prior, shows."""
    torch.manual_seed(5)
    start = PosteriorMean().start(NORMAL, 20_000)
    share = NORMAL.scale**2 / (NORMAL.scale**2 + NORMAL.sigma_max**2)
    assert_normal(start, (1 - share) * NORMAL.means[0], (share * NORMAL.sigma_max) ** 2)


@pytest.mark.parametrize("num_steps", [1, 0, -2])
def test_a_walk_of_fewer_than_two_steps_is_refused(num_steps):
    with pytest.raises(InputError, match="at least 2 steps"):
        ReverseDiffusion(num_steps)


def test_names_tell_the_settings():
    assert repr(ReverseDiffusion(8, Heun())) == "ReverseDiffusion(num_steps=8, solver=Heun())"
    assert repr(SampleGiven()) == "SampleGiven()"
    assert repr(PosteriorMean()) == "PosteriorMean()"
