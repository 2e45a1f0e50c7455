r"""Scores of estimates and posteriors against a known truth.

Estimates are judged by peak signal-to-noise ratio and structural similarity. Both favour smooth
answers: a posterior mean beats every posterior sample in PSNR, by up to 3 dB, so the two must be
reported apart. Whether the *spread* is right is another question, which coverage answers: a
calibrated 90% interval holds the truth nine times in ten. Agreement of bits asks only whether an
estimate explains the data, which wrong estimates can do too.

The range of the data is always stated, never guessed from the pictures: the same error is worth a
different PSNR in [0, 1] than in [-1, 1].
"""

import torch
from torch import Tensor

from bayes1bit.diagnostics.features import RandomConvolutionFeatures, frechet_distance
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

__all__ = [
    "RandomConvolutionFeatures",
    "bit_agreement",
    "coverage",
    "frechet_distance",
    "psnr",
    "ssim",
]

DataRange = float | tuple[float, float]
"""Range of the data: its width, or its ends (low, high)."""


def psnr(estimate: Tensor, truth: Tensor, data_range: DataRange, event_dim: int = 3) -> Tensor:
    r"""Peak signal-to-noise ratio :math:`10 \log_{10}(R^2 / \mathrm{MSE})` of each picture.

    Args:
        estimate: Estimated pictures, shape (*leading, C, H, W).
        truth: True pictures, of the same shape, or one of shape (C, H, W) for all estimates.
        data_range: Range R of the data, as its width or its ends (low, high). Nothing is clipped.
        event_dim: Number of trailing dimensions of one signal: 3 for pictures, 1 for plain
            vectors.

    Returns:
        Decibels, shape leading; infinite where an estimate is exact.

    Raises:
        InputError: If shapes disagree, a tensor is not floating point, or the range is empty.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    estimate, truth, leading = as_pairs(estimate, truth, event_dim)
    result: Tensor = peak_signal_noise_ratio(
        estimate.flatten(1),
        truth.flatten(1),
        data_range=_width(data_range),
        reduction="none",
        dim=(1,),
    )
    return result.reshape(leading)


def ssim(estimate: Tensor, truth: Tensor, data_range: DataRange) -> Tensor:
    """Structural similarity of each picture (Wang et al., IEEE TIP 2004).

    The window is the usual Gaussian of standard deviation 1.5, 11 pixels wide; pictures with a
    side below 11 get the widest window of that shape that fits.

    Args:
        estimate: Estimated pictures, shape (*leading, C, H, W).
        truth: True pictures, of the same shape, or one of shape (C, H, W) for all estimates.
        data_range: Range of the data, as its width or its ends (low, high). Nothing is clipped.

    Returns:
        Similarities up to 1, shape leading.

    Raises:
        InputError: If shapes disagree, a tensor is not floating point, the range is empty, or the
            signals are not pictures with sides of at least 3.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if estimate.dim() < 3 or min(estimate.shape[-2:]) < 3:
        raise InputError(
            f"structural similarity is for pictures (*leading, C, H, W) with sides of at least 3, "
            f"got shape {tuple(estimate.shape)}"
        )
    estimate, truth, leading = as_pairs(estimate, truth, 3)
    radius = (min(11, *estimate.shape[-2:]) - 1) // 2
    result: Tensor = structural_similarity_index_measure(
        estimate,
        truth,
        data_range=_width(data_range),
        # torchmetrics makes the window int(3.5 sigma + 0.5) pixels to each side.
        sigma=1.5 if radius == 5 else radius / 3.5,
        reduction="none",
    )
    return result.reshape(leading)


