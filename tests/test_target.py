"""The target finds signal, data and structure of any model, and scores as Pyro does."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Target
from bayes1bit.observation import OneBit, PhotonDetection, Quantized
from bayes1bit.operators import Gaussian, Hadamard

SHAPE = (1, 4, 4)
M = 8


class Laplacian(dist.TorchDistribution):
    """A user's own multivariate distribution: one number for all measurements."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.loc + torch.randn(sample_shape + self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return -(value - self.loc).abs().sum(-1)


@pytest.fixture(scope="module")
def prior() -> GaussianMixturePrior:
    torch.manual_seed(0)
    return GaussianMixturePrior(torch.randn(5, *SHAPE, dtype=torch.float64), 0.3)


@pytest.fixture(scope="module")
def operator() -> Hadamard:
    return Hadamard(SHAPE, M, seed=1)


def observe(prior, likelihood):
    """A model that draws x and hands it to ``likelihood(x, y)``."""

    def model(y=None):
        return likelihood(pyro.sample("x", prior), y)

    return model


def site(distribution, y, name="y"):
    return pyro.sample(name, distribution, obs=y)


def likelihoods(A):
    """Likelihoods by name: function, expected description of the structure."""

    def plated(x, y):
        with pyro.plate("measurements", M):
            return site(OneBit(A(x), 0.5), y)

    def masked(x, y):
        mask = torch.arange(M) < M - 2
        return site(OneBit(A(x), 0.5).mask(mask).to_event(1), y)

    def scaled(x, y):
        with poutine.scale(scale=0.25):
            return site(OneBit(A(x), 0.5).to_event(1), y)

    def scaled_plate(x, y):
        with pyro.plate("measurements", M), poutine.mask(mask=torch.arange(M) != 3):
            return site(OneBit(A(x), 0.5), y)

    def twice(x, y):
        site(dist.Normal(A(x), 1.0).to_event(1), y, "first")
        return site(OneBit(A(x), 0.5).to_event(1), y)

    def beside(x, y):
        site(dist.Normal(x.sum(), 1.0), torch.tensor(0.5, dtype=x.dtype), "sum")
        return site(OneBit(A(x), 0.5).to_event(1), y)

    def none(reason):
        return f"gradients only: {reason}"

    other = Hadamard(SHAPE, M, seed=2)
    one_bit = "one-bit probit of a row-orthogonal Hadamard operator"
    logistic = "one-bit logistic of a row-orthogonal Hadamard operator"
    separable = "separable likelihood of a row-orthogonal Hadamard operator"
    return {
        "probit": (lambda x, y: site(OneBit(A(x), 0.5).to_event(1), y), one_bit),
        "logistic": (
            lambda x, y: site(OneBit(A(x), 0.5, 0.2, link="logistic").to_event(1), y),
            logistic,
        ),
        "gain, offset and flips": (
            lambda x, y: site(OneBit(-2 * A(x) + 0.3, 0.5, 0.2, flip=0.1).to_event(1), y),
            one_bit,
        ),
        "Bernoulli": (
            lambda x, y: site(dist.Bernoulli(logits=3 * A(x) - 1).to_event(1), (y + 1) / 2),
            logistic,
        ),
        "Bernoulli probs": (
            lambda x, y: site(
                dist.Bernoulli(probs=torch.special.ndtr(A(x))).to_event(1), (y + 1) / 2
            ),
            separable,
        ),
        "Normal": (lambda x, y: site(dist.Normal(A(x), 0.5).to_event(1), y), separable),
        "Quantized": (
            lambda x, y: site(
                Quantized(A(x), 0.5, torch.tensor([-1.0, 0.0, 1.0])).to_event(1), (y > 0).long()
            ),
            separable,
        ),
        "signal reshaped by the user": (
            lambda x, y: site(OneBit(A(x.reshape(SHAPE)), 0.5).to_event(1), y),
            one_bit,
        ),
        "own": (
            lambda x, y: site(Laplacian(A(x)), y),
            none('site "y" does not have one measurement for each output'),
        ),
        "cubic link": (lambda x, y: site(OneBit(A(x) ** 3, 0.5).to_event(1), y), separable),
        "mixed measurements": (
            lambda x, y: site(OneBit(A(x).cumsum(-1), 0.5).to_event(1), y),
            none('a measurement of site "y" depends on several outputs'),
        ),
        "scale depends on x": (
            lambda x, y: site(OneBit(A(x), 0.1 + x.square().mean()).to_event(1), y),
            none('site "y" sees the signal beside the operator\'s output'),
        ),
        "no operator": (
            lambda x, y: site(OneBit(x.flatten()[:M], 0.5).to_event(1), y),
            none("the model calls no operator of bayes1bit"),
        ),
        "operator of something else": (
            lambda x, y: site(OneBit(A(x.abs()), 0.5).to_event(1), y),
            none("no operator acts on the signal itself"),
        ),
        "repeated bits": (
            lambda x, y: site(OneBit(A(x).expand(3, M), 0.5).to_event(2), y.expand(3, M)),
            separable,
        ),
        "plate": (plated, one_bit),
        "mask": (masked, separable),
        "scale": (scaled, separable),
        "masked plate": (scaled_plate, separable),
        "two sites": (twice, none("several sites depend on the operator's output: first, y")),
        "a second way": (beside, none('site "sum" sees the signal beside the operator\'s output')),
        "two operators": (
            lambda x, y: site(OneBit(A(x) + other(x), 0.5).to_event(1), y),
            none("several operators act on the signal"),
        ),
        "output without use": (
            lambda x, y: site(OneBit(0 * A(x), 0.5).to_event(1), y),
            none("no observed site depends on the operator's output"),
        ),
    }


