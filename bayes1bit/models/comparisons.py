"""Comparisons: which of two items is better, when all that is seen is who wins."""

import torch
from torch import Tensor
from torch.distributions import constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.models.checks import Model, check_event_shape, check_indices, check_parameter
from bayes1bit.models.compressed_sensing import one_bit_cs
from bayes1bit.observation import Link
from bayes1bit.operators import Identity, LinearOperator


class PairDifferences(LinearOperator):
    """Differences between pairs of another operator's outputs, without a matrix.

    Args:
        operator: Operator that gives each item its score.
        pairs: Items (i, j) of each difference ``s_i - s_j``, shape (m, 2), ``torch.int64``.
    """

    def __init__(self, operator: LinearOperator, pairs: Tensor) -> None:
        super().__init__(operator.event_shape, len(pairs))
        self.operator, self.pairs = operator, pairs.to(operator.device)
        self.device, self.dtype = operator.device, operator.dtype

    def _forward(self, x: Tensor) -> Tensor:
        first, second = self.operator._forward(x)[:, self.pairs].unbind(-1)
        return first - second

    def _adjoint(self, v: Tensor) -> Tensor:
        scores = v.new_zeros(len(v), self.operator.m)
        scores.index_add_(1, self.pairs[:, 0], v).index_add_(1, self.pairs[:, 1], v, alpha=-1)
        return self.operator._adjoint(scores)

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._move(device, dtype)
        self.operator = self.operator.to(device, dtype)
        self.pairs = self.pairs.to(device)


def bradley_terry(
    prior: DiffusionPrior,
    pairs: Tensor,
    operator: LinearOperator | None = None,
    *,
    scale: float | Tensor = 1.0,
    advantage: float | Tensor = 0.0,
    link: Link = "logistic",
) -> Model:
    r"""Scores of items from comparisons of two at a time.

    .. math:: P(i_k \text{ beats } j_k) = F\Big(\frac{s_{i_k} - s_{j_k} + \mathrm{advantage}}
              {\mathrm{scale}}\Big), \qquad s = B x

    With the logistic link this is the model of Bradley and Terry, with the probit link case V of
    Thurstone. The differences are one linear operator of the signal, so this is one-bit
    compressed sensing (:func:`~bayes1bit.models.one_bit_cs`) and has all its exact steps. A
    constant that is added to all scores changes nothing; only the prior says where they lie.

    Args:
        prior: Prior of the signal.
        pairs: Items (i, j) of each comparison, shape (m, 2), ``torch.int64``, i other than j.
        operator: Operator B that gives the score of each item, its rows being their features. By
            default the elements of the signal are the scores, in the order of ``x.flatten()``.
        scale: Difference of scores that makes odds of e, positive; for the probit link the
            standard deviation of the noise of a difference. A number or shape (m,).
        advantage: What the first of a pair has in its favour, such as playing at home, in units
            of the scores; a number or shape (m,).
        link: ``"logistic"`` or ``"probit"``.

    Returns:
        A Pyro model of ``"y"``, +1 where i beats j and -1 where j beats i, shape (m,).

    Raises:
        InputError: If the operator is for other signals, pairs are not such numbers or name an
            item that does not exist, or a setting is outside its domain.

    References:
        Bradley and Terry, *Rank analysis of incomplete block designs*, Biometrika 39 (1952);
        Thurstone, *A law of comparative judgment*, Psychological Review 34 (1927); Davidson and
        Beaver, *On extending the Bradley-Terry model to incorporate within-pair order effects*,
        Biometrics 33 (1977), for the advantage.
    """
    if operator is None:
        operator = Identity(prior.event_shape).to(prior.device)
    check_event_shape(prior, operator)
    check_indices("pairs", pairs, (-1, 2))
    if int(pairs.max()) >= operator.m:
        raise InputError(
            f"pairs name item {int(pairs.max())}, but there are {operator.m} items, from 0 to "
            f"{operator.m - 1}"
        )
    same = pairs[:, 0] == pairs[:, 1]
    if bool(same.any()):
        raise InputError(f"pair {int(same.nonzero()[0])} compares an item with itself")
    check_parameter("advantage", advantage, len(pairs), constraints.real, "finite")
    differences = PairDifferences(operator, pairs)
    return one_bit_cs(prior, differences, scale, threshold=-advantage, link=link)
