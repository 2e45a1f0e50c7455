"""Calibration of predicted bits: of those expected with probability 0.8, eight in ten should come.

The diagram of observed shares over predicted probabilities is the forecaster's reliability
diagram. Predictions must not have seen the bit that they are of: a posterior has been drawn to its
own data, and is too sure of them even under the right model. So each bit is predicted from all
others, by Pareto-smoothed importance sampling.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.diagnostics.bit_checks import bit_site, likelihood, signs
from bayes1bit.diagnostics.comparison import leave_one_out
from bayes1bit.diagnostics.probabilities import reliability_curve
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.weighted import weighted_mean


class BitCalibration(NamedTuple):
    """Observed shares of ones among bits of similar predicted probability.

    Attributes:
        predicted: Average predicted probability of +1 in each bin, shape (bins,).
        observed: Share of +1 in it, shape (bins,).
        lower: Lower end of the interval that holds the share if predictions are calibrated.
        upper: Upper end of that interval.
        counts: Number of bits in each bin.
    """

    predicted: Tensor
    observed: Tensor
    lower: Tensor
    upper: Tensor
    counts: Tensor


def bit_calibration(
    posterior: Posterior,
    num_bins: int = 10,
    prob: float = 0.9,
    *,
    site: str | None = None,
    leave_out: bool = True,
) -> BitCalibration:
    """Compare predicted probabilities of bits with how often they come true.

    Bins have equal width, and only those that hold a bit are given. The interval is binomial,
    about the prediction (Bröcker and Smith, *Weather and Forecasting* 22, 2007).

    Args:
        posterior: A posterior with a pointwise log-likelihood of bits.
        num_bins: Bins of [0, 1].
        prob: Probability inside the interval of one bin, in (0, 1).
        site: The observed site; needed only if several are of bits.
        leave_out: Whether to predict each bit from all others, by
            :func:`~bayes1bit.diagnostics.comparison.leave_one_out`, which takes 25 draws. If
            not, predictions have seen the bit, and are too sure even of a right model.

    Raises:
        InputError: If there are no bits, there are too few draws, or a number is out of range.
    """
    from scipy.stats import binom

    if not 0 < prob < 1:
        raise InputError(f"prob must be in (0, 1), such as 0.9, got {prob}")
    name = bit_site(posterior, site)
    if leave_out:
        own = leave_one_out(posterior, name)[0].exp()
    else:
        own = weighted_mean(likelihood(posterior, name), posterior.weights).cpu()
    ones = signs(posterior.observed[name]).cpu().flatten() > 0
    predictions = torch.where(ones, own, 1 - own).clamp(0, 1)
    curve = reliability_curve(predictions, ones, num_bins)
    filled = curve.share > 0
    predicted, observed = curve.predicted[filled], curve.observed[filled]
    counts = (curve.share[filled] * len(ones)).round().long()
    ends = ((1 - prob) / 2, (1 + prob) / 2)
    lower, upper = (
        torch.as_tensor(binom.ppf(end, counts.numpy(), predicted.numpy())) / counts for end in ends
    )
    return BitCalibration(predicted, observed, lower, upper, counts)
