"""Ready-made models: exact likelihoods, and every way in which Pyro runs a model."""

import math
from functools import partial

import mpmath
import pyro
import pytest
import scipy.stats
import torch
from pyro import poutine
from pyro.infer import Predictive
from pyro.infer.importance import vectorized_importance_weights
from torch.distributions import LogNormal, Normal, StudentT

from bayes1bit import models
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import DiffOneBit, GradientStep, Target
from bayes1bit.models.comparisons import PairDifferences
from bayes1bit.operators import Dense, Downsample, Hadamard, Identity

EVENT = (1, 4, 4)
M = 8
EDGES = torch.tensor([-1.0, 0.2, 1.5])
THRESHOLD = torch.linspace(-1, 1, M)
OPERATOR = Hadamard(EVENT, M, seed=3)
SMALL = Downsample(EVENT, 2)
EXPOSURES = torch.tensor([0.5, 2.0, 8.0])
STIMULI = torch.randn(M, *EVENT, generator=torch.Generator().manual_seed(4))
PAIRS = torch.tensor([[0, 5], [5, 0], [7, 2], [3, 4], [1, 6], [2, 0], [6, 3]])


@pytest.fixture(scope="module")
def prior():
    means = torch.randn(3, *EVENT, generator=torch.Generator().manual_seed(0))
    return GaussianMixturePrior(means, 0.3)


# written out in double precision, where the tails that occur here do not underflow


def probit_log_likelihood(x, y):
    z = y * (OPERATOR(x.double()) - THRESHOLD) / 0.5
    return ((1 - 2 * 0.1) * torch.special.ndtr(z) + 0.1).log().sum(-1)


def logistic_log_likelihood(x, y):
    z = (OPERATOR(x.double()) + 0.3) / 0.7
    return torch.nn.functional.logsigmoid((2 * y - 1) * z).sum(-1)


def normal_cdf(z):
    return 0.5 * torch.erfc(-z / 2**0.5)


def quantized_log_likelihood(x, y, edges=EDGES, added=0.0, scale=0.5, cdf=normal_cdf):
    ends = torch.cat([torch.tensor([-torch.inf]), edges, torch.tensor([torch.inf])])
    z = (ends[:, None] - OPERATOR(x.double())[..., None, :] - added) / scale
    # on the side of zero where differences keep their digits
    upper = (z[..., :-1, :] > 0).double()
    mass = (1 - upper) * cdf(z).diff(dim=-2) - upper * cdf(-z).diff(dim=-2)
    return mass.gather(-2, y[..., None, :].expand(*x.shape[:-3], 1, M)).log().sum((-1, -2))


def adc_log_likelihood(x, y):
    edges = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
    return quantized_log_likelihood(x, y, edges, 0.3 * THRESHOLD, 0.4)


def odds_log_likelihood(x, y):
    return quantized_log_likelihood(x, y, scale=0.8, cdf=torch.sigmoid)


def student_log_likelihood(x, y):
    return StudentT(2.5, OPERATOR(x.double()), 0.3).log_prob(y).sum(-1)


def photon_log_likelihood(x, y):
    bend = torch.log1p(torch.exp((1 + x.double().flatten(-3)) / 0.2)) * 0.1
    rate = EXPOSURES[:, None] * (3.0 * bend + 0.02).unsqueeze(-2)
    return torch.where(y == 1, (-torch.expm1(-rate)).log(), -rate).sum((-1, -2))


def comparison_log_likelihood(x, y):
    scores = OPERATOR(x.double())
    z = scores[..., PAIRS[:, 0]] - scores[..., PAIRS[:, 1]] + 0.2
    return torch.nn.functional.logsigmoid(y * z / 0.6).sum(-1)


def observer_log_likelihood(x, y):
    z = 0.3 * ((x.double() + 1).flatten(-3) @ STIMULI.flatten(1).double().T) - 0.4
    return torch.nn.functional.logsigmoid((2 * y - 1) * z).sum(-1)


def normal_log_likelihood(x, y):
    return Normal(SMALL(x.double()), 0.2).log_prob(y).sum(-1)


