r"""Classification images with and without a diffusion prior: ``bayes1bit bench regression``.

A simulated observer (:func:`~bayes1bit.models.classification_images`), whose template is a
held-out picture, answers yes or no to pictures of white noise. From the answers each method
recovers the template and the intercept, and is judged by how well it predicts answers to new
noise. Beside the diffusion prior stand ridge regression and a Gaussian prior
(:mod:`~bayes1bit.bench.linear_classifiers`), and the observer, whose own probabilities no
prediction can beat.

The gain of the observer is known to the diffusion prior, as the scale of its pictures is. The
other two learn the scale of their coefficients.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyro
from tqdm import tqdm

from bayes1bit.bench.recovery import DIVERGED, Maker
from bayes1bit.bench.recovery_scores import Scores
from bayes1bit.bench.regression_methods import BASELINES, with_diffusion_prior
from bayes1bit.bench.regression_problem import Problem
from bayes1bit.bench.regression_scores import CURVE, SUMMARY, score
from bayes1bit.bench.runs import FinishedRuns
from bayes1bit.bench.shown import ShownPictures

KEY = ("setup", "method", "trials", "template")
VALUES = (*SUMMARY, *CURVE, DIVERGED)


def run_regression(
    problem: Problem, methods: Mapping[str, Maker], path: Path, *, progress: bool = True
) -> list[dict[str, Any]]:
    """Run all methods on the answers of all observers, and average over observers.

    Args:
        problem: Observers and their answers.
        methods: Algorithms by name, each made from a model.
        path: CSV file of single runs; what it already holds is not run again. The folder of
            :func:`shown_templates` is beside it.
        progress: Whether to show a progress bar.

    Returns:
        One row for each number of trials and method: averages over the observers whose runs did
        not diverge, and how many did if any; with the points of the reliability curve, averaged
        with their shares.

    Raises:
        InputError: If ``path`` is not the CSV file of such a benchmark.
    """
    done = FinishedRuns(path, KEY, VALUES, "regression")
    shown = shown_templates(path)
    names = [*BASELINES, *methods]
    cells = [
        (template, trials, missing)
        for template in range(problem.num_templates)
        for trials in problem.trials
        if (missing := [m for m in names if problem.key(m, trials, template) not in done])
    ]
    deviation = problem.pictures.std(0, correction=0)
    with tqdm(cells, "regression", unit="experiment", disable=not progress) as bar:
        for template, trials, missing in bar:
            experiment, held_out = problem.experiment(template, trials), problem.held_out(template)
            for method in missing:
                fit = BASELINES.get(method) or with_diffusion_prior(methods[method])
                key, values = problem.key(method, trials, template), dict.fromkeys(VALUES)
                pyro.set_rng_seed(experiment.seed)
                try:
                    posterior = fit(problem, experiment)
                except FloatingPointError:
                    done.add(key, values | {DIVERGED: 1.0})
                    continue
                scores = score(posterior, experiment.observer, held_out, deviation)
                if template == 0:
                    shown.save(key, posterior)  # first what the line in the file promises
                done.add(key, values | scores | {DIVERGED: 0.0})
    return _rows(problem, names, done)


def shown_templates(path: Path) -> ShownPictures:
    """What the figure of a benchmark shows, kept beside its CSV file."""
    return ShownPictures(path.with_name(f"{path.stem}-templates"))


def _rows(problem: Problem, methods: list[str], done: FinishedRuns) -> list[dict[str, Any]]:
    rows = []
    for trials in problem.trials:
        for method in methods:
            runs = [done[problem.key(method, trials, i)] for i in range(problem.num_templates)]
            rows.append({"trials": trials, "method": method} | _average(runs))
    if not any(row[DIVERGED] for row in rows):
        for row in rows:
            del row[DIVERGED]
    return rows


def _average(runs: list[Scores]) -> Scores:
    """Averages over runs; points of reliability curves count by the share of their bin."""
    averages: Scores = {}
    for name in (*SUMMARY, *CURVE):
        part, _, bin_ = name.rpartition(" ")
        by_share = name in CURVE and part != "share"
        weighted = [
            (run[f"share {bin_}"] or 0.0 if by_share else 1.0, value)
            for run in runs
            if (value := run[name]) is not None
        ]
        total = sum(weight for weight, _ in weighted)
        averages[name] = sum(w * v for w, v in weighted) / total if total else None
    return averages | {DIVERGED: round(sum(run[DIVERGED] or 0 for run in runs))}
