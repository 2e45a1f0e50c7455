"""``bayes1bit bench regression``: classification images with and without a diffusion prior."""

from pathlib import Path
from typing import Annotated

import typer

from bayes1bit.cli import options, report
from bayes1bit.cli.bench_common import (
    Averages,
    Data,
    Runs,
    check_outputs,
    read_numbers,
    read_split,
    show_rows,
)
from bayes1bit.cli.specs import read_methods
from bayes1bit.errors import InputError

EXAMPLES = """\b
Examples:
  bayes1bit bench regression --data fashion_mnist.npz --figure regression.png
  bayes1bit bench regression --data fashion_mnist.npz --trials 1000 --templates 3 \\
      --methods "moment-matched, split-gibbs-smc num_samples=16"
"""

PICTURES = 100
"""Pictures that set the gain of observers and say which pixels vary."""


def regression(
    data: Data,
    prior: options.Prior = "fashion32",
    methods: options.Methods = "moment-matched",
    trials: Annotated[
        str, typer.Option(metavar="M,M", help="Numbers of answers.")
    ] = "100,300,1000,3000,10000",
    templates: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of observers, each with a template.")
    ] = 1,
    num_samples: options.NumSamples = 32,
    out: Runs = Path("runs/regression.csv"),
    averages: Averages = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Figure to write: templates, log loss and calibration (.png, .pdf, .svg).",
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the template of a simulated observer from yes and no to pictures of noise.

    One row for each number of answers and method. "observer" is the truth itself, "ridge" logistic
    regression with the penalty chosen by cross-validation, "gaussian-nuts" a Gaussian prior of
    learned scale. Log loss, accuracy and calibration error are those of probabilities of held-out
    answers, averaged over samples; correlation is that of the mean with the template, coverage
    that of pixels that vary. An interrupted run goes on where it stopped.
    """
    from bayes1bit.bench.regression import run_regression, shown_templates
    from bayes1bit.bench.regression_figure import check_drawable, plot_regression
    from bayes1bit.bench.regression_problem import Problem
    from bayes1bit.bench.regression_scores import CURVE
    from bayes1bit.zoo import load_prior, open_prior

    makers = read_methods(methods, num_samples)
    numbers = read_numbers("--trials", trials)
    if any(number != int(number) for number in numbers):
        raise InputError(f"--trials must be whole numbers, got {trials}")
    report.check_device(device)
    check_outputs(out, averages, figure)
    folder = open_prior(prior)
    loaded = load_prior(prior, device=device, precision=precision)
    problem = Problem(
        loaded,
        read_split(data, "test", folder, max(templates, PICTURES)),
        num_templates=templates,
        trials=tuple(map(int, numbers)),
        seed=seed,
        setup=f"{folder.name} {precision}, {num_samples} samples",
        background=loaded.data_range[0] if loaded.data_range else 0.0,
    )
    if figure is not None:
        check_drawable(problem.pictures)
    rows = run_regression(problem, makers, out, progress=not quiet)
    if averages is not None:
        report.save_rows(rows, averages)
    if figure is not None:
        drawn = plot_regression(problem, list(makers), rows, shown_templates(out))
        report.save_figure(drawn, figure)
    if not as_json:  # the points of reliability curves are too many for a terminal
        rows = [{name: row[name] for name in row if name not in CURVE} for row in rows]
    show_rows(rows, as_json=as_json, quiet=quiet)