CASES = {
    "one_bit_cs": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, threshold=THRESHOLD, flip=0.1),
        (M,),
        probit_log_likelihood,
    ),
    "logistic_regression": (
        lambda prior: models.logistic_regression(prior, OPERATOR, intercept=0.3, scale=0.7),
        (M,),
        logistic_log_likelihood,
    ),
    "quantized_cs": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.5, EDGES),
        (M,),
        quantized_log_likelihood,
    ),
    "super_resolution": (
        lambda prior: models.super_resolution(prior, 2, 0.2),
        (4,),
        normal_log_likelihood,
    ),
    "heavy_tailed_cs": (
        lambda prior: models.heavy_tailed_cs(prior, OPERATOR, 0.3, df=2.5),
        (M,),
        student_log_likelihood,
    ),
    "dithered_adc": (
        lambda prior: models.dithered_adc(
            prior, OPERATOR, 0.4, bits=3, full_scale=2.0, dither=0.3 * THRESHOLD
        ),
        (M,),
        adc_log_likelihood,
    ),
    "quanta_image_sensor": (
        lambda prior: models.quanta_image_sensor(
            prior, 3.0, exposures=EXPOSURES, dark=0.02, softness=0.1
        ),
        (3, 16),
        photon_log_likelihood,
    ),
    "classification_images": (
        lambda prior: models.classification_images(prior, STIMULI, 0.3, intercept=-0.4),
        (M,),
        observer_log_likelihood,
    ),
    "ordinal_regression": (
        lambda prior: models.ordinal_regression(prior, OPERATOR, EDGES, scale=0.8),
        (M,),
        odds_log_likelihood,
    ),
    "bradley_terry": (
        lambda prior: models.bradley_terry(prior, PAIRS, OPERATOR, scale=0.6, advantage=0.2),
        (7,),
        comparison_log_likelihood,
    ),
}


@pytest.fixture(params=CASES)
def case(request, prior):
    """A model, the shape of its data, and its log-likelihood written out again."""
    make, shape, log_likelihood = CASES[request.param]
    return make(prior), shape, log_likelihood


def test_simulation_gives_data_that_the_model_can_score(case):
    model, shape, _ = case
    pyro.set_rng_seed(0)
    y = model()
    assert y.shape == shape
    assert poutine.trace(model).get_trace(y).nodes["y"]["is_observed"]


def test_condition_scores_the_exact_likelihood(case, prior):
    model, _, log_likelihood = case
    pyro.set_rng_seed(0)
    x, y = prior.sample(), model()
    conditioned = poutine.condition(model, data={"x": x, "y": y})
    trace = poutine.trace(conditioned).get_trace()
    trace.compute_log_prob()
    # single precision
    torch.testing.assert_close(
        trace.nodes["y"]["log_prob"].double(), log_likelihood(x, y), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_signals_and_data(case, parallel):
    model, shape, _ = case
    pyro.set_rng_seed(0)
    draws = Predictive(model, num_samples=5, parallel=parallel)()
    assert draws["x"].shape == (5, *EVENT)
    assert draws["y"].shape == (5, *shape)


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_of_posterior_samples(case, prior, parallel):
    model, shape, _ = case
    pyro.set_rng_seed(0)
    samples = {"x": prior.sample((5,))}
    assert Predictive(model, samples, parallel=parallel)()["y"].shape == (5, *shape)


def test_vectorised_importance_weights_are_the_likelihood(case, prior):
    model, _, log_likelihood = case
    pyro.set_rng_seed(0)
    y = model()

    def guide(y=None):
        pyro.sample("x", prior)

    weights, model_trace, _ = vectorized_importance_weights(
        model, guide, y, num_samples=6, max_plate_nesting=1, normalized=False
    )
    x = model_trace.nodes["x"]["value"]
    assert x.shape == (6, 1, *EVENT)
    expected = log_likelihood(x[:, 0], y)
    # the prior's log density cancels, to rounding of numbers near 10
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-4)


def test_plate_of_signals(case):
    model, shape, log_likelihood = case
    pyro.set_rng_seed(0)

    def signals():
        with pyro.plate("signals", 3):
            return model()

    trace = poutine.trace(signals).get_trace()
    trace.compute_log_prob()
    site = trace.nodes["y"]
    assert site["value"].shape == (3, *shape)
    expected = log_likelihood(trace.nodes["x"]["value"], site["value"])
    torch.testing.assert_close(site["log_prob"].double(), expected, rtol=1e-4, atol=1e-5)


