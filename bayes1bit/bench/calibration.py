"""Calibration of algorithms over many runs: ``bayes1bit bench calibration``.

In every run a signal is drawn, measured by a fresh operator and recovered by each method; the
ranks of :mod:`bayes1bit.diagnostics.calibration` say whether the posteriors are as wide as they
should be. With truths from the prior, an exact algorithm is calibrated, and what is found is the
algorithm's fault; with real pictures, also the prior's.

Everything random in a run (signal, operator, noise, algorithm, ties) has a seed of its own. One
seed for two of them would make dependent what the model takes as independent, and a perfect
algorithm fail. Each finished run is a line of a CSV file, so that an interrupted benchmark goes on
where it stopped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor
from tqdm import tqdm

from bayes1bit.bench.recovery import Maker
from bayes1bit.bench.recovery_scores import varies
from bayes1bit.bench.runs import FinishedRuns, stream_seed
from bayes1bit.diagnostics.calibration import (
    CoverageCurve,
    IntervalCoverage,
    SBCTest,
    coverage_curve,
    interval_hits,
    pooled_coverage,
    sbc_ranks,
    sbc_test,
    tarp_rank,
)
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior, Multistep
from bayes1bit.errors import InputError
from bayes1bit.measurement import Measurement
from bayes1bit.observation import Link, OneBit
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior
from bayes1bit.weighted import merge_copies

PROBS = (0.5, 0.8, 0.9, 0.95)
PROJECTIONS = PIXELS = 4
STATISTICS = (
    *(f"projection {i + 1}" for i in range(PROJECTIONS)),
    "norm",
    "log-likelihood",
    *(f"pixel {i + 1}" for i in range(PIXELS)),
)
"""Scalars that are ranked; only the log-likelihood knows the data."""

KEY = ("setup", "method", "ratio", "noise", "link", "truths", "samples", "seed", "run")
VALUES = (
    *(f"rank {name}" for name in STATISTICS),
    "rank TARP",
    *(f"inside {100 * prob:g}%" for prob in PROBS),
    "NFE",
    "seconds",
)
_STREAMS = ("study", "signals", "operator", "noise", "inference", "ties")
_PRIOR_DRAWS = 64
"""Draws of the prior that tell which pixels vary."""
_PRIOR_STEPS = 60
"""Denoiser calls of a draw of a trained prior."""


@dataclass(frozen=True)
class Study:
    """What is drawn, measured and judged.

    Attributes:
        prior: The prior.
        num_runs: Number of signals.
        num_samples: Posterior samples in every run.
        truths: Held-out signals, shape (count, *event), one per run; None draws them from the
            prior.
        ratio: Value of n/m.
        noise: Noise standard deviation s.
        link: Law of the noise.
        seed: Seed of everything.
        setup: What else tells runs apart (name of the prior, of the held-out signals); only runs
            of the same setup are gone on with.

    Raises:
        InputError: If a number is out of range, or there are fewer truths than runs.
    """

    prior: DiffusionPrior
    num_runs: int = 200
    num_samples: int = 63
    truths: Tensor | None = None
    ratio: float = 4.0
    noise: float = 0.5
    link: Link = "probit"
    seed: int = 0
    setup: str = ""

    def __post_init__(self) -> None:
        if self.num_runs < 2 or self.num_samples < 1 or self.seed < 0:
            raise InputError(
                f"a study needs num_runs >= 2, num_samples >= 1 and seed >= 0, got "
                f"{self.num_runs}, {self.num_samples} and {self.seed}"
            )
        if self.truths is not None and len(self.truths) < self.num_runs:
            raise InputError(
                f"{len(self.truths)} truths for {self.num_runs} runs; give one per run, or fewer "
                "runs"
            )
        n = self.prior.event_shape.numel()
        if not 1 <= self.ratio <= n:
            raise InputError(f"ratio must be from 1 to n = {n}, got {self.ratio}")

    def key(self, method: str, run: int) -> tuple[str, ...]:
        """What identifies one run in the file of finished ones."""
        truths = "prior" if self.truths is None else "held out"
        numbers = (f"{self.ratio:g}", f"{self.noise:g}", self.link, truths)
        return (
            self.setup,
            method,
            *numbers,
            str(self.num_samples),
            str(self.seed),
            str(run),
        )

    def stream(self, purpose: str, run: int = 0) -> int:
        """Seed of one purpose in one run, independent of those of all others."""
        return stream_seed(self.seed, _STREAMS, purpose, run)


@dataclass(frozen=True)
class Calibration:
    """What came out for one method.

    Attributes:
        method: Name of the method.
        num_samples: Posterior samples in every run.
        ranks: Ranks of :data:`STATISTICS`, shape (num_runs, num_statistics).
        tarp_ranks: Ranks of the distance to the reference point, shape (num_runs,).
        inside: Share of varying pixels inside their central intervals of :data:`PROBS`, shape
            (num_runs, len(PROBS)).
        nfe: Denoiser calls per posterior sample, on average.
        seconds: Seconds per run, on average.
    """

    method: str
    num_samples: int
    ranks: Tensor
    tarp_ranks: Tensor
    inside: Tensor
    nfe: float
    seconds: float

    @property
    def sbc(self) -> SBCTest:
        """Test of all statistics."""
        return sbc_test(self.ranks, self.num_samples)

    @property
    def curve(self) -> CoverageCurve:
        """Expected coverage by TARP."""
        return coverage_curve(self.tarp_ranks, self.num_samples)

    @property
    def intervals(self) -> IntervalCoverage:
        """Coverage of the varying pixels' central intervals."""
        return pooled_coverage(self.inside, PROBS)

    def row(self) -> dict[str, Any]:
        """The result as one row of a table; "error" is a standard error over runs."""
        sbc, curve, intervals = self.sbc, self.curve, self.intervals
        row: dict[str, Any] = {
            "method": self.method,
            "runs": len(self.ranks),
            "SBC p": sbc.p_value,
            "worst statistic": STATISTICS[int(sbc.p_values.argmin())],
            "TARP deviation": curve.deviation,
            "TARP p": curve.p_value,
        }
        for i, prob in enumerate(PROBS):
            row[f"{100 * prob:g}%"] = float(intervals.coverage[i])
            row[f"error {100 * prob:g}%"] = float(intervals.standard_error[i])
        return row | {"NFE": self.nfe, "seconds": self.seconds}


