r"""Comparing models of the same data: by evidence, and by predicting what was left out.

**Evidence.** :math:`p(y \mid M) = \int p(y \mid x, M)\, p(x \mid M)\, dx` weighs how well a model
predicted the data before it saw them; with prior probabilities of models it gives posterior ones,
and ratios of it are Bayes factors (Kass and Raftery, *JASA* 90, 1995). Annealed particle methods
estimate it: their estimate of :math:`p(y)`, not of its logarithm, is unbiased (Del Moral,
*Feynman-Kac Formulae*, 2004), so repeated runs are averaged as :math:`\log \frac1R \sum_r
e^{\ell_r}`. Its standard error is taken from the logarithms, :math:`\mathrm{std}(\ell) /
\sqrt{R}`, which equals that of the average for small errors, and unlike it does not level off
where one lucky run outweighs all others. A diffusion prior is what its reverse diffusion samples:
models with different links, noises or operators but one prior are compared as they are; evidence
of two priors contains the discretisation of each.

**Leaving one out.** The expected log predictive density :math:`\sum_i \log p(y_i \mid y_{-i})`
asks how well a model predicts a bit from all others, by Pareto-smoothed importance sampling
(Vehtari, Gelman and Gabry, *Statistics and Computing* 27, 2017). It needs no evidence and so works
for every algorithm that draws; Pareto's k above 0.7 says where it does not. A difference
below two of its standard errors, or below 4 nats, is none (Sivula et al., arXiv:2008.10296).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bayes1bit.diagnostics.convergence import MIN_DRAWS, bulk_ess
from bayes1bit.diagnostics.psis import pareto_smooth
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_summary import is_binary, total_log_likelihood

MIN_DRAWS_LOO = 25
"""Fewest draws to leave out from: Pareto's law is fitted to the largest fifth, five at least."""

Runs = Mapping[str, Posterior | Sequence[Posterior]]
"""Posteriors by the name of their model; several of one model are repeated runs."""


class EvidenceComparison(NamedTuple):
    """Models by their evidence; printing it gives a table.

    Attributes:
        names: Names of the models.
        log_evidence: Log p(y) of each in nats, shape (models,), float64.
        standard_error: Its Monte Carlo standard error; NaN for a model that was run once.
        probs: Posterior probability of each model, shape (models,).
        probs_error: Its Monte Carlo standard error, to first order; NaN where one is unknown.
        log_bayes_factors: Log p(y | i) - log p(y | j), shape (models, models).
        log_bayes_factors_error: Its Monte Carlo standard error.
    """

    names: tuple[str, ...]
    log_evidence: Tensor
    standard_error: Tensor
    probs: Tensor
    probs_error: Tensor
    log_bayes_factors: Tensor
    log_bayes_factors_error: Tensor

    def __str__(self) -> str:
        rows = [
            (name, _with_error(value, error, ".2f"), _with_error(prob, prob_error, ".3f"))
            for name, value, error, prob, prob_error in zip(
                self.names,
                self.log_evidence.tolist(),
                self.standard_error.tolist(),
                self.probs.tolist(),
                self.probs_error.tolist(),
                strict=True,
            )
        ]
        return _table(("model", "log evidence", "probability"), rows)


class LooComparison(NamedTuple):
    """Models by how well they predict each datum from all others; printing it gives a table.

    Attributes:
        names: Names of the models.
        elpd: Expected log predictive density of each in nats, shape (models,), float64.
        standard_error: Its standard error over data.
        difference: ``elpd`` minus that of the best model: 0 for the best, negative for others.
        difference_error: Standard error of the difference over data, 0 for the best.
        pareto_k: Largest k of each model; above 0.7 its value is not to be trusted.
    """

    names: tuple[str, ...]
    elpd: Tensor
    standard_error: Tensor
    difference: Tensor
    difference_error: Tensor
    pareto_k: Tensor

    def __str__(self) -> str:
        rows = [
            (
                name,
                _with_error(float(self.elpd[i]), float(self.standard_error[i]), ".2f"),
                _with_error(float(self.difference[i]), float(self.difference_error[i]), ".2f"),
                f"{float(self.pareto_k[i]):.2f}",
            )
            for i, name in enumerate(self.names)
        ]
        return _table(("model", "elpd", "difference", "largest k"), rows)


