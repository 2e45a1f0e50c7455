"""Notebooks of the repository as pages of the documentation.

Sphinx reads pages below its own folder alone, and the notebooks are beside it. They are copied
when the build starts; the copies are not kept in the repository.
"""

from pathlib import Path


def copy(source: Path, destination: Path) -> list[Path]:
    """Copy notebooks, and drop copies whose notebook is gone.

    Links from a notebook to ``../docs/PAGE.md`` become links to ``../PAGE.md``, where that page is
    as seen from the copy. A copy that is up to date is left alone, so that its page is not built
    again.

    Args:
        source: Folder of the notebooks; it may be missing.
        destination: Folder of the copies.

    Returns:
        The copies, by name.
    """
    copies = []
    for notebook in sorted(source.glob("*.ipynb")):
        text = notebook.read_text(encoding="utf-8").replace("](../docs/", "](../")
        page = destination / notebook.name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            destination.mkdir(exist_ok=True)
            page.write_text(text, encoding="utf-8")
        copies.append(page)
    for page in destination.glob("*.ipynb"):
        if page not in copies:
            page.unlink()
    return copies
