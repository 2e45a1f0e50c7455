r"""Whether a model explains its bits: posterior predictive checks for one-bit data.

A bit says little by itself, but the probability of an observed bit under a sample,
:math:`q_i = p(y_i \mid x)`, says all: it is in the posterior's pointwise log-likelihood, and as
there are two values only, it is the whole law of replicates. No check here needs the model.

**Agreement.** A replicate of the data drawn from a sample agrees with observed bit i with
probability :math:`q_i`, so :math:`T(y, x) = \sum_i q_i` is the number of bits expected to agree.
Had the data come from that very sample, T would have the mean
:math:`\sum_i q_i^2 + (1 - q_i)^2` and the variance :math:`\sum_i q_i (1 - q_i) (2 q_i - 1)^2`.
:func:`check_bits` compares the two, without replicates and with a normal law for the sum.

**Other discrepancies.** :func:`check_predictions` draws replicates and compares any discrepancy
T(y, x) with T(y_rep, x) (Gelman, Meng and Stern, *Statistica Sinica* 6, 1996): the share of ones,
which a wrong offset changes; agreement, which a wrong scale or link changes; what noise that is
not independent changes, serial correlation and the longest run of equal bits; and the average
residual of each block of bits, which a threshold that drifts changes.

p-values average over the posterior. The data are used twice, which draws p-values of good models
towards one half, so a small or large one is stronger evidence than its size says. The p-value of
one sample alone is uniform if the model holds and the sample is an exact posterior draw, for
sample and data then have the joint law that truth and data have (Johnson, *Bayesian Analysis* 2,
2007); samples of one posterior share their data, so several such p-values are not independent.

Whether predicted probabilities of bits come true is asked in
:mod:`~bayes1bit.diagnostics.reliability`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_summary import is_binary
from bayes1bit.weighted import weighted_mean

Discrepancy = Callable[[Tensor, Tensor], Tensor]
"""Discrepancy of bits -1 and +1, (num_samples, blocks, length), and their probabilities of being
+1, of the same shape: one number for each sample, shape (num_samples,)."""

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
            Near 0 the samples explain the data too badly, near 1 too well: they fit noise.
        num_bits: Number of bits.
    """

    agreement: Tensor
    expected: Tensor
    spread: Tensor
    average: float
    average_expected: float
    p_value: float
    num_bits: int


class PredictiveCheck(NamedTuple):
    """One discrepancy of the observed data, and of replicates.

    Attributes:
        observed: T(y, x) of each sample, shape (num_samples,).
        replicated: T(y_rep, x), shape (num_replicates, num_samples).
        p_values: Share of a sample's replicates whose discrepancy is larger than that of the
            data, with half of those that are equal, shape (num_samples,).
        p_value: Their average over the posterior. Near 0 or 1, the data are not like replicates.
    """

    observed: Tensor
    replicated: Tensor
    p_values: Tensor
    p_value: float


def check_bits(posterior: Posterior) -> BitCheck | None:
    """Compare the agreement of replicated and observed bits with what it should be.

    Args:
        posterior: A posterior with a pointwise log-likelihood.

    Returns:
        The comparison over all observed sites of bits; None if there are none.
    """
    sites = bit_sites(posterior)
    if not sites:
        return None
    q = torch.cat([likelihood(posterior, site) for site in sites], 1)
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


def share_of_ones(bits: Tensor, probs: Tensor) -> Tensor:
    """Share of bits that are +1."""
    return (bits > 0).to(probs).mean((1, 2))


def agreement(bits: Tensor, probs: Tensor) -> Tensor:
    """Average probability of the bits as they are."""
    return torch.where(bits > 0, probs, 1 - probs).mean((1, 2))


def serial_correlation(bits: Tensor, probs: Tensor) -> Tensor:
    """Average product of the residuals of neighbours within a block."""
    residual = bits - (2 * probs - 1)
    return (residual[..., 1:] * residual[..., :-1]).mean((1, 2))


def longest_run(bits: Tensor, probs: Tensor) -> Tensor:
    """Length of the longest run of equal bits in a block, averaged over blocks."""
    place = torch.arange(bits.shape[-1], device=bits.device).expand(bits.shape)
    starts = torch.zeros_like(place)
    starts[..., 1:] = torch.where(bits[..., 1:] != bits[..., :-1], place[..., 1:], 0)
    lengths = place - starts.cummax(-1).values + 1
    return lengths.amax(-1).to(probs).mean(1)


def block_bias(bits: Tensor, probs: Tensor) -> Tensor:
    """Mean square over blocks of the average residual of a block."""
    return (bits - (2 * probs - 1)).mean(-1).square().mean(1)


DISCREPANCIES: dict[str, Discrepancy] = {
    "share of ones": share_of_ones,
    "agreement": agreement,
    "serial correlation": serial_correlation,
    "longest run": longest_run,
    "block bias": block_bias,
}
"""Discrepancies that :func:`check_predictions` looks at unless it is told others."""


