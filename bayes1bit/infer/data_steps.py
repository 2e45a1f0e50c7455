r"""Data steps that draw: the likelihood's half of a split Gibbs sampler.

Where :mod:`bayes1bit.infer.steps` looks for the best z, a sampler needs one at random, from

.. math:: \pi(z) \propto p(y \mid z)\, N(z; x, \rho^2 I).

There are three ways, from the most special to the most general likelihood:

* :class:`ExactStep`, one-bit data of a row-orthogonal operator: independent draws;
* :class:`AugmentedGibbsStep`, one-bit data of any linear operator: a few sweeps, no step size;
* :class:`LangevinStep`, everything that has a gradient: many small steps.

:func:`best_draw_step` takes the first that a model allows.
"""

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.infer.gibbs_step import AugmentedGibbsStep
from bayes1bit.infer.langevin_step import LangevinStep
from bayes1bit.infer.steps import DataStep, row_orthogonal
from bayes1bit.infer.target import Target

__all__ = ["AugmentedGibbsStep", "ExactStep", "LangevinStep", "best_draw_step"]


class ExactStep(DataStep):
    r"""Independent draws of z, for one-bit data of a row-orthogonal operator.

    With :math:`A A^T = c I` the outputs :math:`t = A z` are independent given y, and normal but
    for the factor :math:`p(y_i \mid t_i)`: :meth:`OneBitForm.draw_output
    <bayes1bit.infer.one_bit_form.OneBitForm.draw_output>` draws them. What the data do not see is
    left as the coupling has it:

    .. math:: z = h + A^T (t - A h) / c, \qquad h \sim N(x, \rho^2 I).

    One call costs two applications of the operator and one of its adjoint, and has neither
    settings nor bias.
    """

    def prepare(self, target: Target) -> None:
        """Check that data are one-bit and the operator is row-orthogonal.

        Raises:
            InputError: If they are not.
        """
        structure = target.structure
        if structure is None or structure.one_bit is None or structure.row_gram is None:
            raise InputError(
                "the exact step needs one-bit data of one row-orthogonal operator, but this model "
                f"has: {target.describe()}; use {type(best_draw_step(target)).__name__}, or an "
                "operator such as Hadamard or DCT"
            )

    @torch.no_grad()
    def __call__(self, target: Target, x: Tensor, rho: float) -> Tensor:
        """Draw from p(y given z) N(z; x, rho^2 I).

        Args:
            target: The likelihood.
            x: Centres, shape (particles, *event).
            rho: Standard deviation of the coupling, in units of the signal.

        Returns:
            One draw per particle, shape of ``x``.
        """
        structure, c = row_orthogonal(target)
        assert structure.one_bit is not None
        t = structure.one_bit.draw_output(structure.apply(x), c * rho**2)
        return structure.draw_given_output(x, rho**2, t)

    def __repr__(self) -> str:
        return "ExactStep()"


def best_draw_step(target: Target) -> DataStep:
    """The data step that draws z best for a target.

    Args:
        target: A model's target.

    Returns:
        :class:`ExactStep` where it can be used, else :class:`AugmentedGibbsStep`, else
        :class:`LangevinStep` with Metropolis correction; not yet prepared.
    """
    structure = target.structure
    if structure is None or structure.one_bit is None:
        return LangevinStep(metropolis=True)
    return ExactStep() if structure.row_gram is not None else AugmentedGibbsStep()