def run_calibration(
    study: Study, methods: Mapping[str, Maker], path: Path, *, progress: bool = True
) -> list[Calibration]:
    """Run all methods on the same signals and bits, and test their calibration.

    Args:
        study: Signals and measurements.
        methods: Algorithms by name, each made from a model, with ``study.num_samples`` samples.
        path: CSV file of single runs; what it already holds is not run again.
        progress: Whether to show a progress bar.

    Returns:
        The outcome of each method.

    Raises:
        InputError: If ``path`` is not the CSV file of such a benchmark, no pixel varies, or a
            method makes another number of samples.
    """
    done = FinishedRuns(path, KEY, VALUES, "calibration")
    open_runs = [
        (run, missing)
        for run in range(study.num_runs)
        if (missing := [name for name in methods if study.key(name, run) not in done])
    ]
    if open_runs:
        judge = _Judge(study)
        with tqdm(open_runs, "calibration", unit="signal", disable=not progress) as bar:
            for run, missing in bar:
                case = _Case(study, run)
                for name in missing:
                    posterior = case.infer(methods[name])
                    done.add(study.key(name, run), judge(case, posterior))
    return [_collect(study, name, done) for name in methods]


class _Judge:
    """The scalars and pixels that are looked at, the same in every run."""

    def __init__(self, study: Study) -> None:
        self.study = study
        prior, shape = study.prior, study.prior.event_shape
        pyro.set_rng_seed(study.stream("study"))
        self.directions = torch.randn(shape.numel(), PROJECTIONS) / shape.numel() ** 0.5
        signals = study.truths
        if signals is None:
            signals = _draw(prior, _PRIOR_DRAWS)
        low, high = prior.data_range or (signals.min().item(), signals.max().item())
        self.varying = varies(signals.std(0), (low, high))
        candidates = self.varying.flatten().nonzero().flatten()
        if len(candidates) == 0:
            raise InputError("no pixel varies over the signals; give a prior or truths that do")
        self.pixels = candidates[torch.randint(len(candidates), (PIXELS,))]

    def __call__(self, case: "_Case", posterior: Posterior) -> dict[str, float]:
        """Ranks, interval hits and costs of one run, by the names of :data:`VALUES`."""
        samples, truth, measurement = posterior.samples.cpu(), case.truth, case.measurement
        weights = merge_copies(
            samples, None if posterior.weights is None else posterior.weights.cpu()
        )

        def statistics(signals: Tensor) -> Tensor:
            flat = signals.flatten(1)
            bits = OneBit(measurement.operator(signals), measurement.scale, link=measurement.link)
            return torch.cat(
                [
                    flat @ self.directions.to(flat),
                    flat.norm(dim=1, keepdim=True),
                    bits.log_prob(measurement.y.to(flat)).sum(-1, keepdim=True),
                    flat[:, self.pixels],
                ],
                dim=1,
            )

        pyro.set_rng_seed(case.seed("ties"))
        ranks = sbc_ranks(samples, truth, statistics, weights).tolist()
        ranks.append(tarp_rank(samples, truth, case.reference, weights))
        inside = interval_hits(samples, truth, PROBS, self.varying, weights).tolist()
        values = [*ranks, *inside, posterior.nfe, posterior.seconds]
        return dict(zip(VALUES, values, strict=True))


