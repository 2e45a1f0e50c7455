"""Figures of chains: traces and ranks of a few numbers of each sample.

A picture has too many pixels to look at their traces, and one of them is always unlucky. What is
drawn are the log-likelihood, other latent sites, and products of the signal with random
directions, each of which sees all pixels; of these, the numbers that chains agree on least.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayes1bit.diagnostics.convergence import Convergence, check_convergence, chosen
from bayes1bit.diagnostics.style import COLOURS, FONT, MARKERS, add_legend, new_panels
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 6
"""Most numbers that are drawn."""

_MAX_LEGEND = 8
_FEW = 40
"""Most draws of a chain whose points are marked one by one."""


def plot_traces(posterior: Posterior, quantities: Mapping[str, Tensor] | None = None) -> "Figure":
    """Draw numbers of each sample in the order of the draws, a line for each chain.

    A trend along a chain means that it has not settled; chains at different heights, that they
    have seen different distributions. Weighted particles and independent draws have no order:
    their traces show outliers alone.

    Args:
        posterior: The posterior.
        quantities: Numbers by name, each of shape (num_samples,); if None, up to
            :data:`MAX_PANELS` of :func:`~bayes1bit.diagnostics.convergence.monitored`, those of
            largest R-hat where there are several chains.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If a shape is another or a value is not finite.
    """
    numbers = _shown(posterior, quantities, check_convergence(posterior, quantities))
    chains = posterior.num_chains
    single = len(numbers) == 1
    width, height = (5.6, 2.7) if single else (2.8, 1.9)
    figure, panels = new_panels(len(numbers), 3, width, height)
    for axes, (name, value) in zip(panels, numbers.items(), strict=True):
        draws = value.cpu().view(chains, -1)
        place = torch.arange(1, draws.shape[1] + 1).numpy()
        marked = draws.shape[1] <= _FEW
        for i, chain in enumerate(draws):
            axes.plot(
                place,
                chain.numpy(),
                MARKERS[i % len(MARKERS)] if marked else "",
                linestyle="-" if chains > 1 or not marked else "none",
                color=COLOURS[i % len(COLOURS)],
                markersize=3,
                linewidth=0.8,
                label=f"chain {i + 1}",
            )
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("draw" if chains > 1 else "sample", fontsize=FONT)
        if single:
            axes.set_ylabel(name, fontsize=FONT)
        else:
            axes.set_title(name, fontsize=FONT)
    if 1 < chains <= _MAX_LEGEND:
        add_legend(figure)
    return figure


def plot_ranks(posterior: Posterior, quantities: Mapping[str, Tensor] | None = None) -> "Figure":
    """Draw histograms of the ranks that each chain's draws have among those of all chains.

    Where chains agree, the ranks of each are even, and its bars end at the dotted line. A chain
    that leans to one side has seen another distribution (Vehtari et al., *Bayesian Analysis* 16,
    2021).

    Args:
        posterior: A posterior of several chains of at least four draws.
        quantities: Numbers by name, each of shape (num_samples,); those of :func:`plot_traces`
            if None.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If there is one chain, chains are shorter, or quantities do not fit.
    """
    from scipy.stats import rankdata

    convergence = check_convergence(posterior, quantities)
    if convergence is None:
        raise InputError(
            f"ranks compare at least 2 chains of 4 draws, and this posterior has "
            f"{posterior.num_chains} of {posterior.num_samples // posterior.num_chains}; use "
            "plot_traces, or run several chains"
        )
    numbers = _shown(posterior, quantities, convergence)
    chains, count = posterior.num_chains, posterior.num_samples
    bins = max(2, min(20, count // chains // 4))
    edges = torch.linspace(0.5, count + 0.5, bins + 1).numpy()
    figure, panels = new_panels(len(numbers), 3)
    for axes, (name, value) in zip(panels, numbers.items(), strict=True):
        ranks = torch.from_numpy(rankdata(value.cpu().numpy())).view(chains, -1)
        for i, chain in enumerate(ranks):
            heights = torch.histc(chain, bins, 0.5, count + 0.5) * bins / len(chain)
            # chains are drawn one above the other, each about its own line of evenness
            axes.stairs(
                (i + 0.4 * heights).numpy(),
                edges,
                baseline=i,
                fill=True,
                color=COLOURS[i % len(COLOURS)],
                alpha=0.75,
            )
            axes.axhline(i + 0.4, color="black", linewidth=0.7, linestyle=":")
        axes.set_title(name, fontsize=FONT)
        axes.set_yticks(range(chains), [f"{i + 1}" for i in range(chains)])
        axes.set_xlabel("rank among all draws", fontsize=FONT - 1)
        axes.set_ylabel("chain", fontsize=FONT - 1)
    return figure


def _shown(
    posterior: Posterior,
    quantities: Mapping[str, Tensor] | None,
    convergence: Convergence | None,
) -> dict[str, Tensor]:
    """All numbers that a caller gives; else those of largest R-hat, or the first ones."""
    numbers = chosen(posterior, quantities)
    names = list(numbers)
    if quantities is None:
        if convergence is not None:
            order = convergence.rhat.nan_to_num(nan=0.0).argsort(descending=True)
            names = [convergence.names[i] for i in order.tolist()]
        names = names[:MAX_PANELS]
    return {name: numbers[name] for name in names}
