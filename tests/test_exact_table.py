"""The comparison of samplers with exact posteriors."""

import math

import pytest
import torch

from bayes1bit.bench.exact_problems import plane_problem, small_problem
from bayes1bit.bench.exact_scores import SCORES, Judge, component_frequencies, sliced_distance
from bayes1bit.bench.exact_table import KEY, run_exact
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import Algorithm, LookaheadSMC
from bayes1bit.infer.algorithm import Draws
from bayes1bit.posterior import Posterior


class PriorDraws(Algorithm):
    """Draws of the prior, as if there were no data."""

    paper = assumptions = cost = exactness = "none"

    def draw(self, target):
        return Draws(target.prior.sample((self.num_samples,)))


class ImportanceSampling(PriorDraws):
    """Draws of the prior, weighted by the likelihood."""

    def draw(self, target):
        x = target.prior.sample((self.num_samples,))
        log_weights = target.log_likelihood(x).double()
        evidence = log_weights.logsumexp(0) - math.log(len(x))
        return Draws(x, log_weights.softmax(0), evidence.item())


class Diverging(PriorDraws):
    """Ends in an error."""

    def draw(self, target):
        raise FloatingPointError("diverged")


def prior_draws(model):
    return PriorDraws(model, 64, progress=False)


METHODS = {
    "prior": prior_draws,
    "importance": lambda model: ImportanceSampling(model, 512, progress=False),
    "diverging": lambda model: Diverging(model, 64, progress=False),
}


def test_sliced_distance_is_that_of_a_shift():
    torch.manual_seed(0)
    x = torch.randn(50, 1, 2)
    assert sliced_distance(x, x[torch.randperm(50)]) == pytest.approx(0, abs=1e-12)
    shift = torch.tensor([[0.3, -0.4]])
    # the average of |cos| over directions of the plane is 2 / pi
    expected = 0.5 * 2 / math.pi
    assert sliced_distance(x, x + shift, num_directions=20_000) == pytest.approx(
        expected, rel=0.02
    )
    assert sliced_distance(x, x + 2 * shift) == pytest.approx(2 * sliced_distance(x, x + shift))


def test_sliced_distance_takes_weights():
    torch.manual_seed(0)
    x = torch.randn(4, 3)
    repeated = x[torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])]
    weights = torch.tensor([3.0, 1.0, 4.0, 0.0])
    assert sliced_distance(x, repeated, weights) == pytest.approx(0, abs=1e-12)
    assert sliced_distance(x, repeated, torch.ones(4)) > 0.1


def test_sliced_distance_refuses_what_cannot_be_compared():
    with pytest.raises(InputError, match="give as many signals"):
        sliced_distance(torch.zeros(4, 3), torch.zeros(5, 3))
    with pytest.raises(InputError, match="need weights of shape"):
        sliced_distance(torch.zeros(4, 3), torch.zeros(5, 3), torch.ones(3))


def test_component_frequencies_honour_weights():
    prior = GaussianMixturePrior(torch.tensor([[-5.0, 0.0], [5.0, 0.0]]), 0.5)
    x = prior.means[torch.tensor([0, 1, 1])]
    assert component_frequencies(prior, x).tolist() == pytest.approx([1 / 3, 2 / 3])
    weights = torch.tensor([0.5, 0.5, 0.0])
    assert component_frequencies(prior, x, weights).tolist() == pytest.approx([0.5, 0.5])


def test_table_tells_right_from_wrong(tmp_path):
    problems = [plane_problem(seed, noise=0.2) for seed in range(4)]
    path = tmp_path / "exact.csv"
    rows = run_exact(problems, METHODS, path, 512, progress=False)
    assert [row["method"] for row in rows] == ["exact", *METHODS]
    assert len(path.read_text().splitlines()) == 1 + 4 * 4
    exact, prior, importance, diverging = rows
    assert exact["runs"] == 4
    # sets of exact draws are as far from each other as from the baseline, which is one more
    assert 0.7 < exact["SW ratio"] < 1.5
    assert exact["TV"] < 0.05
    assert exact["mean error"] < 3 / 512**0.5
    assert abs(exact["std ratio"]) < 0.05
    assert exact["misses"] == 0
    assert exact["of"] > 0
    assert exact["log evidence error"] is None
    assert exact["R-hat"] < 1.05
    assert prior["SW ratio"] > 2
    assert prior["TV"] > 0.2
    assert prior["mean error"] > 0.3
    assert prior["std ratio"] > 0.2
    # weighted draws of the prior are right here, but fewer than they seem
    assert 0.7 < importance["SW ratio"] < 3
    assert importance["TV"] < 0.1
    assert importance["its size"] < 0.2
    assert abs(importance["log evidence error"]) <= importance["its size"]
    assert 50 < importance["ESS"] < 500
    assert importance["R-hat"] is None
    assert diverging["diverged"] == 4
    assert diverging["TV"] is None


