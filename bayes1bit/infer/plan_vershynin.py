r"""One-bit recovery by convex programming (Plan and Vershynin, IEEE Trans. Inf. Theory 2013).

The signal whose measurements correlate most with the bits, among those of unit norm that are
effectively s-sparse in an orthonormal basis:

.. math::

    \hat x = \arg\max_x\; \langle y, A x \rangle \quad \text{subject to} \quad
        \lVert x \rVert_2 \le 1, \quad \lVert x \rVert_1 \le \sqrt{s}.

It needs no iteration over the data. With :math:`b = A^T y`, the solution is b softly thresholded
and normalised, :math:`\hat x = S_\lambda(b) / \lVert S_\lambda(b) \rVert_2`, where
:math:`\lambda \ge 0` is the smallest threshold at which the second constraint holds. The link
plays no part beyond its sign: the estimate is right on average for any noise, and for any
thresholds that are independent of A.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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

BISECTIONS = 60


class PlanVershynin(Algorithm):
    """Convex one-bit recovery: one sparse estimate in closed form.

    Args:
        model: A Pyro model with one diffusion site and one-bit data. Its prior plays no part,
            except for the default of ``norm``.
        sparsity: Effective sparsity s, the number of coefficients that matter; by default a
            quarter of the number of measurements.
        basis: Where the signal is sparse: "cosine" (DCT-II, over both axes of a picture) or
            "identity".
        norm: Norm of the signal, of which the program finds the direction alone. By default the
            norm of largest likelihood if there are thresholds, which show it; otherwise the
            typical norm of the prior's signals, which needs its error table.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar; there is none, as all is one step.

    Raises:
        InputError: If a setting is outside its range.
    """

    paper = "Plan and Vershynin, IEEE Trans. Inf. Theory 2013"
    assumptions = "one-bit data of one linear operator; a signal sparse in a basis, not the prior"
    cost = "0 (one call per run for the default norm)"
    exactness = "no: one sparse estimate"

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        sparsity: int | None = None,
        basis: Basis = "cosine",
        norm: float | None = None,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, 1, site=site, progress=progress)
        check_basis(basis)
        check_sparsity(sparsity, norm)
        self.sparsity, self.basis, self.norm = sparsity, basis, norm

    @torch.no_grad()
    def draw(self, target: Target) -> Draws:
        """Threshold the back-projected bits, and scale the result."""
        structure, form = one_bit_structure(target, type(self).__name__)
        sparsity = choose_sparsity(self.sparsity, structure)
        shape = target.prior.event_shape
        basis = SparseBasis(self.basis, shape)
        projected = basis.analysis(structure.adjoint(form.y[None], shape))
        direction = basis.synthesis(most_correlated(projected, sparsity))
        norm = signal_norm(self.norm, form, structure.apply(direction), target.prior)
        return Draws(norm * direction)


def most_correlated(b: Tensor, sparsity: float) -> Tensor:
    r"""Solve :math:`\max \langle b, x \rangle` over :math:`\|x\|_2 \le 1, \|x\|_1 \le \sqrt s`.

    Args:
        b: Any shape.
        sparsity: The s, at least 1.

    Returns:
        The solution, shape of ``b``, of norm 1. Where several entries share the largest
        magnitude and are more than s, it is their normalised sign pattern.
    """

    def thresholded(threshold: Tensor) -> Tensor:
        x = b.sign() * (b.abs() - threshold).clamp(min=0)
        return x / x.norm()

    low, high = torch.zeros_like(b.max()), b.abs().max()
    if thresholded(low).abs().sum() <= sparsity**0.5:
        return thresholded(low)
    # the ratio of the norms falls as the threshold rises to the largest entry
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        x = thresholded(middle)
        if x.isfinite().all() and x.abs().sum() > sparsity**0.5:
            low = middle
        else:
            high = middle
    x = thresholded(high)
    return x if x.isfinite().all() else thresholded(low)
