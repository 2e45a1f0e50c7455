r"""Fast orthonormal transforms, as plain arithmetic on flat batches.

Both classes stand for an orthogonal n x n matrix :math:`T` without storing it. ``analysis(x)`` is
:math:`T x` and ``synthesis(v)`` is :math:`T^T v = T^{-1} v`, along the last dimension of
contiguous (batch, n) tensors, whose memory they may use for their own purposes. They know nothing
of autograd: the operators that are built on them do.

**Walsh-Hadamard.** :math:`H_{2^k}` is a Kronecker power of :math:`H_2`, so it may be cut into
Kronecker factors of any sizes. Textbook code takes k factors of size 2, each of which is a pass
over memory; one factor of size n is the dense matrix. In between lie factors of about 16: three
or four passes, each of them a batched product with a matrix that stays in cache, which is faster
than either extreme (``bayes1bit bench speed`` compares it with the dense matrix).

**Cosine.** The orthonormal DCT-II

.. math:: c_k = s_k \sum_j x_j \cos\frac{\pi (2j + 1) k}{2 n}, \qquad s_0 = \sqrt{1/n},
          \quad s_{k > 0} = \sqrt{2/n},

is one real FFT of n points of the reordered signal (Makhoul, IEEE Trans. ASSP 1980), for any n.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class CosineTransform:
    """Orthonormal DCT-II, of which only some coefficients may be wanted.

    With x reordered to u = (x_0, x_1, x_3, ..., x_4, x_2) and U the orthonormal Fourier transform
    of u, the number sqrt(2) exp(i pi k / 2n) U_k has the coefficient k as its real part and the
    coefficient n - k as its imaginary part.

    Args:
        n: Length of the signal.
        coefficients: Indices of the wanted coefficients, shape (m,), distinct; all by default.
    """

    def __init__(self, n: int, coefficients: Tensor | None = None) -> None:
        self.n = n
        wanted = torch.arange(n) if coefficients is None else coefficients
        # Real and imaginary parts alternate in memory.
        self.positions = torch.where(wanted <= n // 2, 2 * wanted, 2 * (n - wanted) + 1)
        # Frequencies 0 and n/2 are their own mirror images: real, and without the sqrt(2).
        k = torch.arange(n // 2 + 1, dtype=torch.float64)
        has_mirror = (k > 0) & (2 * k < n)
        magnitude = (1 + has_mirror.double()).sqrt()
        self.twiddles = torch.polar(magnitude, torch.pi * k / (2 * n) * has_mirror)

    def analysis(self, x: Tensor) -> Tensor:
        """Coefficients of signals: (batch, n) to (batch, m)."""
        odd = 1 + self.n // 2
        u = torch.empty_like(x)
        u[:, 0] = x[:, 0]
        u[:, 1:odd] = x[:, 1::2]
        u[:, odd:] = x[:, 2::2].flip(1)
        spectrum = torch.fft.rfft(u, norm="ortho")
        spectrum *= self.twiddles.to(spectrum.dtype)
        return torch.view_as_real(spectrum).flatten(1).index_select(1, self.positions)

    def synthesis(self, v: Tensor) -> Tensor:
        """Signals with the given coefficients and no others: (batch, m) to (batch, n)."""
        odd = 1 + self.n // 2
        parts = v.new_zeros(len(v), 2 * odd).index_copy_(1, self.positions, v)
        spectrum = torch.view_as_complex(parts.unflatten(1, (odd, 2)))
        spectrum *= self.twiddles.reciprocal().to(spectrum.dtype)
        u = torch.fft.irfft(spectrum, self.n, norm="ortho")
        x = torch.empty_like(u)
        x[:, 0] = u[:, 0]
        x[:, 1::2] = u[:, 1:odd]
        x[:, 2::2] = u[:, odd:].flip(1)
        return x

    def move(self, device: torch.device) -> None:
        """Move the tables."""
        self.positions = self.positions.to(device)
        self.twiddles = self.twiddles.to(device)


class HadamardTransform:
    """Orthonormal Kronecker product of a DCT of r points and a Walsh-Hadamard transform.

    A signal of n = r 2^k numbers, r odd, is read as an r x 2^k matrix in row-major order. Each row
    goes through the Walsh-Hadamard transform in its natural (Sylvester) order, each column through
    the DCT-II. For n a power of two, this is the Walsh-Hadamard transform alone; for an odd n it
    is the DCT alone.

    Args:
        n: Length of the signal.
    """

    def __init__(self, n: int) -> None:
        bits = (n & -n).bit_length() - 1
        self.odd = n >> bits
        self.factors = [_hadamard_matrix(part) for part in _even_parts(bits)]
        self.cosine: CosineTransform | None = None
        cosine = CosineTransform(self.odd)
        if self.odd**2 > n:
            self.cosine = cosine
        elif self.odd > 1:
            # So small a DCT, such as that over three colours, is one more Kronecker factor.
            identity = torch.eye(self.odd, dtype=torch.float64)
            self.factors.insert(0, cosine.analysis(identity).T.contiguous())

    def analysis(self, x: Tensor) -> Tensor:
        """Coefficients of signals: (batch, n) to (batch, n)."""
        if self.cosine is not None:
            x = self._along_columns(self.cosine.analysis, x)
        return kronecker_product(x, [factor.to(x.dtype) for factor in self.factors])

    def synthesis(self, v: Tensor) -> Tensor:
        """Signals with the given coefficients: (batch, n) to (batch, n)."""
        x = kronecker_product(v, [factor.to(v.dtype).T for factor in self.factors])
        if self.cosine is not None:
            x = self._along_columns(self.cosine.synthesis, x)
        return x

    def move(self, device: torch.device) -> None:
        """Move the tables."""
        self.factors = [factor.to(device) for factor in self.factors]
        if self.cosine is not None:
            self.cosine.move(device)

    def _along_columns(self, transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        columns = x.unflatten(1, (self.odd, -1)).mT
        transformed = transform(columns.reshape(-1, self.odd))
        return transformed.view(columns.shape).mT.flatten(1)


def kronecker_product(x: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Apply the Kronecker product of square matrices, the first one slowest.

    One pass over memory per factor, back and forth between two buffers.

    Args:
        x: Contiguous, shape (batch, n), n the product of the factors' sizes; its memory becomes
            one of the buffers.
        factors: Square matrices.

    Returns:
        The products, shape (batch, n).
    """
    spare = torch.empty_like(x)
    inner = 1
    for factor in reversed(factors):
        size = len(factor)
        if inner == 1:
            torch.mm(x.view(-1, size), factor.T, out=spare.view(-1, size))
        else:
            matrices = x.view(-1, size, inner)
            batch = factor.expand(len(matrices), size, size)
            torch.bmm(batch, matrices, out=spare.view_as(matrices))
        x, spare = spare, x
        inner *= size
    return x


def _even_parts(bits: int) -> list[int]:
    """Cut ``bits`` into parts of about 4, as equal as can be, the larger ones last."""
    parts = max(1, round(bits / 4))
    return [(bits + i) // parts for i in range(parts)] if bits else []


def _hadamard_matrix(bits: int) -> Tensor:
    """Orthonormal Hadamard matrix of size 2^bits, in double precision."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    for _ in range(bits):
        matrix = torch.kron(pair, matrix)
    return matrix / 2 ** (bits / 2)
