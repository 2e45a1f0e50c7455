"""Recovery of signals from one-bit measurements: ``bayes1bit bench recovery``.

Every method sees the same prior, operators, signals and bits. Each finished run is a line of a
CSV file, so that an interrupted benchmark goes on where it stopped; what a figure shows of the
first signals is kept in a folder beside it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor
from tqdm import tqdm

from bayes1bit.bench.recovery_scores import Scorer, Scores
from bayes1bit.bench.runs import FinishedRuns, Key, stream_seed
from bayes1bit.bench.shown import ShownPictures
from bayes1bit.diagnostics.waveforms import is_waveform
from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Algorithm, run_together
from bayes1bit.measurement import Measurement
from bayes1bit.models.checks import Model
from bayes1bit.observation import Link, OneBit
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior

KEY = ("setup", "method", "link", "noise", "ratio", "picture")
DIVERGED = "diverged"
"""Column that says whether a run ended with values that are not finite, and so without scores."""
SHOWN = 3
"""Number of signals whose posteriors are kept for the figure, the first ones."""

_STREAMS = ("operator", "noise", "algorithm", "dither")

Maker = Callable[[Callable[..., Any]], Algorithm]


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
        pictures: True pictures or other signals, shape (count, *event).
        ratios: Values of n/m.
        noises: Scales of the noise, in units of ``A x``.
        links: Laws of the noise.
        seed: Seed of operators, bits and algorithms.
        setup: What else tells runs apart (prior, number of samples); only runs of the same setup
            and seed are gone on with.
        rate: Sampling rate in Hz, for the error of R peaks of heartbeats; None for no such score.
        dither: Standard deviation of the thresholds, which are normal and known to the methods, in
            units of ``A x``; 0 for none. Without dither bits say little of a signal's amplitude.
        together: Number of signals that share a batch, where a method's chains do not learn from
            each other.
        unknown_noise: Whether methods have to infer the scale of the noise with the signal; its
            prior is log-normal with median 1 and a standard deviation of 1 in the logarithm. Such
            methods take models with other latent sites.

    Raises:
        InputError: If there is no picture, ratio, noise or link, a link is unknown, the dither is
            negative, ``together`` is less than 1, or R peaks are wanted of signals that have none.
    """

    prior: DiffusionPrior
    pictures: Tensor
    ratios: tuple[float, ...] = (2, 4, 8, 16)
    noises: tuple[float, ...] = (0.5,)
    links: tuple[Link, ...] = ("probit",)
    seed: int = 0
    setup: str = ""
    rate: float | None = None
    dither: float = 0.0
    unknown_noise: bool = False
    together: int = 1

    def __post_init__(self) -> None:
        if not (len(self.pictures) and self.ratios and self.noises and self.links):
            raise InputError("a benchmark needs at least one picture, ratio, noise and link")
        for link in self.links:
            if link not in get_args(Link):
                raise InputError(f'links are {", ".join(get_args(Link))}, got "{link}"')
        if not self.dither >= 0:
            raise InputError(f"dither must not be negative, got {self.dither}")
        if self.together < 1:
            raise InputError(f"together must be at least 1, got {self.together}")
        shape = tuple(self.prior.event_shape)
        if self.rate is not None and not is_waveform(shape):
            raise InputError(
                f"R peaks are of heartbeats, signals of shape (length,) or (1, length); those of "
                f"the prior have {shape}"
            )

    @property
    def conditions(self) -> list[Condition]:
        """All ways in which bits are taken."""
        return [
            Condition(*parts) for parts in itertools.product(self.links, self.noises, self.ratios)
        ]

    def key(self, method: str, condition: Condition, picture: int) -> Key:
        """What identifies one run in the file of finished ones."""
        dither = f"dither {self.dither:g}" if self.dither else ""
        noise = "unknown noise" if self.unknown_noise else ""
        setup = " ".join(filter(None, (self.setup, dither, noise, f"seed {self.seed}")))
        numbers = (f"{condition.noise:g}", f"{condition.ratio:g}", str(picture))
        return (setup, method, condition.link, *numbers)

    def stream(self, purpose: str, picture: int) -> int:
        """Seed of one purpose for one picture, independent of those of all others."""
        return stream_seed(self.seed, _STREAMS, purpose, picture)

    def measure(self, picture: int, condition: Condition) -> Measurement:
        """Measure one picture; the same bits for every method."""
        shape = self.prior.event_shape
        m = round(shape.numel() / condition.ratio)
        operator = Hadamard(shape, m=m, seed=self.stream("operator", picture))
        threshold: float | Tensor = 0.0
        if self.dither:
            pyro.set_rng_seed(self.stream("dither", picture))
            threshold = self.dither * torch.randn(m, dtype=self.pictures.dtype)
        pyro.set_rng_seed(self.stream("noise", picture))
        return Measurement.simulate(
            self.pictures[picture],
            operator,
            scale=condition.noise,
            link=condition.link,
            threshold=threshold,
            data_range=self.prior.data_range,
        )

    def model(self, measurement: Measurement) -> Model:
        """The model that methods see of a measurement."""
        if not self.unknown_noise:
            return measurement.model(self.prior)
        zero = torch.zeros((), device=self.prior.device, dtype=self.prior.dtype)
        operator = measurement.operator.to(zero.device, zero.dtype)
        threshold = torch.as_tensor(measurement.threshold).to(zero)

        def model(y: Tensor | None = None) -> Tensor:
            x = pyro.sample("x", self.prior)
            scale = pyro.sample("scale", dist.LogNormal(zero, zero + 1))
            bits = OneBit(operator(x), scale, threshold, link=measurement.link)
            measured: Tensor = pyro.sample("y", bits.to_event(1), obs=y)
            return measured

        return model

    @property
    def data_range(self) -> tuple[float, float]:
        """Lowest and highest value of signals: the prior's, or else those of the pictures."""
        low, high = self.pictures.min().item(), self.pictures.max().item()
        return self.prior.data_range or (low, high)

    @property
    def scorer(self) -> Scorer:
        """What scores the estimates."""
        return Scorer(self.pictures, self.data_range, self.rate)


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
    done = FinishedRuns(path, KEY, (*problem.scorer.names, DIVERGED), "recovery")
    shown = shown_pictures(path)
    cells = list(_cells(problem, methods))
    with tqdm(cells, "recovery", unit="run", disable=not progress) as bar:
        for method, condition, picture in bar:
            if problem.key(method, condition, picture) in done:
                continue
            batch = [picture]
            if problem.together > 1:
                later = range(picture + 1, len(problem.pictures))
                left = [i for i in later if problem.key(method, condition, i) not in done]
                batch += left[: problem.together - 1]
            for i, scores, posterior in _runs(
                problem, methods.get(method), method, condition, batch
            ):
                key = problem.key(method, condition, i)
                # first what the line in the file promises
                if posterior is not None and i < SHOWN:
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


