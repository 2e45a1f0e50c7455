"""Recovery of pictures from one-bit measurements: ``bayes1bit bench recovery``.

Every method sees the same prior, operators, pictures and bits. Each finished run is a line of a
CSV file, so that an interrupted benchmark goes on where it stopped; what a figure shows of the
first pictures is kept in a folder beside it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyro
import torch
from torch import Tensor
from tqdm import tqdm

from bayes1bit.bench.runs import FinishedRuns, Key
from bayes1bit.bench.shown import ShownPictures
from bayes1bit.diagnostics.metrics import coverage, psnr, ssim
from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Algorithm
from bayes1bit.measurement import Measurement
from bayes1bit.observation import Link
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior

KEY = ("setup", "method", "link", "noise", "ratio", "picture")
SCORES = (
    "sample PSNR",
    "mean PSNR",
    "sample SSIM",
    "mean SSIM",
    "coverage 90%",
    "bit agreement",
    "NFE",
    "seconds",
)
DIVERGED = "diverged"
"""Column that says whether a run ended with values that are not finite, and so without scores."""
VARYING = 0.05
"""Pixels whose standard deviation over the pictures is above this share of the data range vary."""
SHOWN = 3
"""Number of pictures whose posteriors are kept for the figure, the first ones."""

_STREAMS = ("operator", "noise", "algorithm")

Maker = Callable[[Callable[..., Any]], Algorithm]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Condition:
    """How bits are taken.

    Attributes:
        link: Law of the noise.
        noise: Its scale s, in units of ``A x``.
        ratio: Value of n/m.
    """

    link: Link
    noise: float
    ratio: float


@dataclass(frozen=True)
class Problem:
    """What is measured and how.

    Attributes:
        prior: The prior.
        pictures: True pictures, shape (count, *event).
        ratios: Values of n/m.
        noises: Scales of the noise, in units of ``A x``.
        links: Laws of the noise.
        seed: Seed of operators, bits and algorithms.
        setup: What else tells runs apart (prior, number of samples); only runs of the same setup
            and seed are gone on with.

    Raises:
        InputError: If there is no picture, ratio, noise or link, or a link is unknown.
    """

    prior: DiffusionPrior
    pictures: Tensor
    ratios: tuple[float, ...] = (2, 4, 8, 16)
    noises: tuple[float, ...] = (0.5,)
    links: tuple[Link, ...] = ("probit",)
    seed: int = 0
    setup: str = ""

    def __post_init__(self) -> None:
        if not (len(self.pictures) and self.ratios and self.noises and self.links):
            raise InputError("a benchmark needs at least one picture, ratio, noise and link")
        for link in self.links:
            if link not in get_args(Link):
                raise InputError(f'links are {", ".join(get_args(Link))}, got "{link}"')

    @property
    def conditions(self) -> list[Condition]:
        """All ways in which bits are taken."""
        return [
            Condition(*parts) for parts in itertools.product(self.links, self.noises, self.ratios)
        ]

    def key(self, method: str, condition: Condition, picture: int) -> Key:
        """What identifies one run in the file of finished ones."""
        setup = f"{self.setup} seed {self.seed}".strip()
        numbers = (f"{condition.noise:g}", f"{condition.ratio:g}", str(picture))
        return (setup, method, condition.link, *numbers)

    def stream(self, purpose: str, picture: int) -> int:
        """Seed of one purpose for one picture, independent of those of all others."""
        sequence = np.random.SeedSequence((self.seed, 1 + _STREAMS.index(purpose), 1 + picture))
        return int(sequence.generate_state(1)[0])

    def measure(self, picture: int, condition: Condition) -> Measurement:
        """Measure one picture; the same bits for every method."""
        shape = self.prior.event_shape
        m = round(shape.numel() / condition.ratio)
        operator = Hadamard(shape, m=m, seed=self.stream("operator", picture))
        pyro.set_rng_seed(self.stream("noise", picture))
        return Measurement.simulate(
            self.pictures[picture],
            operator,
            scale=condition.noise,
            link=condition.link,
            data_range=self.prior.data_range,
        )

    @property
    def data_range(self) -> tuple[float, float]:
        """Values of black and white: the prior's, or else those of the pictures."""
        low, high = self.pictures.min().item(), self.pictures.max().item()
        return self.prior.data_range or (low, high)


def run_recovery(
    problem: Problem, methods: Mapping[str, Maker], path: Path, *, progress: bool = True
) -> list[dict[str, Any]]:
    """Run all methods on all pictures and conditions, and average over pictures.

    Args:
        problem: Pictures and measurements.
        methods: Algorithms by name, each made from a model.
        path: CSV file of single runs; what it already holds is not run again. The folder of
            :func:`shown_pictures` is beside it.
        progress: Whether to show a progress bar.

    Returns:
        One row for each condition and method: averages over the pictures whose runs did not
        diverge, and how many did if any.

    Raises:
        InputError: If ``path`` is not the CSV file of such a benchmark.
    """
    done = FinishedRuns(path, KEY, (*SCORES, DIVERGED), "recovery")
    shown = shown_pictures(path)
    cells = list(_cells(problem, methods))
    with tqdm(cells, "recovery", unit="run", disable=not progress) as bar:
        for method, condition, picture in bar:
            key = problem.key(method, condition, picture)
            if key not in done:
                scores, posterior = _run(problem, methods.get(method), method, condition, picture)
                # first what the line in the file promises
                if posterior is not None and picture < SHOWN:
                    shown.save(key, posterior)
                done.add(key, scores)
    return _rows(problem, [*BASELINES, *methods], done)


