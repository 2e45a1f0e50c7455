"""Draws above a bound follow the truncated normal law, and the inversion is exact."""

import mpmath
import pytest
import torch
from scipy.stats import kstest, truncnorm

from bayes1bit.truncated_normal import inverse_survival, standard_normal_above

BOUNDS = [-5.0, 0.0, 3.0, 10.0, 29.5, 40.0]
SHARES = [1.0, 0.999999, 0.5, 1e-3, 1e-10, 2.0**-53]


@pytest.mark.parametrize("lower", [-40.0, *BOUNDS, 29.999, 30.001, 200.0, 1e4])
def test_inversion_against_mpmath(lower):
    """The survival function at the answer is the given share of that at the bound."""
    share = torch.tensor(SHARES, dtype=torch.float64)
    x = inverse_survival(torch.full_like(share, lower), share)
    with mpmath.workdps(60):

        def log_survival(value):
            return mpmath.log(mpmath.erfc(mpmath.mpf(value) / mpmath.sqrt(2)) / 2)

        for value, u in zip(x.tolist(), SHARES, strict=True):
            error = log_survival(value) - log_survival(lower) - mpmath.log(u)
            assert abs(error) < 1e-7


def test_single_precision_is_rounded_double_precision():
    torch.manual_seed(0)
    lower = torch.linspace(-40, 40, 20_001)
    share = 1 - torch.rand(lower.shape, dtype=torch.float64)
    single, double = inverse_survival(lower, share), inverse_survival(lower.double(), share)
    assert single.dtype == torch.float32
    # a spacing of single precision is 1.2e-7 of the number
    torch.testing.assert_close(single.double(), double, rtol=2e-7, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lower", BOUNDS)
def test_law(lower, dtype):
    """The probability integral transform of the draws is uniform, and their moments are right."""
    torch.manual_seed(1)
    draws = standard_normal_above(torch.full((40_000,), lower, dtype=dtype))
    assert draws.dtype == dtype
    assert (draws >= lower).all()
    draws = draws.double()
    bound = torch.tensor(lower, dtype=torch.float64)
    uniform = (torch.special.log_ndtr(-draws) - torch.special.log_ndtr(-bound)).exp()
    # one seed in a thousand fails by chance
    assert kstest(uniform.numpy(), "uniform").pvalue > 1e-3
    mean, variance, _, excess = (float(v) for v in truncnorm(lower, torch.inf).stats("mvsk"))
    if lower <= 10:  # farther out scipy's higher moments cancel
        # five standard errors
        assert abs(draws.mean() - mean) < 5 * (variance / len(draws)) ** 0.5
        error = variance * ((excess + 2) / len(draws)) ** 0.5
        assert abs(draws.var() - variance) < 5 * error
    else:
        # the excess over a far bound is nearly exponential with rate a + 1 / a
        with mpmath.workdps(60):
            a = mpmath.mpf(lower)
            mean_above = float(mpmath.npdf(a) / (mpmath.erfc(a / mpmath.sqrt(2)) / 2) - a)
        assert abs((draws - lower).mean() - mean_above) < 5 * mean_above / len(draws) ** 0.5


def test_no_bound_and_neighbours_do_not_touch():
    torch.manual_seed(2)
    lower = torch.tensor([-torch.inf, 2.0, -torch.inf, 35.0]).expand(20_000, 4)
    draws = standard_normal_above(lower)
    assert draws.isfinite().all()
    assert kstest(draws[:, 0].numpy(), "norm").pvalue > 1e-3
    # independent columns: five standard errors of a correlation
    correlation = torch.corrcoef(draws.T.double()) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(draws) ** 0.5


def test_under_vmap():
    torch.manual_seed(3)
    lower = torch.randn(5, 7)
    draws = torch.vmap(standard_normal_above, randomness="different")(lower)
    assert (draws >= lower).all()
    assert draws.unique().numel() == 35
