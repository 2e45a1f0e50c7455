"""What a saved tutorial must be like; each rule gives complaints, as sentences."""

import ast
import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import nbformat

TUTORIALS = Path(__file__).parents[1] / "tutorials"
MAX_BYTES = 400_000
_DRAWS = re.compile(r"\bplt\.subplots\(|^[\w.]*\bplot(_\w+)?\(", re.MULTILINE)
_CHAIN = re.compile(r"\w+(\.\w+)*")
_PLACES = re.compile(r"/(?:home|root|tmp|work|Users|usr)/")


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """Everything that is wrong with a tutorial, apart from whether it runs."""
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"it is not a valid notebook: {error}"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [*of_frame(notebook)]
    modules: dict[str, str] = {}
    for cell in code:
        with suppress(SyntaxError):
            modules |= imported(ast.parse(python(cell)))
        found += [*of_code(cell, modules), *of_outputs(cell)]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not executed from top to bottom")
    return found


def of_frame(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """It begins with a question, ends with an exercise, and its links lead somewhere."""
    first, last = notebook.cells[0], notebook.cells[-1]
    heading = first.source.splitlines()[0] if first.source else ""
    if first.cell_type != "markdown" or not (heading.startswith("# ") and heading.endswith("?")):
        yield f"its first line is no question: {heading!r}"
    if last.cell_type != "markdown" or not re.search(r"^## Exercises?$", last.source, re.M):
        yield "its last cell is no section Exercise"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source):
                if not link.startswith("http") and not (TUTORIALS / link).exists():
                    yield f"there is no {link}"


def of_code(cell: nbformat.NotebookNode, modules: dict[str, str]) -> Iterator[str]:
    """The code is Python, and the package has every name that it takes from it.

    ``modules`` are the names by which the notebook knows the package and its parts.
    """
    try:
        tree = ast.parse(python(cell))
    except SyntaxError as error:
        yield f"a cell is not Python: {error}"
        return
    names = set(imported(tree).values())
    for node in ast.walk(tree):
        first, _, rest = ast.unparse(node).partition(".")
        if isinstance(node, ast.Attribute) and first in modules and _CHAIN.fullmatch(rest):
            names.add(f"{modules[first]}.{rest}")
    yield from (f"there is no {name}" for name in sorted(names) if not exists(name))


def imported(tree: ast.AST) -> dict[str, str]:
    """Dotted names of what is imported from the package, by the names that it is given."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names |= {alias.asname or alias.name: start + alias.name for alias in node.names}
    return {name: path for name, path in names.items() if path.partition(".")[0] == "bayes1bit"}


def of_outputs(cell: nbformat.NotebookNode) -> Iterator[str]:
    """What was printed and drawn is there; errors, warnings and places on a disk are not."""
    kinds = {output.get("name", output.output_type) for output in cell.outputs}
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    yield from (f"a cell has saved {kind}" for kind in kinds & {"error", "stderr"})
    if prints(cell) and "stdout" not in kinds:
        yield f"nothing is saved of what this cell prints: {cell.source!r}"
    if _DRAWS.search(cell.source) and not pictures:
        yield f"no picture is saved of what this cell draws: {cell.source!r}"
    texts = [output.get("text", "") for output in cell.outputs]
    texts += [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    if places := _PLACES.findall("\n".join(texts)):
        yield f"an output names a place on a disk: {places[0]}"


def python(cell: nbformat.NotebookNode) -> str:
    """The source of a code cell without its magic commands."""
    return "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))


def prints(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell prints when it runs, other than inside functions that it defines."""
    try:
        statements = ast.parse(python(cell)).body
    except SyntaxError:
        return False
    statements = [node for node in statements if not isinstance(node, ast.FunctionDef)]
    calls = (node for top in statements for node in ast.walk(top) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or leads from one to an attribute.

    What lies beyond a module or a class, such as a field of an instance, is not judged.
    """
    parts = name.split(".")
    value: object = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not isinstance(value, ModuleType | type):
            return True
        if not hasattr(value, part):
            try:
                importlib.import_module(".".join(parts[:i]))
            except ImportError:
                return False
        value = getattr(value, part)
    return True
