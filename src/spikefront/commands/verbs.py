"""The installed command: ``spikefront <verb> …`` does what ``src/<verb>.py …`` does.

Each module of this folder with a ``main`` is a verb, and its docstring's first words are what ``--help`` says of it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import pkgutil
import re
import sys
from pathlib import Path

from spikefront.errors import near_matches
from spikefront.start import take_verb

HELP = """\
Find the best spiking transformer for an energy budget: train one, sweep thousands, read the accuracy-energy front.

  spikefront <verb> [group=option …] [key=value …]

Verbs (`spikefront <verb> --help` explains each)
{verbs}

Completion of verbs, groups, options and keys
  eval "$(spikefront -sc install=bash)"      for zsh, after `autoload -Uz bashcompinit && bashcompinit`, too
  spikefront -sc install=fish | source
"""
COMPLETION = ("-sc", "--shell-completion")


def run() -> None:
    """Do what the first argument says: a verb, or one of the flags in ``HELP``."""
    first = sys.argv[1] if len(sys.argv) > 1 else "--help"
    known = verbs()
    if first in ("--help", "-h", "help"):
        width = max(map(len, known))
        print(HELP.format(verbs="\n".join(f"  {verb:<{width}}   {what}" for verb, what in known.items())), end="")
    elif first == "--version":
        print(f"spikefront {version()}")
    elif first in COMPLETION:
        _complete(sys.argv[2:], list(known))
    elif first in known:
        _main(first)
    else:
        sys.exit(f"spikefront: there is no verb '{first}'; {near_matches(first, known)}")


def verbs() -> dict[str, str]:
    """What each verb does, by its name. Nothing is imported: some modules load PyTorch."""
    found = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        tree = ast.parse(Path(__file__).with_name(f"{module.name}.py").read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").partition(":")[0]
    return found


def version() -> str:
    """Of the installed distribution."""
    from importlib import metadata

    try:
        return metadata.version("spikefront")
    except metadata.PackageNotFoundError:
        return "of a clone that is not installed"


def _main(verb: str) -> None:
    take_verb(verb)
    if verb == "sweep":
        from spikefront.sweeping.worker import template

        template.begin_ahead()  # before this process's own imports
    importlib.import_module(f"spikefront.commands.{verb}").main()


def _complete(what: list[str], known: list[str]) -> None:
    """Hydra's completion, which knows one application, of verbs and then of each verb's own arguments.

    The shell hands over the line in COMP_LINE and the cursor's place in it in COMP_POINT.
    """
    if what[:1] and what[0].startswith("query="):
        line = os.environ.get("COMP_LINE", "")
        line = line[: int(os.environ.get("COMP_POINT") or len(line))]
        begun = re.fullmatch(r"\s*\S+\s+(\S*)", line)
        if begun:
            print("\n".join(verb for verb in known if verb.startswith(begun[1])))
            return
        verb, rest = re.fullmatch(r"\s*\S+\s+(\S+)\s(.*)", line, re.S).groups()  # type: ignore[union-attr]
        if verb not in known:
            return
        os.environ["COMP_LINE"] = f"spikefront {_flags_first(rest)}"
        sys.argv = [sys.argv[0], verb, *_config_dir(rest), "-sc", *what]
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
            # half a line is no mistake
            _main(verb)
    else:
        sys.argv = ["spikefront", "train", "-sc", *what]  # whichever: the shell's script names the command alone
        _main("train")


def _flags_first(line: str) -> str:
    from spikefront.commands.cli import parted

    with contextlib.suppress(Exception):
        flags, overrides = parted(line.split())
        begun = [] if line.endswith(" ") else overrides[-1:]
        whole = [o for o in overrides[: len(overrides) - len(begun)] if "=" in o]  # a path alone is no override
        return " ".join([*flags, *whole, *begun]) + ("" if begun else " ")
    return line


def _config_dir(line: str) -> list[str]:
    found = re.search(r"(?:--config-dir|-cd)[= ](\S+)", line)
    return [f"--config-dir={found[1]}"] if found else []
