"""What the signal looks like: maps for pictures, curves for lines, and single samples."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.diagnostics.layout import PictureRow
from bayes1bit.diagnostics.maps import plot_exceedance, plot_spread
from bayes1bit.diagnostics.plots import add_misses, plot_grid, plot_posterior
from bayes1bit.diagnostics.style import BLUE, add_legend, new_axes
from bayes1bit.diagnostics.waveforms import is_waveform
from bayes1bit.posterior_summary import total_log_likelihood
from bayes1bit.report.drawing import Drawing, encode_figure, encode_picture

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior

MAX_SAMPLES = 32
"""Most samples that can be leafed through."""

MAX_VALUES = MAX_SAMPLES * 3 * 256 * 256
"""Most values of all samples together, so that a page stays below about ten megabytes."""

_MIN_SAMPLES = 4
_SIDE = 2.6


def draw_overview(
    posterior: "Posterior",
    truth: Tensor | None,
    prob: float,
    limits: tuple[float, float],
    unit: str,
) -> list[Drawing]:
    """Mean, spread, interval width, probability of exceeding the middle, and misses of the truth.

    Args:
        posterior: The posterior.
        truth: The true signal, shape event, if it is known.
        prob: Probability inside the interval, in (0, 1).
        limits: Values of black and white; the level of the probabilities is in their middle.
        unit: Unit of the values; empty for none.

    Returns:
        One drawing for each map of a picture; two drawings of curves for a line.
    """
    if is_waveform(posterior.event_shape):
        return _draw_curves(posterior, truth, prob, limits, unit)
    return _draw_maps(posterior, truth, prob, limits)


def draw_grid(posterior: "Posterior", chosen: Tensor, limits: tuple[float, float]) -> Drawing:
    """Samples of a picture side by side.

    Args:
        posterior: The posterior.
        chosen: Indices of the samples.
        limits: Values of black and white.
    """
    numbers = [str(int(i) + 1) for i in chosen]
    figure = plot_grid(posterior.samples[chosen], 8, limits, numbers)
    return Drawing(
        encode_figure(figure),
        f"Grid of {len(chosen)} posterior samples with their numbers.",
        "Samples side by side. What differs between them is what the data leave open.",
    )


def choose_samples(posterior: "Posterior") -> Tensor:
    """Indices of samples that stand for the posterior, each once, in increasing order.

    There are at most :data:`MAX_SAMPLES`, fewer of large signals.
    """
    size = max(1, posterior.event_shape.numel())
    count = min(MAX_SAMPLES, max(_MIN_SAMPLES, MAX_VALUES // size), posterior.num_samples)
    return posterior.representative_indices(count).unique()


def draw_samples(
    posterior: "Posterior", chosen: Tensor, limits: tuple[float, float], unit: str
) -> list[Drawing]:
    """Each sample by itself, with its number, log-likelihood and weight.

    Args:
        posterior: The posterior.
        chosen: Indices of the samples.
        limits: Values of black and white.
        unit: Unit of the values; empty for none.
    """
    drawings = []
    total = total_log_likelihood(posterior)
    for index in chosen.tolist():
        words = [f"Sample {index + 1} of {posterior.num_samples}"]
        if total is not None:
            words.append(f"log-likelihood {float(total[index]):.1f} nats")
        if posterior.weights is not None:
            words.append(f"weight {float(posterior.weights[index]):.2g}")
        text, sample = ", ".join(words), posterior.samples[index]
        if is_waveform(posterior.event_shape):
            png, pixels = _draw_line(posterior, sample, limits, unit), False
        else:
            png, pixels = encode_picture(sample, limits), True
        drawings.append(Drawing(png, f"{text}.", text, pixels))
    return drawings


def _draw_maps(
    posterior: "Posterior", truth: Tensor | None, prob: float, limits: tuple[float, float]
) -> list[Drawing]:
    size, drawings = posterior.event_shape[-2:], []

    def row() -> PictureRow:
        return PictureRow(size, None, limits, side=_SIDE)

    def add(panel: PictureRow, alt: str, caption: str) -> None:
        drawings.append(Drawing(encode_figure(panel.figure()), alt, caption))

    (panel := row()).add_picture(posterior.mean, "mean")
    add(
        panel,
        "Posterior mean.",
        "Mean: the best guess by squared error, smoother than any signal of its kind.",
    )
    if truth is not None:
        (panel := row()).add_picture(truth, "truth")
        add(panel, "True signal.", "Truth, which inference did not see.")
    colour = len(posterior.event_shape) == 3 and posterior.event_shape[0] == 3
    channels = " Root mean square over the channels." if colour else ""
    drawings.append(
        Drawing(
            encode_figure(plot_spread(posterior, prob)),
            f"Maps of the posterior standard deviation, {_range(posterior.std)}, and of the width "
            f"of the {100 * prob:.3g}% interval.",
            "Spread: bright where samples differ. The interval holds each pixel with probability "
            f"{prob:g}.{channels}",
        )
    )
    level = sum(limits) / 2
    what = "the brightness of a pixel" if colour else "a pixel"
    drawings.append(
        Drawing(
            encode_figure(plot_exceedance(posterior, level)),
            f"Map of the probability that {what} is above {level:g}.",
            f"Probability that {what} is above {level:g}, the middle of the range: questions of "
            "yes and no have such answers.",
        )
    )
    if truth is not None:
        add_misses(panel := row(), posterior, truth, prob)
        add(
            panel,
            f"Map of the pixels whose truth lies outside the {100 * prob:.3g}% interval.",
            "Misses: they should be scattered, and no more than promised. Patches of one colour "
            "are a bias that the posterior does not know of.",
        )
    return drawings


def _draw_curves(
    posterior: "Posterior",
    truth: Tensor | None,
    prob: float,
    limits: tuple[float, float],
    unit: str,
) -> list[Drawing]:
    shown = "mean, interval, samples" + ("" if truth is None else " and truth")
    figure = plot_posterior(posterior, truth, prob, num_samples=8, unit=unit)
    drawings = [
        Drawing(
            encode_figure(figure),
            f"Curves: {shown} over the index.",
            f"{shown.capitalize()}. The interval holds each value with probability {prob:g}; "
            "samples are whole signals."
            + ("" if truth is None else " Ticks at the edges mark where the truth is missed."),
        )
    ]
    level = sum(limits) / 2
    event = f"the signal is above {level:g} {unit}".rstrip()
    drawings += [
        Drawing(
            encode_figure(plot_spread(posterior, prob, unit)),
            "Curves of the standard deviation and of the width of the interval over the index.",
            "Spread: high where the data leave the signal open.",
        ),
        Drawing(
            encode_figure(plot_exceedance(posterior, level, unit)),
            f"Curve of the probability that {event}.",
            f"Probability that {event}, the middle of its range.",
        ),
    ]
    return drawings


def _draw_line(
    posterior: "Posterior", sample: Tensor, limits: tuple[float, float], unit: str
) -> bytes:
    """One sample over the mean, on axes that are the same for all samples."""
    figure, axes = new_axes(2.6)
    axes.plot(_line(posterior.mean), "--", color="0.55", linewidth=1.0, label="mean")
    axes.plot(_line(sample), color=BLUE, linewidth=1.3, label="sample")
    low, high = float(posterior.samples.min()), float(posterior.samples.max())
    margin = 0.04 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)
    axes.margins(x=0)
    axes.set_xlabel("index", fontsize=8)
    axes.set_ylabel(f"value in {unit}" if unit else "value", fontsize=8)
    add_legend(figure)
    return encode_figure(figure)


def _range(values: Tensor) -> str:
    if not bool(torch.isfinite(values).all()):
        return "unknown from one sample"
    return f"from {float(values.min()):.2g} to {float(values.max()):.2g}"


def _line(values: Tensor) -> Any:
    return values.detach().reshape(-1).cpu().numpy()
