"""Figures that compare algorithms: what a denoiser call buys, and how good the answers are.

Efficiency means nothing for an answer that is wrong: an algorithm that draws independently from
something else than the posterior gets an effective draw from every one. Those that do not tend to
the posterior have open symbols, and in brackets the word "approximate".
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from bayes1bit.diagnostics.convergence import effective_draws
from bayes1bit.diagnostics.style import (
    BLUE,
    COLOURS,
    FONT,
    MARKERS,
    new_axes,
    new_panels,
)
from bayes1bit.diagnostics.waveforms import decibels
from bayes1bit.errors import InputError
from bayes1bit.pictures import is_picture
from bayes1bit.posterior import Posterior

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONDITION = ("setup", "link", "noise", "ratio")
"""Columns of a recovery benchmark's file that say what was measured."""


class Answer(NamedTuple):
    """How good an algorithm's answers are and what they cost.

    Attributes:
        name: Name of the algorithm.
        quality: Quality of its answer, larger is better.
        nfe: Denoiser calls per posterior sample.
        seconds: Wall-clock time of a run.
    """

    name: str
    quality: float
    nfe: float
    seconds: float


def plot_ess_per_nfe(
    posteriors: Mapping[str, Posterior], quantities: Sequence[str] | None = None
) -> "Figure":
    """Draw the effective draws of each algorithm for 1,000 denoiser calls.

    A dot is the median over a few numbers of each sample, a line reaches to the worst and the best
    (:func:`~bayes1bit.diagnostics.convergence.effective_draws`).

    Args:
        posteriors: Posteriors by name.
        quantities: Names of the numbers among those of
            :func:`~bayes1bit.diagnostics.convergence.monitored`; all of them if None.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If there is no posterior, one was made without denoiser calls, is a single
            estimate or too short, or a quantity is unknown.
    """
    import numpy as np

    if not posteriors:
        raise InputError("there is no posterior to draw; give one or more by name")
    figure, axes = new_axes(0.35 * len(posteriors) + 0.8)
    for row, (name, posterior) in enumerate(posteriors.items()):
        calls = posterior.nfe * posterior.num_samples
        if calls == 0:
            raise InputError(f"{name!r} was made without a denoiser call; leave it out")
        try:
            sizes = effective_draws(posterior)
        except InputError as error:
            raise InputError(f"{name!r}: {error}") from error
        if unknown := [key for key in quantities or () if key not in sizes]:
            raise InputError(
                f"{name!r} has no {', '.join(unknown)}; quantities are {', '.join(sizes)}"
            )
        rates = [1000 * sizes[key] / calls for key in quantities or sizes]
        axes.hlines(row, min(rates), max(rates), color="0.6", linewidth=2)
        fill = "white" if _is_approximate(posterior) else BLUE
        axes.plot(np.median(rates), row, "o", color=BLUE, markerfacecolor=fill, markersize=6)
    names = [
        f"{name} (approximate)" if _is_approximate(posterior) else name
        for name, posterior in posteriors.items()
    ]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("effective draws for 1,000 denoiser calls", fontsize=FONT)
    return figure


def plot_quality(
    posteriors: Mapping[str, Posterior],
    truth: Tensor,
    data_range: tuple[float, float] | None = None,
) -> "Figure":
    """Draw the quality of posterior means of a known truth against their cost.

    PSNR for pictures, SNR for other signals.

    Args:
        posteriors: Posteriors by name.
        truth: The true signal, shape event.
        data_range: Range (low, high) of pictures; the posteriors' attribute if None.

    Returns:
        A matplotlib figure of two panels, over denoiser calls per sample and over seconds.

    Raises:
        InputError: If there is no posterior, ``truth`` has another shape, or a range is missing.
    """
    answers, picture = [], is_picture(truth.shape)
    for name, posterior in posteriors.items():
        posterior.check_event(truth, "truth")
        mean, goal = posterior.mean.double(), truth.to(posterior.mean).double()
        limits = data_range or posterior.attributes.get("data_range")
        if limits is None and picture:
            raise InputError(
                f"{name!r} has no attribute data_range; give data_range=(low, high), which a PSNR "
                "is relative to"
            )
        _, value = decibels(mean, goal, limits)
        answers.append(Answer(name, float(value), posterior.nfe, posterior.seconds))
    open_names = [name for name, value in posteriors.items() if _is_approximate(value)]
    return _draw(answers, f"{'PSNR' if picture else 'SNR'} of the mean in dB", open_names)


