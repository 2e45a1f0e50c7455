"""``bayes1bit report``: a posterior file as one web page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bayes1bit.cli import options, report
from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bayes1bit.posterior import Posterior

EXAMPLES = """\b
Examples:
  bayes1bit report posterior.nc
  bayes1bit report coat-posterior.nc --out coat.html --truth coat.png --resize
  bayes1bit report demo/posterior.nc --truth demo/measurement.nc --json
"""


def html_report(
    source: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="Posterior file (.nc).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Web page to write (.html).")] = Path(
        "report.html"
    ),
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The true signal: a picture, a .npy array, or a measurement file that keeps it.",
        ),
    ] = None,
    resize: options.Resize = False,
    title: Annotated[
        str, typer.Option(metavar="TEXT", help="Title.  [default: the file's name]")
    ] = "",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a posterior as one web page: pictures, samples, diagnostics in words, and settings.

    The page needs no network and no other file. What is printed are its findings, each fine,
    warn, bad, or a fact (info).
    """
    report.check_output(out)
    if resize and (truth is None or truth.suffix == ".nc"):
        raise InputError("--resize is for the picture of --truth, and there is none")

    from bayes1bit.posterior import Posterior
    from bayes1bit.report.build import judge, write_report
    from bayes1bit.report.tables import recorded_versions

    posterior = Posterior.load(source)
    signal = None if truth is None else _read_truth(truth, posterior, resize)
    write_report(
        posterior,
        out,
        title=title or source.name,
        truth=signal,
        versions=recorded_versions(source),
    )
    report.show(
        f"{source}, reported",
        [
            report.Figure(
                finding.name.lower().replace(" ", "_"),
                {"level": finding.level, "sentence": finding.sentence},
                f"{finding.level}: {finding.name}",
                finding.sentence,
            )
            for finding in judge(posterior, signal)
        ],
        {"page": out},
        as_json=as_json,
        quiet=quiet,
    )


def _read_truth(path: Path, posterior: "Posterior", resize: bool) -> "Tensor":
    """The true signal from a signal file, or from a measurement that keeps it."""
    import math

    from bayes1bit.measurement import Measurement
    from bayes1bit.pictures import read_signal

    if path.suffix == ".nc":
        kept = Measurement.load(path).truth
        if kept is None:
            raise InputError(
                f"{path} does not keep the signal that was measured; give the signal itself"
            )
        return kept
    stated = posterior.attributes.get("data_range")
    low, high = stated or (-math.inf, math.inf)
    signal = read_signal(path, posterior.event_shape, (low, high), resize=resize)
    if not bool(signal.isfinite().all()):
        raise InputError(
            f"{path} has 8 bits for a value, and the posterior does not say which values black "
            "and white have; give a .npy array of floats"
        )
    return signal
