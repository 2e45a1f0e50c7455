r"""Gibbs draws of a data step: one-bit data of any linear operator.

With the noisy numbers :math:`w` behind the signs, :math:`y = \operatorname{sign}(w)` and
:math:`w = A z - \tau + N(0, V)`, both conditional laws are drawn exactly: w given z is a normal
variable cut off at zero for each measurement, and z given w is normal. For the latter no
matrix of the signal's size is needed. Draw :math:`h \sim N(x, \rho^2 I)` and
:math:`e \sim N(0, V)` as if there were no data, and correct them by what they miss:

.. math:: z = h + \rho^2 A^T u, \qquad (\rho^2 A A^T + V)\, u = w + \tau - A h - e.

The sweeps between happen in the space of measurements, where the new output is
:math:`A z = A h + (w + \tau - A h - e) - V u`. The start draws every output from its own law
given its own bit, which is exact already where rows are orthogonal.

The closer V is to zero next to :math:`\rho^2 A A^T`, the less w lets z move in one sweep.

References:
    Albert and Chib, JASA 88 (1993), for the augmentation;
    Hoffman and Ribak, *Constrained realizations of Gaussian fields* (1991), for the correction.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.one_bit_form import OneBitForm
from bayes1bit.infer.steps import DataStep
from bayes1bit.infer.structure import Structure
from bayes1bit.infer.target import Target
from bayes1bit.operators import Dense, LinearOperator

Solver = Literal["auto", "eigen", "cg"]

# An eigen-decomposition of this many measurements takes seconds.
_LARGEST_EIGEN = 2048
# A matrix A A^T of this size is still held in memory.
_LARGEST_GRAM = 4096
_UNIT_VECTORS_AT_ONCE = 256
_TOLERANCE = 1e-5
_MAX_ITERATIONS = 1000


class AugmentedGibbsStep(DataStep):
    r"""Draw z by sweeps over the noisy numbers behind the signs, and z given them.

    Args:
        num_sweeps: Sweeps per call. Each draw of a call is exact given the ones before; their
            law tends to p(y | z) N(z; x, rho^2 I) with their number.
        solver: ``"eigen"`` decomposes :math:`A A^T` once, which needs probit noise, whose variance
            is the same in every sweep, and time of order m^3; ``"cg"`` solves by conjugate
            gradients to a relative residual of 1e-5. ``"auto"`` takes the first for probit
            noise and up to 2048 measurements.

    Raises:
        InputError: If ``num_sweeps`` is less than 1 or the solver is unknown.
    """

    def __init__(self, num_sweeps: int = 10, solver: Solver = "auto") -> None:
        if num_sweeps < 1:
            raise InputError(f"a Gibbs step needs num_sweeps of at least 1, got {num_sweeps}")
        if solver not in ("auto", "eigen", "cg"):
            raise InputError(f"solver must be 'auto', 'eigen' or 'cg', not {solver!r}")
        self.num_sweeps, self.solver = num_sweeps, solver

    def prepare(self, target: Target) -> None:
        """Check that data are one-bit, and decompose or form A A^T.

        Raises:
            InputError: If data are not one-bit measurements of one linear operator, or the
                eigen-decomposition is asked for with logistic noise.
        """
        structure, form = one_bit(target)
        probit = form.link == "probit"
        if self.solver == "eigen" and not probit:
            raise InputError(
                "the variance of logistic noise changes from sweep to sweep, so that one "
                "eigen-decomposition does not serve: use solver='cg'"
            )
        small = structure.operator.m <= _LARGEST_EIGEN
        eigen = self.solver == "eigen" or (self.solver == "auto" and probit and small)
        self._squared_norms = structure.operator.row_norms_squared.to(form.scale)
        self._solver: _Solver = (
            _EigenSolver(structure, form)
            if eigen
            else _GradientSolver(structure, self._squared_norms)
        )

    @torch.no_grad()
    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """Draw from p(y given z) N(z; x, rho^2 I), in the limit of many sweeps.

        Args:
            target: The likelihood that the step is prepared for.
            x: Centres, shape (particles, *event).
            rho: Standard deviation of the coupling, in units of the signal.

        Returns:
            One draw per particle, shape of ``x``.

        Raises:
            FloatingPointError: If conjugate gradients do not converge.
        """
        structure, form = one_bit(target)
        mean = structure.apply(x)
        t = form.draw_output(mean, rho**2 * self._squared_norms)
        for _ in range(self.num_sweeps - 1):
            w, variance = form.draw_latent(t)
            output = mean + rho * self._solver.draw_noise(x)
            missed = self._missed(form, w, variance, output)
            t = output + missed - variance * self._solver.solve(missed, variance, rho)
        w, variance = form.draw_latent(t)
        h = x + rho * torch.randn_like(x)
        missed = self._missed(form, w, variance, structure.apply(h))
        u = self._solver.solve(missed, variance, rho)
        return h + rho**2 * structure.adjoint(u, x.shape[1:])

    @staticmethod
    def _missed(form: OneBitForm, w: Tensor, variance: Tensor, output: Tensor) -> Tensor:
        """What the draws without data miss: ``w + threshold - A h - e``."""
        return w + form.threshold - output - variance.sqrt() * torch.randn_like(w)

    def __repr__(self) -> str:
        return f"AugmentedGibbsStep(num_sweeps={self.num_sweeps}, solver={self.solver!r})"


class _Solver(ABC):
    """Linear algebra in the space of measurements."""

    @abstractmethod
    def draw_noise(self, x: Tensor) -> Tensor:
        """Draw ``A xi``, xi ~ N(0, I), for each signal of ``x``, shape (particles, m)."""

    @abstractmethod
    def solve(self, right: Tensor, variance: Tensor, rho: float) -> Tensor:
        """Solve ``(rho^2 A A^T + V) u = right``, all of shape (particles, m)."""


class _EigenSolver(_Solver):
    """For V = diag(scale^2): ``A A^T = S Q diag(values) Q^T S`` with S = diag(scale)."""

    def __init__(self, structure: Structure, form: OneBitForm) -> None:
        scale = form.scale.double()
        whitened = gram_matrix(structure.operator) / (scale[:, None] * scale)
        values, vectors = torch.linalg.eigh(whitened)
        self.scale = form.scale
        self.values = values.clamp(min=0.0).to(form.scale)
        self.vectors = vectors.to(form.scale)

    def draw_noise(self, x: Tensor) -> Tensor:
        noise = torch.randn(len(x), len(self.values), dtype=x.dtype, device=x.device)
        return (noise * self.values.sqrt()) @ self.vectors.T * self.scale

    def solve(self, right: Tensor, variance: Tensor, rho: float) -> Tensor:
        coordinates = (right / self.scale) @ self.vectors
        return (coordinates / (rho**2 * self.values + 1.0)) @ self.vectors.T / self.scale


class _GradientSolver(_Solver):
    """Conjugate gradients, with the diagonal as preconditioner."""

    def __init__(self, structure: Structure, squared_norms: Tensor) -> None:
        self.structure, self.squared_norms = structure, squared_norms
        self.gram = gram_product(structure.operator, squared_norms.dtype)

    def draw_noise(self, x: Tensor) -> Tensor:
        return self.structure.apply(torch.randn_like(x))

    def solve(self, right: Tensor, variance: Tensor, rho: float) -> Tensor:
        return conjugate_gradients(
            lambda u: rho**2 * self.gram(u) + variance * u,
            right,
            rho**2 * self.squared_norms + variance,
        )


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor
) -> Tensor:
    """Solve symmetric positive definite systems, all at once.

    Args:
        product: The matrix of every system times its vector, (batch, m) to (batch, m).
        right: Right-hand sides, shape (batch, m).
        diagonal: Diagonal of the matrices, broadcastable to ``right``.

    Returns:
        Solutions with a relative residual below 1e-5, shape (batch, m).

    Raises:
        FloatingPointError: If there are none after 1000 iterations.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.vecdot(a, b)[:, None]

    solution, residual = torch.zeros_like(right), right
    direction = scaled = residual / diagonal
    product_now = dot(residual, scaled)
    limit = _TOLERANCE**2 * dot(right, right)
    smallest = torch.finfo(right.dtype).tiny
    for _ in range(_MAX_ITERATIONS):
        if bool((dot(residual, residual) <= limit).all()):
            return solution
        image = product(direction)
        # where a system is solved to the last digit, numerator and denominator underflow together
        step = product_now / dot(direction, image).clamp(min=smallest)
        solution = solution + step * direction
        residual = residual - step * image
        scaled = residual / diagonal
        product_before, product_now = product_now, dot(residual, scaled)
        direction = scaled + product_now / product_before.clamp(min=smallest) * direction
    raise FloatingPointError(
        f"conjugate gradients have not converged in {_MAX_ITERATIONS} iterations: the noise is "
        "too small next to rho times the operator; take smaller levels, or a model in float64"
    )


