r"""Scores of one-dimensional signals: signal-to-noise ratio, and where a heartbeat has its R peak.

A waveform has no black and white, so a peak signal-to-noise ratio says little of it: an
electrocardiogram fills a small part of the range that its unit allows. The plain signal-to-noise
ratio asks how large the error is beside the signal itself. Like the peak ratio it favours smooth
answers, and a posterior mean beats every sample.

What a cardiologist reads off a heartbeat first is *when* it comes, the time of its R peak.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bayes1bit.diagnostics.metrics import as_pairs, psnr
from bayes1bit.errors import InputError
from bayes1bit.pictures import is_picture

QRS_BAND = (3.0, 30.0)
"""Pass band in Hz that :func:`r_peak` searches."""

_ORDER = 2


def is_waveform(event_shape: Sequence[int]) -> bool:
    """Whether signals of a shape are of one dimension: (L,) or (1, L)."""
    return len(event_shape) == 1 or (len(event_shape) == 2 and event_shape[0] == 1)


def snr(estimate: Tensor, truth: Tensor, event_dim: int = 2) -> Tensor:
    r"""Signal-to-noise ratio :math:`10 \log_{10}(\|x\|^2 / \|\hat x - x\|^2)` of each signal.

    The energy is that of the signal as it is: a constant part counts as signal.

    Args:
        estimate: Estimated signals, shape (*leading, *event).
        truth: True signals, of the same shape, or one of shape event for all estimates.
        event_dim: Number of dimensions of one signal: 2 for (channels, length), 1 for (length,).

    Returns:
        Decibels, shape leading; infinite where an estimate is exact, and minus infinity where it
        is not and the truth is zero.

    Raises:
        InputError: If shapes disagree or a tensor is not floating point.
    """
    estimate, truth, leading = as_pairs(estimate, truth, event_dim)
    energy = truth.flatten(1).square().sum(1)
    error = (estimate - truth).flatten(1).square().sum(1)
    ratio = torch.where(error > 0, energy / error, torch.inf)
    return (10 * ratio.log10()).reshape(leading)


def decibels(
    estimate: Tensor, truth: Tensor, data_range: tuple[float, float] | None
) -> tuple[str, Tensor]:
    """How near estimates come to a truth, by the ratio that suits the signal.

    Args:
        estimate: Estimated signals, shape (*leading, *event).
        truth: The true signal, shape event.
        data_range: Lowest and highest value of signals, which a PSNR is relative to; an SNR needs
            none.

    Returns:
        The ratio's name, "PSNR" for pictures and "SNR" for others, and its value in decibels,
        shape leading.

    Raises:
        InputError: If shapes disagree, a tensor is not floating point, or a PSNR has no range.
    """
    if not is_picture(truth.shape):
        return "SNR", snr(estimate, truth, truth.dim())
    if data_range is None:
        raise InputError("a PSNR is relative to the data range; give data_range=(low, high)")
    return "PSNR", psnr(estimate, truth, data_range, truth.dim())


def r_peak(signals: Tensor, rate: float) -> Tensor:
    r"""Where each heartbeat has its R peak: its largest deflection, up or down, in the QRS band.

    The signal is band-passed without delay, which takes away the slow baseline, most of the T wave
    and the noise of muscles, and the sample of largest absolute value is taken. The idea is that
    of Pan and Tompkins (IEEE Trans. Biomed. Eng. 1985), who pass 5 to 15 Hz, where the energy of
    the QRS complex stands out most. The band of
    :data:`~bayes1bit.diagnostics.waveforms.QRS_BAND` is wider, so that the peak stays where it is.
    Their slopes and moving averages find beats in a running record; a signal here holds about one.
    An inverted complex, as in some ventricular beats, counts like an upright one.

    Args:
        signals: Shape (*leading, length).
        rate: Sampling rate in Hz.

    Returns:
        Index of the peak, int64, shape leading.

    Raises:
        InputError: If signals are not floating point, hold NaN or infinite values or are of
            length 0, or the rate is not above twice the band.
    """
    if not signals.is_floating_point() or signals.dim() == 0 or signals.shape[-1] == 0:
        raise InputError(
            f"heartbeats must be floating point of shape (*leading, length), got {signals.dtype} "
            f"of shape {tuple(signals.shape)}"
        )
    if not bool(signals.isfinite().all()):
        raise InputError("heartbeats hold NaN or infinite values; they have no peak")
    if not 2 * QRS_BAND[1] <= rate < torch.inf:
        raise InputError(
            f"the sampling rate must be at least {2 * QRS_BAND[1]:g} Hz, twice the highest "
            f"frequency of QRS complexes, got {rate:g}"
        )
    return _band_pass(signals, rate).abs().argmax(-1)


def r_peak_error(estimate: Tensor, truth: Tensor, rate: float, event_dim: int = 2) -> Tensor:
    """Distance in time between the R peaks of estimates and truths; see :func:`r_peak`.

    Where all signals are cut out about their R peak, a prior of them knows its time without any
    data: only the error beyond that of the prior's mean says something of the measurement.

    Args:
        estimate: Estimated heartbeats, shape (*leading, 1, length), or (*leading, length) with
            ``event_dim=1``.
        truth: True ones, of the same shape, or one of shape event for all estimates.
        rate: Sampling rate in Hz.
        event_dim: Number of dimensions of one signal.

    Returns:
        Milliseconds, at least 0, float64, shape leading.

    Raises:
        InputError: If shapes disagree, signals are not of one dimension, or as :func:`r_peak`.
    """
    estimate, truth, leading = as_pairs(estimate, truth, event_dim)
    if not is_waveform(estimate.shape[1:]):
        raise InputError(
            f"signals have shape {tuple(estimate.shape[1:])}; heartbeats have (length,) or "
            "(1, length)"
        )
    peaks = [r_peak(signals.flatten(1), rate) for signals in (estimate, truth)]
    return ((peaks[0] - peaks[1]).abs().double() * (1000 / rate)).reshape(leading)


def _band_pass(signals: Tensor, rate: float) -> Tensor:
    """Squared gain of Butterworth filters of second order: what forward and backward passes do.

    A signal is followed by its mirror image, so that its ends do not jump when it is repeated.
    """
    length = signals.shape[-1]
    signals = signals.to(torch.promote_types(signals.dtype, torch.float32))
    mirrored = torch.cat([signals, signals.flip(-1)], -1)
    frequency = torch.fft.rfftfreq(
        2 * length, 1 / rate, dtype=signals.dtype, device=signals.device
    )
    low, high = ((frequency / edge) ** (2 * _ORDER) for edge in QRS_BAND)
    gain = low / (1 + low) / (1 + high)
    return torch.fft.irfft(torch.fft.rfft(mirrored) * gain, 2 * length)[..., :length]
