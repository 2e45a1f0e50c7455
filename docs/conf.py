"""Configuration of the documentation: ``make docs`` writes it to ``docs/_build/html``."""

import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

# saved tutorials are built as they are, with the outputs they were saved with
import_module("tutorials").copy(DOCS.parent / "tutorials", DOCS / "tutorials")

project = "bayes1bit"
copyright = "the authors of bayes1bit"
release = import_module("bayes1bit").__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "references",
    "docstrings",
]
exclude_patterns = ["_build", "_ext"]
# every reference in a page or docstring must name something that exists
nitpicky = True
# imported for type checkers alone, so that Sphinx cannot know them
nitpick_ignore = [("py:class", "Figure"), ("py:class", "Image")]
default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 120
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "bayes1bit"
html_static_path: list[str] = []
