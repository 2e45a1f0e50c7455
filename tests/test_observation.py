"""OneBit and Quantized: exactness, agreement of sampler and score, Pyro behaviour, errors."""

import math

import mpmath
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.distributions.testing.gof import multinomial_goodness_of_fit
from pyro.infer import Predictive, TraceEnum_ELBO
from torch.distributions import constraints

from bayes1bit.errors import InputError
from bayes1bit.observation import OneBit, Quantized, signs

# A right sampler fails a goodness-of-fit check one time in a thousand; seeds are fixed, so never.
SMALLEST_P_VALUE = 1e-3

links = pytest.mark.parametrize("link", ["probit", "logistic"])


@pytest.fixture(autouse=True)
def _seeded():
    pyro.set_rng_seed(0)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


EDGES = double(-1.0, -0.4, 0.1, 0.101, 2.0)


def assert_relative(actual, reference, tolerance):
    assert torch.isfinite(actual).all()
    for value, exact in zip(actual.detach().flatten().tolist(), reference, strict=True):
        # Below this a double loses digits or is zero.
        if abs(exact) > 1e-300:
            assert abs(mpmath.mpf(value) / exact - 1) < tolerance, (value, exact)


def one_bit_exact(z, link, flip, digits=50):
    """Log-probability of +1 and its derivative in z."""
    with mpmath.workdps(digits):
        z, flip = mpmath.mpf(z), mpmath.mpf(flip)
        if link == "probit":
            upper, lower, density = mpmath.ncdf(z), mpmath.ncdf(-z), mpmath.npdf(z)
        else:
            upper, lower = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
            density = upper * lower
        mass = (1 - 2 * flip) * upper + flip
        miss = (1 - 2 * flip) * lower + flip
        value = mpmath.log(mass) if mass < 0.5 else mpmath.log1p(-miss)
        return value, (1 - 2 * flip) * density / mass


