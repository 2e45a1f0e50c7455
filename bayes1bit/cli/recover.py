"""``bayes1bit recover``: from a measurement file, or a signal, to a posterior."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayes1bit.cli import options, recovery, report, sensing
from bayes1bit.cli.specs import DEFAULT_METHOD, check_method
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from bayes1bit.measurement import Measurement
    from bayes1bit.zoo import PriorFolder

EXAMPLES = """\b
Examples:
  bayes1bit recover coat.nc
  bayes1bit recover coat.nc --out coat-posterior.nc --picture coat.png
  bayes1bit recover coat.png --ratio 8 --picture recovery.png
  bayes1bit recover beat.npy --prior ecg256 --picture recovery.png
  bayes1bit recover coat.nc --method "dps misfit=likelihood num_levels=200"
"""

_SIGNALS = (".png", ".jpg", ".jpeg", ".npy")


def recover(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Measurement file, or a picture or .npy array to measure first."
        ),
    ],
    prior: options.Prior = "fashion32",
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Posterior file to write (.nc).")
    ] = Path("posterior.nc"),
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Picture of the result to write (.png, .pdf, .svg)."),
    ] = None,
    resize: options.Resize = False,
    ratio: options.Ratio = None,
    noise: options.Noise = None,
    method: options.Method = DEFAULT_METHOD,
    num_samples: options.NumSamples = 16,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recover a signal from one-bit measurements, with uncertainty.

    INPUT is a file that "bayes1bit measure" or Measurement.save wrote. For a quick try it may be
    a picture or a .npy array, which is first measured with --ratio and --noise.
    """
    check_method(method, num_samples)
    report.check_output(out)
    if picture is not None:
        report.check_picture_output(picture)
    report.check_device(device)

    from bayes1bit.measurement import Measurement
    from bayes1bit.zoo import load_prior, open_prior

    simulated = source.suffix.lower() in _SIGNALS
    if not simulated and (ratio is not None or noise is not None):
        raise InputError(
            f"--ratio and --noise are for pictures and arrays; {source} is taken as a "
            "measurement file, which has its own"
        )
    if not simulated and resize:
        raise InputError(f"--resize is for pictures; {source} is taken as a measurement file")
    if simulated:
        measurement = _measure(source, open_prior(prior), ratio, noise, seed, resize)
    else:
        measurement = Measurement.load(source)
    loaded = load_prior(prior, device=device, precision=precision)
    posterior = recovery.infer(
        measurement,
        loaded,
        method=method,
        num_samples=num_samples,
        seed=seed,
        progress=not quiet,
    )
    unit = open_prior(prior).recipe.card.unit
    recovery.record_run(posterior, prior, unit, seed)
    files = {"posterior": out}
    if picture is not None:
        files["picture"] = picture
        recovery.save_plot(posterior, measurement.truth, picture, unit)
    posterior.save(out)
    how = "measured here, then recovered" if simulated else "recovered"
    origin = "simulated from the input" if simulated else "from the file"
    report.show(
        f"{source}, {how} by {method}",
        [
            report.text("method", method, "method"),
            report.Figure("simulated", simulated, "bits", origin),
            *recovery.measurement_figures(measurement),
            *recovery.posterior_figures(posterior, measurement),
        ],
        files,
        as_json=as_json,
        quiet=quiet,
    )


def _measure(
    source: Path,
    folder: "PriorFolder",
    ratio: float | None,
    noise: float | None,
    seed: int,
    resize: bool,
) -> "Measurement":
    """Measure a picture or an array, keeping it as the truth."""
    from bayes1bit.pictures import read_signal

    data = folder.recipe.data
    x = read_signal(source, data.event_shape, (data.low, data.high), resize=resize)
    m = sensing.count_measurements(data.event_shape, ratio)
    return sensing.sense(x, (data.low, data.high), m, noise=noise, seed=seed, keep_truth=True)
