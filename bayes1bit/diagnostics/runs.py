"""Samples, truths and weights of many runs, as the tests of calibration take them."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from bayes1bit.errors import InputError

Runs = Tensor | Sequence[Tensor]
"""One tensor for each run: stacked, or a sequence."""

RunWeights = Tensor | Sequence[Tensor | None] | None
"""Weights of each run's samples; None means equal ones, for one run or for all."""


def each_run(
    samples: Runs, truths: Runs, weights: RunWeights
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Go through samples, truth and weights of each run.

    Raises:
        InputError: If their numbers differ, or there are fewer than two runs.
    """
    given: Sequence[Tensor | None] | Tensor = [None] * len(truths) if weights is None else weights
    if not len(samples) == len(truths) == len(given) or len(truths) < 2:
        raise InputError(
            f"{len(samples)} sets of samples, {len(truths)} truths and {len(given)} sets of "
            "weights; give one of each per run, and at least 2 runs"
        )
    return zip(samples, truths, given, strict=True)


def check_run(samples: Tensor, truth: Tensor, weights: Tensor | None) -> None:
    """Refuse samples, truth and weights that do not fit each other.

    Args:
        samples: Draws of one run, shape (num_samples, *event).
        truth: Its truth, shape event.
        weights: One weight per draw, or None.

    Raises:
        InputError: If shapes disagree, there is no draw, or the truth or a draw is NaN.
    """
    if samples.shape[1:] != truth.shape or len(samples) == 0:
        raise InputError(
            f"samples have shape {tuple(samples.shape)}; expected (num_samples, "
            f"*{tuple(truth.shape)}) for a truth of shape {tuple(truth.shape)}"
        )
    if weights is not None and weights.shape != samples.shape[:1]:
        raise InputError(
            f"weights have shape {tuple(weights.shape)} for {len(samples)} samples; give one per "
            "sample"
        )
    if samples.isnan().any() or truth.isnan().any():
        raise InputError("samples or truth hold NaN; give complete signals")