@links
@pytest.mark.parametrize("flip", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_one_bit_matches_mpmath_far_into_the_tails(link, flip, y):
    z = torch.linspace(-40, 40, 161, dtype=torch.float64)
    # Powers of two and small whole numbers make (loc - threshold) / scale exact.
    scale = double(0.5).requires_grad_()
    threshold = torch.full_like(z, 2.0, requires_grad=True)
    loc = (z * 0.5 + 2.0).requires_grad_()
    scale_each = scale.expand_as(z)
    d = OneBit(loc, scale_each, threshold, link=link, flip=flip)
    log_prob = d.log_prob(torch.full_like(z, y))
    slopes = torch.autograd.grad(log_prob.sum(), (loc, threshold, scale_each))
    exact = [one_bit_exact(y * v, link, flip) for v in z.tolist()]
    assert_relative(log_prob, [value for value, _ in exact], 1e-12)
    assert_relative(slopes[0], [y * slope / 0.5 for _, slope in exact], 1e-11)
    assert_relative(slopes[1], [-y * slope / 0.5 for _, slope in exact], 1e-11)
    in_scale = [-y * v * slope / 0.5 for v, (_, slope) in zip(z.tolist(), exact, strict=True)]
    assert_relative(slopes[2], in_scale, 1e-11)


@links
@pytest.mark.parametrize("flip", [0.0, 0.01])
def test_one_bit_single_precision_stays_close(link, flip):
    loc = torch.linspace(-40, 40, 161).requires_grad_()
    log_prob = OneBit(loc, 1.0, link=link, flip=flip).log_prob(torch.ones(161))
    (slope,) = torch.autograd.grad(log_prob.sum(), loc)
    loc64 = loc.detach().double().requires_grad_()
    expected = OneBit(loc64, 1.0, link=link, flip=flip).log_prob(torch.ones(161))
    (expected_slope,) = torch.autograd.grad(expected.sum(), loc64)
    assert log_prob.dtype == slope.dtype == torch.float32
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(slope).all()
    # 800 rounded to single precision is exact to 6e-5, which an exponential makes relative.
    assert torch.allclose(log_prob.double(), expected, rtol=1e-4, atol=1e-30)
    assert torch.allclose(slope.double(), expected_slope, rtol=1e-4, atol=1e-30)


def quantized_exact(k, loc, scale, edges, digits=50):
    """Log-probability of bin k and its derivatives in loc and scale."""
    with mpmath.workdps(digits):
        inf = mpmath.inf
        grid = [-inf, *map(mpmath.mpf, edges), inf]
        loc, scale = mpmath.mpf(loc), mpmath.mpf(scale)
        a, b = (grid[k] - loc) / scale, (grid[k + 1] - loc) / scale
        outside = mpmath.ncdf(a) + mpmath.ncdf(-b)
        mass = mpmath.ncdf(b) - mpmath.ncdf(a) if b <= 0 else mpmath.ncdf(-a) - mpmath.ncdf(-b)
        low, high = mpmath.npdf(a), mpmath.npdf(b)
        moment = (low * a if low else 0) - (high * b if high else 0)
        value = mpmath.log(mass) if mass < 0.5 else mpmath.log1p(-outside)
        return value, (low - high) / mass / scale, moment / mass / scale


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_logistic_bins_match_mpmath_far_into_the_tails(k, scale):
    loc = (torch.linspace(-39.2, 39.0, 80, dtype=torch.float64) * scale).requires_grad_()
    log_prob = Quantized(loc, scale, EDGES, "logistic").log_prob(torch.full(loc.shape, k))
    (slope,) = torch.autograd.grad(log_prob.sum(), loc)
    with mpmath.workdps(150):
        ends = [-mpmath.inf, *map(mpmath.mpf, EDGES.tolist()), mpmath.inf]
        for at, value, got in zip(loc.tolist(), log_prob.tolist(), slope.tolist(), strict=True):
            z = [(e - mpmath.mpf(at)) / mpmath.mpf(scale) for e in ends[k : k + 2]]
            low, high = (1 / (1 + mpmath.exp(-v)) for v in z)
            assert abs(mpmath.mpf(value) / mpmath.log(high - low) - 1) < 1e-11
            # passes through zero between the edges: compare with the size of its terms
            assert abs(got - (low + high - 1) / mpmath.mpf(scale)) < 1e-13 / scale


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_quantized_matches_mpmath_far_into_the_tails(k, scale):
    # Bin 3 is 0.001 wide; at scale 0.03 the outer bins are up to 100 standard deviations away.
    loc = (torch.linspace(-39.2, 39.0, 80, dtype=torch.float64) * scale).requires_grad_()
    scales = torch.full_like(loc, scale, requires_grad=True)
    log_prob = Quantized(loc, scales, EDGES).log_prob(torch.full(loc.shape, k))
    slope, slope_scale = torch.autograd.grad(log_prob.sum(), (loc, scales))
    arguments = zip(loc.tolist(), scales.tolist(), strict=True)
    exact = [quantized_exact(k, v, s, EDGES.tolist()) for v, s in arguments]
    assert_relative(log_prob, [value for value, _, _ in exact], 1e-11)
    assert_relative(slope, [value for _, value, _ in exact], 1e-10)
    # In scale, (a phi(a) - b phi(b)) / mass passes through zero: compare with its terms' size.
    for value, (_, _, expected) in zip(slope_scale.tolist(), exact, strict=True):
        assert abs(value - expected) <= 1e-10 * (abs(expected) + 1 / scale)


def test_quantized_single_precision_is_finite_and_close():
    loc = torch.linspace(-39.2, 39.0, 80).requires_grad_()
    index = torch.arange(6)[:, None]
    log_prob = Quantized(loc, 1.0, EDGES.float()).log_prob(index)
    (slope,) = torch.autograd.grad(log_prob.sum(), loc)
    loc64 = loc.detach().double().requires_grad_()
    expected = Quantized(loc64, 1.0, EDGES.float().double()).log_prob(index)
    (expected_slope,) = torch.autograd.grad(expected.sum(), loc64)
    assert torch.isfinite(log_prob).all()
    assert torch.allclose(log_prob.double(), expected, rtol=1e-4, atol=1e-30)
    # The bin of width 0.001 at z = 40 has its centre rounded to 2e-6: 1e-7 of the slope.
    assert torch.allclose(slope.double(), expected_slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fine_quantizer_under_heavy_noise(dtype):
    # 8 bits over [-1, 1] at scale 1e4: a difference of distribution functions has no digits left
    # in single precision.
    edges = torch.linspace(-1, 1, 255, dtype=dtype)
    loc = torch.tensor(3e3, dtype=dtype, requires_grad=True)
    log_prob = Quantized(loc, 1e4, edges).log_prob(torch.tensor(100))
    (slope,) = torch.autograd.grad(log_prob, loc)
    width = (edges[101] - edges[100]).item() / 1e4
    expected = math.log(width) - 0.5 * 0.3**2 - 0.5 * math.log(2 * math.pi)
    assert log_prob.item() == pytest.approx(expected, rel=1e-5)
    assert slope.item() == pytest.approx(-0.3 / 1e4, rel=1e-3)


@links
def test_quantized_with_one_edge_is_one_bit(link):
    loc = torch.randn(50, dtype=torch.float64) * 20
    loc.requires_grad_()
    one_bit = OneBit(loc, 0.7, threshold=0.3, link=link)
    quantized = Quantized(loc, 0.7, double(0.3), link)
    index = torch.randint(2, (50,))
    expected = one_bit.log_prob(2 * index - 1)
    actual = quantized.log_prob(index)
    assert torch.equal(actual, expected)
    slopes = [torch.autograd.grad(v.sum(), loc)[0] for v in (actual, expected)]
    assert torch.equal(*slopes)


def test_logistic_one_bit_is_bernoulli():
    z = torch.randn(40, dtype=torch.float64) * 10
    y = OneBit(z, 1.0, link="logistic").sample()
    bernoulli = dist.Bernoulli(logits=z).log_prob((y + 1) / 2)
    assert torch.allclose(OneBit(z, 1.0, link="logistic").log_prob(y), bernoulli, rtol=1e-12)


finite = st.floats(-20, 20)
positive = st.floats(0.05, 20)
flips = st.one_of(st.just(0.0), st.floats(1e-6, 0.49))
link_names = st.sampled_from(["probit", "logistic"])


@given(loc=finite, threshold=finite, scale=positive, flip=flips, link=link_names)
@settings(deadline=None, max_examples=60)
def test_one_bit_laws(loc, threshold, scale, flip, link):
    d = OneBit(double(loc), scale, threshold, link, flip)
    values = d.enumerate_support()
    assert values.shape == (2, 1)
    probabilities = d.log_prob(values).exp()
    assert torch.allclose(probabilities.sum(0), double(1.0), rtol=1e-12)
    assert torch.allclose(d.probs, probabilities[1], rtol=1e-14)
    assert torch.allclose(d.margin, (double(loc) - threshold) / scale)
    mean = (probabilities * values).sum(0)
    variance = (probabilities * (values - mean).square()).sum(0)
    assert torch.allclose(d.mean, mean, rtol=1e-12, atol=1e-14)
    assert torch.allclose(d.variance, variance, rtol=1e-9, atol=1e-14)
    mirrored = OneBit(double(-loc), scale, -threshold, link, flip)
    assert torch.equal(mirrored.log_prob(-values), d.log_prob(values))


@given(
    loc=finite,
    scale=positive,
    first=finite,
    steps=st.lists(st.floats(1e-3, 5), min_size=0, max_size=6),
    link=link_names,
)
@settings(deadline=None, max_examples=60)
def test_quantized_laws(loc, scale, first, steps, link):
    edges = torch.cat([double(first), first + torch.tensor(steps, dtype=torch.float64).cumsum(0)])
    d = Quantized(double(loc), scale, edges, link)
    values = d.enumerate_support()
    assert values.shape == (len(edges) + 1, 1)
    probabilities = d.log_prob(values).exp()
    assert torch.allclose(probabilities.sum(0), double(1.0), rtol=1e-10)
    assert torch.allclose(d.probs, probabilities.T, rtol=1e-12)
    mean = (probabilities * values).sum(0)
    variance = (probabilities * (values - mean).square()).sum(0)
    assert torch.allclose(d.mean, mean, rtol=1e-9, atol=1e-12)
    assert torch.allclose(d.variance, variance, rtol=1e-9, atol=1e-12)
    mirrored = Quantized(double(-loc), scale, -edges.flip(0), link)
    log_prob = mirrored.log_prob(len(edges) - values)
    assert torch.allclose(log_prob, d.log_prob(values), rtol=1e-9, atol=1e-12)


@links
@pytest.mark.parametrize("flip", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signs_are_drawn_with_the_scored_probability(link, flip, dtype):
    loc = torch.tensor([-1.5, -0.2, 0.0, 0.7, 2.5], dtype=dtype)
    d = OneBit(loc, 0.8, threshold=0.1, link=link, flip=flip)
    y = d.sample((20_000,))
    assert y.dtype == dtype
    assert y.shape == (20_000, 5)
    counts = torch.stack([(y == v).sum(0) for v in (-1, 1)], -1)
    probabilities = d.log_prob(d.enumerate_support()).exp().movedim(0, -1)
    for p, count in zip(probabilities, counts, strict=True):
        assert multinomial_goodness_of_fit(p, count) > SMALLEST_P_VALUE


def test_flip_is_an_inverted_record():
    # With no noise to speak of, every -1 at a large positive loc is an inversion.
    y = OneBit(torch.full((20_000,), 100.0), 1.0, flip=0.1).sample()
    counts = torch.stack([(y == -1).sum(), (y == 1).sum()])
    assert multinomial_goodness_of_fit(double(0.1, 0.9), counts) > SMALLEST_P_VALUE


@links
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bins_are_drawn_with_the_scored_probability(dtype, link):
    edges = torch.tensor([-1.0, -0.4, 0.1, 2.0], dtype=dtype)
    loc = torch.tensor([-0.8, 0.0, 1.2], dtype=dtype)
    d = Quantized(loc, 0.8, edges, link)
    k = d.sample((20_000,))
    assert k.dtype == torch.int64
    assert k.shape == (20_000, 3)
    for j in range(3):
        counts = torch.bincount(k[:, j], minlength=5)
        assert multinomial_goodness_of_fit(d.probs[j], counts) > SMALLEST_P_VALUE


def test_seed_determines_draws():
    for d in (OneBit(torch.zeros(100), 1.0), Quantized(torch.zeros(100), 1.0, EDGES.float())):
        pyro.set_rng_seed(3)
        first = d.sample()
        assert not torch.equal(first, d.sample())
        pyro.set_rng_seed(3)
        assert torch.equal(first, d.sample())


def test_draws_carry_no_gradient():
    loc = torch.zeros(3, requires_grad=True)
    assert not OneBit(loc, 1.0).sample().requires_grad
    assert not Quantized(loc, 1.0, EDGES.float()).sample().requires_grad


def batch_examples():
    loc, scale = torch.randn(4, 1, dtype=torch.float64), double(0.5, 1.0, 2.0)
    return [
        OneBit(loc, scale, threshold=double(0.1), flip=double(0.0, 0.1, 0.2)),
        OneBit(loc, scale, link="logistic"),
        Quantized(loc, scale, EDGES),
        Quantized(loc, scale, EDGES, "logistic"),
    ]


@pytest.mark.parametrize("example", range(4))
def test_expand_is_broadcasting(example):
    d = batch_examples()[example]
    assert d.batch_shape == (4, 3)
    assert d.event_shape == ()
    big = d.expand([5, 4, 3])
    assert type(big) is type(d)
    assert big.batch_shape == (5, 4, 3)
    y = big.sample((2,))
    assert y.shape == (2, 5, 4, 3)
    assert torch.equal(big.log_prob(y), d.log_prob(y))
    assert torch.allclose(big.mean, d.mean.expand(5, 4, 3), rtol=1e-13)
    assert torch.allclose(big.variance, d.variance.expand(5, 4, 3), rtol=1e-13)
    assert big.enumerate_support().shape[1:] == (5, 4, 3)
    assert big.enumerate_support(expand=False).shape[1:] == (1, 1, 1)
    assert big.support.check(y).all()
    with pytest.raises(InputError):
        big.log_prob(y.double() + 0.5)


@pytest.mark.parametrize("validate", [True, False])
def test_expand_keeps_the_validation_setting(validate):
    wrong = torch.tensor(0.0)
    big = OneBit(0.0, 1.0, validate_args=validate).expand([2])
    if validate:
        with pytest.raises(InputError):
            big.log_prob(wrong)
    else:
        big.log_prob(wrong)


def test_expand_refuses_subclasses_with_their_own_constructor():
    class Custom(OneBit):
        def __init__(self):
            super().__init__(torch.zeros(()), 1.0)

    with pytest.raises(NotImplementedError, match="expand"):
        Custom().expand([2])


def test_parameters_of_the_full_shape_are_kept_as_they_are():
    loc = torch.zeros(3)
    assert OneBit(loc, 1.0).loc is loc
    assert OneBit(loc, 1.0).expand([3]).loc is loc
    assert Quantized(loc, 1.0, EDGES.float()).loc is loc


def test_numbers_follow_the_tensors():
    assert OneBit(0.3, 1).sample().dtype == torch.get_default_dtype()
    assert OneBit(0, double(0.5)).scale.item() == 0.5
    assert OneBit(0, double(0.5)).sample().dtype == torch.float64
    assert Quantized(0.3, 1.0, EDGES).log_prob(torch.tensor(2)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.float64])
def test_signs_in_any_signed_dtype(dtype):
    loc = torch.randn(6)
    y = torch.tensor([-1, 1, 1, -1, -1, 1])
    expected = OneBit(loc, 0.5).log_prob(y.float())
    actual = OneBit(loc, 0.5).log_prob(y.to(dtype))
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_bins_in_any_numeric_dtype(dtype):
    k = torch.tensor([0, 3, 5])
    d = Quantized(torch.randn(3, dtype=torch.float64), 0.5, EDGES)
    assert torch.equal(d.log_prob(k.to(dtype)), d.log_prob(k))


def test_short_integers_with_more_bins_than_they_can_count():
    d = Quantized(torch.tensor(0.1), 1.0, torch.linspace(-2, 2, 300))
    k = torch.tensor([0, 100, 255])
    assert torch.equal(d.log_prob(k.to(torch.uint8)), d.log_prob(k))
    assert torch.equal(d.log_prob(k[:2].to(torch.int8)), d.log_prob(k[:2]))


def test_flip_zero_in_a_tensor_equals_no_flip():
    loc = (torch.randn(20, dtype=torch.float64) * 15).requires_grad_()
    y = OneBit(loc, 1.0).sample()
    plain = OneBit(loc, 1.0).log_prob(y)
    mixed = OneBit(loc, 1.0, flip=torch.zeros(20, dtype=torch.float64)).log_prob(y)
    assert torch.equal(plain, mixed)
    slopes = [torch.autograd.grad(v.sum(), loc)[0] for v in (plain, mixed)]
    assert torch.allclose(*slopes, rtol=1e-14)


@links
@pytest.mark.parametrize("flip", [0.0, 0.2])
def test_one_bit_derivatives_match_finite_differences(link, flip):
    loc, threshold = double(-2.0, 0.5, 3.0).requires_grad_(), double(0.3).requires_grad_()
    scale, chance = double(0.7).requires_grad_(), double(flip + 0.1).requires_grad_()
    y = double(-1.0, 1.0, -1.0)

    def log_prob(loc, scale, threshold, chance):
        return OneBit(loc, scale, threshold, link, chance if flip else 0.0).log_prob(y)

    inputs = (loc, scale, threshold, chance) if flip else (loc, scale, threshold)

    def of_inputs(*inputs):
        return log_prob(*inputs, *(() if flip else (None,)))

    assert torch.autograd.gradcheck(of_inputs, inputs)
    assert torch.autograd.gradgradcheck(of_inputs, inputs)


def test_quantized_derivatives_match_finite_differences():
    loc = double(-1.4, -0.5, 0.0, 0.2, 1.7, 2.5).requires_grad_()
    scale, edges = double(0.7).requires_grad_(), EDGES.clone().requires_grad_()
    k = torch.tensor([0, 1, 2, 3, 4, 5])

    def log_prob(loc, scale, edges):
        return Quantized(loc, scale, edges).log_prob(k)

    assert torch.autograd.gradcheck(log_prob, (loc, scale, edges))
    assert torch.autograd.gradgradcheck(log_prob, (loc, scale, EDGES))


DISTRIBUTIONS = {
    "probit": lambda loc: OneBit(loc, 0.5, validate_args=False),
    "logistic": lambda loc: OneBit(loc, 0.5, link="logistic", validate_args=False),
    "flip": lambda loc: OneBit(loc, 0.5, flip=0.1, validate_args=False),
    "flip tensor": lambda loc: OneBit(loc, 0.5, 0.2, flip=double(0, 0.1, 0), validate_args=False),
    "quantized": lambda loc: Quantized(loc, 0.5, EDGES, validate_args=False),
}


@pytest.mark.parametrize("make", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_scores_and_derivatives_map_over_particles(make):
    loc = torch.randn(7, 3, dtype=torch.float64) * 3
    y = make(loc[0]).sample()

    def log_prob(loc):
        return make(loc).to_event(1).log_prob(y)

    expected = log_prob(loc)
    leaf = loc.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_prob(leaf).sum(), leaf)
    assert torch.allclose(torch.vmap(log_prob)(loc), expected, rtol=1e-13)
    assert torch.allclose(torch.vmap(torch.func.grad(log_prob))(loc), slope, rtol=1e-12)
    curvature = torch.vmap(torch.func.jacrev(torch.func.grad(log_prob)))(loc)
    one_by_one = [torch.autograd.functional.hessian(log_prob, v) for v in loc]
    assert torch.allclose(curvature, torch.stack(one_by_one), rtol=1e-10, atol=1e-14)


def test_draws_map_over_particles():
    for make in DISTRIBUTIONS.values():
        draws = torch.vmap(lambda loc: make(loc).sample(), randomness="different")  # noqa: B023
        y = draws(torch.zeros(500, 3, dtype=torch.float64))
        assert y.shape == (500, 3)
        assert y.double().std() > 0.5


def linear_model(y=None, scale=0.5):
    A = torch.linspace(-1, 1, 12).reshape(4, 3)
    x = pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    return pyro.sample("y", OneBit(x @ A.T, scale=scale).to_event(1), obs=y)


def test_observed_site_scores_as_an_event():
    y = torch.tensor([1.0, -1.0, 1.0, 1.0])
    trace = poutine.trace(linear_model).get_trace(y)
    trace.compute_log_prob()
    site = trace.nodes["y"]
    assert site["fn"].event_shape == (4,)
    assert site["log_prob"].shape == ()
    loc = trace.nodes["x"]["value"] @ torch.linspace(-1, 1, 12).reshape(4, 3).T
    expected = torch.special.log_ndtr(y * loc / 0.5).sum()
    assert torch.allclose(site["log_prob"], expected, rtol=1e-5)


def test_zero_one_data_in_a_model_is_refused():
    with pytest.raises(ValueError, match=r"2 \* y - 1"):
        poutine.trace(linear_model).get_trace(torch.tensor([1.0, 0.0, 1.0, 1.0])).log_prob_sum()


def test_predictive_and_vectorised_particles():
    x = torch.randn(6, 3)
    draws = Predictive(linear_model, {"x": x})()["y"]
    assert draws.shape == (6, 4)
    assert signs.check(draws).all()
    batched = Predictive(linear_model, num_samples=6, parallel=True)()["y"]
    assert batched.squeeze().shape == (6, 4)


def test_plates_expand_the_batch():
    def model(y=None, k=None):
        with pyro.plate("rows", 5, dim=-1):
            pyro.sample("y", OneBit(torch.tensor(0.3), 1.0), obs=y)
            pyro.sample("k", Quantized(torch.tensor(0.3), 1.0, EDGES.float()), obs=k)

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    for name in ("y", "k"):
        assert trace.nodes[name]["value"].shape == (5,)
        assert trace.nodes[name]["log_prob"].shape == (5,)


def test_masks_leave_out_measurements():
    loc, mask = torch.randn(6), torch.tensor([1, 0, 1, 1, 0, 1]).bool()
    for d in (OneBit(loc, 1.0), Quantized(loc, 1.0, EDGES.float())):
        y = d.sample()
        expected = torch.where(mask, d.log_prob(y), 0.0)
        assert torch.equal(d.mask(mask).log_prob(y), expected)


def test_enumeration_sums_out_a_latent_sign():
    def model():
        y = pyro.sample("y", OneBit(0.4, 1.0, flip=0.1), infer={"enumerate": "parallel"})
        k = pyro.sample("k", Quantized(y, 1.0, EDGES.float()), infer={"enumerate": "parallel"})
        pyro.sample("v", dist.Normal(k.float(), 1.0), obs=torch.tensor(1.5))

    evidence = torch.tensor(0.0)
    d = OneBit(0.4, 1.0, flip=0.1)
    for y in (-1.0, 1.0):
        for k in range(6):
            joint = d.log_prob(torch.tensor(y))
            joint = joint + Quantized(y, 1.0, EDGES.float()).log_prob(torch.tensor(k))
            joint = joint + dist.Normal(float(k), 1.0).log_prob(torch.tensor(1.5))
            evidence = evidence + joint.exp()
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(model, lambda: None)
    assert loss == pytest.approx(-evidence.log().item(), rel=1e-5)


def test_scale_can_be_learned():
    y = torch.tensor([1.0, 1.0, -1.0, 1.0])
    scale = torch.tensor(0.5, requires_grad=True)
    trace = poutine.trace(linear_model).get_trace(y, scale=scale)
    trace.log_prob_sum().backward()
    assert torch.isfinite(scale.grad)
    assert scale.grad != 0


def test_documented_attributes():
    d, q = OneBit(0.0, 1.0), Quantized(0.0, 1.0, EDGES)
    assert not d.has_rsample
    assert not q.has_rsample
    assert d.has_enumerate_support
    assert q.has_enumerate_support
    assert constraints.is_dependent(Quantized.support)
    assert d.support.is_discrete
    assert q.support.is_discrete
    assert repr(d.support) == "signs {-1, +1}"
    assert "threshold" in repr(d)


@pytest.mark.parametrize(
    ("y", "advice"),
    [
        (torch.tensor([0.0, 1.0, 1.0]), r"convert it with 2 \* y - 1"),
        (torch.tensor([0, 1, 1]), r"convert it with 2 \* y - 1"),
        (torch.tensor([0, 1, 1], dtype=torch.uint8), r"2 \* y\.to\(torch\.int8\) - 1"),
        (torch.tensor([False, True, True]), r"2 \* y\.to\(torch\.int8\) - 1"),
        (torch.tensor([True, True, True]), r"2 \* y\.to\(torch\.int8\) - 1"),
        (torch.tensor([-1.0, 0.5, 2.0]), "2 of its 3 values are not, such as 0.5"),
        (torch.tensor([-1.0, 0.0, 1.0]), "1 of its 3 values are not, such as 0.0"),
        (torch.tensor([-1.0, math.nan, 1.0]), "such as nan"),
        (torch.tensor([1, 1, 1], dtype=torch.uint8), r"2 \* y\.to\(torch\.int8\) - 1"),
        (torch.tensor([1, 255, 1], dtype=torch.uint8), "in a signed real dtype, not torch.uint8"),
        (torch.tensor([1.0 + 0j, -1, 1]), "in a signed real dtype, not torch.complex64"),
    ],
)
def test_wrong_signs_are_explained(y, advice):
    with pytest.raises(InputError, match=f"y must be -1 or \\+1.*{advice}"):
        OneBit(torch.zeros(3), 1.0).log_prob(y)


def test_advice_for_unsigned_signs_works():
    y = torch.tensor([0, 1], dtype=torch.uint8)
    assert (2 * y.to(torch.int8) - 1).tolist() == [-1, 1]


def test_signs_are_not_checked_when_validation_is_off():
    d = OneBit(torch.zeros(2), 1.0, validate_args=False)
    assert torch.isfinite(d.log_prob(torch.tensor([0.0, 1.0]))).all()


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (torch.tensor([0, 6]), "from 0 to 5, 1 of its 2 values are not, such as 6"),
        (torch.tensor([-1, 1]), "such as -1"),
        (torch.tensor([0.0, 1.5]), "such as 1.5"),
        (torch.tensor([0.0, math.nan]), "such as nan"),
        (torch.tensor([True, False]), "not torch.bool"),
        (torch.tensor([1 + 0j, 0]), "not torch.complex64"),
    ],
)
def test_wrong_bins_are_explained(k, message):
    with pytest.raises(InputError, match=message):
        Quantized(torch.zeros(2, dtype=torch.float64), 1.0, EDGES).log_prob(k)


