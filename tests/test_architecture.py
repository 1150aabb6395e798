"""Imports go down the table of the design, never up or sideways."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# Which parts of the package each may import, beside itself and the ground that everything stands on.
GROUND = {"errors", "config"}
ALLOWED = {
    "errors": set(),
    "config": set(),
    "nn": set(),
    "energy": {"nn"},
    "data": set(),
    "api": {"nn", "energy"},
    "training": {"api", "nn", "energy", "data"},
    "sweeping": {"training", "energy", "tracking"},
    "tracking": set(),
    "cli": set(),
}
MODULES = sorted(SRC.glob("spikefront/**/*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(SRC / "spikefront")
    return relative.parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] if node.module != "spikefront" else [f"spikefront.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        parts |= {n.split(".")[1] for n in names if n.startswith("spikefront.")}
    return parts


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down(path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in ALLOWED, f"{part} is not in the table: add it to the design first"
    upward = imported_parts(path) - GROUND - ALLOWED[part] - {part}
    assert not upward, f"{path} imports {upward}"


def test_nothing_but_plugins_imports_sweeping_from_outside():
    for path in (SRC / "hydra_plugins").glob("*.py"):
        assert imported_parts(path) <= {"sweeping", *GROUND}, path


@pytest.mark.parametrize("module", ["cli", "sweeping.sweep", "sweeping.inspection"])
def test_what_only_starts_and_reads_studies_waits_for_no_pytorch(module):
    program = f"import sys, spikefront.{module}; print(*{{'torch', 'pytorch_lightning', 'sklearn'}} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], cwd=SRC, text=True).split() == []
