"""Checks against mpmath with 50 digits, against autograd, and under functional transforms."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes1bit import special
from bayes1bit.special import (
    log_diff_ndtr,
    log_flipped,
    log_interval_ndtr,
    log_ndtr,
    log_sigmoid,
)

# Torch's own forward-mode machinery compiles its formulas with a function it calls deprecated.
torch_forward_mode = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

# The accuracy that the module states, and the size below which a true value may underflow.
DTYPES = [(torch.float64, 1e-12, 1e-300), (torch.float32, 2e-5, 1e-37)]


@pytest.fixture(autouse=True)
def _fifty_digits():
    with mpmath.workdps(50):
        yield


def assert_relative(actual, reference, tolerance, smallest=1e-300):
    assert torch.isfinite(actual).all()
    for value, exact in zip(actual.detach().flatten().tolist(), reference, strict=True):
        if abs(exact) > smallest:
            assert abs(mpmath.mpf(value) / exact - 1) < tolerance, (value, exact)
        else:
            assert abs(value) <= 2 * smallest


def derivatives(function, *inputs, order=2):
    """Value and derivatives with respect to the first input, elementwise."""
    results = [function(*inputs)]
    for _ in range(order):
        results.append(torch.autograd.grad(results[-1].sum(), inputs[0], create_graph=True)[0])
    return results


def log_ndtr_exact(z):
    ratio = mpmath.npdf(z) / mpmath.ncdf(z)
    value = mpmath.log(mpmath.ncdf(z)) if z < 0 else mpmath.log1p(-mpmath.ncdf(-z))
    return value, ratio, -ratio * (z + ratio)


def log_sigmoid_exact(z):
    upper = 1 / (1 + mpmath.exp(z))
    return -mpmath.log1p(mpmath.exp(-z)), upper, -upper / (1 + mpmath.exp(-z))


def log_interval_exact(center, half_width):
    """Value and first two derivatives in the centre, then the one in the half-width."""
    a, b = center - half_width, center + half_width
    if a > 0:
        a, b, sign = -b, -a, -1
    else:
        sign = 1
    mass = mpmath.ncdf(b) - mpmath.ncdf(a)
    outside = mpmath.ncdf(a) + mpmath.ncdf(-b)
    value = mpmath.log(mass) if mass < 0.5 else mpmath.log1p(-outside)
    low, high = mpmath.npdf(a), mpmath.npdf(b)
    slope = (high - low) / mass
    curvature = (low * a - high * b) / mass - slope**2
    return value, sign * slope, curvature, (low + high) / mass


@pytest.mark.parametrize(("dtype", "tolerance", "smallest"), DTYPES)
@pytest.mark.parametrize(
    ("function", "exact"), [(log_ndtr, log_ndtr_exact), (log_sigmoid, log_sigmoid_exact)]
)
def test_distribution_functions_match_mpmath(function, exact, dtype, tolerance, smallest):
    # The finer part straddles the switch to the continued fraction at -8.
    grid = torch.cat([torch.linspace(-40, 40, 161), torch.linspace(-8.01, -7.99, 9)])
    z = grid.to(dtype).requires_grad_()
    reference = zip(*[exact(mpmath.mpf(v)) for v in z.tolist()], strict=True)
    for actual, expected in zip(derivatives(function, z), reference, strict=True):
        assert actual.dtype == dtype
        assert_relative(actual, expected, tolerance, smallest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curvature_stays_minus_one_arbitrarily_far_left(dtype):
    # z + h in place of the continued fraction would give noise of size 10 in single precision.
    z = torch.tensor([-1e3, -1e4, -1e6], dtype=dtype, requires_grad=True)
    curvature = derivatives(log_ndtr, z)[2]
    assert torch.allclose(curvature, -torch.ones_like(z), rtol=1e-5)


def test_limits_at_infinity():
    z = torch.tensor([-math.inf, math.inf], dtype=torch.float64, requires_grad=True)
    value, slope = derivatives(log_ndtr, z, order=1)
    assert value.tolist() == [-math.inf, 0.0]
    assert slope.tolist() == [math.inf, 0.0]


@pytest.mark.parametrize(("dtype", "tolerance", "smallest"), DTYPES)
@pytest.mark.parametrize("half_width", [1e-6, 1e-3, 0.05, 0.49, 0.51, 2.0, 25.0])
def test_interval_matches_mpmath(half_width, dtype, tolerance, smallest):
    # Centres off zero: at an exactly symmetric interval the slope is a true zero.
    center = torch.linspace(-40.3, 39.7, 41, dtype=dtype).requires_grad_()
    w = torch.full_like(center, half_width, requires_grad=True)
    value, slope, curvature = derivatives(log_interval_ndtr, center, w)
    (slope_w,) = torch.autograd.grad(value.sum(), w, retain_graph=True)
    pairs = zip(center.tolist(), w.tolist(), strict=True)
    exact = zip(*[log_interval_exact(mpmath.mpf(c), mpmath.mpf(v)) for c, v in pairs], strict=True)
    for actual, expected in zip((value, slope, curvature, slope_w), exact, strict=True):
        assert_relative(actual, expected, tolerance, smallest)


@pytest.mark.parametrize("half_width", [0.1, 0.5, 3.0])
def test_symmetric_interval_has_no_slope_but_curvature(half_width):
    center = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    w = torch.tensor([half_width], dtype=torch.float64)
    _, slope, curvature = derivatives(log_interval_ndtr, center, w)
    assert abs(slope.item()) < 1e-15
    exact = log_interval_exact(mpmath.mpf(0), mpmath.mpf(half_width))[2]
    assert_relative(curvature, [exact], 1e-12)


def test_interval_without_width_is_impossible():
    w = torch.tensor([0.0, -0.1], dtype=torch.float64)
    value = log_interval_ndtr(torch.tensor(3.0, dtype=torch.float64), w)
    assert value[0] == -math.inf
    assert value[1].isnan()


def test_quadrature_rule_is_gauss_legendre():
    nodes, weights = np.polynomial.legendre.leggauss(8)
    np.testing.assert_allclose(special._NODES, nodes[4:], rtol=1e-15)
    np.testing.assert_allclose(special._WEIGHTS, weights[4:], rtol=1e-14)


def test_difference_matches_mpmath_and_its_ends_pull_apart():
    inf = math.inf
    ends = [(-40.0, -39.5), (-3.0, -2.999), (-0.2, 0.3), (-6.0, 7.0), (38.0, 40.0), (-inf, -40.0)]
    ends += [(-inf, 2.0), (40.0, inf), (-1.0, inf)]
    a, b = torch.tensor(ends, dtype=torch.float64).unbind(-1)
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    value = log_diff_ndtr(a, b)
    slope_a, slope_b = torch.autograd.grad(value.sum(), (a, b))
    exact, exact_a, exact_b = [], [], []
    for low, high in ends:
        mass = mpmath.ncdf(high) - mpmath.ncdf(low) if low < 0 else mpmath.ncdf(-low)
        if low >= 0 and high < inf:
            mass -= mpmath.ncdf(-high)
        exact.append(mpmath.log(mass))
        exact_a.append(-mpmath.npdf(low) / mass)
        exact_b.append(mpmath.npdf(high) / mass)
    # The ends themselves are rounded when the width is formed: 1e-16 * 3 / 0.001.
    assert_relative(value, exact, 1e-12)
    assert_relative(slope_a, exact_a, 1e-11)
    assert_relative(slope_b, exact_b, 1e-11)


def test_difference_of_unordered_or_equal_ends():
    a = torch.tensor([1.0, 2.0, -math.inf, math.inf])
    b = torch.tensor([1.0, 1.0, -math.inf, 5.0])
    value = log_diff_ndtr(a, b)
    assert value[0] == value[2] == -math.inf
    assert value[1].isnan()
    assert value[3].isnan()


def test_difference_over_the_whole_line_is_certain():
    whole = log_diff_ndtr(torch.tensor(-math.inf), torch.tensor(math.inf))
    assert whole.item() == 0.0


@given(
    a=st.floats(-30, 30),
    width=st.floats(1e-4, 20),
    cut=st.floats(0.05, 0.95),
)
@settings(deadline=None, max_examples=60)
def test_neighbouring_intervals_add_up(a, width, cut):
    a = torch.tensor(a, dtype=torch.float64)
    b, middle = a + width, a + cut * width
    parts = torch.logaddexp(log_diff_ndtr(a, middle), log_diff_ndtr(middle, b))
    # Rounding of the middle, 3e-15 at most, moves mass h * 3e-15 out of h * 5e-6.
    assert torch.allclose(parts, log_diff_ndtr(a, b), rtol=0, atol=1e-8)
    mirrored = log_diff_ndtr(-b, -a)
    assert torch.allclose(mirrored, log_diff_ndtr(a, b), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("flip", [0.0, 1e-12, 0.02, 0.49])
def test_flipped_matches_mpmath(flip):
    z = torch.linspace(-40, 40, 81, dtype=torch.float64).requires_grad_()
    f = torch.tensor(flip, dtype=torch.float64)
    value, slope, _ = derivatives(lambda v: log_flipped(log_ndtr(v), f), z)
    exact, exact_slope = [], []
    for v in z.tolist():
        p, upper = mpmath.ncdf(v), mpmath.ncdf(-v)
        miss = upper + flip * (1 - 2 * upper)
        mixture = (1 - 2 * mpmath.mpf(flip)) * p + flip
        exact.append(mpmath.log(mixture) if v < 0 else mpmath.log1p(-miss))
        exact_slope.append((1 - 2 * mpmath.mpf(flip)) * mpmath.npdf(v) / mixture)
    assert_relative(value, exact, 1e-12)
    assert_relative(slope, exact_slope, 1e-11)


def test_flip_of_zero_has_a_gradient():
    # d log((1 - 2 f) p + f) / d f = 1 / p - 2 at f = 0.
    log_p = torch.tensor([-0.1, -5.0, -900.0], dtype=torch.float64, requires_grad=True)
    f = torch.tensor([0.0, 0.0, 0.25], dtype=torch.float64, requires_grad=True)
    slope, slope_f = torch.autograd.grad(log_flipped(log_p, f).sum(), (log_p, f))
    assert slope.tolist() == [1.0, 1.0, 0.0]
    expected = torch.tensor([math.exp(0.1) - 2, math.exp(5.0) - 2, 4.0], dtype=torch.float64)
    assert torch.allclose(slope_f, expected, rtol=1e-14)


def some_points():
    return torch.tensor([-12.0, -7.5, -1.0, 0.0, 0.4, 6.0], dtype=torch.float64)


FUNCTIONS = {
    "log_ndtr": log_ndtr,
    "log_sigmoid": log_sigmoid,
    "narrow": lambda z: log_interval_ndtr(z, 0.02 + 0.001 * z),
    "wide": lambda z: log_interval_ndtr(z, 1.5 + 0.01 * z),
    "difference": lambda z: log_diff_ndtr(z, z + 0.3),
    "unbounded": lambda z: log_diff_ndtr(torch.full_like(z, -math.inf), z),
    "flipped": lambda z: log_flipped(log_sigmoid(z), 0.2 + 0.01 * z),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@each_function
@torch_forward_mode
def test_derivatives_match_finite_differences(function):
    z = some_points().requires_grad_()
    assert torch.autograd.gradcheck(function, z, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, z)


@each_function
def test_batched_by_vmap_without_warning(function):
    z = torch.stack([some_points(), some_points().flip(0)])
    expected = function(z)
    assert torch.equal(torch.vmap(function)(z), expected)
    assert torch.equal(torch.vmap(torch.vmap(function))(z), expected)
    assert torch.equal(torch.vmap(function, in_dims=1, out_dims=1)(z), expected)


@each_function
@torch_forward_mode
def test_functional_derivatives_agree(function):
    z = some_points()
    leaf = z.clone().requires_grad_()
    _, slope, curvature = derivatives(function, leaf)

    def total(v):
        return function(v).sum()

    assert torch.allclose(torch.func.grad(total)(z), slope, rtol=1e-12)
    assert torch.allclose(torch.vmap(torch.func.grad(function))(z), slope, rtol=1e-12)
    assert torch.allclose(torch.func.jacrev(function)(z), slope.diag(), rtol=1e-12)
    reverse_twice = torch.func.jacrev(torch.func.grad(total))(z)
    assert torch.allclose(reverse_twice, curvature.diag(), rtol=1e-12)
    forward_over_reverse = torch.func.hessian(total)(z)
    assert torch.allclose(forward_over_reverse, curvature.diag(), rtol=1e-12)


def test_flip_mapped_alone():
    log_p = torch.tensor(-2.0)
    flips = torch.tensor([0.0, 0.1, 0.3])
    mapped = torch.vmap(log_flipped, in_dims=(None, 0))(log_p, flips)
    assert torch.equal(mapped, log_flipped(log_p, flips))
