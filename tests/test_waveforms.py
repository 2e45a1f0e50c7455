"""Scores of one-dimensional signals: by hand, and R peaks of heartbeats that are made up."""

import math

import pytest
import torch

from bayes1bit.diagnostics.waveforms import decibels, is_waveform, r_peak, r_peak_error, snr
from bayes1bit.errors import InputError

RATE = 360.0


def heartbeat(peak, *, height=1.2, wave=0.4, drift=0.0, length=256):
    """A QRS complex of 100 ms, a broad T wave 250 ms later, and a baseline that drifts."""
    index = torch.arange(length, dtype=torch.float64)
    time = (index - peak) / RATE

    def bump(centre, width):
        return (-0.5 * ((time - centre) / width) ** 2).exp()

    complex_ = height * (bump(0, 0.012) - 0.25 * bump(-0.03, 0.01) - 0.3 * bump(0.03, 0.01))
    baseline = drift * torch.sin(0.6 * torch.pi * index / length)
    return (complex_ + wave * bump(0.25, 0.04) + baseline).float()


def test_snr_by_hand():
    truth = torch.tensor([[3.0, 4.0]])
    estimate = torch.stack([truth + torch.tensor([[0.3, 0.4]]), truth * 0, truth])
    # 25 / 0.25, 25 / 25, 25 / 0
    assert snr(estimate, truth).tolist() == [pytest.approx(20, abs=1e-4), 0.0, math.inf]
    assert snr(truth[0] + 1, truth[0], event_dim=1).item() == pytest.approx(
        10 * math.log10(25 / 2), abs=1e-5
    )
    assert snr(truth, torch.zeros(1, 2)).item() == -math.inf
    assert snr(torch.zeros(1, 2), torch.zeros(1, 2)).item() == math.inf


def test_snr_keeps_leading_dimensions_and_does_not_know_the_unit():
    generator = torch.Generator().manual_seed(0)
    estimate = torch.randn(4, 3, 2, 16, generator=generator)
    truth = torch.randn(2, 16, generator=generator)
    scores = snr(estimate, truth)
    assert scores.shape == (4, 3)
    torch.testing.assert_close(scores[2, 1], snr(estimate[2, 1], truth))
    torch.testing.assert_close(scores, snr(1000 * estimate, 1000 * truth))
    torch.testing.assert_close(scores, snr(estimate, truth.expand(4, 3, 2, 16)))


@pytest.mark.parametrize(
    ("estimate", "truth", "message"),
    [
        (torch.zeros(4, 1, 8), torch.zeros(1, 7), "truth has shape"),
        (torch.zeros(1, 8).int(), torch.zeros(1, 8), "floating point"),
        (torch.zeros(8), torch.zeros(8), r"estimate has shape \(8,\)"),
    ],
)
def test_scores_refuse_what_does_not_fit(estimate, truth, message):
    with pytest.raises(InputError, match=message):
        snr(estimate, truth)
    with pytest.raises(InputError, match=message):
        r_peak_error(estimate, truth, RATE)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"height": -1.2},  # an inverted complex
        {"wave": 1.3},  # a T wave higher than the complex
        {"drift": 4.0},  # a baseline that swings by more than the complex
        {"height": 0.3, "wave": 0.1},
    ],
)
@pytest.mark.parametrize("peak", [20, 96, 150])
def test_r_peak_is_the_qrs_complex(options, peak):
    assert abs(int(r_peak(heartbeat(peak, **options), RATE)) - peak) <= 1


def test_r_peak_does_not_depend_on_unit_offset_or_rate():
    beat = heartbeat(96, drift=1.0)
    expected = int(r_peak(beat, RATE))
    for same in (2000 * beat, beat + 5, -beat, beat.double()):
        assert int(r_peak(same, RATE)) == expected
    # every other sample is the same heartbeat at half the rate
    assert abs(int(r_peak(beat[::2], RATE / 2)) - expected / 2) <= 1


def test_decibels_are_those_that_suit_the_signal():
    truth, noise = torch.ones(1, 4), 0.1 * torch.ones(3, 1, 4)
    name, value = decibels(truth + noise, truth, None)
    assert (name, value.tolist()) == ("SNR", pytest.approx([20.0] * 3, abs=1e-4))
    name, value = decibels(truth[None] + noise[0], truth[None], (-1.0, 1.0))
    assert (name, float(value)) == ("PSNR", pytest.approx(26.0206, abs=1e-4))
    # several leads are no picture either
    assert decibels(truth.repeat(2, 1) + 0.1, truth.repeat(2, 1), (-1.0, 1.0))[0] == "SNR"
    with pytest.raises(InputError, match="data_range"):
        decibels(truth[None], truth[None], None)


def test_r_peaks_of_a_batch():
    beats = torch.stack([heartbeat(peak) for peak in (40, 96, 130, 150)]).reshape(2, 2, 256)
    assert r_peak(beats, RATE).tolist() == [[40, 96], [130, 150]]


def test_r_peak_error_is_in_milliseconds():
    truth = heartbeat(96)[None]
    estimates = torch.stack([heartbeat(peak)[None] for peak in (96, 105, 78)])
    # 9 and 18 samples at 360 Hz are 25 and 50 ms
    assert r_peak_error(estimates, truth, RATE).tolist() == pytest.approx([0, 25, 50])
    assert r_peak_error(estimates[:, 0], truth[0], RATE, event_dim=1).tolist() == pytest.approx(
        [0, 25, 50]
    )
    assert r_peak_error(estimates[1], truth, RATE).shape == ()


@pytest.mark.parametrize(
    ("signals", "rate", "message"),
    [
        (torch.zeros(256).int(), RATE, "floating point"),
        (torch.zeros(2, 0), RATE, r"shape \(2, 0\)"),
        (torch.tensor([0.0, math.nan]), RATE, "NaN or infinite"),
        (torch.zeros(256), 40.0, "at least 60 Hz"),
        (torch.zeros(256), math.inf, "at least 60 Hz"),
    ],
)
def test_r_peak_refuses_what_has_none(signals, rate, message):
    with pytest.raises(InputError, match=message):
        r_peak(signals, rate)


def test_r_peak_error_refuses_pictures_and_several_leads():
    for shape, event_dim in (((2, 256), 2), ((1, 16, 16), 3)):
        with pytest.raises(InputError, match="heartbeats have"):
            r_peak_error(torch.zeros(shape), torch.zeros(shape), RATE, event_dim)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8,), True), ((1, 8), True), ((2, 8), False), ((1, 8, 8), False), ((), False)],
)
def test_what_is_a_waveform(shape, expected):
    assert is_waveform(shape) is expected
