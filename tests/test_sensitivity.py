"""Power-scaling of a conjugate model with known answers, and posteriors under two priors."""

import dataclasses

import pytest
import torch

from bayes1bit.diagnostics import compare_priors, power_sensitivity
from bayes1bit.diagnostics.sensitivity import SENSITIVE, cumulative_distance
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_io import import_arviz

STEP = 0.01


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def conjugate(datum, noise, count=20_000):
    """Posterior of a standard normal number of which one noisy value is known."""
    variance = 1 / (1 + 1 / noise**2)
    x = variance * datum / noise**2 + variance**0.5 * torch.randn(count, 1).double()
    likelihood = torch.distributions.Normal(x, noise).log_prob(torch.tensor([datum]).double())
    return Posterior(x, observed={"y": torch.tensor([datum])}, log_likelihood={"y": likelihood})


def exact_sensitivity(datum, noise, factor, ends):
    """The same from distribution functions on a grid between the ends of the draws."""
    grid = torch.linspace(*ends, 20_001).double()

    def distribution(prior_power, power):
        precision = prior_power + power / noise**2
        mean = power * datum / noise**2 / precision
        return torch.special.ndtr((grid - mean) * precision**0.5)

    def distance(p, q):
        middle = 0.5 * (p + q)
        divergence = torch.xlogy(p, p) + torch.xlogy(q, q) - torch.xlogy(p + q, middle)
        return divergence.sum(), (p + q).sum() * torch.log(torch.tensor(2.0))

    total = 0.0
    for alpha in (1 / (1 + STEP), 1 + STEP):
        powers = (alpha, 1.0) if factor == "prior" else (1.0, alpha)
        base, scaled = distribution(1.0, 1.0), distribution(*powers)
        sides = [(base, scaled), (1 - base, 1 - scaled)]
        pairs = [distance(p, q) for p, q in sides]
        total += max(float((d / norm).sqrt()) for d, norm in pairs)
    return total / (2 * float(torch.log2(torch.tensor(1 + STEP))))


@pytest.mark.parametrize("factor", ["likelihood", "prior"])
@pytest.mark.parametrize(("datum", "noise"), [(3.0, 1.0), (0.5, 3.0)])
def test_power_scaling_of_a_conjugate_model(datum, noise, factor):
    posterior = conjugate(datum, noise)
    x = posterior.samples[:, 0]
    log_density = None if factor == "likelihood" else -0.5 * x.square()
    result = power_sensitivity(posterior, log_density, {"x": x})
    assert result.names == ("x",)
    # weights of 20,000 draws: about three percent
    expected = exact_sensitivity(datum, noise, factor, (float(x.min()), float(x.max())))
    assert float(result.values[0]) == pytest.approx(expected, rel=0.1)
    assert result.effective_sample_size > 19_000


def test_conflict_of_prior_and_data_is_sensitive_to_both():
    conflict, vague = conjugate(3.0, 1.0), conjugate(0.0, 10.0)
    for posterior, sensitive in ((conflict, True), (vague, False)):
        x = posterior.samples[:, 0]
        likelihood = power_sensitivity(posterior, None, {"x": x}).values[0]
        assert bool(likelihood > SENSITIVE) is sensitive
    x = conflict.samples[:, 0]
    assert power_sensitivity(conflict, -0.5 * x.square(), {"x": x}).values[0] > SENSITIVE


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_power_scaling_is_that_of_arviz():
    arviz = import_arviz()
    if not hasattr(arviz, "psens"):
        pytest.skip("ArviZ 1.x renamed it and made it a table")
    posterior = conjugate(1.0, 0.7, 1000)
    theirs = float(arviz.psens(posterior.to_arviz(), component="likelihood")["x"].values[0])
    ours = power_sensitivity(posterior, None, {"x": posterior.samples[:, 0]}).values[0]
    # weights so close to one that smoothing their tail changes little
    assert float(ours) == pytest.approx(theirs, rel=0.02)


