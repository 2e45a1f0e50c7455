"""Recovery of pictures from one-bit measurements: ``bayes1bit bench recovery``.

Every method sees the same prior, operators, pictures and bits. Each finished run is a line of a
CSV file, so that an interrupted benchmark goes on where it stopped.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor
from tqdm import tqdm

from bayes1bit.diagnostics.metrics import coverage, psnr, ssim
from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Algorithm
from bayes1bit.measurement import Measurement
from bayes1bit.observation import Link
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior

KEY = ("setup", "method", "ratio", "noise", "link", "picture")
SCORES = (
    "PSNR mean",
    "SSIM mean",
    "PSNR sample",
    "SSIM sample",
    "coverage 90%",
    "bit agreement",
    "NFE",
    "seconds",
)
VARYING = 0.05
"""Pixels whose standard deviation over the pictures is above this share of the data range vary."""

Maker = Callable[[Callable[..., Any]], Algorithm]


@dataclass(frozen=True)
class Problem:
    """What is measured and how.

    Attributes:
        prior: The prior.
        pictures: True pictures, shape (count, *event).
        ratios: Values of n/m.
        noise: Noise standard deviation s.
        link: Law of the noise.
        seed: Seed of operators, bits and algorithms.
        setup: What else tells runs apart (prior, number of samples); only runs of the same setup
            and seed are gone on with.
    """

    prior: DiffusionPrior
    pictures: Tensor
    ratios: tuple[float, ...] = (2, 4, 8, 16)
    noise: float = 0.5
    link: Link = "probit"
    seed: int = 0
    setup: str = ""

    def key(self, method: str, ratio: float, picture: int) -> tuple[str, ...]:
        """What identifies one run in the file of finished ones."""
        setup = f"{self.setup} seed {self.seed}".strip()
        return (setup, method, f"{ratio:g}", f"{self.noise:g}", self.link, str(picture))

    def measure(self, picture: int, ratio: float) -> Measurement:
        """Measure one picture; the same bits for every method."""
        n = self.prior.event_shape.numel()
        pyro.set_rng_seed(self.seed + picture)
        operator = Hadamard(self.prior.event_shape, m=round(n / ratio), seed=self.seed + picture)
        return Measurement.simulate(
            self.pictures[picture],
            operator,
            scale=self.noise,
            link=self.link,
            data_range=self.prior.data_range,
        )


def run_recovery(
    problem: Problem, methods: Mapping[str, Maker], path: Path, *, progress: bool = True
) -> list[dict[str, Any]]:
    """Run all methods on all pictures and ratios, and average over pictures.

    Args:
        problem: Pictures and measurements.
        methods: Algorithms by name, each made from a model.
        path: CSV file of single runs; what it already holds is not run again.
        progress: Whether to show a progress bar.

    Returns:
        One row for each method and ratio: averages over the pictures.

    Raises:
        InputError: If ``path`` is not the CSV file of such a benchmark.
    """
    done = _read(path)
    cells = list(_cells(problem, methods))
    with tqdm(cells, "recovery", unit="run", disable=not progress) as bar:
        for method, ratio, picture in bar:
            key = problem.key(method, ratio, picture)
            if key in done:
                continue
            scores = _run(problem, methods.get(method), method, ratio, picture)
            done[key] = scores
            _append(path, key, scores)
    rows = []
    for method in [*BASELINES, *methods]:
        for ratio in problem.ratios:
            keys = [problem.key(method, ratio, i) for i in range(len(problem.pictures))]
            rows.append({"method": method, "n/m": ratio} | _average([done[key] for key in keys]))
    return rows


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


def _cells(problem: Problem, methods: Mapping[str, Maker]) -> Iterator[tuple[str, float, int]]:
    for picture in range(len(problem.pictures)):
        for ratio in problem.ratios:
            for method in [*BASELINES, *methods]:
                yield method, ratio, picture


def _run(
    problem: Problem, maker: Maker | None, method: str, ratio: float, picture: int
) -> dict[str, float | None]:
    measurement = problem.measure(picture, ratio)
    truth = problem.pictures[picture]
    if maker is None:
        estimate = BASELINES[method](measurement, truth, problem.prior)
        return dict.fromkeys(SCORES) | _point_scores(estimate, truth, measurement, problem)
    posterior = maker(measurement.model(problem.prior)).run(measurement.y.to(problem.prior.device))
    return _posterior_scores(posterior, truth, measurement, problem)


def _posterior_scores(
    posterior: Posterior, truth: Tensor, measurement: Measurement, problem: Problem
) -> dict[str, float | None]:
    data_range = _data_range(problem)
    samples, mean = posterior.equally_weighted().samples.cpu(), posterior.mean.cpu()
    varying = problem.pictures.std(0) > VARYING * (data_range[1] - data_range[0])
    return _point_scores(mean, truth, measurement, problem) | {
        "PSNR sample": psnr(samples, truth, data_range).mean().item(),
        "SSIM sample": ssim(samples, truth, data_range).mean().item(),
        "coverage 90%": coverage(samples, truth, 0.9, where=varying),
        "NFE": posterior.nfe,
        "seconds": posterior.seconds,
    }


def _point_scores(
    estimate: Tensor, truth: Tensor, measurement: Measurement, problem: Problem
) -> dict[str, float | None]:
    data_range = _data_range(problem)
    predicted = measurement.operator(estimate) - measurement.threshold
    agreement = (predicted.sign() == measurement.y).float().mean()
    return {
        "PSNR mean": psnr(estimate, truth, data_range).item(),
        "SSIM mean": ssim(estimate, truth, data_range).item(),
        "bit agreement": agreement.item(),
    }


def _data_range(problem: Problem) -> tuple[float, float]:
    low, high = problem.pictures.min().item(), problem.pictures.max().item()
    return problem.prior.data_range or (low, high)


def _average(runs: list[dict[str, float | None]]) -> dict[str, float | None]:
    averages: dict[str, float | None] = {}
    for name in SCORES:
        values = [value for run in runs if (value := run[name]) is not None]
        averages[name] = sum(values) / len(values) if values else None
    return averages


def _read(path: Path) -> dict[tuple[str, ...], dict[str, float | None]]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != (*KEY, *SCORES):
            raise InputError(f"{path} is not a recovery benchmark of this version; rename it")
        # a line cut short by an interruption lacks its last fields
        rows = [row for row in reader if all(value is not None for value in row.values())]
    return {
        tuple(row[name] for name in KEY): {
            name: float(row[name]) if row[name] else None for name in SCORES
        }
        for row in rows
    }


def _append(path: Path, key: tuple[str, ...], scores: dict[str, float | None]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow((*KEY, *SCORES))
        writer.writerow((*key, *(scores[name] for name in SCORES)))
