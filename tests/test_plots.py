"""Figures: what is drawn, with which limits, without pyplot and without warnings."""

import io
import itertools

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from bayes1bit.diagnostics.plots import ABOVE, BELOW, plot_grid, plot_posterior
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior


def posterior(*event, count=30, **options):
    generator = torch.Generator().manual_seed(0)
    return Posterior(torch.randn(count, *event, generator=generator), **options)


def panels(figure):
    """Axes by the words of their title before a comma or colon."""
    return {
        axes.get_title().replace(":", ",").split(",")[0]: axes
        for axes in figure.axes
        if axes.get_title()
    }


def rendered(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


@pytest.mark.parametrize("event", [(8, 12), (1, 8, 8), (3, 8, 8), (40,), (1, 40)])
@pytest.mark.parametrize("known", [True, False])
def test_every_kind_of_signal_is_drawn(event, known):
    truth = torch.zeros(event) if known else None
    figure = plot_posterior(posterior(*event), truth, extra={"rival": torch.ones(event)})
    assert rendered(figure).startswith(b"\x89PNG")
    titles = [axes.get_title() for axes in figure.axes]
    assert any(title.startswith("mean") for title in titles)
    assert any("visibly outside 90%" in title for title in titles) is known


def test_picture_panels_in_order_and_of_one_size():
    figure = plot_posterior(
        posterior(1, 8, 8),
        torch.zeros(1, 8, 8),
        num_samples=2,
        extra={"rival": torch.ones(1, 8, 8)},
    )
    titles = [axes.get_title().replace(":", ",").split(",")[0] for axes in figure.axes]
    expected = [
        "truth",
        "rival",
        "mean",
        "standard deviation",
        "sample",
        "sample",
        "visibly outside 90%",
    ]
    assert [title for title in titles if title] == expected
    sizes = {tuple(round(s, 6) for s in axes.get_position().size) for axes in figure.axes}
    assert len(sizes) == 1


def test_nothing_is_clipped_or_overlaps():
    figure = plot_posterior(posterior(3, 8, 8), torch.zeros(3, 8, 8))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for left, right in itertools.pairwise(boxes):
        assert left.x1 <= right.x0


def test_title_gives_the_psnr_of_the_mean():
    truth = torch.zeros(1, 2, 2)
    samples = torch.stack([torch.full((1, 2, 2), 0.1), torch.full((1, 2, 2), 0.3)])
    figure = plot_posterior(Posterior(samples), truth, data_range=(-1, 1))
    # Mean 0.2: 10 log10(4 / 0.04) = 20.
    assert panels(figure)["mean"].get_title() == "mean, 20.0 dB"


def test_pictures_use_the_stated_range():
    half = Posterior(torch.zeros(2, 4, 4), attributes={"data_range": (-1, 3)})
    for options, expected in (({}, 0.25), ({"data_range": (-1, 1)}, 0.5)):
        image = panels(plot_posterior(half, **options))["mean"].images[0]
        assert image.get_array().max() == pytest.approx(expected)
        assert image.get_clim() == (0, 1)
    truth = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    image = panels(plot_posterior(Posterior(truth[None]), truth))["truth"].images[0]
    assert image.get_array().tolist() == [[0, 0.25], [0.5, 1]]


def test_misses_are_marked_where_they_are():
    samples = torch.linspace(-1, 1, 21)[:, None, None].expand(21, 2, 3)
    truth = torch.tensor([[0.0, 5.0, 0.0], [-5.0, 0.0, 0.0]])
    axes = panels(plot_posterior(Posterior(samples), truth))["visibly outside 90%"]
    assert axes.get_title() == "visibly outside 90%: 33.3%"
    image = axes.images[0]
    shown = image.cmap(image.norm(image.get_array()))[..., :3]
    assert tuple(shown[0, 1]) == pytest.approx(to_rgb(ABOVE))
    assert tuple(shown[1, 0]) == pytest.approx(to_rgb(BELOW))
    assert tuple(shown[1, 1]) == (1, 1, 1)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["truth above", "truth below"]


def test_miss_colours_differ_in_grey_print():
    def brightness(colour):
        return float(torch.tensor(to_rgb(colour)) @ torch.tensor([0.299, 0.587, 0.114]))

    levels = sorted(brightness(colour) for colour in (ABOVE, BELOW, "white"))
    assert levels[1] - levels[0] > 0.25
    assert levels[2] - levels[1] > 0.25


def test_colour_pictures_show_misses_of_brightness_and_joint_spread():
    samples = torch.zeros(21, 3, 1, 2)
    samples[:, 0, 0, 0] = torch.linspace(-1, 1, 21)
    truth = torch.zeros(3, 1, 2)
    truth[0, 0, 0], truth[1, 0, 0], truth[1, 0, 1] = 1.0, -1.0, 0.5
    drawn = panels(plot_posterior(Posterior(samples), truth))
    # The first pixel's brightness is 0 and inside although two channels are outside.
    assert drawn["visibly outside 90%"].images[0].get_array().tolist() == [[0, 1]]
    spread = drawn["standard deviation"].images[0].get_array()
    red = float(samples[:, 0, 0, 0].std())
    assert spread[0].tolist() == [pytest.approx(red / 3**0.5), 0.0]


def test_lines_show_band_mean_truth_and_misses():
    samples = torch.linspace(-1, 1, 21)[:, None].expand(21, 10)
    truth = torch.zeros(10)
    truth[3], truth[7] = 5.0, -5.0
    figure = plot_posterior(Posterior(samples), truth, num_samples=3)
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["truth above, 1"].get_xdata().tolist() == [3]
    assert lines["truth below, 1"].get_xdata().tolist() == [7]
    assert lines["mean"].get_ydata() == pytest.approx(0.0, abs=1e-6)
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(-0.99), pytest.approx(0.99))
    assert len(right.lines) == 4


