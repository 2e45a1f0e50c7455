"""References of docstrings, resolved as Python resolves names.

A docstring speaks of things by their names in its own module, or by the module that defines them.
The reference documents them where they are imported from. So a reference that Sphinx cannot follow
is looked up by importing it, and leads to wherever that object is documented. What exists but has
no entry (a helper, or something of another package) stays plain text. What does not exist is left
to Sphinx, which warns.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_origin

from docutils.nodes import Element, TextElement
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

_MISSING = object()


@cache
def find(path: str) -> Any:
    """The object of a dotted path, or a marker if there is none."""
    words = path.split(".")
    for count in range(len(words), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(words[:count]))
        except (ImportError, ValueError):
            continue
        for word in words[count:]:
            found = getattr(found, word, _MISSING)
        return found
    return _MISSING


def candidates(node: Element) -> Iterator[str]:
    """Paths that the name in a reference can stand for, by where it is written."""
    target, module, owner = (node.get(key) for key in ("reftarget", "py:module", "py:class"))
    yield target
    yield f"builtins.{target}"
    if module is not None:
        yield f"{module}.{target}"
    if module is not None and owner is not None:
        yield f"{module}.{owner}.{target}"
        yield f"{getattr(find(f'{module}.{owner}'), '__module__', module)}.{target}"
    written = re.search(r"docstring of ([\w.]+)", node.source or "")
    words = written[1].split(".") if written else []
    for count in range(len(words), 0, -1):
        yield ".".join([*words[:count], target])


def identity(value: Any) -> tuple[str, str] | int:
    """What two paths of one object agree in; bound methods are made anew at each access."""
    # an alias such as Literal["a"] has the name of Literal, and is something else
    if inspect.isroutine(value) or (inspect.isclass(value) and not get_origin(value)):
        return getattr(value, "__module__", None) or "", value.__qualname__
    return id(value)


def _entries(env: BuildEnvironment) -> dict[tuple[str, str] | int, Any]:
    """Entries of the reference by what they describe; made when pages are all read."""
    entries: dict[tuple[str, str] | int, Any] | None = getattr(env, "_entries_by_identity", None)
    if entries is None:
        objects = env.get_domain("py").data["objects"].items()
        entries = {identity(find(name)): entry for name, entry in objects if not entry.aliased}
        env._entries_by_identity = entries
    return entries


def resolve(
    app: Sphinx, env: BuildEnvironment, node: Element, content: TextElement
) -> Element | None:
    """Find what a reference means; see the module."""
    if node.get("refdomain") != "py":
        return None
    found = (value for value in map(find, candidates(node)) if value is not _MISSING)
    value = next(found, _MISSING)
    if value is _MISSING:
        return None
    entry = _entries(env).get(identity(value))
    if entry is None or app.builder is None:
        return content
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, content, node["reftarget"]
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the lookup."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
