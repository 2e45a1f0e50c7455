r"""Binary iterative hard thresholding (Jacques, Laska, Boufounos and Baraniuk, IEEE TIT 2013).

One-bit compressed sensing before diffusion priors: the signal is sparse in an orthonormal basis,
and the bits that it would give are to agree with those observed. From the back-projection of the
bits, every step goes down the subgradient of the one-sided distance of the measurements to their
half-spaces, and keeps the K largest coefficients:

.. math::

    x \leftarrow H_K\!\left(x + \frac{\mu}{2} A^T (y - \operatorname{sign}(A x - \tau))\right).

The scale of the data plays no part: every bit that is wrong counts the same. As noisy bits cannot
all be satisfied, the answer is the iterate with the fewest wrong ones.

The step :math:`\mu` is such that, for Gaussian A and :math:`\tau = 0`, a step from zero along the
signal's direction would reach its norm. Without thresholds the iteration is free of scale, and the
answer is put on the sphere at its end; with them (dither) its scale is that of the iterates.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.algorithm import Algorithm, Draws
from bayes1bit.infer.sparse import (
    Basis,
    SparseBasis,
    check_basis,
    check_sparsity,
    choose_sparsity,
    one_bit_structure,
    signal_norm,
)
from bayes1bit.infer.target import Target


class BIHT(Algorithm):
    """Binary iterative hard thresholding: one sparse estimate, with no prior and no noise model.

    Args:
        model: A Pyro model with one diffusion site and one-bit data. Its prior plays no part,
            except for the default of ``norm``.
        sparsity: Number K of coefficients that are kept; by default a quarter of the number of
            measurements.
        basis: Where the signal is sparse: "cosine" (DCT-II, over both axes of a picture) or
            "identity".
        num_steps: Most iterations; fewer if all bits agree.
        norm: Norm of the signal, which measurements without thresholds do not show. By default
            the typical norm of the prior's signals (which needs its error table), or with
            thresholds what they say, from a start at the norm of largest likelihood.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Jacques et al., IEEE Trans. Inf. Theory 2013"
    assumptions = "one-bit data of one linear operator; a signal sparse in a basis, not the prior"
    cost = "0 (one call per run for the default norm)"
    exactness = "no: one sparse estimate"

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        sparsity: int | None = None,
        basis: Basis = "cosine",
        num_steps: int = 200,
        norm: float | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, 1, site=site, progress=progress)
        check_basis(basis)
        check_sparsity(sparsity, norm)
        if num_steps < 1:
            raise InputError(f"num_steps must be at least 1, got {num_steps}")
        self.sparsity, self.basis, self.norm = sparsity, basis, norm
        self.num_steps = num_steps

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Iterate, and keep the iterate with the fewest wrong bits."""
        structure, form = one_bit_structure(target, type(self).__name__)
        sparsity = choose_sparsity(self.sparsity, structure)
        shape = target.prior.event_shape
        basis = SparseBasis(self.basis, shape)
        thresholded = bool(form.threshold.any())

        def sparse(x: Tensor) -> Tensor:
            return basis.synthesis(keep_largest(basis.analysis(x), sparsity))

        start = sparse(structure.adjoint(form.y[None], shape))
        start = start / start.norm()
        norm = signal_norm(self.norm, form, structure.apply(start), target.prior)
        x = norm * start
        m, n = structure.operator.m, structure.operator.n
        row_norm = float(structure.operator.row_norms_squared.mean()) ** 0.5
        step = norm * math.sqrt(math.pi / 2) * math.sqrt(n) / (m * row_norm)
        best, fewest = x, m + 1
        for _ in self.track(range(self.num_steps), self.num_steps, "step"):
            # a measurement on its threshold is as wrong as one beyond it
            wrong = form.y * (structure.apply(x) - form.threshold) <= 0
            if (count := int(wrong.sum())) < fewest:
                best, fewest = x, count
            if count == 0:
                break
            x = sparse(x + step * structure.adjoint(form.y * wrong, shape))
            self.check_finite(x, "a step", "check the operator")
        if not thresholded or self.norm is not None:
            best = norm * best / best.norm()
        return Draws(best)


def keep_largest(coefficients: Tensor, count: int) -> Tensor:
    """Set all coefficients but the ``count`` largest in magnitude to zero.

    Args:
        coefficients: Shape (1, *event).
        count: How many to keep.

    Returns:
        The sparse coefficients, shape of ``coefficients``.
    """
    flat = coefficients.flatten()
    kept = flat.abs().topk(count).indices
    return torch.zeros_like(flat).index_copy_(0, kept, flat[kept]).view_as(coefficients)
