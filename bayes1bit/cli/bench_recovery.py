"""``bayes1bit bench recovery``: recovery of test signals by every method."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, report
from bayes1bit.cli.bench_common import (
    LINKS,
    Averages,
    Data,
    Runs,
    check_outputs,
    read_numbers,
    read_split,
    read_words,
    show_rows,
)
from bayes1bit.cli.specs import announce_cost, read_methods
from bayes1bit.errors import InputError

EXAMPLES = """\b
Examples:
  bayes1bit bench recovery --data fashion_mnist.npz
  bayes1bit bench recovery --data fashion_mnist.npz --methods diff-onebit --ratios 4 --pictures 10
  bayes1bit bench recovery --data fashion_mnist.npz --noise 0.5,1 --links probit,logistic \\
      --methods "biht, pnp-onebit, dps misfit=likelihood num_levels=200" \\
      --averages recovery-averages.csv --figure recovery.png
  bayes1bit bench recovery --prior ecg256 --data ecg.npz --every 900 --r-peaks
  bayes1bit bench recovery --data fashion_mnist.npz --dither 1.5 --unknown-noise \\
      --methods "split-gibbs-smc, joint-gibbs"
  bayes1bit bench recovery --prior faces64 --data portraits --resize
"""

RATE = 360.0
"""Sampling rate in Hz of heartbeats whose recipe does not say theirs."""


def recovery(
    data: Data,
    prior: options.Prior = "fashion32",
    methods: options.Methods = "moment-matched, diff-onebit",
    ratios: Annotated[str, typer.Option(metavar="R,R", help="Values of n/m.")] = "2,4,8,16",
    noise: Annotated[
        str,
        typer.Option(metavar="S,S", help="Scales of the noise, in units of the measurements."),
    ] = "0.5",
    links: Annotated[
        str, typer.Option("--links", "--link", metavar="A,B", help="probit, logistic, or both.")
    ] = "probit",
    dither: Annotated[
        float,
        typer.Option(
            metavar="S", min=0.0, help="Standard deviation of normal thresholds, same units."
        ),
    ] = 0.0,
    unknown_noise: Annotated[
        bool,
        typer.Option(
            "--unknown-noise", help="Methods infer the scale of the noise with the signal."
        ),
    ] = False,
    pictures: Annotated[
        int, typer.Option(min=1, help="Number of test pictures or other signals.")
    ] = 50,
    every: Annotated[
        int,
        typer.Option(
            metavar="K",
            min=1,
            help="Take every K-th of the test split, where neighbours are alike.",
        ),
    ] = 1,
    resize: options.Resize = False,
    r_peaks: Annotated[
        bool,
        typer.Option("--r-peaks", help="Score the time of R peaks, where signals are heartbeats."),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help=f"Their sampling rate.  [default: the recipe's data.rate, or {RATE:g}]",
        ),
    ] = None,
    num_samples: options.NumSamples = 8,
    together: Annotated[
        int,
        typer.Option(
            metavar="K",
            min=1,
            help="Number of signals that share a batch, for methods whose chains do not learn "
            "from each other; seconds are then shares of the batch's.",
        ),
    ] = 1,
    out: Runs = Path("runs/recovery.csv"),
    averages: Averages = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Figure to write: signals, and PSNR or SNR (.png, .pdf, .svg)."
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recover test signals by every method, from the same bits, and average the scores.

    One row for each link, noise, method and n/m. Two baselines stand beside the methods:
    back-projection of the bits with the best factor, and the prior's mean. An interrupted run goes
    on where it stopped. Coverage counts what varies over the signals. R peak error is the distance
    in ms between the R peaks of the mean and of the truth.
    """
    import torch

    from bayes1bit.bench.recovery import Problem, run_recovery, shown_pictures
    from bayes1bit.bench.recovery_figure import check_drawable, plot_recovery
    from bayes1bit.zoo import load_prior, open_prior

    makers = read_methods(methods, num_samples)
    conditions = {
        "ratios": read_numbers("--ratios", ratios),
        "noises": read_numbers("--noise", noise),
        "links": read_words("--links", links, LINKS),
    }
    if rate is not None:
        if not r_peaks:
            raise InputError("--rate is for --r-peaks")
        report.check_positive("--rate", rate)
    report.check_device(device)
    check_outputs(out, averages, figure)
    folder = open_prior(prior)
    torch.manual_seed(seed)
    setup = f"{folder.name} {precision}, {num_samples} samples"
    if every > 1:
        setup += f", every {every}"
    if resize:
        setup += f", {data.name} resized"
    problem = Problem(
        load_prior(prior, device=device, precision=precision),
        read_split(data, "test", folder, pictures, every=every, resize=resize),
        **conditions,  # type: ignore[arg-type]  # links were checked
        seed=seed,
        setup=setup,
        rate=(rate or folder.recipe.data.rate or RATE) if r_peaks else None,
        dither=dither,
        unknown_noise=unknown_noise,
        together=together,
    )
    if figure is not None:
        check_drawable(problem.pictures)
    if not quiet:
        for spec in makers:
            announce_cost(spec)
    rows = run_recovery(problem, makers, out, progress=not quiet)
    if averages is not None:
        report.save_rows(rows, averages)
    if figure is not None:
        drawn = plot_recovery(problem, list(makers), rows, shown_pictures(out))
        report.save_figure(drawn, figure)
    show_rows(rows, as_json=as_json, quiet=quiet)