def coverage(
    posterior: Posterior | Tensor,
    truth: Tensor,
    prob: float = 0.9,
    weights: Tensor | None = None,
    where: Tensor | None = None,
) -> float:
    """Share of elements whose central interval holds the truth.

    A calibrated posterior gives ``prob`` on average; less means overconfidence. Elements of one
    signal are correlated, so one signal's share scatters widely around the average.

    Args:
        posterior: A posterior, or samples of shape (num_samples, *event).
        truth: The true signal, shape event.
        prob: Probability inside the interval, in (0, 1).
        weights: Weights of the samples when ``posterior`` is a tensor, shape (num_samples,); None
            means equal.
        where: Booleans of shape event that select the elements to count, such as the pixels that
            vary at all; None counts all.

    Returns:
        A share in [0, 1].

    Raises:
        InputError: If shapes disagree, ``prob`` is outside (0, 1), ``where`` is not boolean or
            selects nothing, or weights are given besides a posterior's own.
    """
    if not isinstance(posterior, Posterior):
        posterior = Posterior(posterior, weights=weights)
    elif weights is not None:
        raise InputError("a Posterior has its own weights; give weights only beside samples")
    covered = posterior.covers(truth, prob)
    if where is not None:
        if where.dtype != torch.bool or where.shape != covered.shape or not where.any():
            raise InputError(
                f"where must be booleans of shape {tuple(covered.shape)} with at least one True, "
                f"got {where.dtype} of shape {tuple(where.shape)}"
            )
        covered = covered[where]
    return float(covered.double().mean())


def bit_agreement(bits: Tensor, predicted: Tensor) -> Tensor:
    """Share of measured bits that an estimate reproduces.

    Args:
        bits: Measured bits in {-1, +1}, shape (*measurement).
        predicted: Bits of the noiseless measurement of the estimate, such as
            ``sign(A(estimate) - threshold)``, in {-1, +1}, shape (*leading, *measurement).

    Returns:
        Shares in [0, 1], shape leading. With noise, a share above that of the true signal means
        that the estimate fits noise.

    Raises:
        InputError: If shapes disagree or a value is neither -1 nor +1.
    """
    leading = predicted.shape[: max(0, predicted.dim() - bits.dim())]
    if predicted.shape != leading + bits.shape or bits.numel() == 0:
        raise InputError(
            f"bits have shape {tuple(bits.shape)}, predicted bits {tuple(predicted.shape)}; "
            f"expected (*leading, *{tuple(bits.shape)})"
        )
    for name, value in (("bits", bits), ("predicted", predicted)):
        if not bool((value.abs() == 1).all()):
            raise InputError(
                f"{name} must be -1 or +1; turn {{0, 1}} into 2 * value - 1 and take the sign of "
                f"real measurements"
            )
    agreed = (predicted == bits).double()
    return agreed.reshape(*leading, -1).mean(-1)


def as_pairs(estimate: Tensor, truth: Tensor, event_dim: int) -> tuple[Tensor, Tensor, torch.Size]:
    """Estimates and truths as (batch, *event) of one type and device, and the leading shape.

    Args:
        estimate: Shape (*leading, *event).
        truth: The same shape, or shape event for all estimates.
        event_dim: Number of dimensions of one signal.

    Raises:
        InputError: If shapes disagree or a tensor is not floating point.
    """
    if not (estimate.is_floating_point() and truth.is_floating_point()):
        raise InputError(
            f"estimate and truth must be floating point, got {estimate.dtype} and {truth.dtype}; "
            f"convert both to the units of data_range first"
        )
    if estimate.dim() < event_dim:
        raise InputError(
            f"estimate has shape {tuple(estimate.shape)}; expected {event_dim} trailing "
            f"dimensions of one signal"
        )
    leading = estimate.shape[: estimate.dim() - event_dim]
    event = estimate.shape[estimate.dim() - event_dim :]
    if truth.shape not in (estimate.shape, event):
        raise InputError(
            f"truth has shape {tuple(truth.shape)}; expected {tuple(estimate.shape)}, or "
            f"{tuple(event)} for all estimates"
        )
    dtype = torch.promote_types(estimate.dtype, truth.dtype)
    truth = truth.to(estimate.device, dtype).expand(estimate.shape)
    return estimate.to(dtype).reshape(-1, *event), truth.reshape(-1, *event), leading


def _width(data_range: DataRange) -> float:
    """Width of a range given by its width or its ends."""
    width = data_range[1] - data_range[0] if isinstance(data_range, tuple | list) else data_range
    if not 0 < width < torch.inf:
        raise InputError(
            f"data_range must be a positive width or (low, high) with low < high, got {data_range}"
        )
    return float(width)
