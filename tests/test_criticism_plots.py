"""Figures of spread, events, chains, bits and comparisons, read back from what is drawn."""

import csv
import dataclasses
import io

import pytest
import torch

from bayes1bit.diagnostics import (
    bit_calibration,
    check_bits,
    check_predictions,
    exceedance,
    plot_bit_agreement,
    plot_bit_calibration,
    plot_ess_per_nfe,
    plot_exceedance,
    plot_predictive_checks,
    plot_quality,
    plot_ranks,
    plot_recovery_file,
    plot_spread,
    plot_traces,
)
from bayes1bit.diagnostics.chain_plots import MAX_PANELS
from bayes1bit.diagnostics.convergence import check_convergence, effective_draws, monitored
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

BITS = 60


def posterior_of(*event, count=32, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *event, generator=generator)
    centre = torch.randn(BITS, generator=generator).double()
    probs = (centre + 0.3 * torch.randn(count, BITS, generator=generator)).sigmoid()
    y = torch.where(torch.rand(BITS, generator=generator) < centre.sigmoid(), 1.0, -1.0)
    settings = {
        "observed": {"y": y},
        "log_likelihood": {"y": torch.where(y > 0, probs, 1 - probs).log()},
        "algorithm": "SplitGibbs",
        "nfe": 10,
        "seconds": 2.0,
    }
    return Posterior(x, **settings | options)


def rendered(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue().startswith(b"\x89PNG")


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


# Maps


@pytest.mark.parametrize("event", [(6, 8), (1, 8, 8), (3, 8, 8)])
def test_spread_of_pictures(event):
    posterior = posterior_of(*event)
    figure = plot_spread(posterior, 0.5)
    std, width = (axes.images[0].get_array() for axes in figure.axes if axes.images)
    lower, upper = posterior.interval(0.5)
    for shown, values in ((std, posterior.std), (width, upper - lower)):
        mean_square = values.square().mean(0).sqrt() if len(event) == 3 else values
        torch.testing.assert_close(torch.as_tensor(shown.data), mean_square.double())
    assert titles(figure) == ["standard deviation", "width of the 50% interval"]
    assert rendered(figure)


def test_spread_of_lines():
    posterior = posterior_of(1, 20)
    (axes,) = plot_spread(posterior, unit="mV").axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    lower, upper = posterior.interval()
    assert lines["standard deviation"] == pytest.approx(posterior.std[0].numpy())
    assert lines["width of the 90% interval"] == pytest.approx((upper - lower)[0].numpy())
    assert axes.get_ylabel() == "in mV"


def test_exceedance_honours_weights_and_the_range():
    samples = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[2.0, 1.0], [0.0, 3.0]]])
    posterior = Posterior(
        samples, weights=torch.tensor([0.25, 0.75]), attributes={"data_range": (0, 3)}
    )
    figure = plot_exceedance(posterior)
    image = figure.axes[0].images[0]
    assert image.get_array().tolist() == [[0.75, 0], [0.25, 1]]
    assert image.get_clim() == (0, 1)
    assert titles(figure) == ["probability of more than 1.5"]
    assert exceedance(posterior, 0.5).tolist() == [[0.75, 1], [0.25, 1]]
    colour = posterior_of(3, 4, 4)
    brightness = (colour.samples.mean(1) > 0.1).double().mean(0)
    assert torch.equal(exceedance(colour, 0.1), brightness)
    (axes,) = plot_exceedance(posterior_of(20), 0.1, "mV").axes
    assert axes.lines[0].get_ydata() == pytest.approx(
        (posterior_of(20).samples > 0.1).double().mean(0).numpy()
    )
    assert axes.get_ylabel() == "probability of more than 0.1 mV"


def test_bad_maps_are_refused():
    for plot in (plot_spread, plot_exceedance):
        with pytest.raises(InputError, match="cannot be drawn"):
            plot(posterior_of(2, 4, 4))
    with pytest.raises(InputError, match="prob"):
        plot_spread(posterior_of(4, 4), 1.0)
    with pytest.raises(InputError, match="threshold"):
        plot_exceedance(posterior_of(4, 4), float("nan"))


# Chains


def test_traces_of_chains():
    posterior = posterior_of(4, num_chains=4, latents={"scale": torch.rand(32)})
    figure = plot_traces(posterior)
    assert len(figure.axes) == MAX_PANELS
    numbers = monitored(posterior)
    for axes in figure.axes:
        expected = numbers[axes.get_title()].view(4, 8)
        assert [line.get_ydata().tolist() for line in axes.lines] == expected.tolist()
    convergence = check_convergence(posterior)
    order = convergence.rhat.argsort(descending=True)[:MAX_PANELS]
    assert titles(figure) == [convergence.names[i] for i in order]
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "chain 4"
    assert rendered(figure)


