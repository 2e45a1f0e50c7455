"""A grid of one-dimensional signals, drawn as lines.

All panels have the same scale, or their sizes could not be compared; it is written once, on the
panel at the lower left. Channels differ in darkness and in the kind of line, which survives print.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 1.9, 0.8
"""Inches of one panel."""
_STYLES = (("black", "-"), ("0.45", "-"), ("black", ":"), ("0.45", ":"))


def plot_line_grid(signals: Tensor, columns: int = 4, unit: str = "") -> "Figure":
    """Draw signals in a grid, row by row, each as lines over a line at zero.

    Args:
        signals: Shape (count, length) or (count, channels, length), with at most 4 channels.
        columns: Signals in a row.
        unit: Unit of the values, such as "mV".

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If the shape is not that of signals, or ``columns`` is not positive.
    """
    from matplotlib.figure import Figure

    lines = signals.unsqueeze(1) if signals.dim() == 2 else signals
    if lines.dim() != 3 or lines.numel() == 0 or lines.shape[1] > len(_STYLES):
        raise InputError(
            f"signals have shape {tuple(signals.shape)}; expected (count, length) or "
            f"(count, channels, length) with at most {len(_STYLES)} channels"
        )
    if columns < 1:
        raise InputError(f"columns must be at least 1, got {columns}")
    count, _, length = lines.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(columns * _WIDTH + 0.5, rows * _HEIGHT + 0.4), dpi=150, layout="constrained"
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, axes in enumerate(panels.flat):
        axes.set_axis_off()
        if i >= count:
            continue
        axes.axhline(0, color="0.8", linewidth=0.5)
        for channel, (colour, style) in zip(lines[i], _STYLES, strict=False):
            values = channel.detach().double().cpu().numpy()
            axes.plot(values, style, color=colour, linewidth=0.8)
    corner = panels[-1, 0]
    corner.set_axis_on()
    corner.set_xlim(0, max(length - 1, 1))
    corner.spines[["top", "right"]].set_visible(False)
    corner.tick_params(labelsize=7, length=2)
    corner.set_xticks([0, length - 1])
    corner.set_xlabel("sample", fontsize=7, labelpad=-4)
    corner.set_ylabel(unit, fontsize=7)
    return figure
