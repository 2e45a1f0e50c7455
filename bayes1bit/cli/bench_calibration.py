"""``bayes1bit bench calibration``: whether posteriors are as wide as they should be."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayes1bit.cli import options, report
from bayes1bit.cli.bench_common import LINKS, Runs, read_split, read_words, show_rows
from bayes1bit.cli.specs import check_method, read_methods
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bayes1bit.bench.calibration import Calibration
    from bayes1bit.diffusion import DiffusionPrior

EXAMPLES = """\b
Examples:
  bayes1bit bench calibration --figures calibration
  bayes1bit bench calibration --prior mixture --data fashion_mnist.npz --count 1000
  bayes1bit bench calibration --truths test --data fashion_mnist.npz --runs 100 \\
      --methods "split-gibbs-smc, dps misfit=likelihood num_levels=200"
"""

MIXTURE = "mixture"
TRUTHS = ("prior", "test")


def calibration(
    prior: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A shipped prior, the folder of a trained one, or mixture: pictures of --data "
            "with normal noise about them.",
        ),
    ] = "fashion32",
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Pictures, for the mixture or for --truths test."),
    ] = None,
    count: Annotated[
        int, typer.Option(metavar="N", min=2, help="Number of pictures in the mixture.")
    ] = 4000,
    methods: options.Methods = "lookahead-smc, moment-matched, diff-onebit",
    runs: Annotated[
        int, typer.Option(metavar="N", min=2, help="Number of signals to recover.")
    ] = 200,
    num_samples: options.NumSamples = 63,
    truths: Annotated[
        str,
        typer.Option(metavar="NAME", help="prior: draws of the prior; test: pictures of --data."),
    ] = "prior",
    ratio: options.Ratio = None,
    noise: options.Noise = None,
    link: Annotated[str, typer.Option(metavar="NAME", help=f"{' or '.join(LINKS)}.")] = "probit",
    out: Runs = Path("runs/calibration.csv"),
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for figures of ranks and coverage."),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Test whether posteriors are as wide as they should be, over many signals.

    SBC p is the p-value of uniform ranks (simulation-based calibration), TARP deviation the
    largest distance of expected coverage from the diagonal; 50% to 95% are shares of varying
    pixels inside their intervals, each with its standard error. With --truths prior an exact
    method is calibrated; with --truths test the prior is judged, too. An interrupted run goes on
    where it stopped.
    """
    makers = read_methods(methods, num_samples)
    for spec in makers:
        if (made := check_method(spec, num_samples).num_samples) != num_samples:
            raise InputError(
                f"calibration needs {num_samples} samples (--num-samples) of every method, but "
                f'"{spec}" gives {made}'
            )
    law = read_words("--link", link, LINKS)[0]
    held_out = read_words("--truths", truths, TRUTHS)[0] == "test"
    if held_out and prior == MIXTURE:
        raise InputError("--truths test judges a trained prior; a mixture has draws of its own")
    if data is None and (held_out or prior == MIXTURE):
        raise InputError("--prior mixture and --truths test need --data")
    for option, value in (("--ratio", ratio), ("--noise", noise)):
        if value is not None:
            report.check_positive(option, value)
    report.check_device(device)
    report.check_output(out)
    if figures is not None:
        report.check_output(figures / "ranks.png")

    from bayes1bit.bench.calibration import Study, run_calibration

    loaded, pictures, setup = _signals(
        prior, data, count, runs if held_out else None, device, precision
    )
    study = Study(
        loaded,
        num_runs=runs,
        num_samples=num_samples,
        truths=pictures,
        ratio=4.0 if ratio is None else ratio,
        noise=0.5 if noise is None else noise,
        link=law,  # type: ignore[arg-type]  # it was checked
        seed=seed,
        setup=setup,
    )
    outcomes = run_calibration(study, makers, out, progress=not quiet)
    if figures is not None:
        _draw(outcomes, figures)
    show_rows([outcome.row() for outcome in outcomes], as_json=as_json, quiet=quiet)


def _signals(
    name: str, data: Path | None, count: int, runs: int | None, device: str, precision: str
) -> "tuple[DiffusionPrior, Tensor | None, str]":
    """The prior, as many held-out pictures as there are runs if any, and what to call both."""
    if name == MIXTURE:
        from bayes1bit.bench.exact_problems import picture_prior, read_means

        assert data is not None
        mixture = picture_prior(read_means(data, count).to(device))
        return mixture, None, f"mixture of {count} of {data.name}"

    from bayes1bit.zoo import load_prior, open_prior

    folder = open_prior(name)
    setup = f"{folder.name} {precision}"
    pictures = None
    if data is not None and runs is not None:
        pictures, setup = read_split(data, "test", folder, runs), f"{setup}, {data.name}"
    return load_prior(name, device=device, precision=precision), pictures, setup


def _draw(outcomes: "Iterable[Calibration]", folder: Path) -> None:
    """Two figures for each method."""
    from bayes1bit.bench.calibration import STATISTICS
    from bayes1bit.diagnostics import plot_coverage, plot_sbc

    for outcome in outcomes:
        name = re.sub(r"[^\w.=-]+", "-", outcome.method)
        for kind, figure in (
            ("ranks", plot_sbc(outcome.ranks, outcome.num_samples, STATISTICS)),
            ("coverage", plot_coverage(outcome.curve, outcome.intervals)),
        ):
            report.save_figure(figure, folder / f"{name}-{kind}.png")
