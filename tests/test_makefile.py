"""The Makefile: each target installs what it needs, once, and nothing else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = ("Makefile", "pyproject.toml", "constraints.txt")

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not (REPOSITORY / "Makefile").exists(),
    reason="needs make, and a checkout of the repository",
)


def installs(folder, target):
    """What pip would install for a target: make is told to print its commands and run none."""
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=folder, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if " pip install " in line]
    assert all("-c constraints.txt" in line for line in lines)
    return [line.split("constraints.txt ")[1].strip("-e '") for line in lines]


@pytest.fixture
def checkout(tmp_path):
    for name in FILES:
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("demo", ["torch", "."]),
        ("test", ["torch", ".", ".[dev]"]),
        ("lint", ["torch", ".", ".[dev]"]),
        ("tutorials", ["torch", ".", ".[dev]"]),
        ("docs", ["torch", ".", ".[dev]", ".[docs]"]),
    ],
)
def test_a_fresh_checkout_installs_what_the_target_needs(checkout, target, expected):
    assert installs(checkout, target) == expected


def test_what_is_installed_stays_until_the_requirements_change(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".package").touch()
    assert installs(checkout, "demo") == []
    assert installs(checkout, "test") == [".[dev]"]
    (checkout / ".venv" / ".installed").touch()
    assert installs(checkout, "test") == []
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(checkout / "pyproject.toml", (later, later))
    assert installs(checkout, "test") == ["torch", ".", ".[dev]"]