def test_a_missed_component_is_counted():
    problem = next(
        candidate
        for seed in range(10)
        if (candidate := small_problem(seed, ratio=1)).reference().component_probs.max() > 0.9
    )
    judge = Judge(problem)
    best = judge.reference.component_probs.argmax()
    wrong = problem.prior.means[(best + 1) % 5] + 0.25 * torch.randn(64, 1, 8, 8)
    scores = judge.scores(Posterior(wrong, log_evidence=judge.reference.log_evidence + 1.5))
    assert scores["miss"] == 1
    assert scores["TV"] > 0.9
    assert scores["log evidence error"] == pytest.approx(1.5)
    assert judge.scores(judge.baseline(64))["miss"] == 0
    # one sample has no spread, and too few say nothing of convergence
    alone = judge.scores(Posterior(problem.truth[None]))
    assert alone["std ratio"] == -1
    assert alone["ESS"] is None


def test_benchmark_goes_on_where_it_stopped(tmp_path, monkeypatch):
    problems = [plane_problem(seed) for seed in range(2)]
    path, calls = tmp_path / "exact.csv", []

    def interrupted(model):
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prior_draws(model)

    methods = {"prior": interrupted}
    with pytest.raises(KeyboardInterrupt):
        run_exact(problems, methods, path, 64, progress=False)
    finished = path.read_text()
    assert len(finished.splitlines()) == 1 + 3
    # the interruption hits while a line is written
    path.write_bytes(path.read_bytes()[:-4])
    resumed = run_exact(problems, methods, path, 64, progress=False)
    assert len(calls) == 3
    whole = run_exact(problems, {"prior": prior_draws}, tmp_path / "b.csv", 64, progress=False)
    for one, other in zip(resumed, whole, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}
        )
    # nothing is left to run, so that no reference is made
    monkeypatch.setattr("bayes1bit.bench.exact_table.Judge", None)
    again = run_exact(problems, methods, path, 64, progress=False)
    assert again == resumed
    monkeypatch.undo()
    lines = len(path.read_text().splitlines())
    run_exact(problems, {}, path, 32, progress=False)
    run_exact(problems, {}, path, 32, setup="other", progress=False)
    assert len(path.read_text().splitlines()) == lines + 4


def test_one_reference_serves_all_methods_of_a_problem(tmp_path, monkeypatch):
    made = []

    class Counted(Judge):
        def __init__(self, problem):
            made.append(problem.seed)
            super().__init__(problem)

    monkeypatch.setattr("bayes1bit.bench.exact_table.Judge", Counted)
    problems = [plane_problem(seed) for seed in range(2)]
    methods = {"a": prior_draws, "b": prior_draws}
    rows = run_exact(problems, methods, tmp_path / "exact.csv", 64, progress=False)
    assert made == [0, 1]
    # methods start from the same random numbers
    assert rows[1]["SW ratio"] == rows[2]["SW ratio"]


def test_bad_arguments_are_refused(tmp_path):
    path = tmp_path / "exact.csv"
    problem = plane_problem(0)
    with pytest.raises(InputError, match="same name and seed"):
        run_exact([problem, problem], {}, path, 64, progress=False)
    with pytest.raises(InputError, match="rename the method"):
        run_exact([problem], {"exact": prior_draws}, path, 64, progress=False)
    path.write_text("a,b\n1,2")
    with pytest.raises(InputError, match="is not an exact benchmark"):
        run_exact([problem], {}, path, 64, progress=False)
    assert path.read_text() == "a,b\n1,2"
    assert len(set(KEY) | set(SCORES)) == len(KEY) + len(SCORES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("operator", ["hadamard", "gaussian"])
def test_seeds_name_the_same_data_on_a_gpu(tmp_path, operator):
    settings = {"operator": operator, "dither": True, "link": "logistic"}
    here = small_problem(3, **settings)
    there = small_problem(3, device="cuda", **settings)
    assert there.y.is_cuda
    torch.testing.assert_close(there.truth.cpu(), here.truth)
    assert there.y.cpu().equal(here.y)

    def smc(model):
        return LookaheadSMC(model, 64, progress=False)

    rows = run_exact([there], {"smc": smc}, tmp_path / "runs.csv", 64, progress=False)
    assert abs(rows[1]["log evidence error"]) < 1
    assert rows[1]["TV"] < 0.3
