"""HTML of the page. Whatever is not written here is escaped here.

The page's own style, script and pictures are inside it, and its content security policy forbids
everything else, so that no name, setting or text of a posterior file can make a browser fetch or
run anything.
"""

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from bayes1bit.report.drawing import Drawing
from bayes1bit.report.findings import Finding

_SIGNS = {"fine": "✓ fine", "warn": "! warn", "bad": "✗ bad", "info": "i info"}


def render_page(title: str, lead: str, sections: Sequence[str]) -> str:
    """The whole page.

    Args:
        title: Title, any text.
        lead: A sentence below the title, any text.
        sections: HTML of the sections.
    """
    assets = files("bayes1bit.report")
    style, script, page = (
        assets.joinpath(f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("css", "js", "html")
    )
    return Template(page).substitute(
        title=escape(title),
        lead=escape(lead),
        style=style,
        script=script,
        main="\n".join(sections),
    )


def section(name: str, title: str, *parts: str) -> str:
    """A section with a heading.

    Args:
        name: Identifier of the heading, unique on the page.
        title: Heading, any text.
        parts: HTML of what is in it; empty parts are left out.
    """
    content = "\n".join(filter(None, parts))
    return (
        f'<section aria-labelledby="{escape(name)}">\n'
        f'<h2 id="{escape(name)}">{escape(title)}</h2>\n{content}\n</section>'
    )


def paragraph(text: str) -> str:
    """A paragraph of any text."""
    return f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading inside a section, any text."""
    return f"<h3>{escape(text)}</h3>"


def figure(drawing: Drawing, name: str = "", wide: bool = False) -> str:
    """A picture with its caption.

    Args:
        drawing: The picture.
        name: Identifier, unique on the page; empty for none.
        wide: Whether it stands by itself.
    """
    data = base64.b64encode(drawing.png).decode("ascii")
    attributes = (f' id="{escape(name)}"' if name else "") + (' class="wide"' if wide else "")
    pixels = ' class="pixels"' if drawing.pixels else ""
    return (
        f"<figure{attributes}>\n"
        f'<img{pixels} src="data:image/png;base64,{data}" alt="{escape(drawing.alt)}">\n'
        f"<figcaption>{escape(drawing.caption)}</figcaption>\n</figure>"
    )


def figures(drawings: Sequence[Drawing]) -> str:
    """Pictures side by side, as many as there is room for."""
    if not drawings:
        return ""
    return '<div class="figures">\n' + "\n".join(map(figure, drawings)) + "\n</div>"


def slider(drawings: Sequence[Drawing]) -> str:
    """Pictures one at a time, and a slider that moves between them."""
    count = len(drawings)
    shown = "\n".join(figure(d, f"sample-{i + 1}") for i, d in enumerate(drawings))
    return f"""<div class="controls" hidden>
<label for="sample-slider">Sample shown, 1 to {count}:
<output id="sample-place" for="sample-slider">1</output></label>
<input type="range" id="sample-slider" min="1" max="{count}" step="1" value="1"
 autocomplete="off" aria-controls="samples" aria-describedby="slider-help">
<p id="slider-help">Drag, or press the arrow keys.</p>
</div>
<div id="samples">
{shown}
</div>"""


def findings_list(findings: Sequence[Finding]) -> str:
    """Findings with their levels, in words, signs and colours."""
    items = "\n".join(
        f'<li class="{f.level}"><strong>{_SIGNS[f.level]}</strong> '
        f"<b>{escape(f.name)}.</b> {escape(f.sentence)}</li>"
        for f in findings
    )
    return f'<ul class="findings">\n{items}\n</ul>'


def table(
    rows: Sequence[Sequence[str]], caption: str, header: Sequence[str] = (), code: bool = False
) -> str:
    """A table whose first column names the rows.

    Args:
        rows: Cells of any text.
        caption: What it holds, for those who cannot see it.
        header: Names of the columns; empty for none.
        code: Whether other cells are text to be copied.
    """
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    head = f"<thead><tr>{head}</tr></thead>\n" if head else ""
    left, right = ("<code>", "</code>") if code else ("", "")
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{left}{escape(cell)}{right}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table aria-label="{escape(caption)}">\n{head}'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