def plot_recovery_file(
    path: str | Path, quality: str = "mean PSNR", where: Mapping[str, str | float] | None = None
) -> "Figure":
    """Draw quality against cost from the file of ``bayes1bit bench recovery``.

    Args:
        path: CSV file of single runs.
        quality: Column to draw, such as "mean PSNR", "sample SSIM" or "bit agreement"; methods
            without denoiser calls or seconds, such as the prior's mean, are left out.
        where: Values of the columns "setup", "link", "noise" and "ratio" that runs must have.

    Returns:
        A matplotlib figure of two panels, over denoiser calls per sample and over seconds; points
        are averages over the signals.

    Raises:
        InputError: If the file cannot be read or is another one, a column is unknown, no run is
            left, or runs of more than one condition are.
    """
    return _draw(read_recovery(path, quality, where), quality, ())


def read_recovery(
    path: str | Path, quality: str, where: Mapping[str, str | float] | None = None
) -> list[Answer]:
    """Average the runs of each method in a recovery benchmark's file.

    Arguments and errors are those of :func:`plot_recovery_file`.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    columns = set(rows[0]) if rows else set()
    if not {"method", "NFE", "seconds", *_CONDITION} <= columns:
        raise InputError(f"{path} is not the file of a recovery benchmark: columns are missing")
    if quality not in columns:
        raise InputError(f'{path} has no column "{quality}"')
    given = {
        name: value if isinstance(value, str) else f"{value:g}"
        for name, value in (where or {}).items()
    }
    if unknown := [name for name in given if name not in _CONDITION]:
        raise InputError(f"where takes {', '.join(_CONDITION)}, not {', '.join(unknown)}")
    rows = [row for row in rows if all(row[name] == value for name, value in given.items())]
    rows = [row for row in rows if row[quality] and row["NFE"] and row["seconds"]]
    conditions = sorted({tuple(row[name] for name in _CONDITION) for row in rows})
    if len(conditions) != 1:
        named = "; ".join(
            ", ".join(f"{key} {value}" for key, value in zip(_CONDITION, condition, strict=True))
            for condition in conditions
        )
        raise InputError(
            f"{path} has runs of {len(conditions)} conditions ({named}); choose one with where=..."
            if conditions
            else f"{path} has no run with {given or 'scores'}"
        )
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault(row["method"], []).append(row)

    def average(group: list[dict[str, Any]], column: str) -> float:
        try:
            return sum(float(row[column]) for row in group) / len(group)
        except ValueError as error:
            raise InputError(f'column "{column}" of {path} is not of numbers: {error}') from error

    return [
        Answer(name, *(average(group, column) for column in (quality, "NFE", "seconds")))
        for name, group in runs.items()
    ]


def _draw(answers: Sequence[Answer], label: str, open_names: Sequence[str]) -> "Figure":
    if not answers:
        raise InputError("there is nothing to draw; give one posterior or more")
    figure, panels = new_panels(2, 2, 3.2, 3.0)
    for i, answer in enumerate(answers):
        colour = COLOURS[i % len(COLOURS)]
        marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]
        hollow = answer.name in open_names
        style: dict[str, Any] = {
            "color": colour,
            "markerfacecolor": "white" if hollow else colour,
            "label": f"{answer.name} (approximate)" if hollow else answer.name,
            "linestyle": "none",
        }
        for axes, cost in zip(panels, (answer.nfe, answer.seconds), strict=True):
            axes.plot([cost], [answer.quality], marker, markersize=6, **style)
    titles = ("denoiser calls per sample", "seconds")
    for axes, title, linear in zip(panels, titles, (1.0, 0.01), strict=True):
        # some methods call no denoiser, and a logarithm has no place for them
        axes.set_xscale("symlog", linthresh=linear)
        axes.set_xlim(left=-0.1 * linear)
        axes.set_xlabel(title, fontsize=FONT)
        axes.minorticks_off()
        axes.grid(color="0.92", linewidth=0.6)
    panels[0].set_ylabel(label, fontsize=FONT)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=FONT - 1, frameon=False)
    width = figure.get_figwidth() + 0.065 * max(map(len, names)) + 0.3
    figure.set_figwidth(width)
    return figure


def _is_approximate(posterior: Posterior) -> bool:
    """Whether the registry says that an algorithm of this name does not tend to the posterior."""
    from bayes1bit.infer.registry import ALGORITHMS

    return any(
        algorithm.__name__ == posterior.algorithm and algorithm.exactness.startswith("no:")
        for algorithm in ALGORITHMS.values()
    )
