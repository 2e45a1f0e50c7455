r"""Exact tests that ranks are uniform.

The rank of a truth among L exchangeable posterior draws is uniform on 0, ..., L. Tests of
uniformity that are at hand assume continuous values (Kolmogorov-Smirnov) or large counts
(chi-square); with tens of draws and a few hundred runs neither holds. Here p-values are exact, for
any number of draws and runs.

Both tests look at the number :math:`N_z` of ranks below each edge z of a grid, which is binomial,
and ask how likely it is that the whole path :math:`N_1, N_2, \dots` stays within bounds. The path
is a Markov chain,

.. math:: N_j \mid N_{j-1} = a \;\sim\; a + \mathrm{Binomial}\!\left(M - a,
          \frac{z_j - z_{j-1}}{1 - z_{j-1}}\right)

for M runs, so that the probability to leave the bounds is a sum that is carried from edge to edge
(Säilynoja, Bürkner and Vehtari, "Graphical test for discrete uniformity and its applications in
goodness-of-fit evaluation and multiple sample comparison", Statistics and Computing 2022). The
bounds are either equally improbable at every edge, which makes a test that sees tails and centre
alike, or equally wide, which gives the law of the largest deviation.
"""

import math

import torch
from torch import Tensor

from bayes1bit.errors import InputError

_MOST_EDGES = 100
_TIE = 1e-9
"""Relative difference below which two tail probabilities are the same but for rounding."""


def rank_edges(num_samples: int) -> Tensor:
    """Ranks at which the distribution function of ranks is looked at.

    All of 1, ..., L for up to 100 draws, 100 of them evenly spaced for more; tests stay exact.

    Args:
        num_samples: Number L of draws that a truth was ranked among.

    Returns:
        Increasing integers, shape (num_edges,); the share below edge k is k / (L + 1) on average.

    Raises:
        InputError: If ``num_samples`` is less than 1.
    """
    if num_samples < 1:
        raise InputError(f"num_samples must be at least 1, got {num_samples}")
    count = min(num_samples, _MOST_EDGES)
    return torch.linspace(1, num_samples, count, dtype=torch.float64).round().long()


def count_below(ranks: Tensor, num_samples: int) -> Tensor:
    """Number of runs whose rank is below each edge.

    Args:
        ranks: Ranks from 0 to ``num_samples``, shape (num_runs, num_statistics).
        num_samples: Number of draws that the truths were ranked among.

    Returns:
        Counts, shape (num_statistics, num_edges).

    Raises:
        InputError: If the shape is another, there is no run, or a rank is not an integer from 0
            to ``num_samples``.
    """
    edges = rank_edges(num_samples)
    if ranks.dim() != 2 or ranks.numel() == 0:
        raise InputError(
            f"ranks have shape {tuple(ranks.shape)}; expected (num_runs, num_statistics)"
        )
    if ranks.is_floating_point() or not bool(((ranks >= 0) & (ranks <= num_samples)).all()):
        raise InputError(f"ranks among {num_samples} draws must be integers 0 to {num_samples}")
    return (ranks.cpu().T[:, :, None] < edges).sum(1)


def local_level_test(ranks: Tensor, num_samples: int) -> Tensor:
    """Test uniformity by the least probable count of all edges.

    Args:
        ranks: Ranks from 0 to ``num_samples``, shape (num_runs, num_statistics).
        num_samples: Number of draws that the truths were ranked among.

    Returns:
        Exact p-value of each statistic, shape (num_statistics,), float64.

    Raises:
        InputError: See :func:`count_below`.
    """
    counts, shares = count_below(ranks, num_samples), _shares(num_samples)
    tails = _tails(len(ranks), shares)
    index = torch.arange(len(shares))
    least = torch.stack([tails[index, row] for row in counts]).amin(1)
    return _exit_probability(tails > least[:, None, None] * (1 + _TIE), shares)


