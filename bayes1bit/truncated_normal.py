r"""Draws of a standard normal variable beyond a bound, exact however far the bound is.

Given a recorded sign, the noisy number behind it is normal, cut off at zero. When the current
signal contradicts the sign, zero lies far in the tail, where rejecting draws of the normal law
never ends and its distribution function underflows.

The inverse of the distribution function needs no loop: with a uniform variable u in (0, 1], the
draw x solves

.. math:: \bar\Phi(x) = u\,\bar\Phi(a), \qquad \bar\Phi(x) = \Phi(-x),

for the bound a. In double precision this can be inverted as it stands up to a = 30. Beyond, the
equation is taken on the log scale, in the variable :math:`s = x^2`. Laplace's expansion
:math:`\log\bar\Phi(x) = -\frac{s}{2} - \frac{1}{2}\log(2\pi s) - \frac{1}{s} + \frac{5}{2 s^2} -
\dots` turns it into

.. math:: s = a^2 - 2 \log u - \log\frac{s}{a^2} - 2\Big(\frac{1}{s} - \frac{1}{a^2}\Big)
          + 5\Big(\frac{1}{s^2} - \frac{1}{a^4}\Big),

whose right-hand side hardly depends on s: one Newton step from :math:`a^2 - 2\log u` leaves an
error below 1e-8 in :math:`\log u`. The arithmetic is in double precision whatever the dtype of
the bound, since a draw costs little more than the inverse of :math:`\Phi` itself.

References:
    Devroye, *Non-Uniform Random Variate Generation* (1986), II.2, for the inversion;
    Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964), 26.2.12, for the expansion.
"""

import math

import torch
from torch import Tensor

# The expansion's first neglected term is 2e-8 here, and Phi(-30) is far above the smallest double.
_EXPANSION_START = 30.0
_SQRT_HALF = math.sqrt(0.5)


@torch.no_grad()
def standard_normal_above(lower: Tensor) -> Tensor:
    """Draw standard normal variables, each given that it is above a bound.

    Args:
        lower: Bounds, any shape, ``float32`` or ``float64``. Minus infinity asks for no bound.

    Returns:
        Independent draws, of the shape and dtype of ``lower`` and nowhere below it.
    """
    # 1 - rand is never 0, and its 53 bits put no visible end to the tail
    uniform = 1.0 - torch.rand(lower.shape, dtype=torch.float64, device=lower.device)
    return inverse_survival(lower, uniform)


def inverse_survival(lower: Tensor, share: Tensor) -> Tensor:
    r"""Solve :math:`\bar\Phi(x) = \mathrm{share} \cdot \bar\Phi(\mathrm{lower})` for x.

    Args:
        lower: Bounds, any shape, ``float32`` or ``float64``.
        share: Shares of the probability above the bounds, in (0, 1], ``float64``, of that shape.

    Returns:
        The solutions, of the shape and dtype of ``lower`` and nowhere below it.
    """
    bound = lower.double()
    near = bound.clamp(max=_EXPANSION_START)
    by_inverse = -torch.special.ndtri(share * torch.erfc(near * _SQRT_HALF) * 0.5)

    # the expansion's own argument is kept where it is meant, so that nothing overflows elsewhere
    far = bound.clamp(min=_EXPANSION_START)
    start = far.square()
    excess = -2.0 * share.log()
    s = start + excess
    inverse, inverse_start = 1.0 / s, 1.0 / start
    correction = torch.log1p(excess * inverse_start) + (inverse - inverse_start) * (
        2.0 - 5.0 * (inverse + inverse_start)
    )
    step = excess - correction / (1.0 + inverse)
    # a difference of squares over a sum: x - a itself keeps all digits
    by_expansion = far + step / (far + (start + step).sqrt())

    x = torch.where(bound > _EXPANSION_START, by_expansion, by_inverse)
    return torch.maximum(x.to(lower.dtype), lower)