def _draw(prior: DiffusionPrior, num: int) -> Tensor:
    """Draws of the prior: exact for a mixture, else by the probability flow.

    A stochastic walk of few steps has a law of its own, with less contrast; held against its
    draws a right posterior would look wrong.
    """
    if isinstance(prior, GaussianMixturePrior):
        return prior.sample(torch.Size([num])).cpu()
    noise = prior.pure_noise(num, prior.sigma_max)
    with torch.no_grad():
        return Multistep()(prior, noise, prior.levels(num_steps=_PRIOR_STEPS)).cpu()


class _Case:
    """One run: a signal, its bits, and a reference point that knows the bits alone."""

    def __init__(self, study: Study, run: int) -> None:
        self.study, self.run = study, run
        prior = study.prior
        pyro.set_rng_seed(self.seed("signals"))
        drawn, first, second = _draw(prior, 3)
        self.truth = drawn if study.truths is None else study.truths[run].to(drawn)
        m = round(prior.event_shape.numel() / study.ratio)
        operator = Hadamard(prior.event_shape, m=m, seed=self.seed("operator"))
        pyro.set_rng_seed(self.seed("noise"))
        self.measurement = Measurement.simulate(
            self.truth, operator, scale=study.noise, link=study.link
        )
        back = operator.T(self.measurement.y.to(drawn))
        self.reference = first + back * ((first - second).norm() / back.norm())

    def seed(self, purpose: str) -> int:
        """Seed of one purpose in this run."""
        return self.study.stream(purpose, self.run)

    def infer(self, maker: Maker) -> Posterior:
        """Run an algorithm on the bits."""
        prior, expected = self.study.prior, self.study.num_samples
        algorithm = maker(self.measurement.model(prior))
        pyro.set_rng_seed(self.seed("inference"))
        posterior = algorithm.run(self.measurement.y.to(prior.device))
        if posterior.num_samples != expected:
            raise InputError(
                f"{posterior.algorithm} made {posterior.num_samples} samples, the study has "
                f"num_samples={expected}; give both the same number"
            )
        return posterior


def _collect(study: Study, method: str, done: FinishedRuns) -> Calibration:
    runs = [done[study.key(method, run)] for run in range(study.num_runs)]

    def columns(select: Callable[[str], bool]) -> Tensor:
        names = [name for name in VALUES if select(name)]
        return torch.tensor([[run[name] for name in names] for run in runs], dtype=torch.float64)

    ranks = columns(lambda name: name.startswith("rank ")).long()
    costs = columns(lambda name: name in ("NFE", "seconds")).mean(0)
    return Calibration(
        method,
        study.num_samples,
        ranks[:, :-1],
        ranks[:, -1],
        columns(lambda name: name.startswith("inside ")),
        *costs.tolist(),
    )
