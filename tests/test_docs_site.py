"""The documentation as a site: complete, in step with the package, and built from what is here."""

import importlib
import inspect
import re
import runpy
from pathlib import Path

import matplotlib
import pytest
import torch
from public_names import public_names, public_packages

import bayes1bit
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.infer import ALGORITHMS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "api").glob("*.md"))
ENTRY = re.compile(r"^\.\. auto(\w+):: ([\w.]+)$", re.MULTILINE)


def entries():
    """What the reference describes: kind of directive and dotted path, in order."""
    return [entry for page in REFERENCE for entry in ENTRY.findall(page.read_text("utf-8"))]


def look_up(kind, path):
    """The object that an entry describes."""
    if kind == "module":
        return importlib.import_module(path)
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_public_names_are_found():
    names = public_names()
    assert names["bayes1bit.infer.DPS"] is ALGORITHMS["dps"]
    assert len(public_packages()) > 8
    assert len(names) > 100


def test_every_public_name_is_in_the_reference():
    described = [look_up(kind, path) for kind, path in entries()]
    missing = [
        name
        for name, value in public_names().items()
        if not any(value is other for other in described)
    ]
    assert missing == [], "add them to a page of docs/api"


def test_every_entry_has_the_directive_of_its_kind():
    for kind, path in entries():
        value = look_up(kind, path)
        if kind == "module":
            assert value.__doc__, path
            continue
        expected = "function" if inspect.isroutine(value) else "data"
        if inspect.isclass(value):
            expected = "exception" if issubclass(value, Exception) else "class"
        assert kind == expected, path


def test_nothing_is_described_twice():
    paths = [path for kind, path in entries() if kind != "module"]
    assert len(paths) == len(set(paths))


def test_tables_of_the_reference_list_what_is_described():
    for page in REFERENCE:
        text = page.read_text("utf-8")
        listed = re.findall(r"^ {3}~?([\w.]+)$", text, re.MULTILINE)
        described = [path for kind, path in ENTRY.findall(text) if kind != "module"]
        assert len(listed) == len(described), page.name
        for short, path in zip(listed, described, strict=True):
            assert path == short or path.endswith(f".{short}"), (page.name, short, path)


def algorithm_sections():
    """Sections of the page on algorithms whose heading is a name of one."""
    text = (DOCS / "algorithms.md").read_text("utf-8")
    return re.findall(r"^### `([\w-]+)`\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)


def test_every_algorithm_has_a_section_with_its_equation_and_use():
    sections = algorithm_sections()
    assert sorted(name for name, _ in sections) == sorted(ALGORITHMS)
    for name, section in sections:
        assert re.search(r"^\$\$\n.+?^\$\$$", section, re.MULTILINE | re.DOTALL), name
        assert "\nUse it" in section, name


def test_settings_that_sections_name_exist():
    """A section may write ``setting=value``, as a spec or as an argument."""
    named = [(name, *pair) for name, text in algorithm_sections() for pair in spec_settings(text)]
    assert len(named) > 5
    for name, setting, _ in named:
        assert setting in inspect.signature(ALGORITHMS[name]).parameters, (name, setting)


def spec_settings(text):
    code = " ".join(re.findall(r"`([^`]+)`", text))
    return re.findall(r"(\w+)=([\w\"-]+)", code)


def test_landing_page_shows_ten_lines_that_run(tmp_path, monkeypatch):
    """With a mixture in place of the trained prior, whose run takes longer."""
    matplotlib.use("Agg")
    text = (DOCS / "index.md").read_text("utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len([line for line in snippet.splitlines() if line]) <= 10
    assert text.index("demo.png") < text.index(snippet)
    torch.manual_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, 1, 32, 32).clamp(-1, 1), 0.3)
    monkeypatch.setattr(bayes1bit, "load_prior", lambda name: prior)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(compile(snippet, "index.md", "exec"), namespace)
    assert (tmp_path / "recovery.png").stat().st_size > 0
    assert (namespace["lower"] <= namespace["upper"]).all()


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for index in (DOCS / "index.md", DOCS / "api" / "index.md"):
        for block in re.findall(
            r"^```{toctree}\n(.*?)^```", index.read_text("utf-8"), re.M | re.S
        ):
            lines = [line for line in block.split() if not line.startswith(":")]
            listed |= {str((index.parent / line).relative_to(DOCS)) for line in lines}
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.glob("**/*.md")}
    here = {page for page in pages if not page.startswith(("_build", "tutorials"))}
    assert here - {"index"} <= listed


@pytest.fixture
def copy():
    return runpy.run_path(str(DOCS / "_ext" / "tutorials.py"))["copy"]


def test_notebooks_are_copied_and_links_follow(tmp_path, copy):
    source, pages = tmp_path / "tutorials", tmp_path / "docs" / "tutorials"
    source.mkdir()
    pages.mkdir(parents=True)
    (source / "02_b.ipynb").write_text("b [guide](../docs/guide.md#data)")
    (source / "01_a.ipynb").write_text("a")
    (pages / "old.ipynb").write_text("gone")
    (pages / "00_overview.md").write_text("kept")
    assert [page.name for page in copy(source, pages)] == ["01_a.ipynb", "02_b.ipynb"]
    assert (pages / "02_b.ipynb").read_text() == "b [guide](../guide.md#data)"
    assert sorted(page.name for page in pages.iterdir()) == [
        "00_overview.md",
        "01_a.ipynb",
        "02_b.ipynb",
    ]
    before = (pages / "01_a.ipynb").stat().st_mtime_ns
    copy(source, pages)
    assert (pages / "01_a.ipynb").stat().st_mtime_ns == before


def test_no_notebooks_are_no_pages(tmp_path, copy):
    assert copy(tmp_path / "missing", tmp_path / "pages") == []
    assert not (tmp_path / "pages").exists()


def test_stars_of_shapes_are_escaped_and_others_are_not():
    pytest.importorskip("sphinx")
    escape = runpy.run_path(str(DOCS / "_ext" / "docstrings.py"))["escape"]
    assert escape("shape (*batch, *event).") == r"shape (\*batch, \*event)."
    assert escape("(C, *sizes / 2) and (m, *prior.event_shape)") == (
        r"(C, \*sizes / 2) and (m, \*prior.event_shape)"
    )
    for kept in ("``(K, *event)``", "``f(x,\n*event)``", "(*Least squares*, as)", r"(\*event)"):
        assert escape(kept) == kept


def test_references_are_looked_up_as_python_does():
    pytest.importorskip("sphinx")
    module = runpy.run_path(str(DOCS / "_ext" / "references.py"))
    find, candidates = module["find"], module["candidates"]

    class Reference(dict):
        source = "waveforms.py:docstring of bayes1bit.diagnostics.waveforms.r_peak"

    def meaning(name):
        values = map(find, candidates(Reference(reftarget=name)))
        return next((value for value in values if value is not module["_MISSING"]), None)

    assert meaning("bayes1bit.infer.DPS") is ALGORITHMS["dps"]
    assert meaning("QRS_BAND") == (3.0, 30.0)
    assert meaning("InputError.with_traceback") is not None
    assert meaning("NoSuchThing") is None
    identity = module["identity"]
    assert identity(find("bayes1bit.infer.dps.DPS")) == identity(find("bayes1bit.infer.DPS"))
    assert identity(find("bayes1bit.observation.Link")) != identity(find("typing.Literal"))
    model = find("bayes1bit.models.Model")
    assert identity(model) != identity(find("collections.abc.Callable"))
    assert identity(str.join) == identity(find("builtins.str.join"))
