"""Every snippet of the documentation runs, and the algorithm that it writes is right."""

import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

from bayes1bit import models
from bayes1bit.bench.exact import GridPosterior
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import (
    ALGORITHMS,
    Langevin,
    SampleGiven,
    SplitGibbs,
    SplitGibbsSMC,
    Target,
    TwistedSMC,
)
from bayes1bit.infer.data_steps import LangevinStep
from bayes1bit.observation import OneBit
from bayes1bit.operators import Dense, Hadamard

DOCS = Path(__file__).parents[1] / "docs"
OWN = "own_algorithm.md"
MODELS = "models.md"


def blocks(page, language):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_blocks(page, **namespace):
    """Run a page's snippets in order in one namespace, which is returned."""
    for number, snippet in enumerate(blocks(page, "python")):
        exec(compile(snippet, f"{page}, snippet {number + 1}", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    "page",
    sorted(path.name for path in DOCS.glob("*.md") if path.name not in (OWN, MODELS, "index.md")),
)
def test_every_snippet_runs(page, tmp_path, monkeypatch):
    """A page may speak of the reader's ``model`` of bits of an 8x8 signal and its data ``y``."""
    pyro.set_rng_seed(0)
    monkeypatch.chdir(tmp_path)
    prior = GaussianMixturePrior(torch.randn(3, 8, 8), 0.3)
    operator = Hadamard((8, 8), 16, seed=0)

    def model(y=None):
        x = pyro.sample("x", prior)
        return pyro.sample("y", OneBit(operator(x), 0.5).to_event(1), obs=y)

    run_blocks(page, model=model, y=model())


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (DOCS / link).exists(), link


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """What the page on algorithms leaves behind, and what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("own"))
        printed = []
        patch.setattr("builtins.print", lambda *words: printed.append(" ".join(map(str, words))))
        namespace = run_blocks(OWN)
    return namespace, "\n".join(printed)


def test_own_algorithm_is_short_and_is_not_in_the_package():
    code = blocks(OWN, "python")[0]
    assert "class ParallelTempering(Algorithm)" in code
    assert len(code.splitlines()) < 40
    assert "ParallelTempering" not in [algorithm.__name__ for algorithm in ALGORITHMS.values()]


def test_own_algorithm_agrees_with_the_exact_posterior(own):
    """Independent samples: five standard errors of means, shares and standard deviations."""
    namespace, _ = own
    exact, x = namespace["exact"], namespace["tempering"].samples
    assert len(x) == 1000
    assert ((x.mean(0) - exact.mean).abs() < 5 * exact.std / len(x) ** 0.5).all()
    fourth = (x - exact.mean).pow(4).mean(0)
    error = ((fourth - exact.std.pow(4)) / len(x)).sqrt()
    assert (((x - exact.mean).square().mean(0) - exact.std.square()).abs() < 5 * error).all()

    def shares(posterior):
        return namespace["prior"].component_log_probs(posterior.samples).exp().mean(0)

    probs = exact.component_probs
    assert probs[2] > 0.2
    assert probs[3] > 0.2
    # an event in 300 is seen three times or so; one more makes a difference of 0.001
    tolerance = 5 * (probs * (1 - probs) / len(x)).sqrt() + 0.001
    assert ((shares(namespace["tempering"]) - probs).abs() < tolerance).all()
    # what the page says of chains that are annealed alone
    assert ((shares(namespace["annealing"]) - probs).abs() > tolerance).any()


def test_page_shows_what_the_snippet_prints(own):
    """Up to the rounding of other machines, which can change a decision and so a draw."""
    _, printed = own
    (shown,) = blocks(OWN, "text")
    shown_lines, printed_lines = shown.splitlines(), printed.splitlines()
    assert shown_lines[0] == printed_lines[0]
    assert len(shown_lines) == len(printed_lines) == 4
    for one, other in zip(shown_lines[1:], printed_lines[1:], strict=True):
        name, *numbers = one.rsplit(maxsplit=6)
        other_name, *other_numbers = other.rsplit(maxsplit=6)
        assert name == other_name
        # five standard errors of a share of one half among 1,000
        assert list(map(float, numbers)) == pytest.approx(
            list(map(float, other_numbers)), abs=0.08
        )


def test_own_algorithm_runs_on_any_likelihood(own):
    """Normal data take the path of powers, whose copy smooths the likelihood by a tenth."""
    torch.manual_seed(0)
    namespace, _ = own
    means = torch.tensor([[1.0, 0.5], [-1.0, 0.5]], dtype=torch.float64)
    prior = GaussianMixturePrior(means, 0.4)
    operator = Dense(torch.tensor([[0.3, 1.0], [1.0, -0.5]], dtype=torch.float64))

    def model(y):
        x = pyro.sample("x", prior)
        return pyro.sample("y", dist.Normal(operator(x), 0.8).to_event(1), obs=y)

    y = torch.tensor([0.4, 0.3], dtype=torch.float64)
    algorithm = namespace["ParallelTempering"](
        model, 600, 15, prior_step=SampleGiven(), progress=False
    )
    posterior = algorithm.run(y)
    assert posterior.settings["prior_step"] == "SampleGiven()"
    grid = GridPosterior(Target.from_model(model, y), (-4.0, 4.0), 200)
    # five standard errors of 600 samples, and a twentieth for the smoothing
    assert ((posterior.samples.mean(0) - grid.mean).abs() < 0.25 * grid.std).all()
    assert 0.1 < (posterior.samples[:, 0] < 0).double().mean() < 0.9


@pytest.fixture(scope="module")
def ready():
    """What the page on models leaves behind, and the structures that it prints."""
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *words: printed.append(" ".join(map(str, words))))
        namespace = run_blocks(MODELS)
    return namespace, printed


def test_page_on_models_shows_the_structures_that_are_found(ready):
    _, printed = ready
    text = "\n".join(blocks(MODELS, "python"))
    shown = re.findall(r"^print\(structure\(\w+\)\)  # (.*)$", text, re.MULTILINE)
    assert len(shown) == 5
    assert [line for line in printed if "operator" in line] == shown


def test_page_on_models_has_all_of_them():
    page = (DOCS / MODELS).read_text(encoding="utf-8")
    ready_made = [name for name in models.__all__ if name.islower() and name[:5] != "check"]
    assert len(ready_made) == 12
    assert [name for name in ready_made if f"`{name}`" not in page] == []


OWN_MODEL = {
    "SplitGibbsSMC": lambda model: SplitGibbsSMC(
        model, 500, prior_step=SampleGiven(), progress=False
    ),
    "TwistedSMC": lambda model: TwistedSMC(model, 500, progress=False),
    "Langevin": lambda model: Langevin(model, 500, metropolis=True, progress=False),
    "SplitGibbs": lambda model: SplitGibbs(
        model,
        500,
        num_levels=6,
        rho_max=2.0,
        rho_min=0.1,
        num_sweeps=4,
        num_steps=None,
        data_step=LangevinStep(10, metropolis=True),
        progress=False,
    ),
}


@pytest.mark.parametrize("name", OWN_MODEL)
def test_own_model_agrees_with_the_grid(ready, name):
    """Moments within five standard errors of 500 draws.

    A fifth of a standard deviation more where chains keep the mode that they found first.
    """
    namespace, _ = ready
    (code,) = (code for code in blocks(MODELS, "python") if "def one_bit_intensity" in code)
    assert len(code.strip().splitlines()) <= 10
    model, y, grid = (namespace[name] for name in ("small", "data", "grid"))
    pyro.set_rng_seed(0)
    samples = OWN_MODEL[name](model).draw(Target.from_model(model, y)).samples

    def functions(x):
        return torch.cat([x, x.square(), (x[:, :1] > 0).to(x)], 1)

    mean = grid.expectation(functions)
    std = (grid.expectation(lambda x: functions(x).square()) - mean.square()).sqrt()
    assert 0.2 < mean[-1] < 0.8  # both modes count
    more = 0.05 if "SMC" in name else 0.2
    error = (functions(samples).mean(0) - mean).abs() / std
    assert (error < 5 / 500**0.5 + more).all(), error
    if name == "SplitGibbsSMC":
        evidence = namespace["particles"].log_evidence
        assert evidence == pytest.approx(grid.log_evidence, abs=0.15)
