"""What the package takes from other libraries: declared, its lowest version known, its private parts in one place."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"spikefront", *(p.stem for p in SRC.glob("*.py"))}
ABSENT = {
    "wandb_workspaces": "wandb-workspaces",
    "pynvml": "nvidia-ml-py",
    "datasets": "datasets",
    "hdf5plugin": "hdf5plugin",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "transformers": "transformers",
    "nir": "nir",
    "ray": "ray",
}  # of extras that tests don't install
COUNTERS = {"fit_loop", "epoch_loop", "val_loop", "batch_progress"}  # of Lightning, private though they don't look it
WITH_TORCH = {"triton"}  # comes with torch's builds for GPUs and can't be had without

# Where a library's private parts may be used, and the test that says when they have changed.
ADAPTERS = {
    "spikefront/commands/hydra_internals.py": "commands/test_hydra_internals.py",
    "spikefront/nn/torch_internals.py": "nn/test_torch_internals.py",
    "spikefront/sweeping/search/optuna_internals.py": "sweeping/search/test_optuna_internals.py",
    "spikefront/sweeping/study/storage_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/sweeping/study/several_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/sweeping/study/rows_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/sweeping/study/journal_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/sweeping/study/tables_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/sweeping/study/writes_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/sweeping/study/proxy_internals.py": "sweeping/study/test_storage_internals.py",
    "spikefront/training/lightning_internals.py": "training/test_lightning_internals.py",
    "spikefront/cluster/submission.py": "cluster/test_queue.py",  # a subclass of submitit's executor
    "spikefront/cluster/ray_internals.py": "cluster/test_actors.py",
    "spikefront/tracking/wandb/logger.py": "tracking/wandb/test_wandb.py",  # a subclass of Lightning's logger
}
PUBLIC = {
    "_exit",
    "_run_exitfuncs",
    "_name",
    "_field_defaults",
    "_replace",
}  # the standard library's, private by name alone


def requirements() -> dict[str, Requirement]:
    extras = [r for name, group in PROJECT["optional-dependencies"].items() if name != "dev" for r in group]
    return {canonicalize_name(r.name): r for r in map(Requirement, [*PROJECT["dependencies"], *extras])}


@functools.cache
def trees() -> dict[str, ast.Module]:
    found = {p.relative_to(SRC).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in SRC.rglob("*.py")}
    assert len(found) > 100
    return found


def imported(tree: ast.Module) -> set[str]:
    """First names of the modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = node.module.split(".")
            # of a namespace that several distributions share, the part that is one's own
            found.add(".".join(whole[:2]) if whole[0] == "hydra_plugins" else whole[0])
    return found


def test_every_import_is_declared():
    distributions = packages_distributions()
    declared = requirements()
    assert "torch" in declared and "optuna" in declared
    missing = {}
    for path, tree in trees().items():
        for name in imported(tree) - OWN - set(sys.stdlib_module_names) - WITH_TORCH:
            if name.startswith("hydra_plugins."):
                owners = ["hydra-submitit-launcher"] if "submitit" in name else []
            else:
                owners = distributions.get(name) or [ABSENT[name]]
            if owners and not {canonicalize_name(o) for o in owners} & set(declared):
                missing.setdefault(name, set()).add(path)
    assert not missing, f"imported and not in pyproject.toml: {missing}"


def lowest(requirement: Requirement) -> str | None:
    return next((s.version for s in requirement.specifier if s.operator in (">=", "==")), None)


def test_every_dependency_says_from_which_version_on():
    assert not [r for r in map(Requirement, PROJECT["dependencies"]) if lowest(r) is None]


def test_the_lowest_versions_are_those_that_make_test_lowest_installs():
    """`make test-lowest` runs the suite on these; raise both together, to what was tried."""
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(r.name): lowest(r) for r in map(Requirement, (x for x in lines if x and x[0] != "#"))}
    bounds = {canonicalize_name(r.name): lowest(r) for r in map(Requirement, PROJECT["dependencies"])}
    assert {name: version for name, version in pinned.items() if name in bounds} == bounds


@pytest.mark.parametrize(
    "name", ["optuna", "pytorch-lightning", "hydra-core", "submitit", "hydra-submitit-launcher", "ray"]
)
def test_what_is_known_from_within_has_an_upper_bound(name):
    assert any(s.operator == "<" for s in requirements()[name].specifier)


def private(tree: ast.Module, own: set[str]) -> list[str]:
    """Uses of what another library keeps to itself."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own | PUBLIC:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in OWN:
            names = [*node.module.split("."), *(a.name for a in node.names)]
            if any(map(is_private, names)):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def is_private(name: str) -> bool:
    return name in COUNTERS or re.match("_[a-z]", name) is not None


def test_private_parts_of_other_libraries_are_used_in_their_adapters_alone():
    known = trees()
    own = {name for tree in known.values() for node in ast.walk(tree) for name in defined(node)}
    uses = {path: found for path, tree in known.items() if (found := private(tree, own))}
    assert set(ADAPTERS) <= set(uses), "an adapter that isn't needed any more"
    aside = {path: found for path, found in uses.items() if path not in ADAPTERS}
    assert not aside
    assert all((ROOT / "tests" / test).is_file() for test in ADAPTERS.values())


def defined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return [node.attr]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    return [node.arg] if isinstance(node, ast.arg) else []


def test_a_private_part_is_seen():
    tree = ast.parse("from torch.utils._python_dispatch import x\ntrial._trial_id\nself._mine\nos._exit(1)")
    assert len(private(tree, {"_mine"})) == 2