def test_inference_runs_and_sees_the_operator(case):
    model, shape, _ = case
    pyro.set_rng_seed(0)
    y = model()
    target = Target.from_model(model, y)
    assert target.structure is not None
    assert target.structure.operator.m == shape[-1]
    algorithm = DiffOneBit(
        model, num_samples=2, num_levels=3, data_step=GradientStep(2), progress=False
    )
    assert algorithm.run(y).samples.shape == (2, *EVENT)


def test_one_bit_models_are_recognised_as_such(prior):
    y = torch.ones(M)
    model = models.one_bit_cs(prior, OPERATOR, 0.5, threshold=THRESHOLD, link="logistic")
    form = Target.from_model(model, y).structure.one_bit
    torch.testing.assert_close(form.threshold, THRESHOLD)
    model = models.logistic_regression(prior, OPERATOR, intercept=THRESHOLD, scale=0.5)
    form = Target.from_model(model, y).structure.one_bit
    assert form.link == "logistic"
    # from finite differences in single precision
    torch.testing.assert_close(form.threshold, -THRESHOLD, atol=1e-5, rtol=0)
    torch.testing.assert_close(form.scale, torch.full((M,), 0.5), atol=1e-5, rtol=0)


def test_logistic_regression_refuses_signs_and_integers(prior):
    model = models.logistic_regression(prior, OPERATOR)
    with pytest.raises(InputError, match=r"y must be 0 or 1, 8 of its 8 values are not"):
        Target.from_model(model, -torch.ones(M))
    with pytest.raises(InputError, match=r"are torch\.int64; give floating-point 0 and 1"):
        Target.from_model(model, torch.ones(M, dtype=torch.int64))


def test_simulated_data_have_the_probabilities_of_the_likelihood(case, prior):
    """Of data simulated at x the ratio p(y | x') / p(y | x) has the mean 1, whatever x' is."""
    model, shape, log_likelihood = case
    pyro.set_rng_seed(1)
    x = prior.sample().expand(4000, *EVENT)
    with pyro.plate("copies", 4000):
        y = poutine.condition(model, {"x": x})()
    assert y.shape == (4000, *shape)
    here = log_likelihood(x, y)
    for _ in range(8):
        ratio = (log_likelihood(x + 0.1 * torch.randn(EVENT), y) - here).exp()
        assert 0.01 < ratio.std() < 2
        assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / 4000**0.5


def on_line(make, t, y):
    """Log-likelihoods of one measurement whose operator delivers ``t``, in double precision."""
    t = t.double()
    line = GaussianMixturePrior(torch.zeros(1, 1, dtype=torch.float64), 1.0)
    x = t[:, None].clone().requires_grad_()
    with pyro.plate("points", len(t)):
        conditioned = poutine.condition(make(line), data={"x": x, "y": y.expand(len(t), *y.shape)})
        trace = poutine.trace(conditioned).get_trace()
    trace.compute_log_prob()
    log_prob = trace.nodes["y"]["log_prob"]
    (slope,) = torch.autograd.grad(log_prob.sum(), x)
    return log_prob.tolist(), slope[:, 0].tolist()


LINE, ONE = Dense(torch.ones(1, 1, dtype=torch.float64)), torch.ones(1, 1)


def quanta_exact(t):
    """A photon of a pixel of flux 5 * 0.05 * softplus((1 + t) / 0.1)."""
    t = mpmath.mpf(t)
    rate = 5 * mpmath.mpf(0.05) * mpmath.log1p(mpmath.exp((1 + t) / (2 * mpmath.mpf(0.05))))
    return mpmath.log(-mpmath.expm1(-rate))


def odds_exact(t):
    """The middle one of three categories, of proportional odds."""
    a, b = (1 / (1 + mpmath.exp(-(mpmath.mpf(e) - mpmath.mpf(t)) / 0.5)) for e in (-1, 1))
    return mpmath.log(b - a)


def adc_exact(t):
    """The last but one of eight codes, 0.5 wide, of a converter that saturates at 2."""
    low, high = (2 * (mpmath.mpf(e) - mpmath.mpf(t) - mpmath.mpf(0.125)) for e in (1, 1.5))
    if low > 0:  # the upper tail keeps the digits that a difference near 1 loses
        low, high = -high, -low
    return mpmath.log(mpmath.ncdf(high) - mpmath.ncdf(low))