def test_traces_of_what_is_asked_for():
    posterior = posterior_of(4)
    (axes,) = plot_traces(posterior, {"first": posterior.samples[:, 0]}).axes
    assert axes.get_ylabel() == "first"
    assert axes.lines[0].get_ydata() == pytest.approx(posterior.samples[:, 0].numpy())
    # draws without an order are points
    assert axes.lines[0].get_linestyle() == "None"
    assert plot_traces(posterior).axes[0].get_title() == "log-likelihood"


def test_ranks_of_chains():
    value = torch.arange(32.0)
    posterior = posterior_of(4, num_chains=2)
    (axes,) = plot_ranks(posterior, {"number": value}).axes
    # the first chain has the lower half of the ranks: two of its bins are at twice the line
    first, second = (patch.get_data() for patch in axes.patches)
    assert first.values.tolist() == pytest.approx([0.8, 0.8, 0, 0])
    assert second.values.tolist() == pytest.approx([1, 1, 1.8, 1.8])
    assert first.edges.tolist() == [0.5, 8.5, 16.5, 24.5, 32.5]
    assert rendered(plot_ranks(posterior))


def test_bad_chains_are_refused():
    with pytest.raises(InputError, match="at least 2 chains of 4 draws, and this posterior has 1"):
        plot_ranks(posterior_of(4))
    with pytest.raises(InputError, match=r"quantities\['x'\] has shape"):
        plot_traces(posterior_of(4), {"x": torch.zeros(3)})


# Bits


def test_agreement_of_each_sample():
    posterior = posterior_of(4)
    check = check_bits(posterior)
    (axes,) = plot_bit_agreement(posterior).axes
    points = {line.get_label(): line for line in axes.lines}["samples"]
    assert points.get_xdata() == pytest.approx(check.expected.numpy())
    assert points.get_ydata() == pytest.approx(check.agreement.numpy())
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(float((check.expected + 2 * check.spread).max()))
    with pytest.raises(InputError, match="no observed bits"):
        plot_bit_agreement(Posterior(torch.randn(4, 2)))


def test_curves_of_predictive_checks_cross_zero_at_the_p_value():
    weights = torch.rand(32)
    posterior = posterior_of(4, weights=weights)
    checks = check_predictions(posterior, block=10)
    figure = plot_predictive_checks(posterior, checks)
    assert [title.split(",")[0] for title in titles(figure)] == list(checks)
    axes = figure.axes[1]
    curve, zero = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    below = curve.get_ydata()[curve.get_xdata() <= 0].max()
    # agreement has no ties to speak of
    assert 1 - below == pytest.approx(checks["agreement"].p_value, abs=0.01)
    assert rendered(figure)
    with pytest.raises(InputError, match="no check"):
        plot_predictive_checks(posterior, {})
    with pytest.raises(InputError, match="of 32 samples, the posterior has 8"):
        plot_predictive_checks(posterior_of(4, count=8), checks)


def test_calibration_of_bits():
    posterior = posterior_of(4)
    expected = bit_calibration(posterior, 5)
    (axes,) = plot_bit_calibration(posterior, 5).axes
    points = {line.get_label(): line for line in axes.lines}["bits"]
    assert points.get_xdata() == pytest.approx(expected.predicted.numpy())
    assert points.get_ydata() == pytest.approx(expected.observed.numpy())
    bars = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert bars == [
        pytest.approx(pair)
        for pair in zip(expected.lower.tolist(), expected.upper.tolist(), strict=True)
    ]


# Comparisons


def test_effective_draws_of_chains_and_particles():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, generator=generator)
    independent = effective_draws(Posterior(x))
    # the estimate from 400 draws is rough
    assert all(250 < size <= 400 for size in independent.values())
    weights = torch.rand(400, generator=generator)
    weighted = Posterior(x, weights=weights)
    sizes = list(effective_draws(weighted).values())
    assert sizes == pytest.approx([weighted.effective_sample_size] * len(sizes))
    copies = Posterior(x[:40].repeat_interleave(10, 0))
    assert list(effective_draws(copies).values()) == pytest.approx([40] * len(sizes))
    with pytest.raises(InputError, match="a single estimate"):
        effective_draws(Posterior(torch.ones(1, 2)))


def test_efficiency_of_algorithms():
    weights = torch.rand(32)
    weighted = posterior_of(4, weights=weights, nfe=50)
    posteriors = {"exact": weighted, "guess": posterior_of(4, algorithm="DPS", count=100)}
    figure = plot_ess_per_nfe(posteriors)
    (axes,) = figure.axes
    first, second = axes.lines
    size = weighted.effective_sample_size
    assert first.get_xdata()[0] == pytest.approx(1000 * size / (50 * 32))
    assert second.get_xdata()[0] == pytest.approx(100, rel=0.3)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "exact",
        "guess (approximate)",
    ]
    assert second.get_markerfacecolor() == "white" != first.get_markerfacecolor()
    assert rendered(figure)
    one = plot_ess_per_nfe({"guess": posteriors["guess"]}, ["log-likelihood"]).axes[0].lines[0]
    expected = effective_draws(posteriors["guess"])["log-likelihood"]
    assert one.get_xdata()[0] == pytest.approx(expected)