@pytest.mark.parametrize("d", [OneBit(torch.zeros(3), 1.0), Quantized(0.0, 1.0, EDGES)])
def test_values_must_be_tensors(d):
    with pytest.raises(ValueError, match="must be a Tensor"):
        d.log_prob(1.0)


def test_values_must_broadcast():
    with pytest.raises(ValueError, match="broadcast"):
        OneBit(torch.zeros(3), 1.0).log_prob(torch.ones(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"link": "cloglog"}, "link must be 'probit' or 'logistic', not 'cloglog'"),
        ({"scale": "1"}, "scale must be a tensor or a number, not str"),
        ({"flip": True}, "flip must be a tensor or a number, not bool"),
        ({"threshold": torch.tensor([1, 2, 3])}, "threshold must be float32 or float64"),
        ({"loc": torch.zeros(3).half()}, "loc must be float32 or float64, not torch.float16"),
        ({"scale": torch.ones(2)}, r"do not broadcast: loc \(3,\), scale \(2,\)"),
    ],
)
def test_wrong_one_bit_parameters(arguments, message):
    # These are checked whether or not validation is on.
    with pytest.raises(InputError, match=message):
        OneBit(**{"loc": torch.zeros(3), "scale": 1.0, "validate_args": False, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"loc": math.nan},
        {"scale": 0.0},
        {"scale": -1.0},
        {"threshold": math.nan},
        {"flip": -0.1},
        {"flip": 0.5},
    ],
)
def test_one_bit_parameters_outside_their_domain(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"parameter {name} "):
        OneBit(**{"loc": torch.zeros(3), "scale": 1.0, **arguments})


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([0.0, 1.0], r"tensor of shape \(K,\), K at least 1, not list"),
        (torch.tensor(0.0), r"not \(\)"),
        (torch.zeros(0), r"not \(0,\)"),
        (torch.zeros(2, 2), r"not \(2, 2\)"),
        (torch.tensor([0, 1]), "edges must be float32 or float64"),
        (torch.tensor([0.0, 0.0]), r"strictly increasing, not \[0.0, 0.0\]"),
        (torch.tensor([1.0, 0.0]), "strictly increasing"),
        (torch.tensor([0.0, math.inf]), "finite"),
        (torch.tensor([math.nan]), "finite"),
    ],
)
def test_wrong_edges(edges, message):
    with pytest.raises(InputError, match=message):
        Quantized(torch.zeros(3), 1.0, edges, validate_args=False)


@pytest.mark.parametrize("arguments", [{"loc": math.inf * 0}, {"scale": 0.0}])
def test_quantized_parameters_outside_their_domain(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"parameter {name} "):
        Quantized(**{"loc": 0.0, "scale": 1.0, "edges": EDGES, **arguments})


def test_quantized_shapes_must_broadcast():
    with pytest.raises(InputError, match=r"do not broadcast: loc \(3,\), scale \(2,\)"):
        Quantized(torch.zeros(3), torch.ones(2), EDGES.float())


def test_types_are_promoted_as_in_arithmetic():
    single, many = torch.zeros(3), double(0.1, 0.2, 0.3)
    assert OneBit(single, 0.5).loc is single
    assert OneBit(single, double(1.0)[0]).log_prob(torch.ones(3)).dtype == torch.float32
    promoted = OneBit(single, 0.5, threshold=many)
    assert promoted.loc.dtype == promoted.sample().dtype == torch.float64
    torch.testing.assert_close(promoted.margin, -2 * many)
    assert Quantized(many, 0.5, torch.tensor([0.0, 1.0])).edges.dtype == torch.float64
