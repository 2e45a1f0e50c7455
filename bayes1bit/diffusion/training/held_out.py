r"""Loss on held-out signals while a network trains, and the warning that it memorises.

A network that knows its training signals by heart denoises them better than others of their kind,
and as a prior it has nothing to say but what it was shown. So the loss is measured on some
signals that training sees and on as many that it does not, with the averaged weights, which are
those that ship.

**Levels.** Training draws :math:`\log\sigma` from a normal distribution. The levels here are the
middles of :data:`LEVELS` bands of equal probability, so that the plain average over them stands
for the training loss.

**Significance.** For each signal the loss is averaged over the levels. Held-out and training
signals are two independent samples, and the difference of their means has the standard error
:math:`\sqrt{s_h^2/n + s_t^2/n}`. The network memorises when the held-out mean is higher by more
than :data:`ERRORS` standard errors, and by more than :data:`MARGIN` of the training mean. Signals
and noise are the same at every measurement: chance has one try, not one for each.

**Cost.** A training step costs about three forward passes of its batch, one forward and two back.
The number of signals is what keeps the forward passes of a measurement to :data:`COST` of that
between two measurements, at most :data:`MOST`, and no fewer than :data:`FEWEST`, without which
there would be nothing to see.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bayes1bit.diffusion.denoiser import KarrasDenoiser
from bayes1bit.diffusion.training.data import Signals
from bayes1bit.diffusion.training.log import StepLog
from bayes1bit.diffusion.training.loss import weighted_errors
from bayes1bit.diffusion.training.recipe import NoiseSettings, Recipe, TrainingSettings

FILE = "held_out.csv"
FIELDS = ["step", "sigma", "held_out_loss", "training_loss", "standard_error"]
ALL = "all"
"""What stands for the level in the line that averages over all of them."""
LEVELS = 5
COST, MOST, FEWEST = 0.03, 256, 16
ERRORS, MARGIN = 3.0, 0.1
SEED = 31415
BATCH = 64


@dataclass(frozen=True)
class Comparison:
    """Loss on held-out and on training signals at one step.

    Attributes:
        step: Steps done.
        sigma: Noise level, or None for the average over all levels.
        held_out: Mean loss of held-out signals.
        training: Mean loss of as many training signals.
        standard_error: Standard error of the difference.
    """

    step: int
    sigma: float | None
    held_out: float
    training: float
    standard_error: float

    @property
    def memorises(self) -> bool:
        """Whether the difference is both certain and large."""
        excess = self.held_out - self.training
        return excess > max(ERRORS * self.standard_error, MARGIN * self.training)


class HeldOutLoss:
    """Measures the loss on fixed held-out and training signals, under fixed noise.

    Args:
        recipe: What is trained.
        signals: Its signals.
        out: Folder of ``held_out.csv``.
        device: Where the network is.
    """

    def __init__(
        self, recipe: Recipe, signals: Signals, out: Path, device: str | torch.device
    ) -> None:
        self.log = StepLog(out / FILE, FIELDS)
        self.every = interval(recipe.training)
        count = min(number_of_signals(recipe.training), len(signals.held_out), len(signals.train))
        # a generator of its own: what training draws must not depend on what is measured
        generator = torch.Generator().manual_seed(SEED)

        def choose(stored: Tensor) -> Tensor:
            index = torch.randperm(len(stored), generator=generator)[:count]
            return signals.scale(stored[index]).to(device)

        self.held_out, self.training = choose(signals.held_out), choose(signals.train)
        self.eps = torch.randn(self.held_out.shape, generator=generator).to(device)
        self.sigma = training_levels(recipe.noise, LEVELS)
        self.warned = False

    def is_due(self, done: int, steps: int) -> bool:
        """Whether to measure after so many steps."""
        return done % self.every == 0 or done == steps

    def forget_after(self, step: int) -> None:
        """Drop what was measured after the step that a run resumes at."""
        self.log.forget_after(step)
        self.warned = first_memorising(read(self.log.path)) is not None

    def measure(self, denoiser: KarrasDenoiser, step: int) -> None:
        """Measure, write the lines, and warn the first time that the network memorises.

        Args:
            denoiser: With the weights to measure. It runs without dropout, and is put back.
            step: Steps done.
        """
        was_training = denoiser.training
        denoiser.eval()
        with torch.no_grad():
            held_out, training = (
                self._losses(denoiser, x) for x in (self.held_out, self.training)
            )
        denoiser.train(was_training)
        per_level = [
            _compare(step, sigma, held_out[:, i], training[:, i])
            for i, sigma in enumerate(self.sigma.tolist())
        ]
        average = _compare(step, None, held_out.mean(1), training.mean(1))
        self.log.append(*map(_row, (*per_level, average)))
        if average.memorises and not self.warned:
            self.warned = True
            warnings.warn(explain(average), stacklevel=2)

    def _losses(self, denoiser: KarrasDenoiser, x: Tensor) -> Tensor:
        """Loss of every signal at every level, shape (count, levels), float64 on the CPU."""
        columns = []
        for level in self.sigma.tolist():
            parts = [
                weighted_errors(denoiser, clean, clean.new_full((len(clean),), level), eps)
                for clean, eps in zip(x.split(BATCH), self.eps.split(BATCH), strict=True)
            ]
            columns.append(torch.cat(parts).flatten(1).double().mean(1).cpu())
        return torch.stack(columns, 1)


def interval(settings: TrainingSettings) -> int:
    """Steps between two measurements."""
    return settings.evaluate_every or settings.checkpoint_every


def number_of_signals(settings: TrainingSettings) -> int:
    """Number of held-out, and of training signals that a measurement can afford."""
    passes = COST * 3 * interval(settings) * settings.batch_size
    return max(FEWEST, min(MOST, int(passes / (2 * LEVELS))))


def training_levels(noise: NoiseSettings, num: int) -> Tensor:
    """Middles of ``num`` bands of noise levels that training draws equally often.

    Returns:
        Levels from low to high, shape (num,), float64.
    """
    share = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    z = math.sqrt(2) * torch.erfinv(2 * share - 1)
    levels = (noise.log_mean + noise.log_std * z).exp()
    return levels.clamp(noise.sigma_min, noise.sigma_max)


def expected_loss(error: Callable[[Tensor], Tensor], noise: NoiseSettings) -> float:
    r"""The training objective that a table of denoising errors stands for.

    .. math:: E_\sigma \frac{\sigma^2 + \sigma_d^2}{(\sigma\sigma_d)^2}\, r^2(\sigma)

    over the levels of training. It is 1 for a prior that knows no more than the mean and the
    variance of its signals, and has no unit.

    Args:
        error: Mean squared error per dimension, such as an
            :class:`~bayes1bit.diffusion.error_table.ErrorTable`.
        noise: The ``[noise]`` table of the recipe.
    """
    sigma = training_levels(noise, 1000)
    weight = (sigma.square() + noise.sigma_data**2) / (sigma * noise.sigma_data).square()
    return float((weight * error(sigma)).mean())


def read(path: Path) -> list[Comparison]:
    """What ``held_out.csv`` holds; nothing if there is no such file."""
    return [_parse(row) for row in StepLog(path, FIELDS).rows()]


def first_memorising(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The first measurement, over all levels, at which the network memorised."""
    return next((c for c in comparisons if c.sigma is None and c.memorises), None)