def student_exact(t):
    return mpmath.mpf(scipy.stats.t.logpdf(1.0, 3, t, 0.25))


TAILS = {
    "quanta_image_sensor": (
        lambda prior: models.quanta_image_sensor(prior, 5.0),
        ONE,
        quanta_exact,
    ),
    "ordinal_regression": (
        lambda prior: models.ordinal_regression(
            prior, LINE, torch.tensor([-1.0, 1.0], dtype=torch.float64), scale=0.5
        ),
        torch.tensor([1]),
        odds_exact,
    ),
    "dithered_adc": (
        lambda prior: models.dithered_adc(prior, LINE, 0.5, bits=3, full_scale=2.0, dither=0.125),
        torch.tensor([6]),
        adc_exact,
    ),
    "heavy_tailed_cs": (
        lambda prior: models.heavy_tailed_cs(prior, LINE, 0.25),
        torch.tensor([1.0], dtype=torch.float64),
        student_exact,
    ),
}


@pytest.mark.parametrize("name", TAILS)
def test_tails_are_exact_in_value_and_gradient(name):
    make, y, exact = TAILS[name]
    # 40 noise scales away; in the dark, exp(-200) of the flux
    t = torch.arange(-21, 21) * 1.0 - 0.25
    values, slopes = on_line(make, t, y)
    with mpmath.workdps(100):
        for at, value, slope in zip(t.tolist(), values, slopes, strict=True):
            expected = exact(at)
            assert abs(mpmath.mpf(value) - expected) < 1e-11 * (1 + abs(expected))
            if name != "heavy_tailed_cs":
                expected = mpmath.diff(exact, at, h=mpmath.mpf(10) ** -30)
                assert abs(mpmath.mpf(slope) - expected) < 1e-10 * (1 + abs(expected))


def test_dark_pixels_and_saturated_codes_are_data():
    """What no picture of the prior would give still pulls it to where the data are."""
    _, slopes = on_line(lambda p: models.quanta_image_sensor(p, 5.0), -LINE.matrix[0] * 20, ONE)
    assert slopes == pytest.approx([10.0])
    converter = partial(models.dithered_adc, operator=LINE, scale=0.1, bits=2, full_scale=1.0)
    values, slopes = on_line(converter, torch.tensor([3.0, 1e3]), torch.tensor([3]))
    assert values == pytest.approx([0.0, 0.0])
    assert slopes == pytest.approx([0.0, 0.0])


def test_codes_are_those_of_the_formula():
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.zeros(1, 64), 1.0)
    dither = torch.rand(64) - 0.5
    model = models.dithered_adc(
        prior, Identity((64,)), 1e-6, bits=3, full_scale=1.5, dither=dither
    )
    x = prior.sample()
    codes = ((x + dither + 1.5) / (3.0 / 8)).floor().clamp(0, 7)
    assert torch.equal(poutine.condition(model, {"x": x})(), codes.long())
    assert codes.unique().numel() == 8


def test_flux_is_affine_but_for_its_bend():
    prior = GaussianMixturePrior(torch.zeros(1, 3), 1.0)
    model = models.quanta_image_sensor(prior, torch.tensor([2.0, 2.0, 4.0]), dark=0.1)
    trace = poutine.trace(poutine.condition(model, {"x": torch.tensor([1.0, 0.0, -1.0])}))
    rate = trace.get_trace().nodes["y"]["fn"].base_dist.log_rate.exp()
    expected = torch.tensor([[2.1, 1.1, 4 * 0.05 * math.log(2) + 0.1]])
    torch.testing.assert_close(rate, expected, atol=1e-4, rtol=0)


def test_differences_have_an_adjoint_and_are_recognised(prior):
    differences = PairDifferences(OPERATOR, PAIRS)
    x, v = torch.randn(5, *EVENT), torch.randn(5, 7)
    scores = OPERATOR(x)
    torch.testing.assert_close(differences(x), scores[:, PAIRS[:, 0]] - scores[:, PAIRS[:, 1]])
    inner = [(a * b).sum() for a, b in ((differences(x), v), (x, differences.T(v)))]
    torch.testing.assert_close(*inner, rtol=1e-4, atol=1e-4)
    for link, word in (("logistic", "logistic"), ("probit", "probit")):
        model = models.bradley_terry(prior, PAIRS, scale=0.5, advantage=0.2, link=link)
        target = Target.from_model(model, torch.ones(7))
        assert target.describe() == f"one-bit {word} of a general PairDifferences operator"
        torch.testing.assert_close(target.structure.one_bit.threshold, torch.full((7,), -0.2))


CHANNELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def test_unknown_gains_are_a_site_of_their_own(prior):
    model = models.unknown_gain_cs(prior, OPERATOR, 0.5, CHANNELS, THRESHOLD, spread=0.4)
    pyro.set_rng_seed(0)
    draws = Predictive(model, num_samples=2000, parallel=True)()
    assert draws["gain"].shape == (2000, 3)
    assert draws["y"].shape == (2000, M)
    # five standard errors of a standard deviation
    assert (draws["gain"].log().std(0) - 0.4).abs().max() < 5 * 0.4 / 4000**0.5
    gain = torch.tensor([0.5, 1.0, 2.0])
    x, y = prior.sample(), torch.ones(M)
    trace = poutine.trace(poutine.condition(model, {"x": x, "gain": gain, "y": y})).get_trace()
    trace.compute_log_prob()
    z = (gain[CHANNELS] * OPERATOR(x) - THRESHOLD) / 0.5
    expected = torch.special.log_ndtr(z.double()).sum()
    torch.testing.assert_close(
        trace.nodes["y"]["log_prob"].double(), expected, rtol=1e-5, atol=1e-5
    )
    expected = LogNormal(0.0, 0.4).log_prob(gain).sum()
    torch.testing.assert_close(trace.nodes["gain"]["log_prob"], expected)
    # with gains fixed it is one-bit compressed sensing of scaled rows
    form = Target.from_model(poutine.condition(model, {"gain": gain}), y).structure.one_bit
    torch.testing.assert_close(form.threshold, THRESHOLD / gain[CHANNELS])


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_super_resolution_is_downsampling(prior, kernel):
    pyro.set_rng_seed(0)
    model = models.super_resolution(prior, 2, 1e-6, kernel)
    trace = poutine.trace(model).get_trace()
    expected = Downsample(EVENT, 2, kernel)(trace.nodes["x"]["value"])
    torch.testing.assert_close(trace.nodes["y"]["value"], expected, atol=1e-4, rtol=0)


