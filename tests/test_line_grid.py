"""The grid of one-dimensional signals."""

import pytest
import torch

from bayes1bit.diagnostics.line_grid import plot_line_grid
from bayes1bit.errors import InputError


def test_every_signal_is_drawn_on_one_scale(tmp_path):
    signals = torch.sin(torch.arange(5)[:, None] + torch.linspace(0, 6, 20)) * 3
    figure = plot_line_grid(signals, columns=2, unit="mV")
    figure.savefig(tmp_path / "a.png")
    assert len(figure.axes) == 6
    for axes, signal in zip(figure.axes, signals, strict=False):
        _, line = axes.lines
        torch.testing.assert_close(torch.as_tensor(line.get_ydata()), signal.double())
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    # the one panel too many stays empty, and the scale is written once
    assert not figure.axes[5].lines
    assert [axes.axison for axes in figure.axes] == [False, False, False, False, True, False]
    assert figure.axes[4].get_ylabel() == "mV"


def test_channels_are_lines_of_different_looks():
    figure = plot_line_grid(torch.randn(1, 3, 7))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[1:]}
    assert len(looks) == 3


@pytest.mark.parametrize("shape", [(3,), (0, 5), (2, 5, 7), (2, 1, 4, 4)])
def test_what_is_no_line_is_refused(shape):
    with pytest.raises(InputError, match=r"expected \(count, length\)"):
        plot_line_grid(torch.zeros(shape))


def test_columns_must_be_positive():
    with pytest.raises(InputError, match="columns must be at least 1"):
        plot_line_grid(torch.zeros(2, 5), columns=0)