NAMES = list(likelihoods(Hadamard(SHAPE, M, seed=1)))


@pytest.fixture
def signs():
    torch.manual_seed(2)
    return torch.randn(M, dtype=torch.float64).sign()


@pytest.mark.parametrize("name", NAMES)
def test_scores_as_pyro_does_and_finds_structure(name, prior, operator, signs):
    likelihood, expected = likelihoods(operator)[name]
    model = observe(prior, likelihood)
    target = Target.from_model(model, signs)
    assert target.describe() == expected
    x = prior.sample((3,))
    value, gradient = target.value_and_gradient(x)
    for i, signal in enumerate(x):
        leaf = signal.clone().requires_grad_()
        trace = poutine.trace(poutine.condition(model, {"x": leaf})).get_trace(signs)
        trace.compute_log_prob(site_filter=lambda name, site: name != "x")
        total = sum(trace.nodes[name]["log_prob_sum"] for name in target.observed)
        (expected_gradient,) = torch.autograd.grad(total, leaf)
        torch.testing.assert_close(value[i], total.detach())
        torch.testing.assert_close(gradient[i], expected_gradient)
    pointwise = target.pointwise_log_likelihood(x)
    summed = sum(part.reshape(len(x), -1).sum(1) for part in pointwise.values())
    torch.testing.assert_close(summed, value)
    for name, draws in target.posterior_predictive(x).items():
        assert draws.shape == (3, *target.observed[name].shape)


@pytest.mark.parametrize("name", NAMES)
def test_structure_agrees_with_the_model(name, prior, operator, signs):
    likelihood, _ = likelihoods(operator)[name]
    target = Target.from_model(observe(prior, likelihood), signs)
    if target.structure is None:
        return
    x = 3 * prior.sample((4,))
    t = target.structure.apply(x).detach().requires_grad_()
    total = target.structure.log_likelihood(t).sum(1)
    # differences of log-likelihoods: the structure leaves out data that do not see the signal
    reference = target.log_likelihood(x)
    torch.testing.assert_close(total - total[0], reference - reference[0])
    (slope,) = torch.autograd.grad(total.sum(), t)
    _, gradient = target.value_and_gradient(x)
    torch.testing.assert_close(target.structure.adjoint(slope, prior.event_shape), gradient)


def test_predictive_draws_follow_the_model(prior, operator):
    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.5).to_event(1), obs=y)

    torch.manual_seed(0)
    target = Target.from_model(model, torch.ones(M, dtype=torch.float64))
    x = prior.sample()
    draws = target.posterior_predictive(x.expand(4000, *SHAPE))["y"]
    expected = OneBit(operator(x), 0.5).mean
    # 4.5 standard errors of a mean of 4000 signs
    assert ((draws.mean(0) - expected).abs() < 4.5 / 4000**0.5).all()


def test_other_latent_sites_need_values(prior, operator, signs):
    def model(y=None):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), scale).to_event(1), obs=y)

    target = Target.from_model(model, signs)
    assert target.latents == ("scale",)
    assert target.structure is None
    x = prior.sample((2,))
    with pytest.raises(InputError, match="other latent sites than the signal: scale"):
        target.log_likelihood(x)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    value = target.log_likelihood(x, {"scale": scale})
    expected = OneBit(operator(x), scale[:, None]).log_prob(signs).sum(1)
    torch.testing.assert_close(value, expected)
    fixed = Target.from_model(pyro.condition(model, {"scale": torch.tensor(0.5)}), signs)
    # the scale is now data: it is scored, but does not see the signal
    assert fixed.structure is not None
    assert fixed.structure.one_bit is not None


