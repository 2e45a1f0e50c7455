"""Pictures of diagnostics: agreement of bits, log-likelihood, weights, and ranks of chains."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayes1bit.posterior_summary import total_log_likelihood
from bayes1bit.report.checks import BitCheck, Convergence, monitored
from bayes1bit.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Drawing,
    add_legend,
    encode_figure,
    new_axes,
    tidy,
)

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior

_COLOURS = (BLUE, ORANGE, GREEN, GREY)
_MARKERS = "osD^vPX*"
MAX_PANELS = 6
"""Most numbers whose ranks are drawn."""


def draw_bits(check: BitCheck) -> Drawing:
    """Agreement of replicated and observed bits for each sample, beside what is expected."""
    figure, axes = new_axes(3.4, 4.2)
    agreement, expected, spread = (v.cpu() for v in check[:3])
    order = expected.argsort()
    low, high = (expected - 2 * spread)[order], (expected + 2 * spread)[order]
    x = expected[order]
    if len(x) == 1:
        # a band needs two ends
        x, low, high = (torch.cat([v, v]) for v in (x, low, high))
        x = x + torch.tensor([-0.01, 0.01])
    axes.fill_between(x.numpy(), low.numpy(), high.numpy(), color="0.87", label="as expected")
    axes.plot(x.numpy(), x.numpy(), color=GREY, linewidth=1, linestyle="--", label="equal")
    axes.plot(expected.numpy(), agreement.numpy(), "o", color=BLUE, markersize=4, label="samples")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("share expected if the sample were the truth", fontsize=8)
    axes.set_ylabel("share of observed bits", fontsize=8)
    add_legend(figure)
    return Drawing(
        encode_figure(figure),
        f"Scatter plot: replicates agree with {check.average:.1%} of the observed bits, "
        f"where {check.average_expected:.1%} are expected.",
        "Posterior predictive check of bits. Dots are samples: the share of observed bits that "
        "replicates of a sample agree with, over the share if that sample were the truth. In the "
        "grey band (two standard deviations) all is well; above it samples fit noise, below it "
        "they do not explain the data.",
    )


def draw_log_likelihood(posterior: "Posterior") -> Drawing | None:
    """Log-likelihood of each sample, chain by chain; None if it is unknown."""
    total = total_log_likelihood(posterior)
    if total is None:
        return None
    figure, axes = new_axes()
    chains = posterior.num_chains
    numbers = torch.arange(1, posterior.num_samples + 1).view(chains, -1)
    for i, (number, value) in enumerate(zip(numbers, total.cpu().view(chains, -1), strict=True)):
        axes.plot(
            number.numpy(),
            value.numpy(),
            _MARKERS[i % len(_MARKERS)],
            color=_COLOURS[i % len(_COLOURS)],
            markersize=4,
            label=f"chain {i + 1}",
        )
    if 1 < chains <= 8:
        add_legend(figure)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("sample", fontsize=8)
    axes.set_ylabel("log-likelihood in nats", fontsize=8)
    return Drawing(
        encode_figure(figure),
        f"Log-likelihood of each sample, from {float(total.min()):.1f} to "
        f"{float(total.max()):.1f} nats.",
        "Log-likelihood of all data under each sample. One sample far below the others explains "
        "the data badly; a trend along a chain means that it has not settled.",
    )


def draw_weights(weights: Tensor) -> Drawing:
    """Weights in falling order."""
    figure, axes = new_axes()
    falling = weights.double().cpu().sort(descending=True).values
    places = range(1, len(falling) + 1)
    axes.bar(places, falling.numpy(), color=BLUE, width=0.8)
    even = 1 / len(falling)
    axes.axhline(even, color=ORANGE, linestyle="--", linewidth=1, label="even weights")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("samples, heaviest first", fontsize=8)
    axes.set_ylabel("weight", fontsize=8)
    add_legend(figure)
    return Drawing(
        encode_figure(figure),
        f"Bars of the weights in falling order; the largest is {float(falling[0]):.2g}, "
        f"even weights would be {even:.2g}.",
        "Weights of the samples. Every average of this page honours them.",
    )


def draw_ranks(posterior: "Posterior", convergence: Convergence) -> Drawing:
    """Rank histograms of each chain, for the numbers that chains agree on least.

    Args:
        posterior: A posterior of several chains.
        convergence: What its chains say.
    """
    from matplotlib.figure import Figure
    from scipy.stats import rankdata

    values = monitored(posterior)
    worst = convergence.rhat.nan_to_num(nan=0.0).argsort(descending=True)[:MAX_PANELS]
    numbers = {name: values[name] for name in (convergence.names[i] for i in worst.tolist())}
    chains, count = posterior.num_chains, posterior.num_samples
    bins = max(2, min(20, count // chains // 4))
    columns = min(3, len(numbers))
    rows = -(-len(numbers) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.0 * rows + 0.3), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, value) in zip(panels, numbers.items(), strict=False):
        ranks = torch.from_numpy(rankdata(value.cpu().numpy())).view(chains, -1)
        for i, chain in enumerate(ranks):
            heights = torch.histc(chain, bins, 0.5, count + 0.5) * bins / len(chain)
            # chains are drawn one above the other, each about its own line of evenness
            axes.stairs(
                (i + 0.4 * heights).numpy(),
                torch.linspace(0.5, count + 0.5, bins + 1).numpy(),
                baseline=i,
                fill=True,
                color=_COLOURS[i % len(_COLOURS)],
                alpha=0.75,
            )
            axes.axhline(i + 0.4, color="black", linewidth=0.7, linestyle=":")
        tidy(axes)
        axes.set_title(name, fontsize=8)
        axes.set_yticks(range(chains), [f"{i + 1}" for i in range(chains)])
        axes.set_xlabel("rank among all draws", fontsize=7)
        axes.set_ylabel("chain", fontsize=7)
    for axes in panels[len(numbers) :]:
        axes.set_axis_off()
    return Drawing(
        encode_figure(figure),
        f"Rank histograms of {chains} chains for {', '.join(numbers)}.",
        "Rank plot of the numbers with the largest R-hat. Where chains agree, the ranks of each "
        "are even, and its bars end at the dotted line. A chain that leans to one side has seen "
        "another distribution.",
    )
