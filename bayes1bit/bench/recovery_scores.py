"""What a recovery benchmark scores: pictures by PSNR and SSIM, other signals by SNR."""

from dataclasses import dataclass

from torch import Tensor

from bayes1bit.diagnostics.metrics import coverage, ssim
from bayes1bit.diagnostics.waveforms import decibels, r_peak_error
from bayes1bit.measurement import Measurement
from bayes1bit.pictures import is_picture
from bayes1bit.posterior import Posterior

R_PEAK = "R peak error"
"""Distance between the R peaks of the mean and of the truth, in ms."""
VARYING = 0.05
"""Elements that deviate by more than this share vary; see :func:`varies`."""

_COMMON = ("coverage 90%", "bit agreement", "NFE", "seconds")

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Scorer:
    """Scores of estimates and posteriors of the signals of one benchmark.

    Attributes:
        truths: True signals, shape (count, *event).
        data_range: Lowest and highest value of signals.
        rate: Sampling rate in Hz, to compare the R peaks of heartbeats; None compares none.
    """

    truths: Tensor
    data_range: tuple[float, float]
    rate: float | None = None

    @property
    def quality(self) -> str:
        """Name of the first score: PSNR or SNR."""
        return "PSNR" if is_picture(self.truths.shape[1:]) else "SNR"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all scores, in the order of tables and files."""
        measures = (self.quality, "SSIM") if self.quality == "PSNR" else (self.quality,)
        scores = [f"{kind} {name}" for name in measures for kind in ("sample", "mean")]
        return (*scores, *(() if self.rate is None else (R_PEAK,)), *_COMMON)

    def of_estimate(self, estimate: Tensor, truth: Tensor, measurement: Measurement) -> Scores:
        """Scores that one estimate can have, such as a posterior's mean."""
        predicted = measurement.operator(estimate) - measurement.threshold
        agreement = (predicted.sign() == measurement.y).float().mean()
        scores: Scores = {"bit agreement": agreement.item()}
        for name, value in self._compare(estimate, truth).items():
            scores[f"mean {name}"] = value.item()
        if self.rate is not None:
            error = r_peak_error(estimate, truth, self.rate, event_dim=truth.dim())
            scores[R_PEAK] = error.item()
        return scores

    def of_posterior(
        self, posterior: Posterior, truth: Tensor, measurement: Measurement
    ) -> Scores:
        """All scores of a posterior; no coverage if it is one estimate, or nothing varies."""
        samples, mean = posterior.equally_weighted().samples.cpu(), posterior.mean.cpu()
        scores = self.of_estimate(mean, truth, measurement)
        for name, value in self._compare(samples, truth).items():
            scores[f"sample {name}"] = value.mean().item()
        scores |= {"NFE": posterior.nfe, "seconds": posterior.seconds}
        varying = varies(self.truths.std(0, correction=0), self.data_range)
        if len(samples) > 1 and varying.any():
            scores["coverage 90%"] = coverage(samples, truth, 0.9, where=varying)
        return scores

    def _compare(self, estimate: Tensor, truth: Tensor) -> dict[str, Tensor]:
        name, ratio = decibels(estimate, truth, self.data_range)
        if name == "SNR":
            return {name: ratio}
        return {name: ratio, "SSIM": ssim(estimate, truth, self.data_range)}


def varies(deviation: Tensor, data_range: tuple[float, float]) -> Tensor:
    """Which elements of signals vary enough for their intervals to be judged.

    A pixel of a constant background has nothing to recover. The measure is the data range, which
    pictures fill; other signals need not come near its ends, and theirs is the largest deviation
    of an element.

    Args:
        deviation: Standard deviation of each element over the signals, shape event.
        data_range: Lowest and highest value of signals.

    Returns:
        Booleans of shape event: whether the deviation is above the share :data:`VARYING` of that
        measure.
    """
    low, high = data_range
    whole = high - low if is_picture(deviation.shape) else float(deviation.max())
    return deviation > VARYING * whole
