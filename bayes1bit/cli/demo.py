"""``bayes1bit demo``: measure a signal that comes with a prior, and recover it."""

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
  bayes1bit demo --prior ecg256 --ratio 2
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
        int, typer.Option(metavar="N", help="Number of the prior's example, from 1.")
    ] = 1,
    method: options.Method = DEFAULT_METHOD,
    num_samples: options.NumSamples = 16,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure an example of the prior's signals and recover it from the bits.

    Each measurement is one bit. The sensing operator is a random selection of Hadamard
    coefficients. Scores compare with the true signal; DIR receives recovery.png, posterior.nc
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

    from bayes1bit.pictures import example_signals, read_signal, signal_word
    from bayes1bit.zoo import load_prior, open_prior

    folder = open_prior(prior)
    data = folder.recipe.data
    signals = example_signals(folder.path)
    if not signals:
        word = signal_word(data.event_shape)
        raise InputError(
            f'prior "{folder.name}" comes without example {word}s; '
            f"use bayes1bit recover with a {word} of yours"
        )
    if not 1 <= example <= len(signals):
        raise InputError(
            f'--example {example}: prior "{folder.name}" has examples 1 to {len(signals)}'
        )
    signal = signals[example - 1]
    x = read_signal(signal, data.event_shape, (data.low, data.high))
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
    recovery.record_run(posterior, prior, folder.recipe.card.unit, seed)
    recovery.save_plot(posterior, x, files["picture"], folder.recipe.card.unit)
    posterior.save(files["posterior"])
    measurement.save(files["measurement"])
    report.show(
        f"{signal.name} of {folder.name}, recovered by {method}",
        [
            report.text("prior", folder.name, "prior"),
            report.text("example", signal.name, "example"),
            report.text("method", method, "method"),
            *recovery.measurement_figures(measurement),
            *recovery.posterior_figures(posterior, measurement),
        ],
        files,
        as_json=as_json,
        quiet=quiet,
    )
