"""A posterior in a dozen numbers.

The figures that tell at a glance whether a result is worth looking at: how many samples there are
and how many they are worth, what they cost, how wide the posterior is, and whether signals drawn
from it would have produced the bits that were observed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayes1bit.weighted import weighted_mean, weighted_std

if TYPE_CHECKING:
    from bayes1bit.posterior import Posterior

_REMARKS = ("structure", "exactness")
"""Attributes of a posterior that its summary repeats."""


class Summary(dict[str, float | None]):
    """Scalar figures of a posterior, by name; printing it gives a table.

    Keys: ``num_samples``, ``effective_sample_size``, ``nfe`` (denoiser calls per sample),
    ``seconds``, ``log_evidence`` (nats), ``mean_min`` and ``mean_max`` (range of the posterior
    mean), ``std_average``, ``interval_prob`` and ``interval_width`` (average width of the central
    interval), ``bit_agreement`` (share of observed bits that equal the posterior predictive
    majority). Other latent sites add the mean and the standard deviation of each, under names such
    as ``scale mean``, or ``gain mean_min``, ``gain mean_max`` and ``gain std_average`` where a
    site has several elements. Figures that the posterior cannot give are None.

    Attributes:
        title: First line of the table.
        remarks: Texts by name that follow the figures in the table: the structure that was found,
            and whether the algorithm draws from the posterior.
    """

    def __init__(self, title: str, remarks: Mapping[str, str], **figures: float | None) -> None:
        super().__init__(**figures)
        self.title, self.remarks = title, dict(remarks)

    def __str__(self) -> str:
        figures = {name: f"{value:.6g}" for name, value in self.items() if value is not None}
        width = max(map(len, (*figures, *self.remarks)))
        texts = figures | self.remarks
        return "\n".join([self.title, *(f"  {k:<{width}}  {v}" for k, v in texts.items())])


def summarize(posterior: "Posterior", prob: float) -> Summary:
    """Compute the figures of a posterior.

    Args:
        posterior: The posterior.
        prob: Probability inside the interval whose width is averaged, in (0, 1).

    Returns:
        The figures by name.

    Raises:
        InputError: If ``prob`` is outside (0, 1).
    """
    mean, (lower, upper) = posterior.mean, posterior.interval(prob)
    attributes = posterior.attributes
    return Summary(
        repr(posterior),
        {name: str(attributes[name]) for name in _REMARKS if name in attributes},
        num_samples=posterior.num_samples,
        effective_sample_size=posterior.effective_sample_size,
        nfe=posterior.nfe,
        seconds=posterior.seconds,
        log_evidence=posterior.log_evidence,
        mean_min=float(mean.min()),
        mean_max=float(mean.max()),
        std_average=float(posterior.std.mean()),
        interval_prob=prob,
        interval_width=float((upper - lower).mean()),
        bit_agreement=_bit_agreement(posterior),
        **_latent_figures(posterior),
    )


def _latent_figures(posterior: "Posterior") -> dict[str, float]:
    """Mean and standard deviation of the other latent sites, ranges for those of many elements."""
    figures: dict[str, float] = {}
    for name, value in posterior.latents.items():
        mean = weighted_mean(value.double(), posterior.weights)
        std = weighted_std(value.double(), posterior.weights)
        if mean.numel() == 1:
            figures |= {f"{name} mean": float(mean), f"{name} std": float(std)}
        else:
            figures[f"{name} mean_min"] = float(mean.min())
            figures[f"{name} mean_max"] = float(mean.max())
            figures[f"{name} std_average"] = float(std.mean())
    return figures


def _bit_agreement(posterior: "Posterior") -> float | None:
    """Share of observed bits that equal the majority of the posterior predictive draws."""
    agreed, count = 0.0, 0
    for site, observed in posterior.observed.items():
        draws = posterior.predictive.get(site)
        if draws is None or not is_binary(observed):
            continue
        # Bits come as {-1, +1} or as {0, 1}; the middle tells which side a vote is on.
        middle = 0.5 * float((observed == 0).any() or (draws == 0).any())
        vote = weighted_mean(draws.double(), posterior.weights) - middle
        # Half a point for a tied vote: what a coin would earn.
        sign = torch.where(vote.abs() < 1e-6, 0.0, vote.sign())
        agreed += float((1 + sign * (observed.double() - middle).sign()).sum() / 2)
        count += observed.numel()
    return agreed / count if count else None


def is_binary(value: Tensor) -> bool:
    """Whether all values are in {-1, +1} or all in {0, 1}."""
    return bool((value.abs() == 1).all() or ((value == 0) | (value == 1)).all())


def total_log_likelihood(posterior: "Posterior") -> Tensor | None:
    """Log-likelihood of all observations under each sample, in nats.

    Args:
        posterior: A posterior.

    Returns:
        Shape (num_samples,), float64; None if the posterior has no log-likelihood.
    """
    if not posterior.log_likelihood:
        return None
    sites = [
        value.double().reshape(posterior.num_samples, -1).sum(1)
        for value in posterior.log_likelihood.values()
    ]
    return torch.stack(sites).sum(0)