def compare_evidence(
    posteriors: Runs, prior_probs: Mapping[str, float] | None = None
) -> EvidenceComparison:
    """Compare models by their evidence.

    Args:
        posteriors: Posteriors of the same data by model, from an algorithm that estimates the
            evidence; a sequence of posteriors is several runs of one model, with other seeds,
            which tell the Monte Carlo error.
        prior_probs: Prior probability of each model, up to a factor; equal ones if None.

    Raises:
        InputError: If there are fewer than two models, one has no run, a posterior has no
            evidence, the data differ, or ``prior_probs`` do not fit.
    """
    runs = _runs(posteriors)
    logs = []
    for name, group in runs.items():
        values = [posterior.log_evidence for posterior in group]
        if None in values:
            missing = group[values.index(None)].algorithm or "an unnamed algorithm"
            raise InputError(
                f"the posterior of {name!r}, by {missing}, has no log_evidence; run LookaheadSMC, "
                "SplitGibbsSMC, TwistedSMC, or JointGibbs with signal='split-gibbs-smc', which "
                "estimate it, or use compare_loo"
            )
        logs.append(torch.tensor(values, dtype=torch.float64))
    estimate = torch.stack([value.logsumexp(0) - math.log(len(value)) for value in logs])
    error = torch.stack([_standard_error(value) for value in logs])
    probs = (estimate + _log_prior(prior_probs, runs)).softmax(0)
    # d p_k / d l_j = p_k (1[j = k] - p_j)
    slopes = torch.diag(probs) - probs[:, None] * probs
    return EvidenceComparison(
        tuple(runs),
        estimate,
        error,
        probs,
        (slopes.square() @ error.square()).sqrt(),
        estimate[:, None] - estimate,
        (error[:, None].square() + error.square()).sqrt().fill_diagonal_(0.0),
    )


def compare_loo(posteriors: Mapping[str, Posterior]) -> LooComparison:
    """Compare models by leave-one-out prediction of each datum.

    Args:
        posteriors: Posteriors of the same data by model.

    Raises:
        InputError: If there are fewer than two models, the data differ, or as
            :func:`leave_one_out`.
    """
    for name, group in _runs(posteriors).items():
        if len(group) > 1:
            raise InputError(f"{name!r} has {len(group)} posteriors; leaving out takes one each")
    left = {name: leave_one_out(posterior) for name, posterior in posteriors.items()}
    pointwise = torch.stack([value for value, _ in left.values()])
    elpd, count = pointwise.sum(1), pointwise.shape[1]
    differences = pointwise - pointwise[elpd.argmax()]
    return LooComparison(
        tuple(left),
        elpd,
        (count * pointwise.var(1)).sqrt(),
        differences.sum(1),
        (count * differences.var(1)).sqrt(),
        torch.stack([k.max() for _, k in left.values()]),
    )


def leave_one_out(posterior: Posterior, site: str | None = None) -> tuple[Tensor, Tensor]:
    r"""Log predictive density of each datum given all others, by PSIS.

    Args:
        posterior: A posterior with a pointwise log-likelihood; weighted ones are resampled.
        site: One observed site; all if None.

    Returns:
        :math:`\log p(y_i \mid y_{-i})` in nats and Pareto's k, each of shape (data,), float64.

    Raises:
        InputError: If there is no log-likelihood or an infinite one, there are fewer than 25
            draws, or all samples are one estimate, which has no posterior to leave anything out
            of.
    """
    known = posterior.log_likelihood
    if not known or (site is not None and site not in known):
        wanted = "" if site is None else f" of {site!r}"
        raise InputError(
            f"the posterior has no pointwise log-likelihood{wanted}; posteriors of this package's "
            "algorithms have one, and a file keeps it"
        )
    if posterior.num_samples > 1 and bool((posterior.samples == posterior.samples[0]).all()):
        raise InputError(
            f"all samples by {posterior.algorithm or 'the algorithm'} are one estimate; it has no "
            "posterior to leave a datum out of: use an algorithm that draws"
        )
    if posterior.num_samples < MIN_DRAWS_LOO:
        raise InputError(
            f"leaving one out takes at least {MIN_DRAWS_LOO} draws, got {posterior.num_samples}"
            + ("; one estimate has no posterior" if posterior.num_samples == 1 else "")
        )
    equal = posterior.equally_weighted()
    names = known if site is None else (site,)
    draws = torch.cat(
        [equal.log_likelihood[name].double().reshape(equal.num_samples, -1) for name in names], 1
    ).cpu()
    if not bool(draws.isfinite().all()):
        raise InputError(
            "a sample gives a datum probability zero; it cannot be left out of what excludes it"
        )
    log_weights, k = pareto_smooth(-draws, relative_efficiency(equal))
    return (log_weights + draws).logsumexp(0), k


