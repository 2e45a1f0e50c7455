"""Maps of what a posterior says of each element: its spread, and probabilities of events.

For pictures these are maps, for signals of one dimension curves. Mean, samples and misses of a
known truth are in :func:`~bayes1bit.diagnostics.plots.plot_posterior`.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from bayes1bit.diagnostics.layout import PictureRow, check_drawable
from bayes1bit.diagnostics.plots import drawn_limits
from bayes1bit.diagnostics.style import BLUE, FONT, GREEN, ORANGE, add_legend, new_axes
from bayes1bit.diagnostics.waveforms import is_waveform
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.weighted import weighted_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 2.6
"""Side of a map in inches."""


def plot_spread(posterior: Posterior, prob: float = 0.9, unit: str = "") -> "Figure":
    """Draw the standard deviation and the width of the central interval of each element.

    For colour pictures, both are root mean squares over the channels.

    Args:
        posterior: The posterior of pictures (H, W), (1, H, W), (3, H, W) or lines (L,), (1, L).
        prob: Probability inside the interval, in (0, 1).
        unit: Unit of the values, such as "mV", for the axes of lines.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If signals have another shape, or ``prob`` is outside (0, 1).
    """
    check_drawable(posterior.event_shape)
    lower, upper = posterior.interval(prob)
    name = f"width of the {100 * prob:.3g}% interval"
    if is_waveform(posterior.event_shape):
        figure, axes = new_axes()
        axes.plot(_line(upper - lower), color=ORANGE, linewidth=1.4, label=name)
        axes.plot(_line(posterior.std), "--", color=BLUE, lw=1.4, label="standard deviation")
        axes.set_xlabel("index", fontsize=FONT)
        axes.set_ylabel(f"in {unit}" if unit else "", fontsize=FONT)
        axes.set_ylim(bottom=0)
        add_legend(figure)
        return figure
    row = PictureRow(posterior.event_shape[-2:], None, (0.0, 1.0), side=_SIDE)
    row.add_map(_over_channels(posterior.std), "standard deviation")
    row.add_map(_over_channels(upper - lower), name)
    return row.figure()


def exceedance(posterior: Posterior, threshold: float) -> Tensor:
    """Probability that each element is above a threshold.

    For colour pictures, that of the brightness, the mean of the channels.

    Args:
        posterior: The posterior; weights are honoured.
        threshold: The value t of P(x > t), in units of the signal.

    Returns:
        Probabilities, shape event, or (H, W) for colour pictures, float64.

    Raises:
        InputError: If ``threshold`` is NaN or infinite.
    """
    if not -float("inf") < threshold < float("inf"):
        raise InputError(f"threshold must be finite, got {threshold}")
    shape = posterior.event_shape
    colour = len(shape) == 3 and shape[0] == 3
    values = posterior.samples.mean(1) if colour else posterior.samples
    return weighted_mean((values > threshold).double(), posterior.weights)


def plot_exceedance(
    posterior: Posterior, threshold: float | None = None, unit: str = ""
) -> "Figure":
    """Draw the probability that each element is above a threshold.

    Args:
        posterior: The posterior of pictures (H, W), (1, H, W), (3, H, W) or lines (L,), (1, L).
        threshold: The value t of P(x > t); the middle of the posterior's attribute
            ``data_range``, or else of its samples, if None.
        unit: Unit of the values, such as "mV", for the axes of lines.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If signals have another shape, or ``threshold`` is NaN or infinite.
    """
    check_drawable(posterior.event_shape)
    if threshold is None:
        limits = drawn_limits(posterior.attributes.get("data_range"), [posterior.samples])
        threshold = sum(limits) / 2
    above = exceedance(posterior, threshold)
    title = f"probability of more than {threshold:g} {unit}".rstrip()
    if is_waveform(posterior.event_shape):
        figure, axes = new_axes()
        axes.plot(_line(above), color=GREEN, linewidth=1.4, drawstyle="steps-mid")
        axes.set(ylim=(-0.03, 1.03))
        axes.set_xlabel("index", fontsize=FONT)
        axes.set_ylabel(title, fontsize=FONT)
        return figure
    row = PictureRow(posterior.event_shape[-2:], None, (0.0, 1.0), side=_SIDE)
    row.add_map(above, title, top=1.0)
    return row.figure()


def _over_channels(values: Tensor) -> Tensor:
    return values.square().mean(0).sqrt() if values.dim() == 3 else values


def _line(values: Tensor) -> Any:
    return values.detach().reshape(-1).cpu().numpy()
