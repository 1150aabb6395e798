"""The house: imports go down the table of the design, whoever makes them, and nothing stands twice."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

SRC = Path(__file__).parents[1] / "src"
PACKAGE = SRC / "spikefront"
LONGEST = 300  # lines of a file


# Which rooms each may know, beside itself and the ground that everything stands on.
GROUND = {"errors", "config", "units", "files", "renamed", "start", "trust", "console"}
ALLOWED: dict[str, set[str]] = {
    **{name: set() for name in GROUND},
    "analysis": set(),
    "nn": set(),
    "data": set(),
    "energy": {"nn"},
    "api": {"nn", "energy"},
    "tracking": {"analysis"},
    "cluster": set(),
    "training": {"nn", "energy", "data", "cluster"},
    "exporting": {"nn", "energy", "data", "training", "tracking"},
    "planning": {"training", "nn", "energy", "data"},
    "sweeping.search": {"analysis"},
    "sweeping.study": {"sweeping.search", "analysis", "cluster"},
    "sweeping.worker": {"sweeping.search", "sweeping.study", "training", "planning", "cluster", "analysis"},
}
TOP = {"commands", "hydra_plugins", "__main__"}  # know everything
FACADE = {  # what `spikefront.name` stands for
    "create_model": "api",
    "list_models": "api",
    "load_checkpoint": "nn",
    "audit": "api",
    "measure_energy": "energy",
    "predict_cost": "planning",
    "from_pretrained": "exporting",
}
MODULES = sorted(PACKAGE.glob("**/*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def room_of(module: str) -> str:
    """Of ``spikefront.sweeping.study.ledger`` it is ``sweeping.study``, of ``spikefront.nn.kernels.gpu`` ``nn``."""
    parts = module.split(".")[1:] or [module]
    return ".".join(parts[:2]) if parts[0] == "sweeping" and len(parts) > 1 else parts[0]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it; names taken from the facade by their room."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "spikefront":
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in NAMES else facade(whole))
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("spikefront.")}
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "spikefront"
            and node.attr in FACADE
        ):
            found.add(f"spikefront.{FACADE[node.attr]}")
    return found


def facade(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    return f"spikefront.{FACADE.get(attribute, attribute)}" if module == "spikefront" else module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path):
    module = name_of(path)
    if module in ("spikefront", "spikefront.sweeping"):
        return
    room = room_of(module)
    if room in TOP:
        return
    assert room in ALLOWED, f"{room} is not in the table: add it to the design first"
    upward = {m for m in imports(path) if room_of(m) not in {room, *GROUND, *ALLOWED[room]}}
    assert not upward, f"{module} imports {upward}"


def test_configuration_builds_only_what_the_room_that_builds_it_knows():
    """What a `_target_` names is instantiated by training (and by workers, for what is below ``search``)."""
    below = {"train": {"training", *ALLOWED["training"], "tracking"}, "sweeps": {"sweeping.search", "analysis"}}
    for folder, allowed in (("conf", below["train"]), ("sweeps", below["sweeps"])):
        for path in (SRC.parent / folder).rglob("*.yaml"):
            for target in targets(yaml.safe_load(path.read_text(encoding="utf-8"))):
                if target.startswith("spikefront."):
                    assert room_of(target) in allowed, f"{path} builds {target}"


def targets(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["_target_"]} if isinstance(node.get("_target_"), str) else set()
        return own.union(*map(targets, node.values()))
    return set().union(*map(targets, node)) if isinstance(node, list) else set()


def test_no_circle_anywhere():
    """Modules form a tree of knowledge; an import inside a function only delays what is above it."""
    graph = {name_of(p): {m for m in imports(p) if m != name_of(p)} for p in MODULES if name_of(p) != "spikefront"}
    packages = {name_of(p) for p in MODULES if p.name == "__init__.py"}
    graph = {m: {i for i in needs if i not in packages} for m, needs in graph.items() if m not in packages}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_two_modules_share_a_name():
    """A command is called as what it shows or does; no other two files are."""
    names: dict[str, str] = {}
    for path in MODULES:
        module = name_of(path)
        if path.name == "__init__.py" or room_of(module) == "commands":
            continue
        stem = path.stem
        assert stem not in names, f"{module} and {names.get(stem)}"
        names[stem] = module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_reader_holds_a_file_in_the_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST, path
    assert "util" not in path.stem


SPEAK = {"training", "sweeping.worker", "cluster"}


def test_only_commands_print():
    """Rooms below return what is to be said; only what runs unattended writes its own log."""
    for path in MODULES:
        module = name_of(path)
        if room_of(module) in {"commands", *SPEAK}:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                to_stderr = any(k.arg == "file" for k in node.keywords)
                assert to_stderr, f"{module}, line {node.lineno}: prints"


LIGHT = ("commands.cli", "commands.study", "commands.sweep")
LOOK = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(f"spikefront.{module}")
    print(module, *{"torch", "pytorch_lightning", "sklearn"} & set(sys.modules))
"""


@pytest.fixture(scope="module")
def loaded():
    """What one process has of the heavy libraries after each of the ``LIGHT`` modules."""
    said = subprocess.check_output([sys.executable, "-c", LOOK, *LIGHT], cwd=SRC, text=True)
    return {module: heavy for module, *heavy in map(str.split, said.splitlines())}


@pytest.mark.parametrize("module", LIGHT)
def test_what_only_starts_and_reads_studies_waits_for_no_pytorch(loaded, module):
    assert loaded[module] == []


STORED = ("attributes", "looks", "rows_internals", "several_internals", "proxy_internals")
STORED += ("journal_internals", "storage_internals", "tables_internals")
KEEPERS = {f"spikefront.sweeping.study.{name}" for name in STORED}


def test_optunas_attributes_are_named_and_read_in_one_place():
    for path in MODULES:
        if name_of(path) not in KEEPERS:
            assert not re.search(r"(user|system)_attr", path.read_text(encoding="utf-8")), path
