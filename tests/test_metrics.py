"""Scores against hand-computed values, a written-out SSIM, and known Gaussians."""

import math

import pytest
import torch
import torch.nn.functional as F

from bayes1bit.diagnostics.metrics import bit_agreement, coverage, psnr, ssim
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def plain_ssim(x, y, span, radius, sigma):
    """SSIM of two single-channel pictures, from the paper's equation 13, reflected edges."""
    t = torch.arange(-radius, radius + 1, dtype=x.dtype)
    window = torch.exp(-(t**2) / (2 * sigma**2))
    window = (window / window.sum())[None, None, :, None]

    def average(z):
        z = F.pad(z[None, None], (radius,) * 4, mode="reflect")
        return F.conv2d(F.conv2d(z, window), window.mT)[0, 0]

    mean_x, mean_y = average(x), average(y)
    var_x, var_y = average(x * x) - mean_x**2, average(y * y) - mean_y**2
    covariance = average(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (index / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean()


def test_psnr_by_hand():
    truth = torch.zeros(2, 1, 2, 2)
    estimate = torch.stack([torch.full((1, 2, 2), 0.1), torch.tensor([[[0.0, 0.2], [0.0, 0.0]]])])
    # Mean squared errors 0.01 and 0.04 / 4, range 2: 10 log10(4 / 0.01).
    expected = torch.full((2,), 10 * math.log10(400))
    torch.testing.assert_close(psnr(estimate, truth, 2.0), expected)
    torch.testing.assert_close(psnr(estimate, truth, (-1.0, 1.0)), expected)
    torch.testing.assert_close(psnr(estimate, truth, (0, 1)), expected - 10 * math.log10(4))


def test_psnr_keeps_leading_dimensions_and_takes_one_truth_for_all():
    estimate, truth = pictures(4, 3, 1, 5, 6), pictures(1, 5, 6, seed=1)
    scores = psnr(estimate, truth, 1.0)
    assert scores.shape == (4, 3)
    torch.testing.assert_close(scores[2, 1], psnr(estimate[2, 1], truth, 1.0))
    torch.testing.assert_close(scores, psnr(estimate, truth.expand(4, 3, 1, 5, 6), 1.0))
    assert psnr(estimate[0, 0], truth, 1.0).shape == ()


def test_psnr_of_vectors_and_of_exact_estimates():
    truth = torch.tensor([1.0, 2.0, 3.0])
    scores = psnr(torch.stack([truth, truth + 1]), truth, 10.0, event_dim=1)
    assert scores.tolist() == [math.inf, pytest.approx(20.0)]


def test_psnr_clips_nothing():
    estimate = torch.full((1, 4, 4), 3.0)
    assert float(psnr(estimate, torch.ones(1, 4, 4), (-1, 1))) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("side", "radius", "sigma"), [(28, 5, 1.5), (11, 5, 1.5), (8, 3, 3 / 3.5), (3, 1, 1 / 3.5)]
)
def test_ssim_is_the_papers(side, radius, sigma):
    truth = pictures(1, side, side).double()
    estimate = truth + 0.3 * pictures(1, side, side, seed=1).double()
    expected = plain_ssim(estimate[0], truth[0], 2.0, radius, sigma)
    torch.testing.assert_close(ssim(estimate, truth, (-1, 1)), expected, atol=1e-6, rtol=0)


def test_ssim_keeps_leading_dimensions():
    estimate, truth = pictures(4, 2, 3, 12, 16), pictures(3, 12, 16, seed=1)
    scores = ssim(estimate, truth, 1.0)
    assert scores.shape == (4, 2)
    torch.testing.assert_close(scores[1, 1], ssim(estimate[1, 1], truth, 1.0))
    torch.testing.assert_close(ssim(truth, truth, 1.0), torch.tensor(1.0))


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("estimate", "truth", "data_range", "message"),
    [
        (torch.zeros(2, 1, 8, 8), torch.zeros(1, 8, 7), 1.0, "truth has shape"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8), 1.0, "truth has shape"),
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), 0.0, "data_range"),
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), (1.0, -1.0), "data_range"),
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), math.nan, "data_range"),
        (torch.zeros(1, 8, 8).byte(), torch.zeros(1, 8, 8), 255.0, "floating point"),
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8).byte(), 255.0, "floating point"),
        (torch.zeros(8, 8), torch.zeros(8, 8), 1.0, r"shape \(8, 8\)"),
    ],
)
def test_scores_refuse_bad_input(metric, estimate, truth, data_range, message):
    with pytest.raises(InputError, match=message):
        metric(estimate, truth, data_range)