def test_efficiency_needs_draws_and_calls():
    with pytest.raises(InputError, match="'biht' was made without a denoiser call"):
        plot_ess_per_nfe({"biht": posterior_of(4, nfe=0)})
    with pytest.raises(InputError, match="'one': all samples are one and the same"):
        plot_ess_per_nfe({"one": posterior_of(4, count=1)})
    with pytest.raises(InputError, match=r"'a' has no gain; quantities are log-likelihood"):
        plot_ess_per_nfe({"a": posterior_of(4)}, ["gain"])
    with pytest.raises(InputError, match="no posterior"):
        plot_ess_per_nfe({})


def test_quality_against_cost():
    truth = torch.zeros(1, 4, 4)
    samples = torch.full((4, 1, 4, 4), 0.2)
    good = Posterior(samples, nfe=30, seconds=3, attributes={"data_range": (-1, 1)})
    bad = dataclasses.replace(good, samples=5 * samples, nfe=0, seconds=0.1, algorithm="BIHT")
    figure = plot_quality({"good": good, "bad": bad}, truth)
    for axes, cost in zip(figure.axes, ([30, 0], [3, 0.1]), strict=True):
        assert [float(line.get_xdata()[0]) for line in axes.lines] == cost
        # 10 log10(4 / 0.04) and 10 log10(4 / 1)
        assert [float(line.get_ydata()[0]) for line in axes.lines] == pytest.approx(
            [20, 6.0206], abs=1e-3
        )
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["good", "bad (approximate)"]
    assert figure.axes[0].get_ylabel() == "PSNR of the mean in dB"
    assert rendered(figure)
    lines = Posterior(torch.full((4, 1, 8), 0.9))
    axes = plot_quality({"line": lines}, torch.ones(1, 8)).axes[0]
    assert float(axes.lines[0].get_ydata()[0]) == pytest.approx(20, abs=1e-3)
    assert axes.get_ylabel() == "SNR of the mean in dB"
    with pytest.raises(InputError, match="truth has shape"):
        plot_quality({"good": good}, torch.zeros(4, 4))
    with pytest.raises(InputError, match="no attribute data_range"):
        plot_quality({"plain": Posterior(samples)}, truth)
    with pytest.raises(InputError, match="nothing to draw"):
        plot_quality({}, truth)


COLUMNS = ("setup", "method", "link", "noise", "ratio", "picture", "mean PSNR", "NFE", "seconds")


def recovery_file(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def test_quality_from_the_file_of_a_benchmark(tmp_path):
    rows = [
        ("s", "prior mean", "probit", "0.5", "4", "0", "9.0", "", ""),
        ("s", "dps", "probit", "0.5", "4", "0", "10.0", "200", "4"),
        ("s", "dps", "probit", "0.5", "4", "1", "14.0", "200", "6"),
        ("s", "daps", "probit", "0.5", "4", "0", "11.0", "250", "9"),
        ("s", "daps", "probit", "0.5", "8", "0", "7.0", "250", "9"),
    ]
    path = recovery_file(tmp_path / "recovery.csv", rows)
    figure = plot_recovery_file(path, where={"ratio": 4})
    calls, seconds = figure.axes

    def points(axes):
        return [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in axes.lines]

    assert points(calls) == [(200, 12), (250, 11)]
    assert points(seconds) == [(5, 12), (9, 11)]
    assert [line.get_label() for line in calls.lines] == ["dps", "daps"]
    assert calls.get_ylabel() == "mean PSNR"
    with pytest.raises(InputError, match=r"2 conditions \(setup s, link probit.*ratio 8\)"):
        plot_recovery_file(path)
    with pytest.raises(InputError, match=r"no run with \{'ratio': '3'\}"):
        plot_recovery_file(path, where={"ratio": 3})
    with pytest.raises(InputError, match="where takes setup, link, noise, ratio, not picture"):
        plot_recovery_file(path, where={"picture": 0})
    with pytest.raises(InputError, match='no column "SSIM"'):
        plot_recovery_file(path, "SSIM")
    with pytest.raises(InputError, match="cannot read"):
        plot_recovery_file(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is not of numbers"):
        plot_recovery_file(path, "setup", {"ratio": 4})
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns are missing"):
        plot_recovery_file(tmp_path / "other.csv")
