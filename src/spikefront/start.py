"""How this process was started: what a user types for a command, and how another process like it begins.

``src/train.py`` is a script of its own. Of the installed command the verb is the first argument, which Hydra must not
see.
"""

from __future__ import annotations

import functools
import gc
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikefront.config import HERE, ROOT

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # environment: a process's threads, by library
SPINS = {"GOMP_SPINCOUNT": "1000"}  # environment: more turns of a waiting thread are lost where others need the cores
RAY_NODE = "SPIKEFRONT_RAY_NODE"  # environment: the id of the node that Ray started this process on

_settled: set[str] = set()
_verb: list[str] = []  # of the installed command; empty in a script of src/


def take_verb(verb: str) -> None:
    """Make ``sys.argv`` of ``spikefront train …`` what it is in ``src/train.py …``."""
    _verb[:] = [verb]
    sys.argv = [sys.argv[0], *sys.argv[2:]]


@contextmanager
def whole_command_line() -> Iterator[None]:
    """Context with ``sys.argv`` as typed, verb and all: from it Lightning starts the other processes of a run."""
    sys.argv[1:1] = _verb
    try:
        yield
    finally:
        del sys.argv[1 : 1 + len(_verb)]


@contextmanager
def importing() -> Iterator[None]:
    """Context for a command's own imports: what they make stays, and so is never looked through for garbage.

    PyTorch and Lightning are half a million objects; to look through them takes a quarter of a short training's time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        settle("import")
        if before:
            gc.enable()


def settle(when: str) -> None:
    """Have all that there is by now never looked through for garbage; each time once, lest a later job's stays too."""
    if when not in _settled:
        _settled.add(when)
        gc.freeze()


def again() -> list[str]:
    """The command line of another process like this one, up to the arguments."""
    program = ["-m", "spikefront"] if Path(sys.argv[0]).name == "__main__.py" else [sys.argv[0]]
    return [sys.executable, *program, *_verb]


def another(verb: str) -> list[str]:
    """The command line of another command's process, up to the arguments."""
    script = Path(sys.argv[0]).with_name(f"{verb}.py")
    if not _verb and script.parent.name == "src" and script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, "-m", "spikefront", verb]


def typed(verb: str, *arguments: str) -> str:
    """A whole command line, to be pasted into a shell."""
    return " ".join([spelled(verb), *map(shlex.quote, arguments)])


def spelled(verb: str) -> str:
    """What the user of this process types for a command: ``spikefront train``, in a clone ``python src/train.py``."""
    if _verb or ROOT == HERE:
        return f"{_installed()} {verb}"
    script = Path(sys.argv[0])
    folder = script.parent if script.parent.name == "src" and script.suffix == ".py" else Path("src")
    return f"python {shlex.quote(str(folder / f'{verb}.py'))}"


@functools.cache
def _installed() -> str:
    """The command by its name where a shell finds it, else by its path."""
    if shutil.which("spikefront"):
        return "spikefront"
    beside = Path(sys.executable).with_name("spikefront")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m spikefront"
