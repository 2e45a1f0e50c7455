r"""Scores of predicted probabilities against outcomes of two kinds.

The log loss, :math:`-\frac{1}{N} \sum_i \log p(y_i)`, is the proper score: it is smallest for the
true probabilities, and its difference between two predictions is a mean log Bayes factor of one
outcome. The calibration error asks one thing of it: whether of the outcomes that were given
probability p a share of p happened (Naeini, Cooper and Hauskrecht, AAAI 2015). The reliability
curve shows where they did not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.errors import InputError


class ReliabilityCurve(NamedTuple):
    """Predicted and observed shares in bins of the predicted probability.

    Attributes:
        predicted: Mean probability of the outcomes in each bin, NaN where there are none, shape
            (num_bins,).
        observed: Share of ones among them, NaN where there are none.
        share: Share of all outcomes that are in the bin.
    """

    predicted: Tensor
    observed: Tensor
    share: Tensor

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean distance of observed from predicted."""
        return float((self.share * (self.observed - self.predicted).abs()).nansum())


def reliability_curve(
    probabilities: Tensor, outcomes: Tensor, num_bins: int = 10
) -> ReliabilityCurve:
    """Compare predicted probabilities with shares of ones, in bins of equal width.

    Args:
        probabilities: Predicted probabilities of 1, shape (N,).
        outcomes: What happened, 0 and 1, shape (N,).
        num_bins: Bins of [0, 1].

    Returns:
        The curve, in double precision.

    Raises:
        InputError: If shapes disagree, there is no outcome, a value is outside its domain, or
            there is no bin.
    """
    p, y = _checked(probabilities, outcomes)
    if num_bins < 1:
        raise InputError(f"num_bins must be at least 1, got {num_bins}")
    index = (p * num_bins).long().clamp(max=num_bins - 1)
    count, predicted, observed = (
        p.new_zeros(num_bins).index_add_(0, index, value) for value in (torch.ones_like(p), p, y)
    )
    return ReliabilityCurve(predicted / count, observed / count, count / len(p))


def log_loss(probabilities: Tensor, outcomes: Tensor) -> float:
    """Mean negative log probability of outcomes, in nats.

    Args:
        probabilities: Predicted probabilities of 1, shape (N,).
        outcomes: What happened, 0 and 1, shape (N,).

    Returns:
        The loss; infinite if something happened that was given no probability.

    Raises:
        InputError: If shapes disagree, there is no outcome, or a value is outside its domain.
    """
    p, y = _checked(probabilities, outcomes)
    return float(-torch.where(y == 1, p.log(), torch.log1p(-p)).mean())


def accuracy(probabilities: Tensor, outcomes: Tensor) -> float:
    """Share of outcomes on the side of one half that was predicted.

    Args:
        probabilities: Predicted probabilities of 1, shape (N,).
        outcomes: What happened, 0 and 1, shape (N,).

    Raises:
        InputError: If shapes disagree, there is no outcome, or a value is outside its domain.
    """
    p, y = _checked(probabilities, outcomes)
    return float(((p > 0.5) == (y == 1)).double().mean())


def _checked(probabilities: Tensor, outcomes: Tensor) -> tuple[Tensor, Tensor]:
    if probabilities.dim() != 1 or probabilities.shape != outcomes.shape or not len(outcomes):
        raise InputError(
            "probabilities and outcomes must have one shape (N,) with N at least 1, got "
            f"{tuple(probabilities.shape)} and {tuple(outcomes.shape)}"
        )
    p, y = probabilities.double(), outcomes.double()
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise InputError("probabilities must lie between 0 and 1")
    if not bool(((y == 0) | (y == 1)).all()):
        raise InputError("outcomes must be 0 or 1; turn signs into (y + 1) / 2")
    return p, y
