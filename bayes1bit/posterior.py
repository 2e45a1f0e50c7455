"""What every inference algorithm returns.

A posterior is a weighted set of signals together with what is needed to judge them: how they were
made (algorithm, settings), what they cost (denoiser calls, seconds), what the data were, how well
each sample explains each datum, and, where an algorithm estimates it, the evidence. A
:class:`Posterior` holds these as plain tensors and needs neither the model nor the prior that made
them, so that a result can be saved, sent, reloaded and plotted anywhere.

Weights are part of the answer. Every statistic here honours them, and whatever leaves for software
that knows only equally weighted draws (Pyro's ``Predictive``, ArviZ) is resampled first.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bayes1bit import weighted
from bayes1bit.errors import InputError
from bayes1bit.posterior_checks import (
    check_chains,
    check_latents,
    check_per_sample,
    check_samples,
    plain,
)
from bayes1bit.posterior_summary import Summary, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(eq=False, repr=False)
class Posterior:
    """Weighted posterior samples of a signal and other latent sites, with their provenance.

    Args:
        samples: Posterior samples, shape (num_samples, *event), float32 or float64.
        site: Name of the diffusion site in the model.
        weights: Relative weights, shape (num_samples,), scaled here to sum to one; None means
            equal weights.
        log_evidence: Estimate of log p(y) in nats; None when the algorithm gives none.
        nfe: Denoiser calls per posterior sample; a backward pass counts as one more.
        seconds: Wall-clock time of the run.
        algorithm: Name of the algorithm.
        settings: Settings of the algorithm by name. Kept as JSON values: tensors and tuples
            become lists, objects their names.
        attributes: Anything else worth keeping, such as the structure found in the model or the
            ``data_range`` (low, high) of the signal; kept as ``settings`` are.
        observed: Observed value of each observed site.
        log_likelihood: Pointwise log-likelihood of each observed site, shape
            (num_samples, *observed); kept in float64.
        predictive: Posterior predictive draw of each observed site, shape
            (num_samples, *observed).
        constants: Known quantities of the model worth keeping with the result, by name.
        latents: Samples of the model's other latent sites, each of shape (num_samples, *site).
        num_chains: Number of chains of equal length that the samples are, one after the other;
            weighted samples are one.

    Raises:
        InputError: If shapes disagree, a sample is NaN or infinite, weights are negative or all
            zero, a cost is negative, or the samples cannot be cut into so many chains.
    """

    samples: Tensor
    _: KW_ONLY
    site: str = "x"
    weights: Tensor | None = None
    log_evidence: float | None = None
    nfe: float = 0
    seconds: float = 0.0
    algorithm: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Tensor] = field(default_factory=dict)
    log_likelihood: Mapping[str, Tensor] = field(default_factory=dict)
    predictive: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    num_chains: int = 1

    def __post_init__(self) -> None:
        check_samples(self.samples)
        self.samples = self.samples.detach()
        if self.weights is not None:
            if self.weights.shape != (self.num_samples,):
                raise InputError(
                    f"weights have shape {tuple(self.weights.shape)} for {self.num_samples} "
                    f"samples; give one weight per sample"
                )
            self.weights = weighted.normalize_weights(self.weights).to(self.samples.device)
        if self.log_evidence is not None:
            self.log_evidence = float(self.log_evidence)
            if self.log_evidence != self.log_evidence or abs(self.log_evidence) == torch.inf:
                raise InputError(
                    f"log_evidence is {self.log_evidence}; give a finite number, or None when the "
                    "algorithm does not estimate it"
                )
        for name in ("nfe", "seconds"):
            if not 0 <= getattr(self, name) < torch.inf:
                raise InputError(f"{name} must be finite and >= 0, got {getattr(self, name)}")
        self.settings = {str(key): plain(value) for key, value in self.settings.items()}
        self.attributes = {str(key): plain(value) for key, value in self.attributes.items()}
        for name in ("observed", "log_likelihood", "predictive", "constants", "latents"):
            values = {key: torch.as_tensor(value) for key, value in getattr(self, name).items()}
            setattr(self, name, {key: value.detach() for key, value in values.items()})
        # ArviZ's Pareto smoothing gives NaN in single precision where the largest ratios are close
        self.log_likelihood = {key: v.double() for key, v in self.log_likelihood.items()}
        for name in ("log_likelihood", "predictive"):
            check_per_sample(name, getattr(self, name), self.num_samples, self.observed)
        check_latents(self.latents, self.num_samples, self.site)
        check_chains(self.num_chains, self.num_samples, self.weights is not None)

    @property
    def num_samples(self) -> int:
        """Number of samples, whatever their weights."""
        return self.samples.shape[0]

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one signal."""
        return self.samples.shape[1:]

    @property
    def effective_sample_size(self) -> float:
        """Kish's effective sample size of the weights; ``num_samples`` when they are equal.

        It says nothing of autocorrelation along a chain: for that, see ``arviz.ess``.
        """
        if self.weights is None:
            return float(self.num_samples)
        return weighted.effective_sample_size(self.weights)

    @property
    def mean(self) -> Tensor:
        """Posterior mean, shape event, the estimate of least mean squared error."""
        return weighted.weighted_mean(self.samples, self.weights)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation, shape event; NaN when one sample has all the weight."""
        return weighted.weighted_std(self.samples, self.weights)

    def quantile(self, q: float | Tensor) -> Tensor:
        """Quantiles of each element; see :func:`bayes1bit.weighted.weighted_quantile`.

        Args:
            q: Level or levels in [0, 1]: a number or a tensor of shape (levels,).

        Returns:
            Shape event for one level, (levels, *event) for several.

        Raises:
            InputError: If a level is outside [0, 1].
        """
        return weighted.weighted_quantile(self.samples, q, self.weights)

    def interval(self, prob: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central credible interval of each element.

        Fewer than about 2 / (1 - prob) samples cannot reach that far into the tails: the interval
        is then their range.

        Args:
            prob: Probability inside, in (0, 1).

        Returns:
            Lower and upper ends, each of shape event.

        Raises:
            InputError: If ``prob`` is outside (0, 1).
        """
        if not 0 < prob < 1:
            raise InputError(f"prob must be in (0, 1), such as 0.9, got {prob}")
        lower, upper = self.quantile(torch.tensor([(1 - prob) / 2, (1 + prob) / 2]).double())
        return lower, upper

    def covers(self, truth: Tensor, prob: float = 0.9) -> Tensor:
        """Tell where the central interval holds the truth, ends included.

        Args:
            truth: The true signal, shape event.
            prob: Probability inside the interval, in (0, 1).

        Returns:
            Booleans of shape event.

        Raises:
            InputError: If ``truth`` has another shape or holds NaN, or ``prob`` is outside (0, 1).
        """
        self.check_event(truth, "truth")
        lower, upper = self.interval(prob)
        truth = truth.to(self.samples)
        return (lower <= truth) & (truth <= upper)

    def check_event(self, value: Tensor, name: str) -> None:
        """Refuse a tensor that is not a signal of this posterior.

        Args:
            value: Tensor that should have shape event and no NaN.
            name: What to call it in the message.

        Raises:
            InputError: If the shape differs or a value is NaN.
        """
        if value.shape != self.event_shape:
            raise InputError(
                f"{name} has shape {tuple(value.shape)}, the posterior's signals have shape "
                f"{tuple(self.event_shape)}"
            )
        if torch.isnan(value).any():
            raise InputError(f"{name} holds NaN; give a complete signal")

    def resample(
        self, num_samples: int | None = None, generator: torch.Generator | None = None
    ) -> "Posterior":
        """Draw an equally weighted posterior by systematic resampling.

        Args:
            num_samples: Number of draws; as many as there are samples when None.
            generator: Source of randomness; torch's global one when None.

        Returns:
            A posterior whose ``weights`` are None.

        Raises:
            InputError: If ``num_samples`` is not positive.
        """
        count = self.num_samples if num_samples is None else num_samples
        if count < 1:
            raise InputError(f"num_samples must be at least 1, got {num_samples}")
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        return self._select(self.representative_indices(count, float(offset)))

    def equally_weighted(self) -> "Posterior":
        """Give the same number of equally weighted draws, the same ones at every call."""
        return self if self.weights is None else self._select(self.representative_indices())

    def representative_indices(
        self, num_samples: int | None = None, offset: float = 0.5
    ) -> Tensor:
        """Indices of samples that stand for the whole posterior when weighted equally.

        Args:
            num_samples: Number of indices; as many as there are samples when None.
            offset: Position in [0, 1) of the comb of systematic resampling.

        Returns:
            Indices in increasing order, shape (num_samples,); copies of heavy samples repeat.
        """
        weights = self.weights
        if weights is None:
            weights = torch.full((self.num_samples,), 1.0 / self.num_samples, dtype=torch.float64)
        return weighted.systematic_indices(weights, num_samples or self.num_samples, offset)

    def _select(self, index: Tensor) -> "Posterior":
        def take(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {site: value[index.to(value.device)] for site, value in values.items()}

        return dataclasses.replace(
            self,
            samples=self.samples[index.to(self.samples.device)],
            weights=None,
            log_likelihood=take(self.log_likelihood),
            predictive=take(self.predictive),
            latents=take(self.latents),
            num_chains=1,
        )

    def get_samples(self) -> dict[str, Tensor]:
        """Equally weighted samples by site, as Pyro's ``MCMC.get_samples`` gives them.

        Weighted samples are resampled, always in the same way, because whatever takes such a
        dictionary (``pyro.infer.Predictive``) treats its entries alike.

        Returns:
            Samples of the signal's site, shape (num_samples, *event), and of the other latent
            sites.
        """
        equal = self.equally_weighted()
        return {self.site: equal.samples, **equal.latents}

    def summary(self, prob: float = 0.9) -> Summary:
        """Sum up the posterior in scalars.

        Args:
            prob: Probability inside the interval whose width is averaged, in (0, 1).

        Returns:
            A dictionary that prints as a table; see
            :class:`~bayes1bit.posterior_summary.Summary`.

        Raises:
            InputError: If ``prob`` is outside (0, 1).
        """
        return summarize(self, prob)

    def to_arviz(self) -> Any:
        """Convert to ArviZ's own container; see :mod:`bayes1bit.posterior_io`.

        Returns:
            ``InferenceData`` on ArviZ 0.x, ``xarray.DataTree`` on ArviZ 1.x. The posterior group
            holds equally weighted draws; a weighted posterior is resampled, and says so in the
            attribute ``weights``.

        Raises:
            InputError: If a site or a constant has a name or a dtype that NetCDF does not allow.
        """
        from bayes1bit import posterior_io

        return posterior_io.to_arviz(self)

    def plot(self, truth: Tensor | None = None, **options: Any) -> "Figure":
        """Draw mean, spread, samples and, with a truth, the misses of the interval.

        Args:
            truth: The true signal, shape event, where it is known.
            **options: Options of :func:`bayes1bit.diagnostics.plots.plot_posterior`.

        Returns:
            A matplotlib figure.

        Raises:
            InputError: If ``truth`` has another shape than the signals.
        """
        from bayes1bit.diagnostics.plots import plot_posterior

        return plot_posterior(self, truth=truth, **options)

    def save(self, path: str | Path) -> None:
        """Write everything to one NetCDF file, which ``arviz.from_netcdf`` opens too.

        Args:
            path: File to write; it appears only when complete.

        Raises:
            InputError: If the file cannot be written, or NetCDF does not allow a name or a dtype.
        """
        from bayes1bit import posterior_io

        posterior_io.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Posterior":
        """Read a posterior that :meth:`save` wrote; tensors come back on the CPU.

        Args:
            path: File to read.

        Returns:
            The posterior, equal to the saved one in every field.

        Raises:
            InputError: If the file is missing, damaged, or not a posterior of this package.
        """
        from bayes1bit import posterior_io

        return posterior_io.load(path)

    def __repr__(self) -> str:
        names = ", ".join([f"{self.site} {tuple(self.event_shape)}", *self.latents])
        parts = [f"{self.num_samples} samples of {names}"]
        if self.weights is not None:
            parts.append(f"effective sample size {self.effective_sample_size:.1f}")
        parts.append(f"{self.nfe:g} denoiser calls each")
        parts.append(f"{self.seconds:.3g} s")
        if self.log_evidence is not None:
            parts.append(f"log evidence {self.log_evidence:.2f}")
        return f"Posterior({self.algorithm or 'unnamed'}: {', '.join(parts)})"
