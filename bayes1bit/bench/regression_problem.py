"""Simulated observers with held-out pictures as templates, and the answers that they give."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyro
import torch
from torch import Tensor

from bayes1bit.bench.runs import Key, stream_seed
from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.models.psychophysics import classification_images, observer_gain

HELD_OUT = 10_000
"""Answers that predictions are judged by."""

_STREAMS = ("stimuli", "answers", "intercept", "held out", "algorithm")


@dataclass(frozen=True)
class Answers:
    """Answers of one observer to pictures of noise.

    Attributes:
        stimuli: The pictures, shape (m, *event).
        answers: 0 and 1, shape (m,).
    """

    stimuli: Tensor
    answers: Tensor


@dataclass(frozen=True)
class Observer:
    """How an observer with a known template answers.

    Attributes:
        template: The template, shape event.
        intercept: Intercept in logits.
        gain: Logits per unit of template and stimulus.
        background: Value of pixels that the observer ignores.
    """

    template: Tensor
    intercept: float
    gain: float
    background: float

    def logits(self, templates: Tensor, stimuli: Tensor) -> Tensor:
        """What templates make of stimuli, without an intercept.

        Args:
            templates: Shape (num_samples, *event).
            stimuli: Shape (m, *event).

        Returns:
            Logits, shape (num_samples, m).
        """
        return self.gain * (templates - self.background).flatten(1) @ stimuli.flatten(1).T

    def coefficients_as_templates(self, coefficients: Tensor) -> Tensor:
        """Templates that have these coefficients of the stimuli's pixels.

        Args:
            coefficients: Shape (num_samples, n).

        Returns:
            Shape (num_samples, *event).
        """
        templates = coefficients / self.gain + self.background
        return templates.reshape(-1, *self.template.shape)


@dataclass(frozen=True)
class Experiment:
    """One observer.

    Attributes:
        observer: The truth.
        training: Answers to learn from.
        seed: Seed of methods.
    """

    observer: Observer
    training: Answers
    seed: int


@dataclass(frozen=True)
class Problem:
    """Which observers are asked how often.

    Attributes:
        prior: The prior of templates.
        pictures: Pictures, shape (count, *event). The first ones are templates; all of them set
            the gain of observers, and say which pixels vary.
        num_templates: Number of observers.
        trials: Numbers of answers.
        seed: Seed of everything.
        setup: What else tells runs apart (prior, number of samples); only runs of the same setup
            and seed are gone on with.
        background: Value of pixels that observers ignore.

    Raises:
        InputError: If there are fewer pictures than templates, or a number is less than 1.
    """

    prior: DiffusionPrior
    pictures: Tensor
    num_templates: int = 1
    trials: tuple[int, ...] = (100, 300, 1000, 3000, 10_000)
    seed: int = 0
    setup: str = ""
    background: float = -1.0

    def __post_init__(self) -> None:
        if not 1 <= self.num_templates <= len(self.pictures):
            raise InputError(
                f"{self.num_templates} templates of {len(self.pictures)} pictures; take at least "
                "one, and no more than there are"
            )
        if not self.trials or min(self.trials) < 1:
            raise InputError(f"a benchmark needs numbers of trials of 1 and more, {self.trials}")

    @cached_property
    def gain(self) -> float:
        """Logits per unit of template and stimulus, the same for all observers."""
        return observer_gain(self.pictures, background=self.background)

    def key(self, method: str, trials: int, template: int) -> Key:
        """What identifies one run in the file of finished ones."""
        setup = " ".join(filter(None, (self.setup, f"seed {self.seed}")))
        return (setup, method, str(trials), str(template))

    def stream(self, purpose: str, template: int) -> int:
        """Seed of one purpose for one observer, independent of those of all others."""
        return stream_seed(self.seed, _STREAMS, purpose, template)

    def observer(self, template: int) -> Observer:
        """An observer, whose intercept is a draw of its prior in the model."""
        pyro.set_rng_seed(self.stream("intercept", template))
        intercept = float(torch.randn(()))
        return Observer(self.pictures[template], intercept, self.gain, self.background)

    def experiment(self, template: int, trials: int) -> Experiment:
        """Ask an observer; stimuli of a longer experiment begin with those of a shorter one."""
        observer = self.observer(template)
        training = self._ask(observer, trials, template, "stimuli", "answers")
        return Experiment(observer, training, self.stream("algorithm", template))

    def held_out(self, template: int) -> Answers:
        """Answers of an observer that no method sees."""
        return self._ask(self.observer(template), HELD_OUT, template, "held out", "held out")

    def model(self, stimuli: Tensor, intercept: float | None = None) -> Callable[..., Tensor]:
        """The model of answers to stimuli, with a known intercept or a latent one."""
        return classification_images(
            self.prior,
            stimuli.to(self.prior.device, self.prior.dtype),
            self.gain,
            intercept=intercept,
            background=self.background,
        )

    def _ask(
        self, observer: Observer, trials: int, template: int, noise: str, answers: str
    ) -> Answers:
        generator = torch.Generator().manual_seed(self.stream(noise, template))
        shape = observer.template.shape
        stimuli = torch.stack([torch.randn(shape, generator=generator) for _ in range(trials)])
        known = {"x": observer.template.to(self.prior.device)}
        model = self.model(stimuli, observer.intercept)
        pyro.set_rng_seed(self.stream(answers, template))
        return Answers(stimuli, pyro.condition(model, known)().cpu())
