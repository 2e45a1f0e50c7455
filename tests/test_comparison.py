"""Models compared by evidence and by leaving out: known answers, and what cannot be compared."""

import dataclasses
import math

import pyro
import pytest
import torch
import xarray

from bayes1bit.bench.exact import ExactPosterior
from bayes1bit.diagnostics import compare_evidence, compare_loo, leave_one_out
from bayes1bit.diagnostics.psis import pareto_smooth
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import SampleGiven, SplitGibbsSMC, Target
from bayes1bit.models import one_bit_cs
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_io import arviz_container, import_arviz


def posterior_of(log_evidence=None, y=(1.0, -1.0), **options):
    return Posterior(
        torch.randn(4, 2), log_evidence=log_evidence, observed={"y": torch.tensor(y)}, **options
    )


def test_evidence_of_known_numbers():
    result = compare_evidence(
        {"a": posterior_of(-1.0), "b": posterior_of(-1.0 - math.log(3))}, {"a": 1, "b": 2}
    )
    # odds of 3 to 1 times prior odds of 1 to 2
    assert result.probs.tolist() == pytest.approx([0.6, 0.4])
    assert float(result.log_bayes_factors[0, 1]) == pytest.approx(math.log(3))
    assert result.standard_error.isnan().all()
    assert str(result).splitlines()[1].split() == ["a", "-1.00", "0.600"]


def test_repeated_runs_are_averaged_as_evidences():
    runs = [posterior_of(value) for value in (-2.0, -2.0 + math.log(3))]
    result = compare_evidence({"a": runs, "b": [posterior_of(-2.0)] * 2})
    assert float(result.log_evidence[0]) == pytest.approx(-2.0 + math.log(2))
    # two values log(3) apart: standard deviation log(3) / sqrt(2), over sqrt(2)
    assert float(result.standard_error[0]) == pytest.approx(math.log(3) / 2)
    assert float(result.standard_error[1]) == 0
    assert float(result.log_bayes_factors_error[1, 0]) == pytest.approx(math.log(3) / 2)
    # d p / d l = p (1 - p) = 2 / 9
    assert result.probs_error.tolist() == pytest.approx([2 / 9 * math.log(3) / 2] * 2)
    assert "±" in str(result)


def test_evidence_of_particles_agrees_with_the_exact_one():
    """Two scales of the noise, the model probability of which is known in closed form."""
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, 4, 4), 0.5)
    operator = Hadamard((4, 4), 12, seed=0)
    models = {f"{scale}": one_bit_cs(prior, operator, scale) for scale in (0.3, 1.5)}
    y = models["0.3"]()
    exact = torch.tensor(
        [ExactPosterior.from_target(Target.from_model(m, y)).log_evidence for m in models.values()]
    ).double()
    result = compare_evidence(
        {
            name: [
                SplitGibbsSMC(model, 200, prior_step=SampleGiven(), progress=False).run(y)
                for _ in range(3)
            ]
            for name, model in models.items()
        }
    )
    # four standard errors, and a little for that of three runs being rough
    assert ((result.log_evidence - exact).abs() < 4 * result.standard_error + 0.1).all()
    assert (result.standard_error < 0.2).all()
    probs = exact.softmax(0)
    assert ((result.probs - probs).abs() < 4 * result.probs_error + 0.03).all()


def test_what_has_no_evidence_is_refused():
    good = posterior_of(-1.0)
    with pytest.raises(InputError, match=r"'b', by DPS, has no log_evidence; run LookaheadSMC"):
        compare_evidence({"a": good, "b": posterior_of(algorithm="DPS")})
    with pytest.raises(InputError, match="at least two models"):
        compare_evidence({"a": good})
    with pytest.raises(InputError, match="a: 1, b: 0"):
        compare_evidence({"a": good, "b": []})
    with pytest.raises(InputError, match="positive number for each of a, b"):
        compare_evidence({"a": good, "b": good}, {"a": 1.0})


def test_only_the_same_data_are_compared():
    good = posterior_of(-1.0)
    # bits of both codes are the same data
    compare_evidence({"a": good, "b": posterior_of(-1.0, (1.0, 0.0))})
    with pytest.raises(InputError, match=r"site 'y' are not those of 'a' in 'b'"):
        compare_evidence({"a": good, "b": posterior_of(-1.0, (1.0, 1.0))})
    other = Posterior(torch.randn(4, 2), log_evidence=-1.0, observed={"z": torch.ones(2)})
    with pytest.raises(InputError, match="'a' observes y and 'b' z"):
        compare_evidence({"a": good, "b": other})


# Leaving out

COUNT = 120


