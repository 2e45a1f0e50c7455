"""Predictive checks of bits: uniform p-values under the model, and faults that each one finds."""

import dataclasses

import pytest
import torch
from scipy.stats import kstest

from bayes1bit.diagnostics import bit_calibration, check_bits, check_predictions
from bayes1bit.diagnostics.bit_checks import DISCREPANCIES, longest_run
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

BITS, SAMPLES = 256, 40


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def posterior_of(y, probs, **options):
    """A posterior whose samples give +1 with probabilities of shape (samples, bits)."""
    likelihood = torch.where(y > 0, probs, 1 - probs)
    observed = options.pop("observed", {"y": y})
    return Posterior(
        torch.randn(len(probs), 3),
        observed=observed,
        log_likelihood={next(iter(observed)): likelihood.log()},
        **options,
    )


def exact_posterior(slope=1.0, correlated=False, drift=0.0, count=SAMPLES):
    """Bits of logistic noise about an unknown offset, whose posterior is drawn on a grid.

    Data of another slope, of noise that repeats, or of thresholds that drift do not fit.
    """
    grid = torch.linspace(-3, 3, 201).double()
    inputs = torch.randn(BITS).double()
    output = inputs + 0.5 * torch.randn(()).double()
    uniform = torch.rand(BITS).double()
    if correlated:
        uniform = uniform[::8].repeat_interleave(8)
    wander = drift * torch.repeat_interleave(torch.tensor([1.0, -1.0]).double(), BITS // 2)
    y = torch.where(uniform < (slope * output + wander).sigmoid(), 1.0, -1.0).double()
    logits = inputs + grid[:, None]
    log_posterior = torch.nn.functional.logsigmoid(y * logits).sum(1) - grid.square() / 0.5
    index = torch.multinomial(log_posterior.softmax(0), count, replacement=True)
    return posterior_of(y, logits[index].sigmoid())


def test_p_values_of_a_draw_are_uniform_under_the_model():
    checks = [
        check_predictions(exact_posterior(count=1), block=64, num_replicates=49)
        for _ in range(150)
    ]
    for name in DISCREPANCIES:
        values = [float(check[name].p_values[0]) for check in checks]
        # Kolmogorov and Smirnov, at one in a thousand; ties of runs and shares are split
        assert kstest(values, "uniform").pvalue > 1e-3, name


@pytest.mark.parametrize(
    ("fault", "name", "side"),
    [
        ({"slope": 0.2}, "agreement", "high"),
        ({"slope": 5.0}, "agreement", "low"),
        ({"correlated": True}, "serial correlation", "low"),
        ({"correlated": True}, "longest run", "low"),
        ({"drift": 1.0}, "block bias", "low"),
    ],
)
def test_faults_are_found(fault, name, side):
    check = check_predictions(exact_posterior(**fault), block=32)[name]
    assert check.p_value < 0.01 if side == "low" else check.p_value > 0.99
    assert 0.02 < check_predictions(exact_posterior(), block=32)[name].p_value < 0.98


def test_agreement_is_that_of_the_analytic_check():
    posterior = exact_posterior()
    check = check_predictions(posterior, num_replicates=200)["agreement"]
    analytic = check_bits(posterior)
    torch.testing.assert_close(check.observed, analytic.agreement)
    # 8,000 replicates
    torch.testing.assert_close(check.replicated.mean(0), analytic.expected, atol=0.01, rtol=0)
    # replicates agree more where the data agree less
    assert 1 - check.p_value == pytest.approx(analytic.p_value, abs=0.03)


def test_weights_are_honoured():
    probs = torch.stack([torch.full((BITS,), 0.5), torch.full((BITS,), 0.9)]).double()
    y = torch.ones(BITS).double()
    y[: BITS // 10] = -1.0
    heavy = posterior_of(y, probs, weights=torch.tensor([0.01, 0.99]))
    light = posterior_of(y, probs, weights=torch.tensor([0.99, 0.01]))
    name = "share of ones"
    assert check_predictions(heavy)[name].p_value > 0.05
    assert check_predictions(light)[name].p_value < 0.02


def test_runs_are_counted_within_blocks():
    bits = torch.tensor([[1.0, 1, 1, -1, 1, 1], [-1, 1, -1, 1, -1, 1]])[:, None]
    assert longest_run(bits, bits).tolist() == [3, 1]
    assert longest_run(bits.view(2, 2, 3), bits.view(2, 2, 3)).tolist() == [2.5, 1]


def test_codes_of_bits_do_not_matter():
    posterior = exact_posterior()
    coded = dataclasses.replace(posterior, observed={"y": (posterior.observed["y"] > 0).double()})
    results = []
    for each in (posterior, coded):
        generator = torch.Generator().manual_seed(1)
        results.append(check_predictions(each, generator=generator)["longest run"].p_values)
    assert torch.equal(*results)


def test_bad_checks_are_refused():
    posterior = exact_posterior()
    with pytest.raises(InputError, match="blocks of 100 do not divide 256 bits"):
        check_predictions(posterior, block=100)
    with pytest.raises(InputError, match="num_replicates"):
        check_predictions(posterior, num_replicates=0)
    with pytest.raises(InputError, match="'mean' made shape"):
        check_predictions(posterior, {"mean": lambda bits, probs: bits.mean()})
    with pytest.raises(InputError, match="no site of bits is called 'z'; there is y"):
        check_predictions(posterior, site="z")
    numbers = dataclasses.replace(posterior, observed={"y": torch.randn(BITS)})
    with pytest.raises(InputError, match="no observed bits"):
        check_predictions(numbers)
    assert check_bits(numbers) is None


# Calibration


def test_right_predictions_are_calibrated():
    hits, count = 0, 0
    for _ in range(20):
        curve = bit_calibration(exact_posterior(), 8)
        hits += int(((curve.lower <= curve.observed) & (curve.observed <= curve.upper)).sum())
        count += len(curve.counts)
        assert int(curve.counts.sum()) == BITS
    # intervals of whole numbers hold at least 90%; four standard errors below
    assert hits / count > 0.9 - 4 * (0.09 / count) ** 0.5


def test_a_wrong_slope_is_not():
    curve = bit_calibration(exact_posterior(slope=0.2), 6)
    outside = (curve.observed < curve.lower) | (curve.observed > curve.upper)
    assert outside.sum() >= 2
    # flatter than the diagonal: too sure
    assert curve.observed[0] > curve.upper[0]
    assert curve.observed[-1] < curve.lower[-1]


def test_predictions_that_have_seen_the_bits_are_weighted_averages():
    probs = torch.tensor([[0.2, 0.6], [0.4, 0.8]]).double()
    y = torch.tensor([-1.0, 1.0]).double()
    posterior = posterior_of(y, probs, weights=torch.tensor([0.25, 0.75]))
    curve = bit_calibration(posterior, 2, leave_out=False)
    assert curve.predicted.tolist() == pytest.approx([0.35, 0.75])
    assert curve.observed.tolist() == [0, 1]
    assert curve.counts.tolist() == [1, 1]
    with pytest.raises(InputError, match="at least 25 draws"):
        bit_calibration(posterior)
    with pytest.raises(InputError, match="prob"):
        bit_calibration(posterior, prob=1.0)
