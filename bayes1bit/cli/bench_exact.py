"""``bayes1bit bench exact``: methods against posteriors that are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayes1bit.cli import options, report
from bayes1bit.cli.bench_common import LINKS, Runs, read_words, show_rows
from bayes1bit.cli.specs import read_methods
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from bayes1bit.bench.exact_problems import ExactProblem

EXAMPLES = """\b
Examples:
  bayes1bit bench exact
  bayes1bit bench exact --data fashion_mnist.npz --problems pictures --seeds 10
  bayes1bit bench exact --problems small --operator gaussian --link logistic \\
      --methods "split-gibbs, split-gibbs num_levels=200, langevin metropolis=true"
"""

PROBLEMS = ("plane", "small", "pictures")
THRESHOLDS = ("zero", "random")
OPERATORS = ("hadamard", "gaussian")


def exact(
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Pictures that become the means of the prior."),
    ] = None,
    problems: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help=f"Problems: {', '.join(PROBLEMS)}.  [default: plane,small; all with --data]",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(metavar="N", min=2, help="Number of those pictures.")
    ] = 4000,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Data sets of each problem.")] = 4,
    ratio: Annotated[
        float | None, typer.Option(metavar="R", help="n/m.  [default: each problem's own]")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(metavar="S", help="Scale of the noise.  [default: each problem's own]"),
    ] = None,
    link: Annotated[str, typer.Option(metavar="NAME", help=f"{' or '.join(LINKS)}.")] = "probit",
    threshold: Annotated[
        str,
        typer.Option(metavar="NAME", help="zero, or random: normal, as wide as measurements are."),
    ] = "zero",
    operator: Annotated[
        str, typer.Option(metavar="NAME", help=f"{' or '.join(OPERATORS)}.")
    ] = "hadamard",
    methods: options.Methods = "lookahead-smc, moment-matched, diff-onebit",
    num_samples: options.NumSamples = 256,
    out: Runs = Path("runs/exact.csv"),
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Seed of the first data set; others count on."),
    ] = 0,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare methods with posteriors that are known: two pixels, a small picture, real pictures.

    The prior is a Gaussian mixture, whose posterior from one-bit data is exact (or, for the
    gaussian operator, known by long Monte Carlo runs). SW ratio is the sliced Wasserstein
    distance to exact draws over that between two sets of exact draws, TV the total variation of
    the probabilities of the components, and a miss a mode that was not found. The first row of a
    problem is the exact sampler itself. Data sets are the same on every device. An interrupted run
    goes on where it stopped.
    """
    makers = read_methods(methods, num_samples)
    if problems is None:
        problems = "plane,small" if data is None else ",".join(PROBLEMS)
    names = read_words("--problems", problems, PROBLEMS)
    if "pictures" in names and data is None:
        raise InputError("the problem pictures needs --data, the means of its prior")
    settings: dict[str, Any] = {
        "link": read_words("--link", link, LINKS)[0],
        "dither": read_words("--threshold", threshold, THRESHOLDS)[0] == "random",
        "operator": read_words("--operator", operator, OPERATORS)[0],
    }
    for option, value in (("ratio", ratio), ("noise", noise)):
        if value is not None:
            report.check_positive(f"--{option}", value)
            settings[option] = value
    report.check_device(device)
    report.check_output(out)

    from bayes1bit.bench.exact_table import run_exact

    made = [
        problem
        for name in names
        for problem in _make(name, range(seed, seed + seeds), settings, data, count, device)
    ]
    setup = "" if data is None else data.name
    rows = run_exact(made, makers, out, num_samples, setup=setup, progress=not quiet)
    show_rows(rows, as_json=as_json, quiet=quiet)


def _make(
    name: str,
    seeds: range,
    settings: dict[str, Any],
    data: Path | None,
    count: int,
    device: str,
) -> "list[ExactProblem]":
    """A problem once for each seed."""
    from bayes1bit.bench import exact_problems as known

    if name == "pictures":
        assert data is not None
        prior = known.picture_prior(known.read_means(data, count).to(device))
        return [known.picture_problem(prior, seed, **settings) for seed in seeds]
    make = {"plane": known.plane_problem, "small": known.small_problem}[name]
    return [make(seed, device=device, **settings) for seed in seeds]
