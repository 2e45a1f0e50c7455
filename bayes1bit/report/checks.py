r"""Numbers that diagnostics need and a posterior does not have at hand.

**Bits.** The probability of an observed bit under a sample, :math:`q_i = p(y_i \mid x)`, is in the
posterior's pointwise log-likelihood. A replicate of the data drawn from that sample agrees with
bit i with probability :math:`q_i`, so :math:`T(y, x) = \sum_i q_i` is the number of bits expected
to agree. Had the data come from that very sample, T would have the mean
:math:`\sum_i q_i^2 + (1 - q_i)^2` and the variance :math:`\sum_i q_i (1 - q_i) (2 q_i - 1)^2`. The
probability that it is at most what was found, averaged over the samples, is the posterior
predictive p-value of that discrepancy (Gelman, Meng and Stern, *Statistica Sinica* 6, 1996), here
without replicates and with a normal law for the sum over bits. Near 0 the samples explain the data
too badly, near 1 too well: they fit noise. The data are used twice, which draws p-values of good
models towards one half, so a small or large one is stronger evidence than its size says.

**Chains.** R-hat and effective sample sizes of a few numbers for each sample: products with random
directions, the log-likelihood, and other latent sites.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from bayes1bit.posterior_summary import is_binary, total_log_likelihood
from bayes1bit.weighted import weighted_mean

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior

MAX_ELEMENTS = 16
"""Most elements of a latent site that are looked at one by one."""

_LEAST_SPREAD = 0.01
"""Spread in bits below which an excess is compared with this one instead."""


class BitCheck(NamedTuple):
    """How well samples reproduce the observed bits.

    Attributes:
        agreement: Share of the observed bits that replicates of each sample agree with, on
            average over replicates, shape (num_samples,).
        expected: The same share if the data came from that sample, shape (num_samples,).
        spread: Standard deviation of the share if so, shape (num_samples,).
        average: Average of ``agreement`` over the posterior.
        average_expected: Average of ``expected`` over the posterior.
        p_value: Posterior predictive p-value: the probability of agreement as low as this.
        num_bits: Number of bits.
    """

    agreement: Tensor
    expected: Tensor
    spread: Tensor
    average: float
    average_expected: float
    p_value: float
    num_bits: int


class Convergence(NamedTuple):
    """What chains say of a few numbers, the k-th of which has the k-th name.

    Attributes:
        names: Names of the numbers.
        rhat: R-hat of each, shape (k,); NaN for one that never changes.
        ess: Effective sample size of each over all chains, shape (k,).
    """

    names: tuple[str, ...]
    rhat: Tensor
    ess: Tensor


def check_bits(posterior: "Posterior") -> BitCheck | None:
    """Compare the agreement of replicated and observed bits with what it should be.

    Args:
        posterior: A posterior with a pointwise log-likelihood.

    Returns:
        The comparison over all observed sites of bits; None if there are none.
    """
    sites = [
        value.double().flatten(1).exp().clamp(max=1.0)
        for site, value in posterior.log_likelihood.items()
        if site in posterior.observed
        and is_binary(posterior.observed[site])
        and is_binary(posterior.predictive.get(site, posterior.observed[site]))
    ]
    if not sites:
        return None
    q = torch.cat(sites, 1)
    mean = q.square() + (1 - q).square()
    deviation = (q * (1 - q) * (2 * q - 1).square()).sum(1).sqrt()
    # fair or certain bits have no spread, and rounding must not pass for evidence
    z = (q - mean).sum(1) / deviation.clamp(min=_LEAST_SPREAD)
    count = q.shape[1]
    return BitCheck(
        q.mean(1),
        mean.mean(1),
        deviation / count,
        float(weighted_mean(q.mean(1), posterior.weights)),
        float(weighted_mean(mean.mean(1), posterior.weights)),
        float(weighted_mean(torch.special.ndtr(z), posterior.weights)),
        count,
    )


def monitored(posterior: "Posterior") -> dict[str, Tensor]:
    """A few numbers of each sample, by name, each of shape (num_samples,), float64."""
    from bayes1bit.diagnostics.convergence import projections

    numbers: dict[str, Tensor] = {}
    total = total_log_likelihood(posterior)
    if total is not None:
        numbers["log-likelihood"] = total
    for name, value in posterior.latents.items():
        numbers |= elements(name, value)
    products = projections(posterior.samples)
    numbers |= {f"{posterior.site}, direction {i + 1}": v for i, v in enumerate(products.T)}
    return numbers


def elements(name: str, value: Tensor) -> dict[str, Tensor]:
    """The first elements of a site as numbers, by names such as ``gain[2]``.

    Args:
        name: Name of the site.
        value: Its samples, shape (num_samples, *site).

    Returns:
        At most :data:`MAX_ELEMENTS` tensors of shape (num_samples,), float64.
    """
    flat = value.double().flatten(1) if value.dim() > 1 else value.double()[:, None]
    if flat.shape[1] == 1:
        return {name: flat[:, 0]}
    return {f"{name}[{i}]": flat[:, i] for i in range(min(flat.shape[1], MAX_ELEMENTS))}


def check_convergence(posterior: "Posterior") -> Convergence | None:
    """R-hat and effective sample sizes, as ArviZ computes them.

    Args:
        posterior: A posterior of several chains.

    Returns:
        Both for each number of :func:`monitored`; None for one chain, or chains of fewer than
        four draws.
    """
    from bayes1bit.diagnostics.convergence import MIN_DRAWS, bulk_ess, rhat

    chains, length = posterior.num_chains, posterior.num_samples // posterior.num_chains
    if chains < 2 or length < MIN_DRAWS:
        return None
    numbers = monitored(posterior)
    draws = torch.stack([value.cpu() for value in numbers.values()], 1).view(chains, length, -1)
    return Convergence(tuple(numbers), rhat(draws), bulk_ess(draws))
