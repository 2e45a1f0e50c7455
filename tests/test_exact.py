"""References: exact posteriors against a grid, brute force and each other."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bayes1bit.bench.exact import ExactPosterior, GridPosterior
from bayes1bit.bench.exact_general import GibbsReference
from bayes1bit.bench.exact_problems import (
    STREAMS,
    picture_prior,
    picture_problem,
    plane_problem,
    read_means,
    small_problem,
    stream_seed,
)
from bayes1bit.bench.exact_scores import component_frequencies, sliced_distance
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer.target import Target
from bayes1bit.models import one_bit_cs, super_resolution
from bayes1bit.operators import Gaussian, Hadamard

LINKS = {
    "probit": {},
    "logistic": {"link": "logistic", "dither": True},
    "flips": {"flip": 0.1, "dither": True},
    "logistic flips": {"link": "logistic", "flip": 0.2},
}
LIMITS = (-4.0, 4.0)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def target_of(problem):
    return Target.from_model(problem.model, problem.y)


def brute_force(target, num_draws):
    """Log p(y) by averaging the likelihood over prior draws, and its standard error."""
    likelihood = target.log_likelihood(target.prior.sample((num_draws,))).double().exp()
    mean = likelihood.mean()
    return mean.log().item(), (likelihood.std() / mean / num_draws**0.5).item()


@pytest.mark.parametrize("settings", LINKS.values(), ids=LINKS)
def test_exact_posterior_agrees_with_a_grid(settings):
    target = target_of(plane_problem(1, **settings))
    exact, grid = ExactPosterior.from_target(target), GridPosterior(target, LIMITS, 200)
    # the grid's rounding in single precision
    assert exact.log_evidence == pytest.approx(grid.log_evidence, abs=1e-5)
    torch.testing.assert_close(exact.mean, grid.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(exact.std, grid.std, atol=1e-5, rtol=0)
    probs = grid.expectation(lambda x: target.prior.component_log_probs(x).exp())
    torch.testing.assert_close(exact.component_probs.float(), probs, atol=1e-5, rtol=0)
    draws = [exact.sample(20_000), grid.sample(20_000), grid.sample(20_000)]
    # two sets of exact draws differ by as much; a wrong covariance shows at once
    distance, floor = (
        sliced_distance(*pair, num_directions=20) for pair in (draws[:2], draws[1:])
    )
    assert distance < 2 * floor


def test_default_limits_of_the_grid_hold_the_posterior():
    target = target_of(plane_problem(1))
    assert GridPosterior(target).log_evidence == pytest.approx(
        GridPosterior(target, LIMITS, 200).log_evidence, abs=1e-4
    )


@pytest.mark.parametrize("operator", ["hadamard", "gaussian"])
def test_evidence_agrees_with_brute_force(operator):
    # so few and noisy bits that the average over prior draws converges
    problem = small_problem(3, ratio=8, noise=1.0, operator=operator, dither=True)
    value, error = brute_force(target_of(problem), 40_000)
    assert error < 0.02
    assert problem.reference().log_evidence == pytest.approx(value, abs=4 * error)


@pytest.mark.parametrize("link", ["probit", "logistic"])
def test_moments_are_those_of_the_draws(link):
    problem = small_problem(2, link=link, dither=True)
    exact, num = ExactPosterior.from_target(target_of(problem)), 20_000
    draws = exact.sample(num)
    assert draws.shape == (num, 1, 8, 8)
    assert draws.dtype == torch.float32
    # 64 pixels: five standard errors
    assert ((draws.mean(0) - exact.mean) / exact.std).abs().max() < 5 / num**0.5
    assert (draws.std(0) / exact.std - 1).abs().max() < 5 / (2 * num) ** 0.5
    frequencies = component_frequencies(problem.prior, draws)
    assert (frequencies - exact.component_probs).abs().max() < 5 * 0.5 / num**0.5


def test_truths_are_spread_about_the_posterior_as_it_says():
    squares = []
    for seed in range(20):
        problem = small_problem(seed, ratio=1, noise=0.05, dither=True)
        exact = problem.reference()
        squares.append(((problem.truth - exact.mean) / exact.std).square().mean())
        assert (exact.std < 1.05 * problem.prior.scale).all()
    # 20 truths of 64 nearly independent pixels: five standard errors
    assert torch.stack(squares).mean() == pytest.approx(1, abs=5 * (2 / 1280) ** 0.5)


@pytest.mark.parametrize("settings", LINKS.values(), ids=LINKS)
def test_gibbs_reference_agrees_with_a_grid_for_any_operator(settings):
    # more bits than pixels: the covariance of the outputs is singular
    target = target_of(plane_problem(2, operator="gaussian", ratio=1 / 6, **settings))
    gibbs, grid = GibbsReference.from_target(target), GridPosterior(target, LIMITS, 200)
    assert gibbs.log_evidence_error < 0.01
    error = abs(gibbs.log_evidence - grid.log_evidence)
    assert error < max(5 * gibbs.log_evidence_error, 1e-5)
    probs = grid.expectation(lambda x: target.prior.component_log_probs(x).exp())
    torch.testing.assert_close(gibbs.component_probs.float(), probs, atol=0.01, rtol=0)
    # five standard errors of 2,048 draws
    assert ((gibbs.mean - grid.mean) / grid.std).abs().max() < 5 / 2048**0.5
    assert (gibbs.std / grid.std - 1).abs().max() < 5 / 4096**0.5


def test_references_agree_where_rows_are_orthogonal():
    target = target_of(small_problem(2, dither=True))
    exact, gibbs = ExactPosterior.from_target(target), GibbsReference.from_target(target)
    assert gibbs.log_evidence == pytest.approx(exact.log_evidence, abs=1e-4)
    torch.testing.assert_close(gibbs.component_probs, exact.component_probs, atol=1e-4, rtol=0)
    assert ((gibbs.mean - exact.mean) / exact.std).abs().max() < 5 / 2048**0.5
    assert (gibbs.std / exact.std - 1).abs().max() < 5 / 4096**0.5


def test_sweeps_correct_what_the_proposal_gets_wrong(monkeypatch):
    target = target_of(plane_problem(2, operator="gaussian", ratio=1 / 6))
    grid = GridPosterior(target, LIMITS, 200)
    gibbs = GibbsReference.from_target(target)

    def displaced(proposal, root, rows, first, second):
        return 3 + first @ root

    monkeypatch.setattr("bayes1bit.bench.exact_general._draw_deviations", displaced)
    draws = gibbs.sample(4096)
    assert ((draws.mean(0) - grid.mean) / grid.std).abs().max() < 0.1
    gibbs.num_sweeps = 1
    assert ((gibbs.sample(4096).mean(0) - grid.mean) / grid.std).abs().max() > 0.3


def test_components_out_of_the_window_are_left_out():
    means = torch.zeros(3, 4)
    means[1], means[2] = 1.0, 40.0
    prior = GaussianMixturePrior(means, 0.3)
    operator = Gaussian((4,), 8, seed=1)
    target = Target.from_model(one_bit_cs(prior, operator, 0.1), operator(means[1]).sign())
    gibbs = GibbsReference.from_target(target)
    assert gibbs.component_probs.sum() == pytest.approx(1)
    kept = gibbs.component_log_evidence.isfinite()
    assert kept[1]
    assert (gibbs.component_probs[~kept] == 0).all()


def test_exact_posterior_refuses_what_it_does_not_cover():
    problem = small_problem(0, operator="gaussian")
    with pytest.raises(InputError, match="not orthogonal"):
        ExactPosterior.from_target(target_of(problem))
    prior = GaussianMixturePrior(torch.zeros(2, 1, 8, 8), 0.3)
    blurred = Target.from_model(super_resolution(prior, 2, 0.1), torch.zeros(16))
    with pytest.raises(InputError, match="one site of one-bit measurements"):
        ExactPosterior.from_target(blurred)
    form = target_of(small_problem(0)).structure.one_bit
    with pytest.raises(InputError, match="needs a GaussianMixturePrior"):
        ExactPosterior("prior", Hadamard((1, 8, 8), 32), form)
    with pytest.raises(InputError, match="measures 16 numbers"):
        ExactPosterior(prior, Hadamard((16,), 8), form)
    with pytest.raises(InputError, match="makes 16 measurements"):
        GibbsReference(prior, Hadamard((1, 8, 8), 16), form)


def test_grid_refuses_other_sizes_and_limits():
    with pytest.raises(InputError, match="two elements"):
        GridPosterior(target_of(small_problem(0)))
    with pytest.raises(InputError, match="low < high"):
        GridPosterior(target_of(plane_problem(0)), (1.0, 1.0))


def test_problems_are_the_same_for_a_seed_and_disturb_no_one():
    torch.manual_seed(7)
    first = small_problem(5, dither=True, flip=0.05)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), after)
    second, other = small_problem(5, dither=True, flip=0.05), small_problem(6, dither=True)
    assert first.name == "8x8, n/m = 2, probit 0.5, hadamard, dithered, flips 0.05"
    assert torch.equal(first.y, second.y)
    assert torch.equal(first.truth, second.truth)
    assert not torch.equal(first.truth, other.truth)
    assert first.reference().log_evidence == second.reference().log_evidence
    assert len({stream_seed(5, purpose) for purpose in STREAMS}) == len(STREAMS)


def test_problems_refuse_unknown_operators():
    with pytest.raises(InputError, match="one of hadamard, gaussian, got 'fourier'"):
        small_problem(0, operator="fourier")


def test_reference_follows_the_operator():
    assert isinstance(plane_problem(0).reference(), ExactPosterior)
    assert isinstance(plane_problem(0, operator="gaussian").reference(), GibbsReference)


def test_picture_problem_finds_the_component_of_the_truth():
    means = torch.randn(300, 1, 16, 16).sign()
    problem = picture_problem(picture_prior(means), 1, ratio=4)
    assert problem.name.startswith("300 pictures 1x16x16, n/m = 4")
    probs = problem.reference().component_probs
    nearest = (means - problem.truth).flatten(1).norm(dim=1).argmin()
    assert probs[nearest] > 0.99


def test_means_are_read_from_archives(tmp_path):
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "grey.npz", train=grey)
    means = read_means(tmp_path / "grey.npz", 5)
    assert means.shape == (5, 1, 4, 4)
    torch.testing.assert_close(means[3, 0], torch.from_numpy(grey[3] / 127.5 - 1).float())
    with pytest.raises(InputError, match="fewer than the 7"):
        read_means(tmp_path / "grey.npz", 7)


def test_means_are_read_from_encoded_colour_pictures(tmp_path):
    files = []
    for level in (0, 255, 51):
        file = io.BytesIO()
        picture = np.full((64, 64, 3), level, np.uint8)
        picture[..., 1:] = 255 - level
        Image.fromarray(picture).save(file, "png")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    path = tmp_path / "colour.npz"
    np.savez(path, train=np.concatenate(files), train_offsets=offsets)
    means = read_means(path, 3)
    assert means.shape == (3, 3, 32, 32)
    expected = torch.tensor([[-1, 1, 1], [1, -1, -1], [-0.6, 0.6, 0.6]])
    torch.testing.assert_close(means.mean((2, 3)), expected)
    assert len(read_means(path, 2)) == 2
    with pytest.raises(InputError, match="fewer than the 4"):
        read_means(path, 4)
    np.savez(path, train=np.concatenate(files)[5:], train_offsets=offsets)
    with pytest.raises(InputError, match="cannot read signals"):
        read_means(path, 3)
