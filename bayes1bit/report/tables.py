"""Rows of the page's tables: the result in numbers, other latent sites, and how it was made."""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.diagnostics.convergence import MAX_ELEMENTS, elements
from bayes1bit.weighted import weighted_mean, weighted_quantile, weighted_std

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior

Rows = list[tuple[str, ...]]

_RECORDED = ("paper", "structure", "prior", "prior_name", "seed", "command", "unit", "data_range")
"""Attributes that have a row of their own."""
_UNKNOWN_SEED = "not recorded; call pyro.set_rng_seed before a run and keep its number"
_UNKNOWN_COMMAND = "not recorded; the commands demo and recover record theirs"


def summary_rows(
    posterior: "Posterior", truth: Tensor | None, prob: float, limits: tuple[float, float]
) -> Rows:
    """The result in numbers, with scores where the truth is known.

    Args:
        posterior: The posterior.
        truth: The true signal, shape event, if it is known.
        prob: Probability inside the interval whose width is averaged, in (0, 1).
        limits: Range of the data for PSNR and SSIM.
    """
    summary, size = posterior.summary(prob), posterior.effective_sample_size
    shape = "x".join(map(str, posterior.event_shape)) or "one number"
    rows = [
        ("Signal", f"{posterior.site}, {shape}"),
        ("Samples", str(posterior.num_samples)),
        ("Chains", str(posterior.num_chains) if posterior.num_chains > 1 else None),
        ("Effective samples", None if posterior.weights is None else _number(size)),
        ("Range of the mean", f"{summary['mean_min']:.3g} to {summary['mean_max']:.3g}"),
        ("Average standard deviation", _number(summary["std_average"])),
        (f"Average width of the {100 * prob:.3g}% interval", _number(summary["interval_width"])),
        ("Log evidence", _number(summary["log_evidence"], ".2f", " nats")),
        ("Observed bits equal to the majority of replicates", _share(summary["bit_agreement"])),
        ("Denoiser calls per sample", f"{posterior.nfe:g}"),
        ("Seconds", f"{posterior.seconds:.3g}"),
        *(("Data", _tensor(site, value)) for site, value in posterior.observed.items()),
    ]
    known: Rows = [(name, text) for name, text in rows if text is not None]
    return known if truth is None else [*known, *_scores(posterior, truth, prob, limits)]


def latent_rows(posterior: "Posterior", prob: float) -> Rows:
    """Name, mean, standard deviation and interval of other latent sites.

    Of a site with many elements the first
    :data:`~bayes1bit.diagnostics.convergence.MAX_ELEMENTS` have a row, and one more row says how
    many there are.

    Args:
        posterior: The posterior.
        prob: Probability inside the interval, in (0, 1).
    """
    rows: Rows = []
    ends = torch.tensor([(1 - prob) / 2, (1 + prob) / 2]).double()
    for site, samples in posterior.latents.items():
        for name, value in elements(site, samples).items():
            lower, upper = weighted_quantile(value, ends, posterior.weights).tolist()
            mean = float(weighted_mean(value, posterior.weights))
            std = float(weighted_std(value, posterior.weights))
            rows.append((name, f"{mean:.4g}", f"{std:.3g}", f"{lower:.4g} to {upper:.4g}"))
        hidden = samples[0].numel() - MAX_ELEMENTS
        if hidden > 0:
            rows.append((site, f"and {hidden} more elements", "", ""))
    return rows


def recipe_rows(posterior: "Posterior") -> Rows:
    """What was run on what: algorithm, structure, prior, seed and command line.

    Args:
        posterior: The posterior, whose attributes may hold ``seed``, ``command``, ``prior_name``
            and others beside those that every algorithm records.
    """
    attributes = posterior.attributes
    command = attributes.get("command")
    rows = [
        ("Algorithm", posterior.algorithm or "not recorded"),
        ("Paper", attributes.get("paper")),
        ("Structure that inference found", attributes.get("structure")),
        ("Prior", attributes.get("prior_name")),
        ("Prior in full" if "prior_name" in attributes else "Prior", attributes.get("prior")),
        ("Range of the data", attributes.get("data_range")),
        ("Unit", attributes.get("unit")),
        ("Seed", attributes.get("seed", _UNKNOWN_SEED)),
        ("Command line", command or _UNKNOWN_COMMAND),
        *((name, value) for name, value in attributes.items() if name not in _RECORDED),
    ]
    return [(name, _text(value)) for name, value in rows if value not in (None, "")]


def setting_rows(posterior: "Posterior") -> Rows:
    """Settings of the algorithm by name."""
    return [(name, _text(value)) for name, value in posterior.settings.items()]


def version_rows(recorded: Mapping[str, str] | None = None) -> Rows:
    """Versions that made the result, or those that are running now.

    Args:
        recorded: What :func:`recorded_versions` read from the posterior's file; None for a
            posterior that was made in this process.
    """
    from importlib.metadata import version

    import bayes1bit

    here = f"bayes1bit {bayes1bit.__version__}"
    if recorded is None:
        recorded = {
            "bayes1bit": bayes1bit.__version__,
            "pyro": version("pyro-ppl"),
            "torch": str(torch.__version__),
        }
    python = f"Python {platform.python_version()} on {sys.platform}"
    return [*recorded.items(), ("This page was written by", f"{here}, {python}")]


def recorded_versions(path: str | Path) -> dict[str, str]:
    """Versions and time that a posterior file records.

    Args:
        path: File that :meth:`Posterior.save` wrote.
    """
    import xarray

    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        attributes = dataset.attrs
    names = {
        "bayes1bit_version": "bayes1bit",
        "pyro_version": "pyro",
        "torch_version": "torch",
        "created_at": "Saved",
    }
    return {name: str(attributes[key]) for key, name in names.items() if key in attributes}


def _scores(
    posterior: "Posterior", truth: Tensor, prob: float, limits: tuple[float, float]
) -> Rows:
    """PSNR and SSIM of pictures, SNR of other signals, and coverage."""
    from bayes1bit.diagnostics.metrics import coverage, ssim
    from bayes1bit.diagnostics.waveforms import decibels
    from bayes1bit.pictures import is_picture

    mean, samples = posterior.mean, posterior.equally_weighted().samples
    truth = truth.to(mean)
    name, of_mean = decibels(mean, truth, limits)
    _, of_samples = decibels(samples, truth, limits)
    rows: Rows = [
        (f"{name} of the mean", f"{float(of_mean):.2f} dB"),
        (f"{name} of samples, average", f"{float(of_samples.mean()):.2f} dB"),
    ]
    if is_picture(truth.shape) and min(truth.shape[1:]) >= 3:
        rows.append(("SSIM of the mean", f"{float(ssim(mean, truth, limits)):.3f}"))
    if posterior.num_samples > 1:
        covered = coverage(posterior, truth, prob)
        rows.append((f"Coverage of the {100 * prob:.3g}% interval", f"{covered:.1%}"))
    return rows


def _number(value: float | None, form: str = ".4g", unit: str = "") -> str | None:
    return None if value is None or value != value else f"{value:{form}}{unit}"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _tensor(site: str, value: Tensor) -> str:
    shape = "x".join(map(str, value.shape)) or "1"
    return f"{site}, {shape}, from {float(value.min()):g} to {float(value.max()):g}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