def gram_matrix(operator: LinearOperator) -> Tensor:
    """``A A^T`` in double precision, shape (m, m); from unit vectors where there is no matrix."""
    if isinstance(operator, Dense):
        matrix = operator.matrix.double()
        return matrix @ matrix.T
    unit_vectors = torch.eye(operator.m, dtype=torch.float64, device=operator.device)
    return torch.cat([operator(operator.T(e)) for e in unit_vectors.split(_UNIT_VECTORS_AT_ONCE)])


def gram_product(operator: LinearOperator, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The map ``v -> A A^T v`` on vectors (batch, m), by the cheapest way there is."""
    c = operator.row_gram
    if c is not None:
        return lambda v: c * v
    if isinstance(operator, Dense) and operator.m <= min(operator.n, _LARGEST_GRAM):
        gram = gram_matrix(operator).to(dtype)
        return lambda v: v @ gram
    return lambda v: operator(operator.T(v))


def one_bit(target: Target) -> tuple[Structure, OneBitForm]:
    """The structure of a target and its one-bit form.

    Raises:
        InputError: If it has none.
    """
    structure = target.structure
    if structure is None or structure.one_bit is None:
        raise InputError(
            "a Gibbs step needs one-bit data that see the signal through one linear operator, but "
            f"this model has: {target.describe()}; use LangevinStep"
        )
    return structure, structure.one_bit
