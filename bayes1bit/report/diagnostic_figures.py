"""Pictures of diagnostics: agreement of bits, log-likelihood, weights, and ranks of chains."""

from typing import TYPE_CHECKING

from torch import Tensor

from bayes1bit.diagnostics.bit_checks import BitCheck
from bayes1bit.diagnostics.bit_plots import plot_bit_agreement
from bayes1bit.diagnostics.chain_plots import plot_ranks, plot_traces
from bayes1bit.diagnostics.style import BLUE, ORANGE, add_legend, new_axes
from bayes1bit.posterior_summary import total_log_likelihood
from bayes1bit.report.drawing import Drawing, encode_figure

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior


def draw_bits(posterior: "Posterior", check: BitCheck) -> Drawing:
    """Agreement of replicated and observed bits for each sample, beside what is expected.

    Args:
        posterior: A posterior of bits.
        check: What :func:`~bayes1bit.diagnostics.bit_checks.check_bits` says of it.
    """
    return Drawing(
        encode_figure(plot_bit_agreement(posterior)),
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
    figure = plot_traces(posterior, {"log-likelihood in nats": total})
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


def draw_ranks(posterior: "Posterior") -> Drawing:
    """Rank histograms of each chain, for the numbers that chains agree on least.

    Args:
        posterior: A posterior of several chains.
    """
    figure = plot_ranks(posterior)
    names = ", ".join(axes.get_title() for axes in figure.axes if axes.get_title())
    return Drawing(
        encode_figure(figure),
        f"Rank histograms of {posterior.num_chains} chains for {names}.",
        "Rank plot of the numbers with the largest R-hat. Where chains agree, the ranks of each "
        "are even, and its bars end at the dotted line. A chain that leans to one side has seen "
        "another distribution.",
    )
