"""Tutorials: saved as they should be, listed, and running from top to bottom."""

import copy
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from tutorial_rules import MAX_BYTES, TUTORIALS, complaints

ROOT = TUTORIALS.parent
NOTEBOOKS = sorted(TUTORIALS.glob("[0-9][0-9]_*.ipynb"))
SCRIPT = ROOT / "scripts" / "run_tutorials.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_tutorials", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_tutorials_and_nothing_else():
    assert [path.name[:2] for path in NOTEBOOKS[:5]] == ["01", "02", "03", "04", "05"]
    assert len({path.name[:2] for path in NOTEBOOKS}) == len(NOTEBOOKS)
    assert sorted(path for path in TUTORIALS.iterdir() if path.is_file()) == NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_is_as_it_should_be(path, script):
    notebook = nbformat.read(path, as_version=4)
    assert complaints(notebook) == []
    assert path.stat().st_size < MAX_BYTES
    normal = copy.deepcopy(notebook)
    script.normalise(normal)
    assert normal == notebook, "save it with scripts/run_tutorials.py --write"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_is_listed(path):
    page = (ROOT / "docs" / "tutorials" / "00_overview.md").read_text("utf-8")
    assert f"]({path.name})" in page
    assert f"](tutorials/{path.name})" in (ROOT / "README.md").read_text("utf-8")


def test_lists_name_tutorials_that_exist():
    page = (ROOT / "docs" / "tutorials" / "00_overview.md").read_text("utf-8")
    listed = re.findall(r"\]\(([^)/]+\.ipynb)\)", page)
    assert sorted(listed) == [path.name for path in NOTEBOOKS]


def first_code(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def no_question(notebook):
    notebook.cells[0].source = "# A tutorial"


def no_exercise(notebook):
    notebook.cells.pop()


def broken_link(notebook):
    notebook.cells[0].source += "\n[page](../docs/nothing.md)"


def not_python(notebook):
    first_code(notebook).source += "\nif"


def unknown_name(notebook):
    first_code(notebook).source += "\nb1.infer.NoSuchAlgorithm"


def unknown_import(notebook):
    first_code(notebook).source += "\nfrom bayes1bit.diagnostics import no_such_score"


def not_executed(notebook):
    first_code(notebook).execution_count = None


def no_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def no_pictures(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)


def warning(notebook):
    first_code(notebook).outputs.append(
        nbformat.v4.new_output("stream", name="stderr", text="UserWarning")
    )


def error(notebook):
    first_code(notebook).outputs.append(
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    )


def place(notebook):
    first_code(notebook).outputs.append(
        nbformat.v4.new_output("stream", name="stdout", text="/home/me/posterior.nc")
    )


FAULTS = {
    no_question: "no question",
    no_exercise: "no section Exercise",
    broken_link: "there is no ../docs/nothing.md",
    not_python: "not Python",
    unknown_name: "there is no bayes1bit.infer.NoSuchAlgorithm",
    unknown_import: "there is no bayes1bit.diagnostics.no_such_score",
    not_executed: "not executed from top to bottom",
    no_outputs: "nothing is saved",
    no_pictures: "no picture is saved",
    warning: "saved stderr",
    error: "saved error",
    place: "names a place",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_rules_see_what_is_wrong(fault):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    fault(notebook)
    assert any(FAULTS[fault] in complaint for complaint in complaints(notebook))


def test_normal_form_is_seen(script):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    notebook.cells[1].id = "a1b2c3"
    changed = copy.deepcopy(notebook)
    script.normalise(changed)
    assert changed != notebook


def test_names_choose_tutorials(script):
    assert [path.name[:2] for path in script.find(["01", "03_cal"])] == ["01", "03"]
    assert script.find([]) == NOTEBOOKS
    with pytest.raises(script.TutorialError, match="begins with 'nothing'"):
        script.find(["01", "nothing"])


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs_from_top_to_bottom(path):
    done = run(path.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(rf"ok +[\d.]+ s  {path.name}\n", done.stdout)


CASES = {
    "fails": ("1 / 0", 1, "ZeroDivisionError"),
    "warns": ("import warnings\nwarnings.warn('bad')", 1, "standard error: .*bad"),
    "waits": ("import time\ntime.sleep(60)", 1, "more than 20 s"),
    "writes": ("open('file', 'w')\nimport os\nprint(os.listdir())", 0, "^ok"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_script_says_how_it_went(case, tmp_path):
    source, code, message = CASES[case]
    cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    done = run("--folder", tmp_path, "--timeout", 20, "--write")
    assert done.returncode == code
    assert re.search(message, done.stdout, re.DOTALL), done.stdout
    saved = nbformat.read(Path(tmp_path, "one.ipynb"), as_version=4)
    printed = [output.text for output in saved.cells[0].outputs]
    assert printed == (["['file']\n"] if case == "writes" else [])
