"""What all inference algorithms share: how they are called and what they return."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor
from tqdm import tqdm

from bayes1bit.diffusion import count_evaluations
from bayes1bit.errors import InputError
from bayes1bit.infer.target import Target
from bayes1bit.posterior import Posterior

if TYPE_CHECKING:
    from bayes1bit.infer.moves import Move
    from bayes1bit.infer.prior_steps import PriorStep

Item = TypeVar("Item")


@dataclass(frozen=True)
class Draws:
    """What an algorithm hands back.

    Attributes:
        samples: Posterior samples, shape (num_samples, *event).
        weights: Their normalised weights, shape (num_samples,), or None for equal ones.
        log_evidence: Estimate of log p(y) in nats, if the algorithm has one.
        latents: Values of the other latent sites, each of shape (num_samples, *site), if the
            algorithm draws them.
        num_chains: Number of chains of equal length that the samples are, one after the other.
    """

    samples: Tensor
    weights: Tensor | None = None
    log_evidence: float | None = None
    latents: Mapping[str, Tensor] | None = None
    num_chains: int = 1


class Algorithm(ABC):
    """Base class of inference algorithms.

    A subclass names its settings in its constructor and implements :meth:`draw`. Chains or
    particles are one batch dimension; randomness is torch's, seeded by ``pyro.set_rng_seed``.

    Args:
        model: A Pyro model with one diffusion site.
        num_samples: Number of posterior samples.
        site: Name of the diffusion site, needed only if the model has several.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If ``num_samples`` is less than 1.
    """

    paper: ClassVar[str]
    """The publication that the algorithm is from."""
    assumptions: ClassVar[str]
    """What it needs of the model beyond a diffusion prior and a likelihood."""
    cost: ClassVar[str]
    """Denoiser calls per posterior sample at the default settings."""
    exactness: ClassVar[str] = ""
    """Whether its output tends to the posterior, and in which limit; empty if not known."""
    takes_parameters: ClassVar[bool] = False
    """Whether :meth:`draw` also draws other latent sites than the signal."""

    def __init__(
        self,
        model: Callable[..., Any],
        num_samples: int = 16,
        *,
        site: str | None = None,
        progress: bool = True,
    ) -> None:
        if num_samples < 1:
            raise InputError(f"num_samples must be at least 1, got {num_samples}")
        self.model, self.num_samples, self.site, self.progress = model, num_samples, site, progress

    @abstractmethod
    def draw(self, target: Target) -> Draws:
        """Draw posterior samples of a target."""

    @property
    def independent_chains(self) -> bool:
        """Whether no chain learns from another, so that several data sets can share a batch.

        See :func:`bayes1bit.infer.together.run_together`.
        """
        return False

    def move(self, prior_step: "PriorStep") -> "Move":
        """Make the algorithm's move of a Gibbs sampler, if it has one.

        Args:
            prior_step: How a clean signal is drawn given a noisy copy, where the move needs that.

        Returns:
            A transition of signals that leaves p(x | y) invariant.

        Raises:
            InputError: If the algorithm has none, as most have not.
        """
        raise InputError(
            f"{type(self).__name__} is no move of a Gibbs sampler: it has no transition from one "
            "signal to the next that leaves p(x | y) invariant, so that unknown parameters cannot "
            'be drawn in turn with it; use signal="split-gibbs", "langevin" or "split-gibbs-smc", '
            "or give your algorithm a method move(prior_step)"
        )

    def settings(self) -> dict[str, Any]:
        """The algorithm's settings by name, as they go into the posterior file."""
        hidden = ("model", "site", "progress")
        return {
            name: value if isinstance(value, bool | int | float | str) else repr(value)
            for name, value in vars(self).items()
            if name not in hidden and not name.startswith("_")
        }

    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Condition the model on its arguments and draw from the posterior.

        Args:
            args: Positional arguments of the model.
            kwargs: Keyword arguments of the model.

        Returns:
            Posterior samples with everything that a report needs, such as data, pointwise
            log-likelihood, posterior predictive draws, settings, denoiser calls and seconds.

        Raises:
            InputError: If the model does not fit the algorithm; see also
                :meth:`Target.from_model`.
            FloatingPointError: If the samples are not finite.
        """
        started = time.perf_counter()
        target = self.target(*args, **kwargs)
        with count_evaluations(target.prior) as evaluations:
            draws = self.draw(target)
        seconds = time.perf_counter() - started
        return self.posterior(target, draws, evaluations.signals / len(draws.samples), seconds)

    def target(self, *args: Any, **kwargs: Any) -> Target:
        """The target that :meth:`run` draws from.

        Args:
            args: Positional arguments of the model.
            kwargs: Keyword arguments of the model.

        Raises:
            InputError: If the model does not fit the algorithm; see also
                :meth:`Target.from_model`.
        """
        target = Target.from_model(self.model, *args, site=self.site, **kwargs)
        if target.latents and not self.takes_parameters:
            raise InputError(
                f"{type(self).__name__} infers the signal alone, but the model has other latent "
                f"sites: {', '.join(target.latents)}; infer them with JointGibbs, or fix them "
                "with pyro.condition"
            )
        return target

    def posterior(self, target: Target, draws: Draws, nfe: float, seconds: float) -> Posterior:
        """Put draws together with everything that a report needs.

        Args:
            target: What they were drawn from.
            draws: What :meth:`draw` returned.
            nfe: Denoiser calls per sample.
            seconds: Time that the draws took.

        Raises:
            FloatingPointError: If the samples are not finite.
        """
        if not draws.samples.isfinite().all():
            raise FloatingPointError(
                f"{type(self).__name__} diverged: its samples are not finite; "
                "check the scale of data and noise, or take more levels"
            )
        return Posterior(
            draws.samples,
            site=target.site,
            weights=draws.weights,
            log_evidence=draws.log_evidence,
            nfe=nfe,
            seconds=seconds,
            algorithm=type(self).__name__,
            settings=self.settings(),
            attributes={
                "structure": target.describe(),
                "paper": self.paper,
                "prior": repr(target.prior),
            }
            | ({"exactness": self.exactness} if self.exactness else {})
            | ({"data_range": target.prior.data_range} if target.prior.data_range else {}),
            observed=target.observed,
            log_likelihood=target.pointwise_log_likelihood(draws.samples, draws.latents),
            predictive=target.posterior_predictive(draws.samples, draws.latents),
            latents=draws.latents or {},
            num_chains=draws.num_chains,
        )

    def check_finite(self, x: Tensor, level: str, advice: str = "take more levels") -> None:
        """Stop at the level where a run diverges, not at its end.

        Args:
            x: Signals or weights of the level, any shape.
            level: Where the run is, such as ``"sigma = 3.2"``.
            advice: What the user can change.

        Raises:
            FloatingPointError: If an entry of ``x`` is NaN or infinite.
        """
        if not x.isfinite().all():
            raise FloatingPointError(
                f"{type(self).__name__} diverged at {level}: values are not finite; "
                f"check the scale of data and noise, or {advice}"
            )

    def track(
        self, items: Iterable[Item] | None, total: int | None, unit: str = "level"
    ) -> "tqdm[Item]":
        """Iterate with a progress bar, if one is wanted; without items, it is moved by hand."""
        return tqdm(
            items, total=total, unit=unit, desc=type(self).__name__, disable=not self.progress
        )
