"""Every snippet of the README runs, in order, in one namespace and an empty folder."""

import re
from pathlib import Path

import matplotlib
import pyro
import pytest

import bayes1bit
from bayes1bit.cli import app

README = Path(__file__).parents[1] / "README.md"


def test_every_python_snippet_runs(tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) >= 5
    namespace: dict[str, object] = {}
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"README.md, snippet {number + 1}", "exec"), namespace)
    output = capsys.readouterr().out
    assert "one-bit probit of a row-orthogonal Hadamard operator" in output
    assert (tmp_path / "recovery.png").stat().st_size > 0
    assert bayes1bit.Posterior.load(tmp_path / "posterior.nc").num_samples == 8


def test_every_command_line_exists():
    text = README.read_text(encoding="utf-8")
    lines = re.findall(r"^bayes1bit (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert len(lines) >= 5
    known = {command.name for command in app.registered_commands} | {"bench"}
    for line in lines:
        assert line.split()[0] in known


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target


@pytest.fixture(autouse=True)
def _restore_global_state():
    yield
    pyro.clear_param_store()
