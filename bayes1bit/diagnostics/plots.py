"""Figures of posteriors, for pictures and for one-dimensional signals.

One row answers the questions that one asks of a result: what the answer is (mean), how sure it is
(standard deviation), what else it could be (samples), and, when the truth is known, where the
credible interval misses it. Misses should be scattered and about as many as the interval promises;
patches of one colour mean a bias that the posterior does not know of.

Figures are made without pyplot: nothing is shown, no window opened, no global state changed. Save
them with ``figure.savefig``.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit.diagnostics.layout import PictureRow, check_drawable
from bayes1bit.diagnostics.metrics import psnr
from bayes1bit.diagnostics.waveforms import is_waveform, snr
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange differ for every kind of colour vision, and dark from light in grey print.
ABOVE, BELOW = "#0b3c7d", "#f0a02c"
# Lines differ in brightness and in style, too: the truth is dashed over everything else.
_BAND, _MEAN, _SAMPLE, _TRUTH = "#bcd9ee", "#0072b2", "#56b4e9", "black"
_DASHES = (0, (4, 2))

VISIBLE = 0.02
"""Least distance, as a share of what is drawn, at which the truth counts as visibly missed."""


def plot_posterior(
    posterior: Posterior,
    truth: Tensor | None = None,
    prob: float = 0.9,
    num_samples: int = 4,
    extra: Mapping[str, Tensor] | None = None,
    data_range: tuple[float, float] | None = None,
    unit: str = "",
) -> "Figure":
    """Draw mean, spread and samples in a row and, with a truth, the misses of the interval.

    Signals of shape (H, W), (1, H, W) and (3, H, W) are drawn as pictures, those of shape (L,) and
    (1, L) as lines with a band. For colour pictures the spread is the root mean square over the
    channels, and misses are those of the brightness, the mean of the channels. Misses by less than
    2% of the range that is drawn are left out: no eye sees them, and a constant background would
    be full of them. :func:`~bayes1bit.diagnostics.metrics.coverage` counts every one.
    Titles give the PSNR of pictures and the SNR of lines.

    Args:
        posterior: The posterior.
        truth: The true signal, shape event, where it is known.
        prob: Probability inside the interval, in (0, 1).
        num_samples: Posterior samples to draw; a weighted posterior is represented by systematic
            resampling.
        extra: More signals of shape event to draw, by title, such as a rival estimate.
        data_range: Values (low, high) of black and white, and the range of the PSNR; None takes
            the posterior's attribute ``data_range`` or else the range of what is drawn. The axes
            of lines fit what is drawn.
        unit: Unit of the values, such as "mV", for the axes of lines.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If the signals have another shape, ``truth`` or ``extra`` disagree with it, or
            a number is out of range.
    """
    extra = dict(extra or {})
    for name, value in {"truth": truth, **extra}.items():
        if value is not None:
            posterior.check_event(value, name)
    if num_samples < 0:
        raise InputError(f"num_samples must be >= 0, got {num_samples}")
    shape = tuple(posterior.event_shape)
    check_drawable(shape)
    count = min(num_samples, posterior.num_samples)
    chosen = posterior.representative_indices(count) if count else torch.empty(0).long()
    samples = posterior.samples[chosen.to(posterior.samples.device)]
    shown = [posterior.mean, *samples, *extra.values()] + ([] if truth is None else [truth])
    limits = drawn_limits(data_range or posterior.attributes.get("data_range"), shown)
    if is_waveform(shape):
        return _draw_lines(posterior, truth, prob, samples, extra, unit)
    return _draw_pictures(posterior, truth, prob, samples, extra, limits)


def plot_grid(
    pictures: Tensor,
    columns: int = 8,
    data_range: tuple[float, float] | None = None,
    titles: Sequence[str] | None = None,
) -> "Figure":
    """Draw pictures in a grid, row by row.

    Args:
        pictures: Shape (count, H, W), (count, 1, H, W) or (count, 3, H, W).
        columns: Pictures in a row.
        data_range: Values (low, high) of black and white; None takes the range of ``pictures``.
        titles: One title per picture; None draws none.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If the shape is not that of pictures, ``columns`` is not positive, or titles
            and pictures differ in number.
    """
    is_stack = pictures.dim() == 3 or (pictures.dim() == 4 and pictures.shape[1] in (1, 3))
    if not is_stack or pictures.numel() == 0:
        raise InputError(
            f"pictures have shape {tuple(pictures.shape)}; expected (count, H, W), "
            f"(count, 1, H, W) or (count, 3, H, W)"
        )
    if columns < 1:
        raise InputError(f"columns must be at least 1, got {columns}")
    if titles is not None and len(titles) != len(pictures):
        raise InputError(f"{len(titles)} titles for {len(pictures)} pictures; give one each")
    limits = drawn_limits(data_range, [pictures])
    row = PictureRow(pictures.shape[-2:], min(columns, len(pictures)), limits, side=1.0)
    for i, picture in enumerate(pictures):
        row.add_picture(picture, "" if titles is None else titles[i])
    return row.figure()


def _draw_pictures(
    posterior: Posterior,
    truth: Tensor | None,
    prob: float,
    samples: Tensor,
    extra: Mapping[str, Tensor],
    limits: tuple[float, float],
) -> "Figure":
    row = PictureRow(posterior.event_shape[-2:], None, limits, side=1.7)
    if truth is not None:
        row.add_picture(truth, "truth")
    for name, value in extra.items():
        row.add_picture(value, name + _decibels(value, truth, limits))
    row.add_picture(posterior.mean, "mean" + _decibels(posterior.mean, truth, limits))
    spread = posterior.std
    if spread.dim() == 3:
        spread = spread.square().mean(0).sqrt()
    row.add_map(spread, "standard deviation")
    for sample in samples:
        row.add_picture(sample, "sample" + _decibels(sample, truth, limits))
    if truth is not None:
        add_misses(row, posterior, truth, prob)
    return row.figure()


def add_misses(row: PictureRow, posterior: Posterior, truth: Tensor, prob: float) -> None:
    """Add the map of where the truth lies visibly outside the central interval to a row.

    Args:
        row: The row, whose limits say what is visible.
        posterior: The posterior of a picture.
        truth: The true picture, shape event.
        prob: Probability inside the interval, in (0, 1).
    """
    above, below = visible_misses(posterior, truth, prob, row.limits)
    missed = (above | below).double().mean()
    labels = ("above", "below") if above.shape == truth.shape else ("brighter", "darker")
    row.add_misses(
        above.reshape(above.shape[-2:]),
        below.reshape(below.shape[-2:]),
        f"visibly outside {100 * prob:.3g}%: {100 * missed:.1f}%",
        {f"truth {word}": colour for word, colour in zip(labels, (ABOVE, BELOW), strict=True)},
    )


def _draw_lines(
    posterior: Posterior,
    truth: Tensor | None,
    prob: float,
    samples: Tensor,
    extra: Mapping[str, Tensor],
    unit: str,
) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 3.4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    lower, upper = (_line(end) for end in posterior.interval(prob))
    index = range(len(lower))
    label = f"{100 * prob:.3g}% interval"
    left.fill_between(index, lower, upper, color=_BAND, linewidth=0, label=label)
    left.plot(index, _line(posterior.mean), color=_MEAN, linewidth=1.8, label="mean")
    for i, sample in enumerate(samples):
        name = "_" if i else "sample"
        right.plot(index, _line(sample), linewidth=0.9, color=_SAMPLE, alpha=0.8, label=name)
    for (name, value), style in zip(extra.items(), itertools.cycle((":", "-."))):
        left.plot(index, _line(value), style, color="0.35", linewidth=1.2, label=name)
    title = "mean"
    if truth is not None:
        above, below = visible_misses(posterior, truth, prob)
        for axes in (left, right):
            axes.plot(index, _line(truth), color=_TRUTH, ls=_DASHES, lw=1.0, label="truth")
        _mark(left, above.reshape(-1), 0.98, ABOVE, f"truth above, {int(above.sum())}")
        _mark(left, below.reshape(-1), 0.02, BELOW, f"truth below, {int(below.sum())}")
        missed = (above | below).double().mean()
        decibels = float(snr(posterior.mean, truth, event_dim=truth.dim()))
        title += f", SNR {decibels:.1f} dB, visibly outside {100 * prob:.3g}%: {100 * missed:.1f}%"
    left.set_title(title, fontsize=9)
    right.set_title(
        f"{len(samples)} samples" + ("" if truth is None else " and truth"), fontsize=9
    )
    left.set_ylabel(f"value in {unit}" if unit else "value", fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("index", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.margins(x=0)
        axes.grid(color="0.92", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles = {
        name: handle
        for axes in (left, right)
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=7,
        fontsize=8,
        frameon=False,
    )
    return figure


def _mark(axes: "Axes", where: Tensor, height: float, colour: str, label: str) -> None:
    """Tick off indices along the top or the bottom edge."""
    if where.any():
        at = where.nonzero().flatten().cpu().numpy()
        edge = axes.get_xaxis_transform()
        axes.plot(
            at, [height] * len(at), "|", color=colour, markersize=7, label=label, transform=edge
        )


def visible_misses(
    posterior: Posterior,
    truth: Tensor,
    prob: float,
    limits: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Where the truth lies visibly above, and where below, the central interval.

    Colour pictures, shape (3, H, W), are compared by their brightness, the mean of channels.

    Args:
        posterior: The posterior.
        truth: The true signal, shape event.
        prob: Probability inside the interval, in (0, 1).
        limits: Ends of a range, misses by less than :data:`VISIBLE` of which do not count; None
            takes the range of samples and truth.

    Returns:
        Booleans above and below, each of shape event, or (H, W) for colour pictures.
    """
    if truth.dim() == 3 and truth.shape[0] == 3:
        posterior = Posterior(posterior.samples.mean(1), weights=posterior.weights)
        truth = truth.mean(0)
    lower, upper = posterior.interval(prob)
    truth = truth.to(lower)
    low, high = drawn_limits(limits, [posterior.samples, truth])
    tolerance = VISIBLE * (high - low)
    return truth > upper + tolerance, truth < lower - tolerance


def _decibels(estimate: Tensor, truth: Tensor | None, limits: tuple[float, float]) -> str:
    if truth is None:
        return ""
    event = estimate.double(), truth.to(estimate.device).double()
    return f", {float(psnr(*event, limits, event_dim=estimate.dim())):.1f} dB"


def _line(value: Tensor) -> Any:
    return value.detach().reshape(-1).cpu().numpy()


def drawn_limits(
    data_range: Sequence[float] | None, shown: Sequence[Tensor]
) -> tuple[float, float]:
    """The stated range, or that of what is shown.

    Args:
        data_range: The range (low, high), if it is stated.
        shown: Tensors that are drawn.

    Raises:
        InputError: If the stated range is not one.
    """
    if data_range is None:
        low = min(float(value.min()) for value in shown)
        high = max(float(value.max()) for value in shown)
        return (low, high) if low < high else (low - 0.5, low + 0.5)
    if len(data_range) != 2 or not data_range[0] < data_range[1]:
        raise InputError(f"data_range must be (low, high) with low < high, got {data_range}")
    return float(data_range[0]), float(data_range[1])
