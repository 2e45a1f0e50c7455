"""Specs of methods: what a line of text makes, and one sentence for every line that makes none."""

from pathlib import Path

import pytest

from bayes1bit.cli.methods import markdown_table
from bayes1bit.diffusion import DDIM, Heun
from bayes1bit.errors import InputError
from bayes1bit.infer import ALGORITHMS, BIHT, DAPS, DPS, DiffOneBit, LangevinStep, SplitGibbsSMC
from bayes1bit.infer.registry import PARTS, make_algorithm, parse_spec, settings_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "algorithms.md"


def model():
    """Stand-in for a model: algorithms are made without running one."""


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_name_is_the_algorithm_with_its_defaults(name):
    algorithm = make_algorithm(name, model)
    assert type(algorithm) is ALGORITHMS[name]
    assert algorithm.settings() == ALGORITHMS[name](model).settings()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_says_what_it_is(name):
    for fact in ("paper", "assumptions", "cost", "exactness"):
        assert getattr(ALGORITHMS[name], fact).strip(), fact


def test_settings_reach_the_constructor():
    algorithm = make_algorithm(
        "  dps   misfit=likelihood num_levels=200 step=2 ", model, num_samples=3, progress=False
    )
    assert isinstance(algorithm, DPS)
    assert (algorithm.misfit, algorithm.num_levels, algorithm.step) == ("likelihood", 200, 2.0)
    assert isinstance(algorithm.step, float)
    assert (algorithm.num_samples, algorithm.progress) == (3, False)


def test_settings_of_the_spec_come_before_common_ones():
    assert make_algorithm("dps num_samples=5", model, num_samples=3).num_samples == 5


def test_words_for_truth_and_nothing():
    assert parse_spec("langevin metropolis=true sigma_max=none preconditioner=operator")[1] == {
        "metropolis": True,
        "sigma_max": None,
        "preconditioner": "operator",
    }
    assert parse_spec("langevin metropolis=false")[1] == {"metropolis": False}
    assert parse_spec("pnp-onebit solver=none")[1] == {"solver": None}
    assert parse_spec("gaussian-gibbs mean=-0.5")[1] == {"mean": -0.5}


def test_choices_may_be_numbers():
    assert parse_spec("lookahead-smc order=2")[1] == {"order": 2}
    with pytest.raises(InputError, match='order of lookahead-smc must be 1 or 2, got "3"'):
        parse_spec("lookahead-smc order=3")


def test_a_method_with_one_answer_is_not_asked_for_several():
    assert make_algorithm("biht sparsity=20", model, num_samples=16).num_samples == 1
    assert isinstance(make_algorithm("biht", model, num_samples=16), BIHT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gradient", "GradientStep(num_steps=20"),
        ("gradient:7", "GradientStep(num_steps=7"),
        ("proximal:9", "ProximalStep(max_iterations=9"),
        ("exact", "ExactStep()"),
    ],
)
def test_data_steps_by_name(text, expected):
    algorithm = make_algorithm(f"diff-onebit data_step={text}", model)
    assert isinstance(algorithm, DiffOneBit)
    assert repr(algorithm.data_step).startswith(expected)


def test_other_parts_by_name():
    step = make_algorithm("daps data_step=langevin-metropolis:30", model).data_step
    assert isinstance(step, LangevinStep)
    assert (step.num_steps, step.metropolis) == (30, True)
    step = make_algorithm("daps data_step=langevin", model).data_step
    assert (step.num_steps, step.metropolis) == (LangevinStep().num_steps, False)
    assert make_algorithm("split-gibbs data_step=gibbs:3", model).data_step.num_sweeps == 3
    step = make_algorithm("diffpir data_step=least-squares:matched", model).data_step
    assert step.scaling == "matched"
    solver = make_algorithm("daps solver=ddim:0.5", model).solver
    assert isinstance(solver, DDIM)
    assert solver.eta == 0.5
    algorithm = make_algorithm("daps solver=heun", model)
    assert isinstance(algorithm, DAPS)
    assert isinstance(algorithm.solver, Heun)
    algorithm = make_algorithm("split-gibbs-smc prior_step=reverse:5", model)
    assert isinstance(algorithm, SplitGibbsSMC)
    assert algorithm.prior_step.num_steps == 5


@pytest.mark.parametrize("setting", PARTS)
def test_every_part_can_be_made_and_is_taken_by_some_algorithm(setting):
    takers = [name for name in ALGORITHMS if setting in settings_of(ALGORITHMS[name])]
    assert takers
    for name in PARTS[setting]:
        assert parse_spec(f"{takers[0]} {setting}={name}")[1][setting] is not None


REFUSED = {
    "nothing": (" ", "a method is missing; methods are lookahead-smc"),
    "unknown": ("magic", 'unknown method "magic"; methods are lookahead-smc'),
    "setting": ("dps levels=5", 'dps has no setting "levels"; its settings are num_samples, num_'),
    "caller's": ("dps site=x", 'dps has no setting "site"'),
    "one answer": ("biht num_samples=5", 'biht has no setting "num_samples"'),
    "no value": ("dps num_levels", '"num_levels" is not a setting of dps'),
    "empty value": ("dps num_levels=", '"num_levels=" is not a setting of dps'),
    "twice": ("dps zeta=1 zeta=2", "dps is given zeta twice"),
    "word for number": ("dps num_levels=many", "num_levels of dps must be a whole number, got"),
    "fraction": ("dps num_levels=2.5", "num_levels of dps must be a whole number"),
    "truth for number": ("dps num_levels=true", "num_levels of dps must be a whole number"),
    "none for number": ("dps zeta=none", 'zeta of dps must be a number, got "none"'),
    "number or none": ("biht norm=big", "norm of biht must be a number or none"),
    "choice": ("dps misfit=bits", "misfit of dps must be likelihood or least-squares"),
    "tensor": ("langevin preconditioner=1", "preconditioner of langevin must be operator or none"),
    "truth": ("langevin metropolis=1", "metropolis of langevin must be true or false"),
    "part": ("daps data_step=newton", "data_step of daps must be one of gradient, proximal"),
    "solver": ("daps solver=euler", "solver of daps must be one of ddim, ancestral"),
    "part's value": ("daps data_step=exact:3", '"exact" takes nothing after it'),
    "part's type": (
        "daps data_step=langevin:x",
        "num_steps of langevin in data_step of daps must be a whole number",
    ),
    "part's range": ("daps solver=ddim:2", "eta must be between 0 and 1"),
    "range": ("dps num_levels=1", "num_levels must be at least 2, got 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_specs_are_refused(case):
    spec, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        make_algorithm(spec, model)
    assert message in str(caught.value)


def test_the_document_has_the_table_of_the_registry():
    assert markdown_table() in DOCUMENT.read_text(encoding="utf-8"), (
        'put the output of "bayes1bit methods --markdown" into docs/algorithms.md'
    )