def shown_pictures(path: Path) -> ShownPictures:
    """What the figure of a benchmark shows, kept beside its CSV file."""
    return ShownPictures(path.with_name(f"{path.stem}-pictures"))


def back_projection(measurement: Measurement, truth: Tensor, prior: DiffusionPrior) -> Tensor:
    """``A^T y`` times the factor that brings it closest to the truth, which it is told."""
    estimate = measurement.operator.T(measurement.y.float())
    return estimate * (estimate * truth).sum() / estimate.square().sum()


def prior_mean(measurement: Measurement, truth: Tensor, prior: DiffusionPrior) -> Tensor:
    """The prior's mean, which is what the denoiser makes of the centre of pure noise."""
    zero = torch.zeros(1, *prior.event_shape, device=prior.device)
    return prior.denoise(zero, prior.sigma_max)[0].to(truth.device)


BASELINES: dict[str, Callable[[Measurement, Tensor, DiffusionPrior], Tensor]] = {
    "prior mean": prior_mean,
    "back-projection": back_projection,
}


def _cells(problem: Problem, methods: Mapping[str, Maker]) -> Iterator[tuple[str, Condition, int]]:
    for picture in range(len(problem.pictures)):
        for condition in problem.conditions:
            for method in [*BASELINES, *methods]:
                yield method, condition, picture


def _run(
    problem: Problem, maker: Maker | None, method: str, condition: Condition, picture: int
) -> tuple[Scores, Posterior | None]:
    measurement = problem.measure(picture, condition)
    truth = problem.pictures[picture]
    scores: Scores = {**dict.fromkeys(SCORES), DIVERGED: 0.0}
    if maker is None:
        estimate = BASELINES[method](measurement, truth, problem.prior)
        return scores | _point_scores(estimate, truth, measurement, problem), None
    algorithm = maker(measurement.model(problem.prior))
    pyro.set_rng_seed(problem.stream("algorithm", picture))
    try:
        posterior = algorithm.run(measurement.y.to(problem.prior.device))
    except FloatingPointError:
        return scores | {DIVERGED: 1.0}, None
    return scores | _posterior_scores(posterior, truth, measurement, problem), posterior


def _posterior_scores(
    posterior: Posterior, truth: Tensor, measurement: Measurement, problem: Problem
) -> Scores:
    low, high = problem.data_range
    samples, mean = posterior.equally_weighted().samples.cpu(), posterior.mean.cpu()
    scores = _point_scores(mean, truth, measurement, problem) | {
        "sample PSNR": psnr(samples, truth, (low, high)).mean().item(),
        "sample SSIM": ssim(samples, truth, (low, high)).mean().item(),
        "NFE": posterior.nfe,
        "seconds": posterior.seconds,
    }
    varying = problem.pictures.std(0, correction=0) > VARYING * (high - low)
    # one estimate has no interval
    if len(samples) > 1 and varying.any():
        scores["coverage 90%"] = coverage(samples, truth, 0.9, where=varying)
    return scores


def _point_scores(
    estimate: Tensor, truth: Tensor, measurement: Measurement, problem: Problem
) -> Scores:
    predicted = measurement.operator(estimate) - measurement.threshold
    agreement = (predicted.sign() == measurement.y).float().mean()
    return {
        "mean PSNR": psnr(estimate, truth, problem.data_range).item(),
        "mean SSIM": ssim(estimate, truth, problem.data_range).item(),
        "bit agreement": agreement.item(),
    }


def _rows(problem: Problem, methods: list[str], done: FinishedRuns) -> list[dict[str, Any]]:
    rows = []
    for link, noise in itertools.product(problem.links, problem.noises):
        for method, ratio in itertools.product(methods, problem.ratios):
            condition = Condition(link, noise, ratio)
            keys = [problem.key(method, condition, i) for i in range(len(problem.pictures))]
            named = {"method": method, "n/m": ratio, "noise": noise, "link": link}
            rows.append(named | _average([done[key] for key in keys]))
    if not any(row[DIVERGED] for row in rows):
        for row in rows:
            del row[DIVERGED]
    return rows


def _average(runs: list[Scores]) -> dict[str, float | None]:
    averages: dict[str, float | None] = {}
    for name in SCORES:
        values = [value for run in runs if (value := run[name]) is not None]
        averages[name] = sum(values) / len(values) if values else None
    return averages | {DIVERGED: round(sum(run[DIVERGED] or 0 for run in runs))}
