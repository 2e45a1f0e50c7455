r"""Operators that hold their matrix.

The reference against which everything else is compared, and the right choice for a matrix that
comes from elsewhere: features of a logistic regression, a calibrated device. One-bit compressed
sensing is usually studied with independent Gaussian entries, :math:`A_{ij} \sim N(0, 1/m)`
(Jacques et al., IEEE Trans. Inf. Theory 2013), of which :class:`Gaussian` keeps the seed alone in
files. Time and memory grow as m n: beyond some 10^8 entries use a matrix-free operator.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.operators.arguments import positive_integer, seed_integer, shape_of_event
from bayes1bit.operators.base import LinearOperator


class Dense(LinearOperator, kind="Dense"):
    """The operator of a given matrix.

    The matrix is a constant of the model and is not copied. Signals of another floating type
    than the matrix's are multiplied by the matrix cast to their type.

    Args:
        matrix: Shape (m, n), ``torch.float32`` or ``torch.float64``, finite.
        event_shape: Shape of one signal, n elements in all; (n,) by default, so that a matrix for
            pictures needs it, such as (1, 32, 32).
        row_gram: The c of A A^T = c I_m, if the matrix is known to have that form.

    Raises:
        InputError: If the matrix is not such a tensor, if it requires a gradient, if
            ``event_shape`` does not have n elements, or if A A^T is not ``row_gram`` times the
            identity to a relative 1e-4 (1e-8 in double precision).
    """

    _arguments: ClassVar[tuple[str, ...]] = ("matrix", "event_shape", "row_gram")

    def __init__(
        self,
        matrix: Tensor,
        event_shape: int | Sequence[int] | None = None,
        row_gram: float | None = None,
    ) -> None:
        _check_matrix(matrix)
        m, n = matrix.shape
        super().__init__((n,) if event_shape is None else event_shape, m, row_gram)
        if self.n != n:
            raise InputError(
                f"the matrix has {n} columns, but event_shape {tuple(self.event_shape)} has "
                f"{self.n} elements"
            )
        self.matrix = matrix
        self.device, self.dtype = matrix.device, matrix.dtype
        if row_gram is not None:
            self._check_row_gram(row_gram)

    def _forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.to(x.dtype).T

    def _adjoint(self, v: Tensor) -> Tensor:
        return v @ self.matrix.to(v.dtype)

    @property
    def row_norms_squared(self) -> Tensor:
        """Squared norm of each row, the diagonal of A A^T, shape (m,); computed at each access."""
        return torch.linalg.vector_norm(self.matrix, dim=1).square()

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._move(device, dtype)
        self.matrix = self.matrix.to(device, dtype)

    def _advice(self, what: str, shape: torch.Size) -> str:
        events = (shape[start:] for start in range(len(shape)))
        fitting = next((tuple(event) for event in events if event.numel() == self.n), None)
        if what != "signal" or fitting is None:
            return ""
        return f"; make the operator with event_shape={fitting} for such signals"

    def _check_row_gram(self, row_gram: Any) -> None:
        if not isinstance(row_gram, float | int) or not row_gram > 0:
            raise InputError(f"row_gram must be a positive number or None, got {row_gram!r}")
        # A A^T - c I is zero if and only if it maps a random vector to zero (with probability
        # one), which costs two products with the matrix in place of m.
        generator = torch.Generator().manual_seed(0)
        probes = torch.randn(4, self.m, generator=generator).to(self.matrix)
        error = (self._forward(self._adjoint(probes)) / row_gram - probes).abs().max()
        tolerance = 1e-4 if self.dtype == torch.float32 else 1e-8
        if not error <= tolerance * probes.abs().max():
            raise InputError(
                f"A A^T is not {row_gram:g} times the identity: leave row_gram out for this matrix"
            )


def _check_matrix(matrix: Any) -> None:
    if not isinstance(matrix, Tensor) or matrix.dtype not in (torch.float32, torch.float64):
        got = matrix.dtype if isinstance(matrix, Tensor) else type(matrix).__name__
        raise InputError(f"the matrix must be a float32 or float64 tensor, got {got}")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"the matrix must have shape (m, n), got {tuple(matrix.shape)}")
    if matrix.requires_grad:
        raise InputError("the matrix requires a gradient, but operators are constants: detach it")
    if not matrix.isfinite().all():
        raise InputError("the matrix has entries that are NaN or infinite")


class Gaussian(Dense, kind="Gaussian"):
    """A matrix with independent entries from N(0, 1/m), regenerated from its seed.

    Rows have squared norm n/m on average, as those of the matrix-free operators have exactly.
    The entries are drawn in single precision on the CPU, so they are the same numbers whatever
    device or type the operator is moved to.

    Args:
        event_shape: Shape of one signal.
        m: Number of measurements.
        seed: Seed of the entries.

    Raises:
        InputError: If a size, ``m`` or ``seed`` is not a valid integer.
    """

    _arguments: ClassVar[tuple[str, ...]] = ("event_shape", "m", "seed")

    def __init__(self, event_shape: int | Sequence[int], m: int, seed: int = 0) -> None:
        shape = shape_of_event(event_shape)
        m = positive_integer("m", m)
        seed = seed_integer(seed)
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(m, shape.numel(), generator=generator, dtype=torch.float32)
        super().__init__(matrix.div_(m**0.5), shape)
        self.seed = seed
