r"""What docstrings and signatures say in a way that reStructuredText takes for something else.

Shapes such as (particles, \*event) have stars, which would begin an emphasis, and some defaults
have no source text (``<factory>``), so that their signatures cannot be parsed.
"""

import re

from sphinx.application import Sphinx

# literals keep their stars; elsewhere one that leads a dimension is meant as a star
_STAR = re.compile(r"(``.*?``|`[^`]*`)|(?<=[(\s])\*(?=[\w.]+(?: [*/] \d)?[,)}])", re.DOTALL)

_NO_SOURCE = re.compile(r"=\s*<[^<>]*>")


def escape(text: str) -> str:
    """Escape the stars of shapes in reStructuredText."""
    return _STAR.sub(lambda match: match[1] or r"\*", text)


def process(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Escape a docstring in place."""
    lines[:] = escape("\n".join(lines)).split("\n")


def process_signature(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    result: str,
) -> tuple[str | None, str] | None:
    """Show an ellipsis for defaults that have no source text."""
    return None if signature is None else (_NO_SOURCE.sub("=...", signature), result)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the escape, which comes before sections become fields."""
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("autodoc-process-signature", process_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