def test_weights_are_honoured():
    posterior = conjugate(3.0, 1.0)
    x = posterior.samples[:, 0]
    # half the draws by weight is the same posterior as those draws alone
    kept = torch.arange(len(x)) % 2 == 0
    weighted = dataclasses.replace(posterior, weights=kept.double())
    half = Posterior(
        posterior.samples[kept], log_likelihood={"y": posterior.log_likelihood["y"][kept]}
    )
    first = power_sensitivity(weighted, None, {"x": x}).values
    second = power_sensitivity(half, None, {"x": x[kept]}).values
    torch.testing.assert_close(first, second, rtol=1e-6, atol=0)


def test_what_is_monitored_is_scaled_unless_told():
    names = power_sensitivity(conjugate(1.0, 1.0, 50)).names
    assert names[0] == "log-likelihood"
    assert names[1] == "x, direction 1"


def test_bad_scaling_is_refused():
    posterior = conjugate(1.0, 1.0, 50)
    with pytest.raises(InputError, match="no log-likelihood to scale"):
        power_sensitivity(Posterior(torch.randn(9, 2)))
    with pytest.raises(InputError, match="log_density has shape"):
        power_sensitivity(posterior, torch.zeros(3))
    with pytest.raises(InputError, match="step must be positive"):
        power_sensitivity(posterior, step=0.0)
    with pytest.raises(InputError, match="one sample"):
        power_sensitivity(conjugate(1.0, 1.0, 1))
    with pytest.raises(InputError, match=r"quantities\['x'\] has shape"):
        power_sensitivity(posterior, quantities={"x": torch.zeros(3)})
    with pytest.raises(InputError, match="quantities are empty"):
        power_sensitivity(posterior, quantities={})


def test_distance_of_two_sets():
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    # between them P is 1 and Q is 0: the integral of log2(2) over that of 1
    assert cumulative_distance(zero, one) == pytest.approx(1.0)
    x = torch.randn(500).double()
    assert cumulative_distance(x, x) == 0
    assert cumulative_distance(x, x + 1) == pytest.approx(cumulative_distance(x + 1, x))
    assert cumulative_distance(x, x + 1) > cumulative_distance(x, x + 0.5) > 0
    doubled = torch.cat([x, x[:100]])
    weights = torch.ones(500).double()
    weights[:100] = 2
    assert cumulative_distance(x, doubled, weights) == pytest.approx(0, abs=1e-7)


def test_two_priors_are_told_apart():
    def posterior(shift, spread):
        samples = shift + spread * torch.randn(400, 2).double()
        return Posterior(samples, observed={"y": torch.ones(3)})

    base, same, other = posterior(0.0, 1.0), posterior(0.0, 1.0), posterior(1.0, 2.0)

    def quantities(*group):
        return tuple({"first": each.samples[:, 0]} for each in group)

    equal = compare_priors(base, same, quantities(base, same))
    assert float(equal.p_values[0]) > 0.01
    different = compare_priors(base, other, quantities(base, other))
    # the smallest of 200 permutations
    assert float(different.p_values[0]) == pytest.approx(1 / 201)
    assert different.distance[0] > 2 * equal.distance[0]
    assert float(different.shift[0]) == pytest.approx(1.0, abs=0.3)
    assert float(different.ratio[0]) == pytest.approx(2.0, rel=0.2)
    assert compare_priors(base, other, num_permutations=5).names[0] == "x, direction 1"


def test_posteriors_of_other_data_are_refused():
    first = Posterior(torch.randn(9, 2), observed={"y": torch.ones(3)})
    second = Posterior(torch.randn(9, 2), observed={"y": -torch.ones(3)})
    with pytest.raises(InputError, match="the same data"):
        compare_priors(first, second)
    with pytest.raises(InputError, match="same signals"):
        compare_priors(first, Posterior(torch.randn(9, 3), observed=first.observed))
    with pytest.raises(InputError, match="at least 2 samples"):
        compare_priors(first, Posterior(torch.randn(1, 2), observed=first.observed))
    zeros = torch.zeros(9)
    with pytest.raises(InputError, match="the scalars a and b"):
        compare_priors(first, first, ({"a": zeros}, {"b": zeros}))