def test_ssim_refuses_what_is_not_a_picture():
    for shape in ((64,), (1, 64), (1, 2, 64)):
        with pytest.raises(InputError, match="pictures"):
            ssim(torch.zeros(shape), torch.zeros(shape), 1.0)


def test_coverage_by_hand():
    samples = torch.arange(1.0, 100.0)[:, None].expand(99, 4)
    truth = torch.tensor([4.9, 5.5, 94.5, 95.1])
    # With 99 samples the ends of the 90% interval are the 5th and the 95th.
    assert coverage(samples, truth) == 0.5
    assert coverage(Posterior(samples), truth) == 0.5
    assert coverage(samples, truth, prob=0.95) == 1.0
    assert coverage(samples, truth, where=torch.tensor([False, True, True, True])) == 2 / 3
    low = (samples[:, 0] < 50).float()
    # The lower 49 alone: the ends of the 80% interval are the 5th and the 45th.
    assert coverage(samples, truth, prob=0.8, weights=low) == 0.25
    assert coverage(Posterior(samples, weights=low), truth, prob=0.8) == 0.25


def test_coverage_tells_honest_from_overconfident_gaussians():
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(65, 20_000, generator=generator)
    # Standard error 0.002; a Gaussian of half the width covers P(|z| < 1.645 / 2) = 0.589.
    assert coverage(draws[1:], draws[0]) == pytest.approx(0.9, abs=0.01)
    assert coverage(draws[1:] / 2, draws[0]) == pytest.approx(0.59, abs=0.02)


def test_coverage_refuses_bad_input():
    samples, truth = torch.randn(9, 4), torch.zeros(4)
    for where in (torch.ones(4), torch.ones(3, dtype=bool), torch.zeros(4, dtype=bool)):
        with pytest.raises(InputError, match="where must be booleans"):
            coverage(samples, truth, where=where)
    with pytest.raises(InputError, match="its own weights"):
        coverage(Posterior(samples), truth, weights=torch.ones(9))
    with pytest.raises(InputError, match="truth has shape"):
        coverage(samples, torch.zeros(5))
    with pytest.raises(InputError, match="prob"):
        coverage(samples, truth, prob=90)


def test_bit_agreement_by_hand():
    bits = torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
    predicted = torch.stack([bits, -bits, bits * torch.tensor([1.0, -1.0])])
    assert bit_agreement(bits, predicted).tolist() == [1.0, 0.0, 0.5]
    assert float(bit_agreement(bits, predicted[0])) == 1.0
    assert bit_agreement(bits, predicted.reshape(3, 1, 2, 2)).shape == (3, 1)
    assert bit_agreement(bits.long(), predicted.long()).tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("bits", "predicted", "message"),
    [
        (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]), r"bits must be -1 or \+1"),
        (torch.tensor([1.0, 1.0]), torch.tensor([0.3, 1.0]), r"predicted must be -1 or \+1"),
        (torch.tensor([1.0, 1.0]), torch.tensor([math.nan, 1.0]), "predicted must be"),
        (torch.ones(3), torch.ones(2), "shape"),
        (torch.ones(2, 3), torch.ones(3), "shape"),
        (torch.ones(0), torch.ones(0), "shape"),
    ],
)
def test_bit_agreement_refuses_bad_input(bits, predicted, message):
    with pytest.raises(InputError, match=message):
        bit_agreement(bits, predicted)
