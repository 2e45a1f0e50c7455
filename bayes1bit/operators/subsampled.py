r"""Matrix-free sensing: random rows of a fast orthonormal transform.

A Gaussian matrix of the size of a colour picture (n = 196,608, m = 12,288) takes 10 GB. The
operators here behave as it does for compressed sensing, and store O(n) numbers:

.. math:: A = \sqrt{n/m}\; R\, T\, D,

with :math:`D` random signs, which spread any signal evenly over the coefficients, :math:`T` an
orthonormal transform, and :math:`R` the choice of m of the n coefficients at random, without
replacement (Do, Gan, Nguyen & Tran, IEEE Trans. Signal Process. 2012). As :math:`T` and
:math:`D` are orthogonal,

.. math:: A A^T = \tfrac{n}{m} I_m

exactly, and the rows have the norm that rows with entries from N(0, 1/m) have on average. This
identity makes the exact data steps of one-bit inference possible: ``row_gram`` is n/m.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.operators.arguments import seed_integer
from bayes1bit.operators.base import LinearOperator
from bayes1bit.operators.transforms import CosineTransform, HadamardTransform

_CHUNK_ON_CPU = 2**18
_CHUNK_ELSEWHERE = 2**26


class SubsampledTransform(LinearOperator):
    """Base class of A = sqrt(n/m) R T D.

    Signs and rows come from a CPU generator, the same on every device. The rows of an operator
    with fewer measurements and the same seed are the first rows, but for the scale, so recovery
    can be compared as measurements are added.

    Args:
        event_shape: Shape of one signal, n elements.
        m: Number of measurements, 1 to n.
        seed: Seed of signs and rows.

    Attributes:
        signs: Diagonal of D, shape (n,).
        rows: Indices of the coefficients that are measured, shape (m,), in order.

    Raises:
        InputError: If a size, ``m`` or ``seed`` is not a valid integer, or m > n.
    """

    _arguments: ClassVar[tuple[str, ...]] = ("event_shape", "m", "seed")

    def __init__(self, event_shape: int | Sequence[int], m: int, seed: int = 0) -> None:
        seed = seed_integer(seed)
        super().__init__(event_shape, m, seed=seed)
        if self.m > self.n:
            raise InputError(
                f"m must be between 1 and n = {self.n}, as rows are drawn without replacement, "
                f"got {m}"
            )
        self.row_gram = self.n / self.m
        self._scale = self.row_gram**0.5
        generator = torch.Generator().manual_seed(seed)
        bits = torch.randint(0, 2, (self.n,), generator=generator)
        self.signs = (2 * bits - 1).to(self.dtype)
        self.rows = torch.randperm(self.n, generator=generator)[: self.m].clone()

    @abstractmethod
    def _measured_coefficients(self, x: Tensor) -> Tensor:
        """R T x, shape (batch, n) to (batch, m); may overwrite ``x``, which is contiguous."""

    @abstractmethod
    def _signal_of(self, v: Tensor) -> Tensor:
        """T^T R^T v, shape (batch, m) to (batch, n); may overwrite ``v``, which is contiguous."""

    def _forward(self, x: Tensor) -> Tensor:
        signs = self._working_signs(x)
        output = x.new_empty(len(x), self.m)
        for signals, measurements in self._chunks(x, output):
            work = torch.mul(signals, signs, out=signs.new_empty(signals.shape))
            torch.mul(self._measured_coefficients(work), self._scale, out=measurements)
        return output

    def _adjoint(self, v: Tensor) -> Tensor:
        signs = self._working_signs(v)
        output = v.new_empty(len(v), self.n)
        for measurements, signals in self._chunks(v, output):
            work = torch.mul(measurements, self._scale, out=signs.new_empty(measurements.shape))
            torch.mul(self._signal_of(work), signs, out=signals)
        return output

    def _working_signs(self, like: Tensor) -> Tensor:
        """Signs in the type to compute in: that of ``like``, but at least single precision."""
        return self.signs.to(torch.promote_types(like.dtype, torch.float32))

    def _chunks(self, source: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts of the batch, so small that their buffers stay in cache (or within bounds)."""
        budget = _CHUNK_ON_CPU if source.device.type == "cpu" else _CHUNK_ELSEWHERE
        size = max(1, budget // self.n)
        for start in range(0, len(source), size):
            yield source[start : start + size], target[start : start + size]

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._move(device, dtype)
        self.signs = self.signs.to(device, dtype)
        self.rows = self.rows.to(device)


class Hadamard(SubsampledTransform, kind="Hadamard"):
    """Random rows of a Walsh-Hadamard transform with random signs.

    Any n is taken without padding, which would destroy A A^T = (n/m) I: with n = r 2^k, r odd,
    the transform is the Kronecker product of an orthonormal DCT of r points and the
    Walsh-Hadamard transform of 2^k points. A power of two gives the Walsh-Hadamard transform
    itself; an odd n gives the DCT, so that the operator is that of :class:`DCT` with this seed.

    Arguments, attributes and errors are those of :class:`SubsampledTransform`.
    """

    def __init__(self, event_shape: int | Sequence[int], m: int, seed: int = 0) -> None:
        super().__init__(event_shape, m, seed)
        self._transform = HadamardTransform(self.n)

    def _measured_coefficients(self, x: Tensor) -> Tensor:
        return self._transform.analysis(x).index_select(1, self.rows)

    def _signal_of(self, v: Tensor) -> Tensor:
        return self._transform.synthesis(v.new_zeros(len(v), self.n).index_copy_(1, self.rows, v))

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._move(device, dtype)
        self._transform.move(device)


class DCT(SubsampledTransform, kind="DCT"):
    """Random rows of the orthonormal DCT-II of the flattened signal, with random signs.

    Arguments, attributes and errors are those of :class:`SubsampledTransform`.
    """

    def __init__(self, event_shape: int | Sequence[int], m: int, seed: int = 0) -> None:
        super().__init__(event_shape, m, seed)
        self._transform = CosineTransform(self.n, self.rows)

    def _measured_coefficients(self, x: Tensor) -> Tensor:
        return self._transform.analysis(x)

    def _signal_of(self, v: Tensor) -> Tensor:
        return self._transform.synthesis(v)

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._move(device, dtype)
        self._transform.move(device)