def test_normal_form_of_gain_offset_and_threshold(prior, operator, signs):
    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(-2 * operator(x) + 0.3, 0.5, 0.2).to_event(1), obs=y)

    form = Target.from_model(model, signs).structure.one_bit
    torch.testing.assert_close(form.y, -signs)
    torch.testing.assert_close(form.threshold, torch.full((M,), 0.05, dtype=torch.float64))
    torch.testing.assert_close(form.scale, torch.full((M,), 0.25, dtype=torch.float64))


def test_general_operator_is_named(prior, signs):
    A = Gaussian(SHAPE, M, seed=0)
    target = Target.from_model(observe(prior, lambda x, y: site(OneBit(A(x), 1.0), y)), signs)
    assert target.describe() == "one-bit probit of a general Gaussian operator"


def test_tracing_does_not_sample_the_prior(operator, signs):
    class Unsampled(GaussianMixturePrior):
        def sample(self, sample_shape=()):
            raise AssertionError("reverse diffusion was run")

    prior = Unsampled(torch.zeros(1, *SHAPE, dtype=torch.float64), 1.0)
    model = observe(prior, lambda x, y: site(OneBit(operator(x), 1.0).to_event(1), y))
    assert isinstance(Target.from_model(model, signs).prior, DiffusionPrior)


def test_errors_name_what_is_missing(prior, operator, signs):
    def no_signal(y=None):
        return pyro.sample("y", dist.Normal(torch.zeros(M), 1.0).to_event(1), obs=y)

    with pytest.raises(InputError, match="no latent site with a diffusion prior"):
        Target.from_model(no_signal, signs)

    def two_signals(y=None):
        x, z = pyro.sample("x", prior), pyro.sample("z", prior)
        return pyro.sample("y", OneBit(operator(x + z), 1.0).to_event(1), obs=y)

    with pytest.raises(InputError, match=r"2 diffusion sites \(x, z\)"):
        Target.from_model(two_signals, signs)
    assert Target.from_model(two_signals, signs, site="z").site == "z"
    with pytest.raises(InputError, match='site "w" is not a latent site'):
        Target.from_model(two_signals, signs, site="w")

    model = observe(prior, lambda x, y: site(OneBit(operator(x), 1.0).to_event(1), y))
    with pytest.raises(InputError, match="observes nothing"):
        Target.from_model(model)
    with pytest.raises(InputError, match=r'"y" has a value of shape \(3, 8\)'):
        Target.from_model(model, signs.expand(3, M))
    with pytest.raises(InputError, match=r"2 \* y - 1|2\*y - 1|2\*y-1"):
        Target.from_model(model, (signs > 0).double())

    def in_plate(y=None):
        with pyro.plate("signals", 2):
            x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x[0]), 1.0).to_event(1), obs=y)

    with pytest.raises(InputError, match=r'"x" has batch shape \(2,\)'):
        Target.from_model(in_plate, signs)
    with pytest.raises(InputError, match=r"signals must have shape"):
        Target.from_model(model, signs).log_likelihood(torch.zeros(3, 4, 4, dtype=torch.float64))

    def nan(y=None):
        x = pyro.sample("x", prior)
        fn = dist.Normal(operator(x) * torch.nan, 1.0, validate_args=False).to_event(1)
        return pyro.sample("y", fn, obs=y)

    with pytest.raises(InputError, match=r'"y" is NaN'):
        Target.from_model(nan, signs)


@pytest.mark.parametrize(
    ("observation", "convert", "message"),
    [
        (
            lambda t: dist.Bernoulli(logits=t),
            lambda signs: signs,
            r"y must be 0 or 1, \d of its 8 values are not, such as -1.*\(y \+ 1\) / 2",
        ),
        (
            lambda t: dist.Bernoulli(logits=t).mask(torch.arange(M) > 1),
            lambda signs: signs.clamp(min=0) * 0.5,
            "y must be 0 or 1, .* such as 0.5$",
        ),
        (
            lambda t: dist.Bernoulli(logits=t),
            lambda signs: signs > 0,
            r"truth values cannot be used; give numbers, such as y.float\(\)",
        ),
        (
            PhotonDetection,
            lambda signs: signs,
            r"y must be 0 or 1, .*\(y \+ 1\) / 2",
        ),
        (
            lambda t: OneBit(t, 1.0),
            lambda signs: (signs + 1) / 2,
            r"y must be -1 or \+1, and this y holds 0 and 1: convert it with 2 \* y - 1",
        ),
        (
            lambda t: dist.Poisson(t.exp()),
            lambda signs: signs,
            "within the support .* of the distribution Poisson",
        ),
    ],
)
def test_values_that_a_site_cannot_take(prior, operator, signs, observation, convert, message):
    def likelihood(x, y):
        return site(observation(operator(x)).to_event(1), y, "bits")

    with pytest.raises(InputError, match=f'^observed site "bits": .*{message}'):
        Target.from_model(observe(prior, likelihood), convert(signs))
