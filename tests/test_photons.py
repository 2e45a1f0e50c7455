"""PhotonDetection: exactness, agreement of sampler and score, Pyro behaviour, errors."""

import math

import mpmath
import pyro
import pytest
import torch
from pyro.distributions.testing.gof import multinomial_goodness_of_fit

from bayes1bit.errors import InputError
from bayes1bit.observation import PhotonDetection

ONE = torch.tensor(1.0)


def exact(eta, digits=60):
    """Log-probability of 1, its derivative, and log-probability of 0, by log-rate."""
    with mpmath.workdps(digits):
        rate = mpmath.exp(mpmath.mpf(eta))
        return mpmath.log(-mpmath.expm1(-rate)), rate / mpmath.expm1(rate), -rate


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-12), (torch.float32, 2e-5)])
def test_matches_mpmath_far_into_both_tails(dtype, tolerance):
    # whole eighths are exact in both types; the ends of the series are at log 0.1
    eta = torch.arange(-320, 37, dtype=dtype) / 8
    eta = torch.cat([eta, torch.tensor([-2.3026, -2.3025], dtype=dtype)]).requires_grad_()
    d = PhotonDetection(eta)
    seen, unseen = d.log_prob(torch.ones_like(eta)), d.log_prob(torch.zeros_like(eta))
    (slope,) = torch.autograd.grad(seen.sum(), eta)
    for i, value in enumerate(eta.tolist()):
        one, derivative, zero = exact(value)
        # for bright pixels the value is the probability of no photon, which can underflow
        smallest = 1e-300 if dtype == torch.float64 else 1e-30
        for got, right in ((seen[i], one), (slope[i], derivative), (unseen[i], zero)):
            if abs(right) > smallest:
                assert abs(mpmath.mpf(got.item()) / right - 1) < tolerance, (value, got, right)
            else:
                assert abs(got.item()) <= 2 * smallest


def test_outcomes_are_drawn_with_the_scored_probability():
    pyro.set_rng_seed(0)
    d = PhotonDetection(torch.tensor([-4.0, -0.5, 0.3, 1.5]))
    y = d.sample((20_000,))
    probabilities = d.log_prob(d.enumerate_support()).exp()
    torch.testing.assert_close(probabilities[1], d.mean)
    torch.testing.assert_close(d.variance, probabilities.prod(0))
    for p, seen in zip(probabilities.T, y.sum(0), strict=True):
        counts = torch.stack([len(y) - seen, seen])
        # a right sampler fails one time in a thousand; the seed is fixed
        assert multinomial_goodness_of_fit(p, counts) > 1e-3


def test_a_poisson_count_agrees():
    pyro.set_rng_seed(1)
    counts = torch.distributions.Poisson(0.7).sample((40_000,))
    share = (counts >= 1).float().mean()
    p = PhotonDetection(math.log(0.7)).mean
    assert abs(share - p) < 4 * (p * (1 - p) / 40_000).sqrt()


def test_expand_is_broadcasting():
    d = PhotonDetection(torch.tensor([-1.0, 0.0, 2.0]))
    big = d.expand([4, 3])
    y = big.sample((2,))
    assert y.shape == (2, 4, 3)
    assert torch.equal(big.log_prob(y), d.log_prob(y))
    assert torch.equal(big.log_prob(y.bool()), d.log_prob(y))
    assert big.enumerate_support().shape == (2, 4, 3)
    assert big.enumerate_support(expand=False).shape == (2, 1, 1)


def test_vmap_and_second_derivatives():
    def value(eta):
        return PhotonDetection(eta, validate_args=False).log_prob(ONE)

    eta = torch.tensor([-30.0, -2.4, 0.0, 3.0], dtype=torch.float64)
    curvature = torch.vmap(torch.func.grad(torch.func.grad(value)))(eta)
    # of log(1 - exp(-r)) in log r, with r = exp(eta)
    r = eta.exp()
    expected = r / torch.expm1(r) * (1 - r * r.exp() / torch.expm1(r))
    torch.testing.assert_close(curvature[1:], expected[1:])
    assert -1e-13 < curvature[0] < 0


def test_what_is_refused():
    d = PhotonDetection(torch.zeros(2), validate_args=True)
    with pytest.raises(InputError, match=r"y must be 0 or 1, 1 of its 2.*\(y \+ 1\) / 2"):
        d.log_prob(torch.tensor([-1.0, 1.0]))
    with pytest.raises(InputError, match="such as 2"):
        d.log_prob(torch.tensor([2, 1]))
    with pytest.raises(InputError, match="log_rate must be float32 or float64"):
        PhotonDetection(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="log_rate"):
        PhotonDetection(torch.tensor(math.nan), validate_args=True)
