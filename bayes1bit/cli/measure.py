"""``bayes1bit measure``: turn a picture or another signal into a file of one-bit measurements."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, recovery, report, sensing
from bayes1bit.errors import InputError

EXAMPLES = """\b
Examples:
  bayes1bit measure coat.png --out coat.nc
  bayes1bit measure coat.png --out coat.nc --ratio 8 --noise 0.2 --dither 1
  bayes1bit measure portrait.jpg --out portrait.nc --prior faces64 --resize
  bayes1bit measure beat.npy --out beat.nc --prior ecg256
  bayes1bit measure signal.npy --out signal.nc --shape 100 --range 0,1 \\
      --measurements 400 --operator gaussian --link logistic
"""


def measure(
    signal: Annotated[
        Path, typer.Argument(metavar="SIGNAL", help="PNG or JPEG picture, or .npy array.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Measurement file to write (.nc).")],
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Prior that says shape and range of the signal.  [default: fashion32]",
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="C,H,W", help="Shape of the signal, such as 1,256, in place of --prior."
        ),
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option("--range", metavar="LOW,HIGH", help="Range of its values, with --shape."),
    ] = None,
    resize: options.Resize = False,
    ratio: options.Ratio = None,
    measurements: Annotated[
        int | None,
        typer.Option(metavar="M", help="Number of measurements, in place of --ratio."),
    ] = None,
    operator: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(sensing.OPERATORS)}.")
    ] = "hadamard",
    noise: options.Noise = None,
    link: Annotated[
        str, typer.Option(metavar="NAME", help="Law of the noise: probit (normal) or logistic.")
    ] = "probit",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="T", help="Constant level to compare with.  [default: 0]"),
    ] = None,
    dither: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Random normal thresholds of this standard deviation, kept in the file.",
        ),
    ] = None,
    flip: Annotated[
        float, typer.Option(metavar="E", help="Probability that a bit is recorded inverted.")
    ] = 0.0,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a picture or another signal with one bit per measurement.

    The file holds the bits and all that is needed to recover the signal, but not the signal.
    """
    if threshold is not None and dither is not None:
        raise InputError("give --threshold or --dither, not both")
    report.check_output(out)

    from bayes1bit.pictures import read_signal

    event_shape, data_range = _signal(prior, shape, range_)
    x = read_signal(signal, event_shape, data_range, resize=resize)
    m = sensing.count_measurements(event_shape, ratio, measurements)
    measurement = sensing.sense(
        x,
        data_range,
        m,
        seed=seed,
        operator=operator,
        noise=noise,
        threshold=threshold or 0.0,
        dither=dither,
        link=link,
        flip=flip,
    )
    measurement.save(out)
    ones = float((measurement.y > 0).double().mean())
    report.show(
        f"{signal}, measured",
        [
            *recovery.measurement_figures(measurement),
            report.number("share_of_ones", ones, "share of +1", ".1%"),
        ],
        {"measurement": out},
        as_json=as_json,
        quiet=quiet,
    )


def _signal(
    prior: str | None, shape: str | None, range_: str | None
) -> tuple[tuple[int, ...], tuple[float, float]]:
    """Shape and range of the signal, from a prior or from --shape and --range."""
    if shape is None and range_ is None:
        from bayes1bit.zoo import open_prior

        data = open_prior("fashion32" if prior is None else prior).recipe.data
        return data.event_shape, (data.low, data.high)
    if prior is not None:
        raise InputError("give --prior, or --shape with --range, not both")
    if shape is None or range_ is None:
        raise InputError("--shape and --range go together, such as --shape 1,32,32 --range -1,1")
    try:
        sizes = tuple(int(size) for size in shape.split(","))
    except ValueError as error:
        raise InputError(
            f'--shape must be whole numbers such as 1,32,32, got "{shape}"'
        ) from error
    try:
        low, high = (float(end) for end in range_.split(","))
    except ValueError as error:
        raise InputError(f'--range must be two numbers such as -1,1, got "{range_}"') from error
    if min(sizes) < 1 or not -float("inf") < low < high < float("inf"):
        raise InputError(
            f"sizes must be positive and the range rise: --shape {shape} --range {range_}"
        )
    return sizes, (low, high)
