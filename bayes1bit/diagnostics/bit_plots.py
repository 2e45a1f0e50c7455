"""Figures of bits: agreement, other discrepancies, and calibration of predicted bits."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from bayes1bit.diagnostics.bit_checks import PredictiveCheck, check_bits, check_predictions
from bayes1bit.diagnostics.reliability import bit_calibration
from bayes1bit.diagnostics.style import BLUE, FONT, GREY, ORANGE, add_legend, new_axes, new_panels
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_bit_agreement(posterior: Posterior) -> "Figure":
    """Draw the agreement of replicated and observed bits for each sample, beside what is expected.

    Dots are samples. In the grey band (two standard deviations) all is well; above it samples fit
    noise, below it they do not explain the data.

    Args:
        posterior: A posterior with a pointwise log-likelihood of bits.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If the posterior has no such bits.
    """
    check = check_bits(posterior)
    if check is None:
        raise InputError(
            "the posterior has no observed bits with a pointwise log-likelihood; agreement is for "
            "data of -1 and +1, or 0 and 1"
        )
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
    axes.set_xlabel("share expected if the sample were the truth", fontsize=FONT)
    axes.set_ylabel("share of observed bits", fontsize=FONT)
    add_legend(figure)
    return figure


def plot_predictive_checks(
    posterior: Posterior, checks: Mapping[str, PredictiveCheck] | None = None, **options: Any
) -> "Figure":
    """Draw discrepancies of replicates minus those of the data, one panel for each.

    A curve is their distribution function. Where it crosses the line at zero, the share above it
    is the posterior predictive p-value, which the title gives: the crossing should be neither at
    the top nor at the bottom.

    Args:
        posterior: The posterior that the checks are of; weights are honoured.
        checks: What :func:`~bayes1bit.diagnostics.bit_checks.check_predictions` gave, which is
            called if None.
        **options: Options of that call.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: If there is no check, checks are of another posterior, or as
            :func:`~bayes1bit.diagnostics.bit_checks.check_predictions`.
    """
    checks = check_predictions(posterior, **options) if checks is None else checks
    if not checks:
        raise InputError("there is no check to draw; give one discrepancy or more")
    figure, panels = new_panels(len(checks), 3, 2.4, 1.9)
    for axes, (name, check) in zip(panels, checks.items(), strict=True):
        if check.observed.shape != (posterior.num_samples,):
            raise InputError(
                f"the check {name!r} is of {len(check.observed)} samples, the posterior has "
                f"{posterior.num_samples}"
            )
        difference = (check.replicated - check.observed).cpu()
        weights = torch.ones_like(difference)
        if posterior.weights is not None:
            weights = weights * posterior.weights.to(weights)
        axes.ecdf(
            difference.flatten().numpy(),
            weights=weights.flatten().numpy(),
            color=BLUE,
            linewidth=1.4,
            label="replicates",
        )
        axes.axvline(0.0, color=ORANGE, linestyle="--", linewidth=1.4, label="data")
        axes.set_title(f"{name}, p = {check.p_value:.2g}", fontsize=FONT)
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel("replicate minus data", fontsize=FONT - 1)
        axes.set_ylabel("share below", fontsize=FONT - 1)
    add_legend(figure)
    return figure


def plot_bit_calibration(
    posterior: Posterior, num_bins: int = 10, prob: float = 0.9, **options: Any
) -> "Figure":
    """Draw how often bits are +1 against the probability that was predicted.

    Points should be in the grey bars about the diagonal, each of which holds its point with
    probability ``prob`` if predictions are calibrated. Points that are flatter than the diagonal
    mean predictions that are too sure, as of a scale of the noise that is too small.

    Args:
        posterior: A posterior with a pointwise log-likelihood of bits.
        num_bins: Bins of [0, 1], of equal width.
        prob: Probability inside each bar, in (0, 1).
        **options: Options of :func:`~bayes1bit.diagnostics.reliability.bit_calibration`.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: As :func:`~bayes1bit.diagnostics.reliability.bit_calibration`.
    """
    curve = bit_calibration(posterior, num_bins, prob, **options)
    figure, axes = new_axes(3.4, 3.6)
    x = curve.predicted.numpy()
    axes.vlines(
        x,
        curve.lower.numpy(),
        curve.upper.numpy(),
        color="0.8",
        linewidth=5,
        label=f"{100 * prob:.3g}% if calibrated",
    )
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="equal")
    axes.plot(x, curve.observed.numpy(), "o", color=BLUE, markersize=4, label="bits")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("predicted probability of +1", fontsize=FONT)
    axes.set_ylabel("share of +1", fontsize=FONT)
    add_legend(figure)
    return figure