def largest_deviation_test(ranks: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Test uniformity by the largest distance of the distribution function from the diagonal.

    Args:
        ranks: Ranks from 0 to ``num_samples``, shape (num_runs, num_statistics).
        num_samples: Number of draws that the truths were ranked among.

    Returns:
        The largest deviation in [0, 1] and its exact p-value, each of shape (num_statistics,),
        float64.

    Raises:
        InputError: See :func:`count_below`.
    """
    counts, shares = count_below(ranks, num_samples), _shares(num_samples)
    deviation = (counts.double() / len(ranks) - shares).abs().amax(1)
    possible = torch.arange(len(ranks) + 1, dtype=torch.float64) / len(ranks)
    distance = (possible - shares[:, None]).abs()
    return deviation, _exit_probability(distance < deviation[:, None, None] - _TIE, shares)


def simultaneous_band(num_runs: int, num_samples: int, prob: float) -> tuple[Tensor, Tensor]:
    """Band that the distribution function of uniform ranks stays in as a whole.

    Args:
        num_runs: Number of ranks.
        num_samples: Number of draws that the truths were ranked among.
        prob: Least probability to stay inside at all edges at once, in (0, 1).

    Returns:
        Lowest and highest share of ranks below each edge, each of shape (num_edges,).

    Raises:
        InputError: If a number is out of range.
    """
    if not 0 < prob < 1:
        raise InputError(f"prob must be in (0, 1), such as 0.95, got {prob}")
    if num_runs < 1:
        raise InputError(f"num_runs must be at least 1, got {num_runs}")
    shares = _shares(num_samples)
    tails = _tails(num_runs, shares)
    # The first level is safe by the union bound; levels above 1 - prob fail at a single edge.
    levels = torch.logspace(-2, 0, 100, dtype=torch.float64) * (1 - prob)
    levels[0] = (1 - prob) / len(shares)
    allowed = tails > 0.5 * levels[:, None, None]
    inside = allowed[_exit_probability(allowed, shares) <= 1 - prob][-1].long()
    lowest = inside.argmax(1)
    highest = num_runs - inside.flip(1).argmax(1)
    return lowest.double() / num_runs, highest.double() / num_runs


def _shares(num_samples: int) -> Tensor:
    return rank_edges(num_samples).double() / (num_samples + 1)


def _tails(num_runs: int, shares: Tensor) -> Tensor:
    """The smaller of P(N <= c) and P(N >= c), shape (num_edges, num_runs + 1)."""
    start = torch.zeros(1, dtype=torch.long)
    mass = torch.cat([_step_mass(num_runs, start, share) for share in shares.tolist()])
    return torch.minimum(mass.cumsum(1), mass.flip(1).cumsum(1).flip(1))


def _step_mass(num_runs: int, starts: Tensor, share: float) -> Tensor:
    """Probability of a step of the path from each start to 0, ..., num_runs."""
    end = torch.arange(num_runs + 1, dtype=torch.float64)
    start = starts.double()[:, None]
    step, stay = end - start, num_runs - end
    log_ways = (num_runs - start + 1).lgamma() - (step + 1).lgamma() - (stay + 1).lgamma()
    log_mass = log_ways + step * math.log(share) + stay * math.log1p(-share)
    return log_mass.masked_fill(step < 0, -torch.inf).exp()


def _exit_probability(allowed: Tensor, shares: Tensor) -> Tensor:
    """Probability that the path is ever outside what is allowed.

    What leaves is added up, in place of one minus what stays, to keep small p-values exact.

    Args:
        allowed: Booleans of shape (batch, num_edges, num_runs + 1).
        shares: Expected share below each edge, shape (num_edges,).

    Returns:
        Shape (batch,), float64.
    """
    num_runs = allowed.shape[2] - 1
    inside = torch.zeros(len(allowed), num_runs + 1, dtype=torch.float64)
    inside[:, 0] = 1.0
    left = inside.new_zeros(len(allowed))
    previous = 0.0
    for edge, share in enumerate(shares.tolist()):
        starts = inside.any(0).nonzero().flatten()
        step = _step_mass(num_runs, starts, (share - previous) / (1.0 - previous))
        arrived = inside[:, starts] @ step
        inside = arrived * allowed[:, edge]
        left += (arrived - inside).sum(1)
        previous = share
    return left.clamp(max=1.0)
