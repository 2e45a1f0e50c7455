r"""How much an answer owes to the likelihood, and how much to the prior.

**Power-scaling** (Kallioinen, Paananen, Bürkner and Vehtari, *Statistics and Computing* 34, 2024)
asks what becomes of the posterior when one factor of the model is raised to a power
:math:`\alpha` near 1: :math:`p_\alpha(x \mid y) \propto p(x)\, p(y \mid x)^\alpha` for the
likelihood. Draws of the posterior have weights :math:`p(y \mid x)^{\alpha - 1}` under it, so
nothing is run again. The change of a scalar is the cumulative Jensen-Shannon distance of its
distribution functions (Nguyen and Vreeken, *ECML PKDD* 2015), and the sensitivity its rate,

.. math::

    D = \frac{d(p_{1 / (1 + \delta)}, p) + d(p_{1 + \delta}, p)}{2 \log_2 (1 + \delta)}.

Above :data:`SENSITIVE` the scalar depends on the factor. Insensitive to the likelihood means that
the data say nothing of it.

**Diffusion priors have no density at hand.** Their density along the probability flow costs
hundreds of denoiser calls for each sample, with a random trace in high dimension, so that its
error would drown a change of one percent. The prior cannot be power-scaled then. What can be done
is to replace it: run the same data under another prior, trained on other signals or by another
network, and compare the two posteriors (:func:`compare_priors`). Where the density is in closed
form, as of a mixture or of the prior of a parameter, give it as ``log_density``.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.diagnostics.comparison import check_same_data
from bayes1bit.diagnostics.convergence import chosen
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_summary import total_log_likelihood
from bayes1bit.weighted import effective_sample_size, weighted_mean, weighted_std

SENSITIVE = 0.05
"""Sensitivity above which a scalar depends on a factor, by Kallioinen et al."""


class Sensitivity(NamedTuple):
    """Sensitivity of scalars to a factor of the model.

    Attributes:
        names: Names of the scalars.
        values: Sensitivity of each, shape (scalars,), float64; NaN for one that never changes.
        effective_sample_size: Of the scaled weights, the smaller of both directions; with few of
            the samples left, values are noise.
    """

    names: tuple[str, ...]
    values: Tensor
    effective_sample_size: float


class PriorComparison(NamedTuple):
    """How scalars differ between posteriors under two priors.

    Attributes:
        names: Names of the scalars.
        distance: Cumulative Jensen-Shannon distance in [0, 1], shape (scalars,), float64.
        p_values: Probability of such a distance, or a larger one, between random halves of all
            draws together, as if both posteriors were one.
        shift: Mean of the second minus that of the first, in standard deviations of the first.
        ratio: Standard deviation of the second over that of the first.
    """

    names: tuple[str, ...]
    distance: Tensor
    p_values: Tensor
    shift: Tensor
    ratio: Tensor


def power_sensitivity(
    posterior: Posterior,
    log_density: Tensor | None = None,
    quantities: Mapping[str, Tensor] | None = None,
    step: float = 0.01,
) -> Sensitivity:
    """Sensitivity of scalars to the power of one factor of the model.

    Args:
        posterior: The posterior; weights are honoured.
        log_density: Logarithm of the factor at each sample, shape (num_samples,), such as
            ``prior.log_prob(posterior.samples)`` of a mixture; the log-likelihood if None.
        quantities: Scalars of each sample by name, each of shape (num_samples,); those of
            :func:`~bayes1bit.diagnostics.convergence.monitored` if None.
        step: The delta of the powers 1 + delta and 1 / (1 + delta), positive.

    Raises:
        InputError: If there is one sample, no log-likelihood, a shape is another, a value is not
            finite, or ``step`` is not positive.
    """
    numbers = chosen(posterior, quantities)
    factor = total_log_likelihood(posterior) if log_density is None else log_density.double()
    if factor is None:
        raise InputError("the posterior has no log-likelihood to scale; give log_density")
    if factor.shape != (posterior.num_samples,) or not bool(factor.isfinite().all()):
        raise InputError(
            f"log_density has shape {tuple(factor.shape)}; expected one finite number for each "
            f"of {posterior.num_samples} samples"
        )
    if not 0 < step < torch.inf:
        raise InputError(f"step must be positive, such as 0.01, got {step}")
    if posterior.num_samples < 2:
        raise InputError("one sample has no distribution that could change; draw more")
    base = _weights(posterior).to(factor)
    scaled = [
        (base.log() + (alpha - 1) * factor).softmax(0) for alpha in (1 / (1 + step), 1 + step)
    ]
    distances = [
        sum(cumulative_distance(value, value, base, weights) for weights in scaled)
        for value in (number.to(factor) for number in numbers.values())
    ]
    rate = 2 * float(torch.log2(torch.tensor(1 + step, dtype=torch.float64)))
    return Sensitivity(
        tuple(numbers),
        torch.tensor(distances, dtype=torch.float64) / rate,
        min(effective_sample_size(weights) for weights in scaled),
    )


def compare_priors(
    first: Posterior,
    second: Posterior,
    quantities: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None = None,
    num_permutations: int = 200,
    generator: torch.Generator | None = None,
) -> PriorComparison:
    """Compare posteriors of the same data under two priors.

    p-values take draws for independent; draws of chains and copies of particles are not, and make
    them too small.

    Args:
        first: Posterior under one prior.
        second: Posterior of the same data under another.
        quantities: Scalars of each sample of the first and of the second, by the same names, each
            of shape (num_samples,); those of
            :func:`~bayes1bit.diagnostics.convergence.monitored` if None.
        num_permutations: Number of random halves.
        generator: Source of randomness; torch's global one when None.

    Raises:
        InputError: If the data or the signals' shapes differ, one has fewer than two samples, or
            quantities do not fit.
    """
    check_same_data({"first": first, "second": second})
    if first.event_shape != second.event_shape:
        raise InputError(
            f"signals have shapes {tuple(first.event_shape)} and {tuple(second.event_shape)}; "
            "only priors of the same signals can be compared"
        )
    if min(first.num_samples, second.num_samples) < 2 or num_permutations < 1:
        raise InputError(
            f"give at least 2 samples of each posterior and 1 permutation, got "
            f"{first.num_samples}, {second.num_samples} and {num_permutations}"
        )
    given = quantities or (None, None)
    left, right = chosen(first, given[0]), chosen(second, given[1])
    if left.keys() != right.keys():
        raise InputError(
            f"the posteriors have the scalars {', '.join(left)} and {', '.join(right)}; give "
            "quantities of the same names"
        )
    weights = _weights(first), _weights(second)
    split = first.num_samples
    together = torch.cat(weights)
    orders = [torch.randperm(len(together), generator=generator) for _ in range(num_permutations)]
    rows = []
    for name in left:
        x, y = left[name].cpu(), right[name].cpu()
        distance = cumulative_distance(x, y, *weights)
        values = torch.cat([x, y])
        by_chance = [
            cumulative_distance(
                values[order[:split]],
                values[order[split:]],
                together[order[:split]],
                together[order[split:]],
            )
            for order in orders
        ]
        extreme = sum(other >= distance for other in by_chance)
        mean, std = weighted_mean(x, weights[0]), weighted_std(x, weights[0])
        rows.append(
            (
                distance,
                (1 + extreme) / (1 + num_permutations),
                float((weighted_mean(y, weights[1]) - mean) / std),
                float(weighted_std(y, weights[1]) / std),
            )
        )
    return PriorComparison(tuple(left), *torch.tensor(rows, dtype=torch.float64).T)


def cumulative_distance(
    x: Tensor, y: Tensor, x_weights: Tensor | None = None, y_weights: Tensor | None = None
) -> float:
    r"""Cumulative Jensen-Shannon distance of two weighted sets of numbers.

    With distribution functions P and Q,

    .. math:: d^2 = \frac{\int P \log_2 \frac{2 P}{P + Q} + Q \log_2 \frac{2 Q}{P + Q}}
              {\int P + Q},

    the larger one of the numbers and of their negatives.

    Args:
        x: Numbers, shape (n,).
        y: Numbers, shape (m,).
        x_weights: Relative weights, shape (n,); equal ones if None.
        y_weights: Relative weights, shape (m,); equal ones if None.

    Returns:
        A number in [0, 1]; NaN if all numbers are one.
    """
    first = torch.ones_like(x) if x_weights is None else x_weights.to(x)
    second = torch.ones_like(y) if y_weights is None else y_weights.to(y)
    # samples of zero weight have no say in where the integrals end
    x, first, y, second = x[first > 0], first[first > 0], y[second > 0], second[second > 0]
    values, order = torch.cat([x, y]).sort()
    widths = values.diff()
    mass = torch.cat([first / first.sum(), torch.zeros_like(second)])[order]
    other = torch.cat([torch.zeros_like(first), second / second.sum()])[order]

    def distance(p: Tensor, q: Tensor) -> float:
        middle = 0.5 * (p + q)
        divergence = torch.xlogy(p, p) + torch.xlogy(q, q) - torch.xlogy(p + q, middle)
        total = (widths * (p + q)).sum() * torch.log(torch.tensor(2.0, dtype=torch.float64))
        return float(((widths * divergence).sum().clamp(min=0) / total).sqrt())

    below = distance(mass.cumsum(0)[:-1], other.cumsum(0)[:-1])
    above = distance(mass.flip(0).cumsum(0).flip(0)[1:], other.flip(0).cumsum(0).flip(0)[1:])
    return max(below, above)


def _weights(posterior: Posterior) -> Tensor:
    if posterior.weights is not None:
        return posterior.weights.cpu()
    return torch.full((posterior.num_samples,), 1.0 / posterior.num_samples, dtype=torch.float64)
