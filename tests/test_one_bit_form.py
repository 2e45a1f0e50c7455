"""Closed forms of one-bit data against quadrature of the likelihood itself."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.logistic_mixture import PROBABILITIES, SCALES

DOUBLE = {"dtype": torch.float64}
MEAN = torch.tensor([-1.5, 0.0, 0.4, 2.5], **DOUBLE)
VARIANCE = torch.tensor([0.09, 1.0, 2.25, 0.5], **DOUBLE)


def make_form(link, flip):
    return OneBitForm(
        y=torch.tensor([1.0, -1.0, 1.0, -1.0], **DOUBLE),
        threshold=torch.tensor([0.3, -0.2, 0.0, 1.0], **DOUBLE),
        scale=torch.tensor([0.5, 0.2, 1.0, 0.7], **DOUBLE),
        flip=flip,
        link=link,
    )


FORMS = {
    "probit": make_form("probit", 0.0),
    "logistic": make_form("logistic", 0.0),
    "probit with flips": make_form("probit", torch.tensor([0.05, 0.2, 0.0, 0.1], **DOUBLE)),
    "logistic with flips": make_form("logistic", torch.tensor([0.05, 0.2, 0.0, 0.1], **DOUBLE)),
    "one flip probability": make_form("probit", 0.1),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def normal_density(t, mean, variance):
    return torch.exp(-0.5 * (t - mean).square() / variance) / (2 * torch.pi * variance).sqrt()


def output_density(form, mean=MEAN, variance=VARIANCE):
    """Points of t, shape (points, m), and N(t) p(y | t) there."""
    t = mean + torch.linspace(-12, 12, 24_001, **DOUBLE)[:, None] * variance.sqrt()
    return t, normal_density(t, mean, variance) * form.log_likelihood(t).exp()


def assert_law(draws, points, density):
    """Kolmogorov-Smirnov on each column; one test in ten thousand fails by chance."""
    cumulated = torch.cumulative_trapezoid(density, points, dim=0)
    for i in range(draws.shape[1]):
        grid, values = points[1:, i].numpy(), (cumulated[:, i] / cumulated[-1, i]).numpy()
        result = kstest(draws[:, i].numpy(), lambda t, g=grid, v=values: np.interp(t, g, v))
        assert result.pvalue > 1e-4


@every_form
def test_smoothed_likelihood_and_its_gradient(form):
    def by_quadrature(mean):
        t, density = output_density(form, mean)
        return torch.trapezoid(density, t, dim=0)

    mean = MEAN.clone().requires_grad_()
    value = form.smoothed_log_likelihood(mean[None], VARIANCE)[0]
    # 2.2e-9 for the logistic mixture, and the quadrature's own error
    torch.testing.assert_close(value.exp(), by_quadrature(MEAN), rtol=0, atol=5e-9)
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    h = 1e-3
    expected = (by_quadrature(MEAN + h).log() - by_quadrature(MEAN - h).log()) / (2 * h)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


@every_form
def test_smoothed_likelihood_without_smoothing_is_the_likelihood(form):
    smoothed = form.smoothed_log_likelihood(MEAN[None], 0.0).exp()
    torch.testing.assert_close(smoothed, form.log_likelihood(MEAN[None]).exp(), rtol=0, atol=3e-9)


@every_form
def test_smoothed_likelihood_shapes_and_vmap(form):
    mean = torch.randn(3, 4, **DOUBLE)
    variance = torch.rand(3, 1, **DOUBLE)
    together = form.smoothed_log_likelihood(mean, variance)
    assert together.shape == (3, 4)
    one_by_one = torch.vmap(form.smoothed_log_likelihood)(mean, variance)
    torch.testing.assert_close(together, one_by_one)


@every_form
def test_output_law(form):
    torch.manual_seed(0)
    draws = form.draw_output(MEAN.expand(20_000, 4), VARIANCE)
    assert_law(draws, *output_density(form))


@every_form
def test_output_law_with_extra_noise(form):
    torch.manual_seed(3)
    draws = form.draw_output(MEAN.expand(20_000, 4), VARIANCE, extra_noise=0.8)
    points = MEAN + torch.linspace(-12, 12, 20_001, **DOUBLE)[:, None]
    likelihood = form.smoothed_log_likelihood(points, 0.8).exp()
    assert_law(draws, points, likelihood * normal_density(points, MEAN, VARIANCE))


@every_form
def test_noise_variance(form):
    expected = form.scale**2
    if form.link == "logistic":
        squares = sum(p / s**2 for p, s in zip(PROBABILITIES, SCALES, strict=True))
        expected = expected * squares
    torch.testing.assert_close(form.noise_variance, expected, rtol=1e-5, atol=0)


@every_form
@pytest.mark.parametrize("variance", [0.0, VARIANCE], ids=["known output", "normal output"])
def test_latent_law(form, variance):
    """``w`` is normal, or a mixture of normals, times the probability of its sign's record."""
    torch.manual_seed(1)
    w, total = form.draw_latent(MEAN.expand(20_000, 4), variance)
    assert w.shape == total.shape == (20_000, 4)
    difference = MEAN - form.threshold
    components = [(1.0, 1.0)]
    if form.link == "logistic":
        components = list(zip(PROBABILITIES, SCALES, strict=True))
    points = difference + torch.linspace(-25, 25, 50_001, **DOUBLE)[:, None]
    sign = torch.where(points == 0, 0.5, (points.sign() == form.y).double())
    record = form.flip + (1 - 2 * form.flip) * sign
    joint = []
    for probability, s in components:
        component_variance = variance + (form.scale / s).square()
        joint.append(probability * record * normal_density(points, difference, component_variance))
    assert_law(w, points, sum(joint))

    evidence = torch.stack([torch.trapezoid(density, points, dim=0) for density in joint])
    posterior = evidence / evidence.sum(0)
    for k, (_, s) in enumerate(components):
        here = torch.isclose(total, variance + (form.scale / s).square(), rtol=1e-9)
        error = (posterior[k] * (1 - posterior[k]) / len(w)).sqrt()
        # five standard errors, and the rule of three for components that never appear
        assert ((here.double().mean(0) - posterior[k]).abs() <= 5 * error + 3 / len(w)).all()
    if isinstance(form.flip, float) and form.flip == 0.0:
        assert (w * form.y >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_component_far_in_the_tail_follows_the_one_near_it(dtype):
    """The plain probabilities give way to their logarithms where they would vanish."""
    scale = torch.ones(1, dtype=dtype)
    form = OneBitForm(scale, 0 * scale, scale, 0.0, "logistic")
    widest = (1.0 / min(SCALES)) ** 2
    for margin in (-11.9 / min(SCALES), -12.1 / min(SCALES), -60.0 / min(SCALES)):
        torch.manual_seed(4)
        w, total = form.draw_latent(torch.full((2000, 1), margin, dtype=dtype))
        assert (w > 0).all()
        # that far out only the widest component has any probability
        torch.testing.assert_close(total, torch.full_like(total, widest))


def test_latent_component_belongs_to_its_noise():
    """Given the component, the noise has that component's variance: mean square of w by hand."""
    torch.manual_seed(2)
    form = make_form("logistic", 0.0)
    w, total = form.draw_latent(MEAN.expand(100_000, 4), VARIANCE)
    difference = MEAN - form.threshold
    for k in (1, 3, 6):
        variance = VARIANCE + (form.scale / SCALES[k]).square()
        here = torch.isclose(total, variance, rtol=1e-9)
        deviation = variance.sqrt()
        z = form.y * difference / deviation
        ratio = torch.exp(-0.5 * z.square() - torch.special.log_ndtr(z)) / (2 * torch.pi) ** 0.5
        expected = form.y * (form.y * difference + deviation * ratio)
        for i in range(4):
            chosen = w[:, i][here[:, i]]
            # five standard errors
            assert abs(chosen.mean() - expected[i]) < 5 * chosen.std() / len(chosen) ** 0.5


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("distance", [5.0, 20.0, 40.0])
def test_far_tail_in_single_precision(name, distance):
    """An output many deviations on the wrong side: finite draws with the mean of the exact law."""
    torch.manual_seed(3)
    double = FORMS[name]
    flip = double.flip.float() if isinstance(double.flip, torch.Tensor) else double.flip
    form = OneBitForm(
        double.y.float(), double.threshold.float(), double.scale.float(), flip, double.link
    )
    variance = VARIANCE.float()
    mean = form.threshold - distance * form.y * (variance + form.scale.square()).sqrt()
    t = form.draw_output(mean.expand(20_000, 4), variance)
    w, total = form.draw_latent(mean.expand(20_000, 4), variance)
    assert t.isfinite().all()
    assert w.isfinite().all()
    assert (total > variance).all()
    value = mean.clone().requires_grad_()
    smoothed = form.smoothed_log_likelihood(value[None], variance)
    (gradient,) = torch.autograd.grad(smoothed.sum(), value)
    assert smoothed.isfinite().all()
    assert gradient.isfinite().all()
    if name == "probit":
        points = torch.linspace(-4, 4 + 1.2 * distance, 200_001, **DOUBLE)[:, None]
        points = mean.double() + form.y.double() * points * variance.double().sqrt()
        log_density = -0.5 * (
            points - mean.double()
        ).square() / variance.double() + double.log_likelihood(points)
        weight = torch.softmax(log_density, 0)
        expected = (weight * points).sum(0)
        deviation = (weight * (points - expected).square()).sum(0).sqrt()
        # five standard errors, and single precision of numbers as large as the distance
        tolerance = 5 * deviation / len(t) ** 0.5 + 1e-6 * distance
        assert ((t.double().mean(0) - expected).abs() < tolerance).all()
        assert torch.allclose(t.double().std(0), deviation, rtol=0.05)


def test_smallest_noise_variance():
    probit, logistic = FORMS["probit"], FORMS["logistic"]
    torch.testing.assert_close(probit.smallest_noise_variance, probit.scale.square())
    torch.manual_seed(4)
    _, variances = logistic.draw_latent(logistic.threshold.expand(20_000, 4))
    torch.testing.assert_close(logistic.smallest_noise_variance, variances.amin(0))
