r"""Samplers against posteriors that are known: what ``bayes1bit bench exact`` runs.

Every method sees the same prior, operator and bits, and is scored as
:mod:`bayes1bit.bench.exact_scores` says. The first row of a problem is the exact sampler itself.

Each finished run is a line of a CSV file, so that an interrupted benchmark goes on where it
stopped.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyro
from tqdm import tqdm

from bayes1bit.bench.exact_problems import ExactProblem, stream_seed
from bayes1bit.bench.exact_scores import SCORES, Judge, Scores, sliced_distance
from bayes1bit.bench.runs import FinishedRuns
from bayes1bit.errors import InputError
from bayes1bit.infer import Algorithm

__all__ = ["EXACT", "KEY", "SCORES", "Maker", "run_exact", "sliced_distance"]

KEY = ("setup", "problem", "seed", "method")
EXACT = "exact"
"""Name of the row of the exact sampler itself."""

Maker = Callable[[Callable[..., Any]], Algorithm]


def run_exact(
    problems: Sequence[ExactProblem],
    methods: Mapping[str, Maker],
    path: Path,
    num_samples: int,
    *,
    setup: str = "",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Run all methods on all problems, and average over the seeds of each problem.

    The reference of a problem is made once, when its first missing run begins, and given up before
    the next problem.

    Args:
        problems: The problems; those of one name differ in their seed.
        methods: Algorithms by name, each made from a model.
        path: CSV file of single runs; what it already holds is not run again.
        num_samples: Number of draws in the row of the exact sampler; algorithms are judged
            against as many exact draws as they return.
        setup: What else tells runs apart (pictures, settings of methods); only runs of the same
            setup and number of samples are gone on with.
        progress: Whether to show a progress bar.

    Returns:
        One row for each problem and method: averages over the seeds, and numbers of runs, of
        misses and of runs in which a miss was possible.

    Raises:
        InputError: If two problems have the same name and seed, a method is called "exact", or
            ``path`` is not the CSV file of such a benchmark.
    """
    if EXACT in methods:
        raise InputError(f'"{EXACT}" is the row of the exact sampler; rename the method')
    if len({(problem.name, problem.seed) for problem in problems}) < len(problems):
        raise InputError("two problems have the same name and seed; give them different seeds")
    setup = f"{setup} {num_samples} samples".strip()
    makers: dict[str, Maker | None] = {EXACT: None, **methods}
    done = FinishedRuns(path, KEY, SCORES, "exact")
    with tqdm(
        total=len(problems) * len(makers), desc="exact", unit="run", disable=not progress
    ) as bar:
        for problem in problems:
            judge = None
            for method, maker in makers.items():
                key = (setup, problem.name, str(problem.seed), method)
                if key not in done:
                    judge = judge or Judge(problem)
                    done.add(key, _run(problem, maker, judge, num_samples))
                bar.update()
    rows = []
    for name in dict.fromkeys(problem.name for problem in problems):
        seeds = [problem.seed for problem in problems if problem.name == name]
        for method in makers:
            runs = [done[setup, name, str(seed), method] for seed in seeds]
            rows.append({"problem": name, "method": method} | _average(runs))
    return rows


def _run(problem: ExactProblem, maker: Maker | None, judge: Judge, num_samples: int) -> Scores:
    if maker is None:
        return judge.scores(judge.baseline(num_samples))
    pyro.set_rng_seed(stream_seed(problem.seed, "algorithm"))
    try:
        posterior = maker(problem.model).run(problem.y)
    except FloatingPointError:
        return dict.fromkeys(SCORES) | {"diverged": 1.0}
    return judge.scores(posterior)


def _average(runs: list[Scores]) -> dict[str, Any]:
    def values(name: str) -> list[float]:
        return [value for run in runs if (value := run[name]) is not None]

    def mean(numbers: list[float]) -> float | None:
        return sum(numbers) / len(numbers) if numbers else None

    errors, misses = values("log evidence error"), values("miss")
    return {
        "runs": len(runs),
        "diverged": round(sum(values("diverged"))),
        "SW ratio": mean(values("SW ratio")),
        "TV": mean(values("TV")),
        "misses": round(sum(misses)),
        "of": len(misses),
        "mean error": mean(values("mean error")),
        "std ratio": mean(values("std ratio")),
        "log evidence error": mean(errors),
        "its size": mean([abs(error) for error in errors]),
        **{name: mean(values(name)) for name in ("ESS", "R-hat", "NFE", "seconds")},
    }