REFUSED = {
    "event shape": (
        lambda prior: models.one_bit_cs(prior, Hadamard((16,), M), 0.5),
        r"signals of shape \(16,\), but those of the prior have shape \(1, 4, 4\)",
    ),
    "zero scale": (lambda prior: models.one_bit_cs(prior, OPERATOR, 0), "scale must be positive"),
    "NaN scale": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, float("nan")),
        "scale must be positive and finite, got nan",
    ),
    "infinite scale": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, float("inf")),
        "scale must be positive and finite, got inf",
    ),
    "one bad scale": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, -THRESHOLD),
        "scale must be positive and finite, got -0.142857",
    ),
    "text": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, "loud"),
        "scale must be a number or a tensor, not str",
    ),
    "flag": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, True),
        "scale must be a number or a tensor, not bool",
    ),
    "threshold shape": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, threshold=torch.zeros(5)),
        r"threshold has shape \(5,\) for 8 measurements",
    ),
    "threshold": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, threshold=float("inf")),
        "threshold must be finite, got inf",
    ),
    "flip": (
        lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, flip=0.5),
        "flip must be at least 0 and below 0.5",
    ),
    "link": (lambda prior: models.one_bit_cs(prior, OPERATOR, 0.5, link="cauchit"), "link must"),
    "regression shape": (
        lambda prior: models.logistic_regression(prior, Dense(torch.ones(3, 16))),
        "make the operator with prior.event_shape",
    ),
    "regression scale": (
        lambda prior: models.logistic_regression(prior, OPERATOR, scale=-1.0),
        "scale must be positive",
    ),
    "intercept": (
        lambda prior: models.logistic_regression(prior, OPERATOR, intercept=torch.ones(3)),
        "intercept has shape",
    ),
    "quantizer shape": (
        lambda prior: models.quantized_cs(prior, Hadamard((16,), M), 0.5, EDGES),
        "make the operator with prior.event_shape",
    ),
    "quantizer scale": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.0, EDGES),
        "scale must be positive",
    ),
    "edges": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.5, EDGES.flip(0)),
        "strictly increasing",
    ),
    "quantizer link": (
        lambda prior: models.quantized_cs(prior, OPERATOR, 0.5, EDGES, link="cauchit"),
        "link must",
    ),
    "cutpoints": (
        lambda prior: models.ordinal_regression(prior, OPERATOR, EDGES.flip(0)),
        "strictly increasing",
    ),
    "degrees of freedom": (
        lambda prior: models.heavy_tailed_cs(prior, OPERATOR, 0.5, df=0.0),
        "df must be positive",
    ),
    "tailed scale": (
        lambda prior: models.heavy_tailed_cs(prior, OPERATOR, -0.5),
        "scale must be positive",
    ),
    "converter bits": (
        lambda prior: models.dithered_adc(prior, OPERATOR, 0.5, bits=0, full_scale=1.0),
        "bits must be a whole number from 1 to 16, got 0",
    ),
    "full scale": (
        lambda prior: models.dithered_adc(prior, OPERATOR, 0.5, bits=2, full_scale=-1.0),
        "full_scale must be positive",
    ),
    "dither": (
        lambda prior: models.dithered_adc(
            prior, OPERATOR, 0.5, bits=2, full_scale=1, dither=EDGES
        ),
        r"dither has shape \(3,\) for 8 measurements",
    ),
    "flux": (
        lambda prior: models.quanta_image_sensor(prior, 0.0),
        "max_flux must be positive",
    ),
    "dark": (
        lambda prior: models.quanta_image_sensor(prior, 1.0, dark=-0.1),
        "dark must be at least 0 and finite",
    ),
    "softness": (
        lambda prior: models.quanta_image_sensor(prior, 1.0, softness=0.0),
        "softness must be positive",
    ),
    "exposures": (
        lambda prior: models.quanta_image_sensor(prior, 1.0, exposures=2.0),
        r"exposures must be a tensor of shape \(frames,\), not float",
    ),
    "no exposure": (
        lambda prior: models.quanta_image_sensor(prior, 1.0, exposures=-EXPOSURES),
        "exposures must be positive",
    ),
    "optics": (
        lambda prior: models.quanta_image_sensor(prior, 1.0, operator=Hadamard((16,), M)),
        "make the operator with prior.event_shape",
    ),
    "pairs": (
        lambda prior: models.bradley_terry(prior, [(0, 1)]),
        r"pairs must be a tensor of shape \(m, 2\), not list",
    ),
    "no pairs": (
        lambda prior: models.bradley_terry(prior, PAIRS[:0]),
        r"torch.int64 tensor of shape \(m, 2\), not torch.int64 of shape \(0, 2\)",
    ),
    "items": (
        lambda prior: models.bradley_terry(prior, PAIRS + 1, OPERATOR),
        "pairs name item 8, but there are 8 items, from 0 to 7",
    ),
    "itself": (
        lambda prior: models.bradley_terry(prior, PAIRS.where(PAIRS != 2, 7)),
        "pair 2 compares an item with itself",
    ),
    "advantage": (
        lambda prior: models.bradley_terry(prior, PAIRS, advantage=THRESHOLD),
        r"advantage has shape \(8,\) for 7 measurements",
    ),
    "channels": (
        lambda prior: models.unknown_gain_cs(prior, OPERATOR, 0.5, CHANNELS.float(), 0.1),
        r"channels must be a torch.int64 tensor of shape \(8,\), not torch.float32",
    ),
    "negative channel": (
        lambda prior: models.unknown_gain_cs(prior, OPERATOR, 0.5, CHANNELS - 1, 0.1),
        "channels must be at least 0, got -1",
    ),
    "spread": (
        lambda prior: models.unknown_gain_cs(prior, OPERATOR, 0.5, CHANNELS, 0.1, spread=0.0),
        "spread must be positive",
    ),
    "factor": (lambda prior: models.super_resolution(prior, 3, 0.5), "factor 3 does not divide"),
    "kernel": (lambda prior: models.super_resolution(prior, 2, 0.5, "sinc"), "unknown kernel"),
    "resolution scale": (
        lambda prior: models.super_resolution(prior, 2, 0.0),
        "scale must be positive",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_are_checked_when_the_model_is_made(prior, case):
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        make(prior)