def explain(comparison: Comparison) -> str:
    """The warning about a network that memorises."""
    excess = comparison.held_out / comparison.training - 1
    return (
        f"the network begins to memorise its training signals: at step {comparison.step} the loss "
        f"on held-out signals is {comparison.held_out:.4f}, {excess:.0%} above the "
        f"{comparison.training:.4f} on training signals; train for fewer steps, on more signals "
        "or with data.flip where mirror images are as likely, or take a smaller network"
    )


def _compare(step: int, sigma: float | None, held_out: Tensor, training: Tensor) -> Comparison:
    variance = (held_out.var() + training.var()) / len(held_out)
    return Comparison(
        step, sigma, float(held_out.mean()), float(training.mean()), float(variance.sqrt())
    )


def _row(comparison: Comparison) -> list[str]:
    sigma = ALL if comparison.sigma is None else f"{comparison.sigma:.6g}"
    numbers = comparison.held_out, comparison.training, comparison.standard_error
    return [str(comparison.step), sigma, *(f"{number:.6g}" for number in numbers)]


def _parse(row: Mapping[str, str]) -> Comparison:
    step, sigma, *numbers = (row[field] for field in FIELDS)
    held_out, training, standard_error = map(float, numbers)
    level = None if sigma == ALL else float(sigma)
    return Comparison(int(step), level, held_out, training, standard_error)