def gaussian(scale, model_scale, num_samples=1000, seed=0):
    """Bits of a normal number about known thresholds, with the posterior on a grid."""
    generator = torch.Generator().manual_seed(seed)
    thresholds = 2 * torch.randn(COUNT, generator=generator).double()
    noise = scale * torch.randn(COUNT, generator=generator).double()
    y = torch.where(0.4 - thresholds + noise > 0, 1.0, -1.0).double()
    grid = torch.linspace(-4, 4, 2001).double()[:, None]

    def score(x):
        return torch.special.log_ndtr(y * (x - thresholds) / model_scale)

    pointwise = score(grid)
    log_prior = -0.5 * grid[:, 0].square()
    weights = (log_prior + pointwise.sum(1)).softmax(0)
    index = torch.multinomial(weights, num_samples, replacement=True, generator=generator)
    x = grid[index] + 0.004 * (torch.rand(num_samples, 1, generator=generator).double() - 0.5)
    posterior = Posterior(x, observed={"y": y}, log_likelihood={"y": score(x)})
    # p(y_i | y_-i) on the grid
    left_out = (log_prior[:, None] + pointwise.sum(1, keepdim=True) - pointwise).softmax(0)
    exact = (left_out * pointwise.exp()).sum(0).log()
    return posterior, exact


def test_leaving_out_agrees_with_the_grid():
    posterior, exact = gaussian(0.5, 0.5)
    value, k = leave_one_out(posterior)
    assert float(k.max()) < 0.7
    # a likelihood varies by a fifth among 1,000 draws, and the one most surprised by more
    assert (value - exact).abs().max() < 0.05
    weighted = Posterior(
        posterior.samples,
        weights=torch.ones(1000),
        observed=posterior.observed,
        log_likelihood=posterior.log_likelihood,
    )
    assert torch.allclose(leave_one_out(weighted)[0], value)


def test_leaving_out_prefers_the_right_scale_of_the_noise():
    posteriors = {f"{scale}": gaussian(0.5, scale)[0] for scale in (0.2, 0.5, 2.5)}
    result = compare_loo(posteriors)
    assert int(result.elpd.argmax()) == 1
    assert result.difference[1] == result.difference_error[1] == 0
    # a scale too small is punished by few bits, whose number is uncertain
    assert (result.difference[[0, 2]] < -4).all()
    assert result.difference[2] < -2 * result.difference_error[2]
    pointwise = [leave_one_out(each)[0] for each in posteriors.values()]
    difference = pointwise[0] - pointwise[1]
    assert float(result.difference[0]) == pytest.approx(float(difference.sum()))
    assert float(result.difference_error[0]) == pytest.approx(COUNT**0.5 * float(difference.std()))
    assert str(result).splitlines()[2].startswith("0.5")


def test_certain_bits_and_copies_are_no_trouble():
    """Ratios that differ in the last digits only, and tails that are one number."""
    posterior, _ = gaussian(0.5, 0.1, 60)
    likelihood = posterior.log_likelihood["y"]
    assert (likelihood.amin(0) > -1e-12).any()
    copies = dataclasses.replace(posterior, weights=(torch.arange(60) % 6 == 0).double())
    for each in (posterior, copies):
        value, k = leave_one_out(each)
        assert value.isfinite().all()
        assert not k.isnan().any()
        certain = likelihood.amin(0) > -1e-12
        assert (k[certain] == 0).all()
        assert (value[certain] > -1e-12).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("num_samples", [30, 400])
def test_smoothing_is_that_of_arviz(num_samples):
    """On ratios that vary, of tails light and heavy."""
    generator = torch.Generator().manual_seed(2)
    spread = torch.tensor([0.3, 1.0, 3.0]).double()
    draws = spread * torch.randn(num_samples, 3, generator=generator).double()
    log_weights, k = pareto_smooth(draws)
    dataset = xarray.Dataset({"y": (("chain", "draw", "datum"), -draws[None].numpy())})
    data = arviz_container({"log_likelihood": dataset})
    loo = import_arviz().loo(data, pointwise=True, reff=1.0)
    assert k.tolist() == pytest.approx(loo.pareto_k.values.tolist(), abs=1e-6)
    theirs = loo.elpd_i if hasattr(loo, "elpd_i") else loo.loo_i
    ours = (log_weights - draws).logsumexp(0)
    assert ours.tolist() == pytest.approx(theirs.values.tolist(), abs=1e-6)


def test_what_cannot_be_left_out_is_refused():
    posterior, _ = gaussian(0.5, 0.5, 20)
    with pytest.raises(InputError, match="at least 25 draws, got 20"):
        leave_one_out(posterior)
    with pytest.raises(InputError, match="no pointwise log-likelihood of 'z'"):
        leave_one_out(posterior, "z")
    with pytest.raises(InputError, match="no pointwise log-likelihood;"):
        leave_one_out(Posterior(torch.randn(30, 2)))
    with pytest.raises(InputError, match="takes one each"):
        compare_loo({"a": [posterior, posterior], "b": posterior})
