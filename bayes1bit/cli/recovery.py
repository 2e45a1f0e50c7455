"""From a measurement to a posterior: what ``demo`` and ``recover`` share."""

from pathlib import Path
from typing import TYPE_CHECKING

from bayes1bit.cli.command_line import command_line
from bayes1bit.cli.report import Figure, number, save_figure, text
from bayes1bit.cli.sensing import seed_stream
from bayes1bit.cli.specs import announce_cost
from bayes1bit.infer.registry import make_algorithm

if TYPE_CHECKING:
    from torch import Tensor

    from bayes1bit.diffusion import DiffusionPrior
    from bayes1bit.measurement import Measurement
    from bayes1bit.posterior import Posterior


def infer(
    measurement: "Measurement",
    prior: "DiffusionPrior",
    *,
    method: str,
    num_samples: int,
    seed: int,
    progress: bool,
) -> "Posterior":
    """Draw posterior samples of a measured signal.

    Args:
        measurement: The bits.
        prior: Prior of the signal.
        method: What :func:`~bayes1bit.infer.registry.make_algorithm` takes.
        num_samples: Number of samples.
        seed: Seed of the algorithm.
        progress: Whether to say beforehand what the method costs, and to show a progress bar.

    Raises:
        InputError: If measurement and prior do not fit, or the method does not fit the model.
    """
    seed_stream(seed, "inference")
    model = measurement.model(prior)
    algorithm = make_algorithm(method, model, num_samples=num_samples, progress=progress)
    if progress:
        announce_cost(method)
    return algorithm.run(measurement.y.to(prior.device))


def record_run(posterior: "Posterior", prior: str, unit: str, seed: int) -> None:
    """Keep with a posterior how a command made it.

    Args:
        posterior: The posterior.
        prior: What ``--prior`` was.
        unit: Unit of the signal's values; empty for none.
        seed: The user's seed.
    """
    posterior.attributes = {
        **posterior.attributes,
        "prior_name": prior,
        "unit": unit,
        "seed": seed,
        "command": command_line(),
    }


def measurement_figures(measurement: "Measurement") -> list[Figure]:
    """What was measured, and how."""
    shape, m, threshold = measurement.event_shape, measurement.m, measurement.threshold
    level = threshold if isinstance(threshold, float) else None
    return [
        Figure("shape", list(shape), "signal", "x".join(map(str, shape))),
        number("measurements", m, "measurements", "d", f"bits, n/m = {shape.numel() / m:.3g}"),
        text("operator", type(measurement.operator).__name__, "operator"),
        number("noise", measurement.scale, "noise", "g"),
        text("link", measurement.link, "link"),
        Figure("threshold", level, "threshold", "one per bit" if level is None else f"{level:g}"),
        number("flip", measurement.flip, "flip probability", "g"),
    ]


def posterior_figures(posterior: "Posterior", measurement: "Measurement") -> list[Figure]:
    """What came out, with scores where the measurement keeps the truth."""
    summary = posterior.summary()
    size, spread = summary["effective_sample_size"], summary["std_average"]
    explained = _agreement(measurement, posterior.mean)
    figures = [
        number("num_samples", posterior.num_samples, "samples", "d"),
        number("effective_sample_size", size, "effective samples", ".4g"),
        number("nfe", posterior.nfe, "denoiser calls per sample", "g"),
        number("seconds", posterior.seconds, "seconds", ".1f"),
        number("log_evidence", posterior.log_evidence, "log evidence", ".2f", "nats"),
        number("std_average", spread, "average std", ".3f"),
        *_scores(posterior, measurement),
        number("bit_agreement", explained, "bits reproduced by the mean", ".1%"),
    ]
    if measurement.truth is not None:
        explained = _agreement(measurement, measurement.truth)
        figures.append(
            number("bit_agreement_truth", explained, "bits reproduced by the truth", ".1%")
        )
    return figures


def save_plot(posterior: "Posterior", truth: "Tensor | None", path: Path, unit: str = "") -> None:
    """Draw a posterior into a picture file, which appears only when complete.

    Args:
        posterior: The posterior.
        truth: The true signal, where it is known.
        path: File to write.
        unit: Unit of the signal's values; empty for none.
    """
    save_figure(posterior.plot(truth=truth, unit=unit), path)


def _scores(posterior: "Posterior", measurement: "Measurement") -> list[Figure]:
    """Scores against the truth, where it is known: PSNR and SSIM of pictures, SNR of others."""
    from bayes1bit.diagnostics.metrics import coverage, ssim
    from bayes1bit.diagnostics.waveforms import decibels
    from bayes1bit.pictures import is_picture

    truth, data_range = measurement.truth, measurement.data_range
    if truth is None or data_range is None:
        return []
    samples = posterior.equally_weighted().samples.cpu()
    mean, picture = posterior.mean.cpu(), is_picture(truth.shape)
    name, ratio = decibels(mean, truth, data_range)
    of_mean, of_samples = float(ratio), float(decibels(samples, truth, data_range)[1].mean())
    figures = [
        number(f"{name.lower()}_mean", of_mean, f"{name} of the mean", ".2f", "dB"),
        number(f"{name.lower()}_samples", of_samples, f"{name} of samples, average", ".2f", "dB"),
    ]
    if picture and min(truth.shape[1:]) >= 3:
        of_mean = float(ssim(mean, truth, data_range))
        of_samples = float(ssim(samples, truth, data_range).mean())
        figures += [
            number("ssim_mean", of_mean, "SSIM of the mean", ".3f"),
            number("ssim_samples", of_samples, "SSIM of samples, average", ".3f"),
        ]
    if posterior.num_samples == 1:
        # an interval needs more than one sample
        return figures
    covered = coverage(posterior, truth)
    figures.append(number("coverage_90", covered, "coverage of 90% intervals", ".1%"))
    # a continuous posterior hardly ever holds the very end of the range, as backgrounds have it
    inside = (truth > data_range[0]) & (truth < data_range[1])
    if picture and bool(inside.any()):
        covered = coverage(posterior, truth, where=inside)
        label = "the same, neither black nor white"
        figures.append(number("coverage_90_inside", covered, label, ".1%"))
    return figures


def _agreement(measurement: "Measurement", x: "Tensor") -> float:
    """Share of bits that the noiseless measurement of a signal reproduces."""
    from bayes1bit.diagnostics.metrics import bit_agreement

    output = measurement.operator(x.detach().cpu())
    predicted = 2 * (output > measurement.threshold).to(measurement.y.dtype) - 1
    return float(bit_agreement(measurement.y, predicted))
