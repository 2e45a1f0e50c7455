"""What recovery by sparsity needs: a basis, a norm, and the one-bit form of the data.

One-bit measurements without thresholds say nothing of a signal's norm, and sparse recovery has no
prior that would. So the norm is a matter of its own: where thresholds identify it, it is the norm
that makes the bits most likely; where they do not, it is that of a typical signal.
"""

from typing import Literal

import torch
from torch import Tensor

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer.moments import prior_mean, prior_variance
from bayes1bit.infer.structure import OneBitForm, Structure
from bayes1bit.infer.target import Target
from bayes1bit.operators.transforms import CosineTransform

Basis = Literal["cosine", "identity"]


class SparseBasis:
    """The orthonormal basis in which a signal is sparse.

    Args:
        basis: "cosine" for the DCT-II, along the last axis of signals of one dimension and along
            the last two of pictures; "identity" for the signal itself.
        event_shape: Shape of one signal.

    Raises:
        InputError: If there is no such basis.
    """

    def __init__(self, basis: Basis, event_shape: torch.Size) -> None:
        check_basis(basis)
        self.axes = () if basis == "identity" else tuple(range(-min(2, len(event_shape)), 0))
        self.transforms = [CosineTransform(event_shape[axis]) for axis in self.axes]

    def analysis(self, x: Tensor) -> Tensor:
        """Coefficients of signals, shape (batch, *event) to the same."""
        return self._along_axes(x, inverse=False)

    def synthesis(self, coefficients: Tensor) -> Tensor:
        """Signals of coefficients, shape (batch, *event) to the same."""
        return self._along_axes(coefficients, inverse=True)

    def _along_axes(self, x: Tensor, inverse: bool) -> Tensor:
        for axis, transform in zip(self.axes, self.transforms, strict=True):
            transform.move(x.device)
            function = transform.synthesis if inverse else transform.analysis
            moved = x.movedim(axis, -1)
            # a copy, as transforms may overwrite what they are given
            flat = moved.reshape(-1, moved.shape[-1]).clone()
            x = function(flat).view(moved.shape).movedim(-1, axis)
        return x


def check_basis(basis: str) -> None:
    """Raise an InputError if there is no such basis."""
    if basis not in ("cosine", "identity"):
        raise InputError(f'basis must be "cosine" or "identity", got {basis!r}')


def check_sparsity(sparsity: int | None, norm: float | None) -> None:
    """Raise an InputError if sparsity or norm are given and not positive."""
    if sparsity is not None and sparsity < 1:
        raise InputError(f"sparsity must be at least 1, got {sparsity}")
    if norm is not None and not norm > 0:
        raise InputError(f"norm must be positive, got {norm}")


def choose_sparsity(sparsity: int | None, structure: Structure) -> int:
    """The number of coefficients: as given, or a quarter of the number of measurements.

    Raises:
        InputError: If there are fewer coefficients in a signal.
    """
    n, m = structure.operator.n, structure.operator.m
    if sparsity is None:
        return min(n, max(1, m // 4))
    if sparsity > n:
        raise InputError(f"sparsity must be at most n = {n}, got {sparsity}")
    return sparsity


def one_bit_structure(target: Target, algorithm: str) -> tuple[Structure, OneBitForm]:
    """The operator and the one-bit form of a target.

    Raises:
        InputError: If the data are not one-bit measurements of one linear operator.
    """
    structure = target.structure
    if structure is None or structure.one_bit is None:
        raise InputError(
            f"{algorithm} needs one-bit measurements of one linear operator, such as "
            f"OneBit(A(x), scale), but this model has: {target.describe()}"
        )
    return structure, structure.one_bit


def typical_norm(prior: DiffusionPrior) -> float:
    """Root of the prior's second moment, one denoiser call.

    Raises:
        InputError: If the prior has no table of denoising errors.
    """
    variance = prior_variance(prior, "norm")
    mean = prior_mean(prior)
    return (float(mean.square().sum()) + mean.numel() * variance) ** 0.5


def signal_norm(
    norm: float | None, form: OneBitForm, output: Tensor, prior: DiffusionPrior
) -> float:
    """The norm of a signal whose direction is known.

    Args:
        norm: The norm, if it is given.
        form: The data.
        output: Operator's output for the direction, a signal of norm 1, shape (1, m).
        prior: The prior, for the typical norm.

    Returns:
        ``norm``, if it is given; otherwise the norm of largest likelihood if there are
        thresholds, and the typical norm if there are none.
    """
    if norm is not None:
        return norm
    thresholds = float(form.threshold.square().mean())
    if thresholds == 0:
        return typical_norm(prior)
    # where the signal's measurements are as large as the thresholds
    scale = (thresholds / float(output.square().mean())) ** 0.5
    candidates = scale * torch.logspace(-2, 2, 400, dtype=output.dtype, device=output.device)
    log_likelihood = form.log_likelihood(candidates[:, None] * output).sum(1)
    return float(candidates[log_likelihood.argmax()])