def check_predictions(
    posterior: Posterior,
    discrepancies: Mapping[str, Discrepancy] | None = None,
    *,
    site: str | None = None,
    block: int | None = None,
    num_replicates: int = 50,
    generator: torch.Generator | None = None,
) -> dict[str, PredictiveCheck]:
    """Compare discrepancies of the observed bits with those of replicates.

    Args:
        posterior: A posterior with a pointwise log-likelihood of bits.
        discrepancies: Discrepancies by name; :data:`DISCREPANCIES` if None.
        site: The observed site; needed only if several are of bits.
        block: Bits in a block, in the order of the data, such as the bits of one frame or of one
            sensor; one block of all if None.
        num_replicates: Replicates drawn from each sample.
        generator: Source of randomness; torch's global one when None.

    Returns:
        One check for each discrepancy.

    Raises:
        InputError: If there are no bits or no log-likelihood of them, ``block`` is less than 2 or
            does not divide the number of bits, ``num_replicates`` is less than 1, or a
            discrepancy gives another shape.
    """
    if num_replicates < 1:
        raise InputError(f"num_replicates must be at least 1, got {num_replicates}")
    name = bit_site(posterior, site)
    q = likelihood(posterior, name)
    length = q.shape[1] if block is None else block
    if length < 2 or q.shape[1] % length:
        raise InputError(
            f"blocks of {length} do not divide {q.shape[1]} bits; give a block of at least 2 bits "
            "that does, or None for one block of all"
        )
    ones = signs(posterior.observed[name]).to(q).flatten() > 0
    probs = torch.where(ones, q, 1 - q).unflatten(1, (-1, length))
    observed = (2 * ones.to(probs) - 1).view(probs.shape[1:]).expand_as(probs)
    given = DISCREPANCIES if discrepancies is None else discrepancies
    values = {key: _evaluate(key, function, observed, probs) for key, function in given.items()}
    replicated: dict[str, list[Tensor]] = {key: [] for key in given}
    for _ in range(num_replicates):
        uniform = torch.rand(probs.shape, generator=generator, dtype=probs.dtype).to(probs)
        bits = 2 * (uniform < probs).to(probs) - 1
        for key, function in given.items():
            replicated[key].append(_evaluate(key, function, bits, probs))
    return {
        key: _compare(value, torch.stack(replicated[key]), posterior.weights)
        for key, value in values.items()
    }


def bit_sites(posterior: Posterior) -> list[str]:
    """Names of the observed sites that are of bits and have a pointwise log-likelihood."""
    return [
        site
        for site in posterior.log_likelihood
        if site in posterior.observed
        and is_binary(posterior.observed[site])
        and is_binary(posterior.predictive.get(site, posterior.observed[site]))
    ]


def likelihood(posterior: Posterior, site: str) -> Tensor:
    """Probability of each observed bit under each sample, (num_samples, bits), float64."""
    log_likelihood = posterior.log_likelihood[site]
    return log_likelihood.double().reshape(len(log_likelihood), -1).exp().clamp(max=1.0)


def signs(bits: Tensor) -> Tensor:
    """Bits {-1, +1} or {0, 1} as -1 and +1."""
    return 2 * (bits > 0).long() - 1


def bit_site(posterior: Posterior, site: str | None) -> str:
    """The one site of bits, or the named one.

    Args:
        posterior: A posterior with a pointwise log-likelihood of bits.
        site: Name of the site; needed only if several are of bits.

    Raises:
        InputError: If there is no such site, or several and none is named.
    """
    sites = bit_sites(posterior)
    if not sites:
        raise InputError(
            "the posterior has no observed bits with a pointwise log-likelihood; these checks are "
            "for data of -1 and +1, or 0 and 1"
        )
    if site is None and len(sites) > 1:
        raise InputError(f"several sites are of bits: {', '.join(sites)}; say which, site=...")
    if site is not None and site not in sites:
        raise InputError(f"no site of bits is called {site!r}; there is {', '.join(sites)}")
    return sites[0] if site is None else site


def _evaluate(name: str, function: Discrepancy, bits: Tensor, probs: Tensor) -> Tensor:
    value = function(bits, probs)
    if value.shape != probs.shape[:1]:
        raise InputError(
            f"discrepancy {name!r} made shape {tuple(value.shape)} of {len(probs)} samples; "
            f"expected ({len(probs)},)"
        )
    return value


def _compare(observed: Tensor, replicated: Tensor, weights: Tensor | None) -> PredictiveCheck:
    # sums in another order must not make equal discrepancies differ
    same = torch.isclose(replicated, observed, rtol=1e-9, atol=1e-12)
    above = ((replicated > observed) & ~same).double() + 0.5 * same.double()
    p_values = above.mean(0)
    return PredictiveCheck(observed, replicated, p_values, float(weighted_mean(p_values, weights)))