def check_same_data(posteriors: Mapping[str, Posterior]) -> None:
    """Refuse posteriors of different data; bits may be coded as -1 and +1 or as 0 and 1.

    Raises:
        InputError: If an observed site, its shape or a value differs.
    """
    (first_name, first), *others = (
        (name, {site: _coded(value) for site, value in posterior.observed.items()})
        for name, posterior in posteriors.items()
    )
    for name, data in others:
        if data.keys() != first.keys():
            raise InputError(
                f"{first_name!r} observes {', '.join(first)} and {name!r} {', '.join(data)}; only "
                "models of the same data can be compared, with sites of the same names"
            )
        for site, value in data.items():
            if value.shape != first[site].shape or not bool((value == first[site]).all()):
                raise InputError(
                    f"the data of site {site!r} are not those of {first_name!r} in {name!r}; only "
                    "models of the same data can be compared"
                )


def _coded(value: Tensor) -> Tensor:
    return value.cpu() > 0 if is_binary(value) else value.cpu().double()


def _runs(posteriors: Runs) -> dict[str, list[Posterior]]:
    """Posteriors of each model, all of the same data."""
    runs = {
        name: [value] if isinstance(value, Posterior) else list(value)
        for name, value in posteriors.items()
    }
    if len(runs) < 2 or not all(runs.values()):
        raise InputError(
            "a comparison takes at least two models with a posterior each, "
            f"got {', '.join(f'{name}: {len(group)}' for name, group in runs.items()) or 'none'}"
        )
    check_same_data(
        {
            name if i == 0 else f"{name}, run {i + 1}": posterior
            for name, group in runs.items()
            for i, posterior in enumerate(group)
        }
    )
    return runs


def _log_prior(prior_probs: Mapping[str, float] | None, names: Mapping[str, object]) -> Tensor:
    if prior_probs is None:
        return torch.zeros(len(names), dtype=torch.float64)
    if prior_probs.keys() != names.keys() or not all(p > 0 for p in prior_probs.values()):
        raise InputError(
            f"prior_probs must have a positive number for each of {', '.join(names)}, "
            f"got {dict(prior_probs)}"
        )
    return torch.tensor([prior_probs[name] for name in names], dtype=torch.float64).log()


def _standard_error(logs: Tensor) -> Tensor:
    if len(logs) < 2:
        return torch.full((), torch.nan, dtype=torch.float64)
    return logs.std() / len(logs) ** 0.5


def relative_efficiency(posterior: Posterior) -> float:
    """Effective share of the draws of chains, judged by their log-likelihood.

    Args:
        posterior: The posterior.

    Returns:
        A positive number; 1 for one chain, whose draws most algorithms make independently.
    """
    total = total_log_likelihood(posterior)
    chains = posterior.num_chains
    if total is None or chains == 1 or len(total) // chains < MIN_DRAWS:
        return 1.0
    size = float(bulk_ess(total.view(chains, -1)))
    return size / len(total) if size > 0 else 1.0


def _with_error(value: float, error: float, form: str) -> str:
    return f"{value:{form}}" + ("" if math.isnan(error) else f" ± {error:{form}}")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
    return "\n".join(lines)