def _runs(
    problem: Problem, maker: Maker | None, method: str, condition: Condition, batch: list[int]
) -> Iterator[tuple[int, Scores, Posterior | None]]:
    """Run a method on the first picture of a batch, or on all if their chains are independent."""
    if len(batch) > 1 and maker is not None:
        algorithm = maker(problem.model(problem.measure(batch[0], condition)))
        if algorithm.independent_chains:
            try:
                runs = _run_together(problem, maker, condition, batch)
            except FloatingPointError:
                # which of them diverges is seen when they run alone
                for picture in batch:
                    yield picture, *_run(problem, maker, method, condition, picture)
            else:
                for picture, run in zip(batch, runs, strict=True):
                    yield picture, *run
            return
    yield batch[0], *_run(problem, maker, method, condition, batch[0])


def _run(
    problem: Problem, maker: Maker | None, method: str, condition: Condition, picture: int
) -> tuple[Scores, Posterior | None]:
    measurement = problem.measure(picture, condition)
    truth = problem.pictures[picture]
    scorer = problem.scorer
    scores: Scores = {**dict.fromkeys(scorer.names), DIVERGED: 0.0}
    if maker is None:
        estimate = BASELINES[method](measurement, truth, problem.prior)
        return scores | scorer.of_estimate(estimate, truth, measurement), None
    algorithm = maker(problem.model(measurement))
    pyro.set_rng_seed(problem.stream("algorithm", picture))
    try:
        posterior = algorithm.run(measurement.y.to(problem.prior.device))
    except FloatingPointError:
        return scores | {DIVERGED: 1.0}, None
    return scores | scorer.of_posterior(posterior, truth, measurement), posterior


def _run_together(
    problem: Problem, maker: Maker, condition: Condition, pictures: list[int]
) -> list[tuple[Scores, Posterior]]:
    measurements = [problem.measure(picture, condition) for picture in pictures]
    algorithms = [maker(problem.model(measurement)) for measurement in measurements]
    data = [measurement.y.to(problem.prior.device) for measurement in measurements]
    pyro.set_rng_seed(problem.stream("algorithm", pictures[0]))
    posteriors = run_together(algorithms, data)
    scorer = problem.scorer
    scores: Scores = {**dict.fromkeys(scorer.names), DIVERGED: 0.0}
    return [
        (scores | scorer.of_posterior(posterior, problem.pictures[picture], y), posterior)
        for posterior, picture, y in zip(posteriors, pictures, measurements, strict=True)
    ]


def _rows(problem: Problem, methods: list[str], done: FinishedRuns) -> list[dict[str, Any]]:
    rows = []
    for link, noise in itertools.product(problem.links, problem.noises):
        for method, ratio in itertools.product(methods, problem.ratios):
            condition = Condition(link, noise, ratio)
            keys = [problem.key(method, condition, i) for i in range(len(problem.pictures))]
            named = {"method": method, "n/m": ratio, "noise": noise, "link": link}
            rows.append(named | _average([done[key] for key in keys], problem.scorer.names))
    if not any(row[DIVERGED] for row in rows):
        for row in rows:
            del row[DIVERGED]
    return rows


def _average(runs: list[Scores], names: tuple[str, ...]) -> Scores:
    averages: Scores = {}
    for name in names:
        values = [value for run in runs if (value := run[name]) is not None]
        averages[name] = sum(values) / len(values) if values else None
    return averages | {DIVERGED: round(sum(run[DIVERGED] or 0 for run in runs))}
