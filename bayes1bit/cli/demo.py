"""``bayes1bit demo``: measure a picture that comes with a prior, and recover it."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, recovery, report, sensing
from bayes1bit.cli.specs import DEFAULT_METHOD, check_method
from bayes1bit.errors import InputError

EXAMPLES = """\b
Examples:
  bayes1bit demo
  bayes1bit demo --ratio 8 --noise 0.2 --num-samples 64
  bayes1bit demo --example 3 --method "diff-onebit data_step=proximal" --json
"""


def demo(
    prior: options.Prior = "fashion32",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")] = Path(
        "demo"
    ),
    ratio: options.Ratio = None,
    noise: options.Noise = None,
    example: Annotated[
        int, typer.Option(metavar="N", help="Number of the example picture, from 1.")
    ] = 1,
    method: options.Method = DEFAULT_METHOD,
    num_samples: options.NumSamples = 16,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure an example picture and recover it from the bits.

    Each measurement is one bit. The sensing operator is a random selection of Hadamard
    coefficients. Scores compare with the true picture; DIR receives recovery.png, posterior.nc
    and measurement.nc.
    """
    check_method(method, num_samples)
    files = {
        "picture": out / "recovery.png",
        "posterior": out / "posterior.nc",
        "measurement": out / "measurement.nc",
    }
    for path in files.values():
        report.check_output(path)
    report.check_device(device)

    from bayes1bit.pictures import example_signals, read_signal
    from bayes1bit.zoo import load_prior, open_prior

    folder = open_prior(prior)
    data = folder.recipe.data
    pictures = example_signals(folder.path)
    if not pictures:
        raise InputError(
            f'prior "{folder.name}" comes without example pictures; '
            "use bayes1bit recover with a picture of yours"
        )
    if not 1 <= example <= len(pictures):
        raise InputError(
            f'--example {example}: prior "{folder.name}" has examples 1 to {len(pictures)}'
        )
    picture = pictures[example - 1]
    x = read_signal(picture, data.event_shape, (data.low, data.high))
    m = sensing.count_measurements(data.event_shape, ratio)
    measurement = sensing.sense(
        x, (data.low, data.high), m, noise=noise, seed=seed, keep_truth=True
    )
    loaded = load_prior(prior, device=device, precision=precision)
    posterior = recovery.infer(
        measurement,
        loaded,
        method=method,
        num_samples=num_samples,
        seed=seed,
        progress=not quiet,
    )
    recovery.save_plot(posterior, x, files["picture"])
    posterior.save(files["posterior"])
    measurement.save(files["measurement"])
    report.show(
        f"{picture.name} of {folder.name}, recovered by {method}",
        [
            report.text("prior", folder.name, "prior"),
            report.text("example", picture.name, "example"),
            report.text("method", method, "method"),
            *recovery.measurement_figures(measurement),
            *recovery.posterior_figures(posterior, measurement),
        ],
        files,
        as_json=as_json,
        quiet=quiet,
    )