def test_lines_say_what_they_are_in():
    truth = torch.tensor([[1.0, 2.0, 2.0]])
    samples = (truth + 0.3)[None].expand(5, 1, 3)
    figure = plot_posterior(Posterior(samples), truth, unit="mV")
    left, right = figure.axes
    # 10 log10(9 / (3 * 0.09)) = 15.2
    assert left.get_title().startswith("mean, SNR 15.2 dB")
    assert (left.get_xlabel(), left.get_ylabel(), right.get_xlabel()) == (
        *("index", "value in mV", "index"),
    )
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["90% interval", "mean", "truth", "truth below, 3", "sample"]
    assert plot_posterior(Posterior(samples)).axes[0].get_ylabel() == "value"


def test_misses_of_lines_are_as_visible_as_the_axes_make_them():
    """A prior's range is far wider than most of its signals."""
    samples = torch.linspace(-0.1, 0.1, 21)[:, None].expand(21, 10)
    truth = torch.zeros(10)
    truth[3] = 0.15
    # the miss is 0.05, 20% of what is drawn and 0.6% of the range
    figure = plot_posterior(Posterior(samples), truth, data_range=(-4, 4))
    assert "visibly outside 90%: 10.0%" in figure.axes[0].get_title()


def test_heavy_samples_stand_for_a_weighted_posterior():
    samples = torch.stack([torch.full((2, 2), float(i)) for i in range(4)])
    weighted = Posterior(samples, weights=torch.tensor([0.0, 0.0, 1.0, 0.0]))
    figure = plot_posterior(weighted, data_range=(0, 4), num_samples=2)
    shown = [axes.images[0] for axes in figure.axes if axes.get_title() == "sample"]
    assert [float(image.get_array().max()) for image in shown] == [0.5, 0.5]


def test_one_sample_has_no_spread():
    figure = plot_posterior(posterior(4, 4, count=1), torch.zeros(4, 4))
    axes = panels(figure)["standard deviation"]
    assert not axes.images
    assert "one sample" in axes.texts[0].get_text()
    rendered(figure)


@pytest.mark.parametrize("num_samples", [0, 100])
def test_number_of_samples_is_limited_to_what_there_is(num_samples):
    figure = plot_posterior(posterior(4, 4, count=3), num_samples=num_samples)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count("sample") == min(num_samples, 3)
    rendered(plot_posterior(posterior(9, count=3), num_samples=num_samples))


def test_constant_pictures_can_be_drawn():
    rendered(plot_posterior(Posterior(torch.ones(3, 4, 4)), torch.ones(4, 4)))


@pytest.mark.parametrize("shape", [(10, 5, 7), (10, 1, 5, 7), (10, 3, 5, 7)])
def test_grid_goes_row_by_row(shape):
    figure = plot_grid(torch.rand(shape), columns=4, titles=[str(i) for i in range(10)])
    assert [axes.get_title() for axes in figure.axes] == [str(i) for i in range(10)]
    corners = [axes.get_position().p0 for axes in figure.axes]
    assert corners[1][0] > corners[0][0]
    assert corners[1][1] == corners[0][1]
    assert corners[4][0] == corners[0][0]
    assert corners[4][1] < corners[0][1]
    rendered(figure)


def test_grid_range():
    figure = plot_grid(torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1).expand(3, 2, 2))
    assert [float(axes.images[0].get_array().max()) for axes in figure.axes] == [0, 0.5, 1]
    figure = plot_grid(torch.full((1, 2, 2), 9.0), data_range=(0, 1))
    assert float(figure.axes[0].images[0].get_array().max()) == 1


def test_pyplot_knows_nothing_of_the_figures():
    from matplotlib import pyplot, rcParams

    before = pyplot.get_fignums(), rcParams.copy()
    rendered(plot_posterior(posterior(4, 4), torch.zeros(4, 4)))
    rendered(plot_posterior(posterior(9), torch.zeros(9)))
    rendered(plot_grid(torch.rand(3, 4, 4)))
    assert (pyplot.get_fignums(), rcParams.copy()) == before


def test_bad_input_is_refused():
    picture = posterior(4, 4)
    with pytest.raises(InputError, match="truth has shape"):
        plot_posterior(picture, torch.zeros(1, 4, 4))
    with pytest.raises(InputError, match="rival has shape"):
        plot_posterior(picture, extra={"rival": torch.zeros(4)})
    with pytest.raises(InputError, match="num_samples"):
        plot_posterior(picture, num_samples=-1)
    with pytest.raises(InputError, match="prob"):
        plot_posterior(picture, torch.zeros(4, 4), prob=1.0)
    for data_range in ((1.0, 0.0), (1.0,)):
        with pytest.raises(InputError, match="data_range"):
            plot_posterior(picture, data_range=data_range)
    for event in ((2, 4, 4), (1, 1, 4, 4), ()):
        with pytest.raises(InputError, match="cannot be drawn"):
            plot_posterior(posterior(*event))
    for shape in ((4, 4), (3, 2, 4, 4), (0, 4, 4)):
        with pytest.raises(InputError, match="pictures have shape"):
            plot_grid(torch.zeros(shape))
    with pytest.raises(InputError, match="columns"):
        plot_grid(torch.zeros(2, 4, 4), columns=0)
    with pytest.raises(InputError, match="titles"):
        plot_grid(torch.zeros(2, 4, 4), titles=["one"])
