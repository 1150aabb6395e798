"""What every entry script shares: parse with Hydra, call one function, say errors in one line."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from spikefront.commands import debug
from spikefront.commands.hydra_internals import flag_parser, keep_quotes
from spikefront.config import CONF, compose, flat, is_group, override_parser, written
from spikefront.console import spell_what_cannot_be_printed
from spikefront.errors import UserError, mendable, no_key, one_line
from spikefront.renamed import KEYS, argument
from spikefront.start import SPINS, settle, spelled, whole_command_line

INTERRUPTED = 130
READ = ("search", "schedule", "recipe")  # nodes of which nothing is built that would refuse a key

# Hydra copies its whole search path for every group that --help and completion list: 3 s instead of 1 without this line
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
keep_quotes()


def options(*others: str) -> str:
    """Config groups with their options, each as lines that fit the terminal: all but Hydra's own and ``others``, which
    belong to other verbs."""
    loader = GlobalHydra.instance().config_loader()
    width = max(60, min(120, shutil.get_terminal_size().columns))
    place = (str(loader.get_search_path()), width, others)  # each composition asks, of one place
    if place not in _options:
        _options[place] = _listed(loader, width, others)
    return _options[place]


_options: dict[tuple[str, int, tuple[str, ...]], str] = {}


def _listed(loader: ConfigLoader, width: int, others: Sequence[str]) -> str:
    def below(parent: str) -> Iterator[str]:
        for name in sorted(loader.list_groups(parent)):
            group = f"{parent}/{name}" if parent else name
            if group in ("hydra", *others):
                continue
            if found := loader.get_group_options(group):
                text = f"{group}: {', '.join(sorted(found))}"
                yield textwrap.fill(text, width, initial_indent="  ", subsequent_indent="      ")
            yield from below(group)

    return "\n".join(below(""))


OmegaConf.register_new_resolver("command", spelled, replace=True)  # ${command:train} in the texts of --help
OmegaConf.register_new_resolver("options", options, replace=True)  # ${options:search}


def entry(
    config_name: str, read: Callable[[Sequence[str]], list[str]] = list
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Decorator for an entry script's ``main(cfg)``: Hydra parses, errors become one line and exit code 1.

    ``cfg.output_dir`` is set to Hydra's run directory if it is null. ``debug=true`` shows tracebacks.

    Args:
        read: what a user types, all but flags, as Hydra takes it.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @functools.wraps(main)
        def run(cfg: DictConfig) -> Any:
            with _of_several() if _in_a_row(cfg) else _one_line_errors(), whole_command_line():
                if "output_dir" in cfg and cfg.output_dir is None:
                    with open_dict(cfg):
                        cfg.output_dir = HydraConfig.get().runtime.output_dir
                refuse_unread(cfg, HydraConfig.get(), HydraConfig.get().overrides.task, config_name)
                check_switches(cfg, config_name)
                return main(cfg)

        app = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)

        @functools.wraps(main)
        def script() -> Any:
            settle("door")
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hands Hydra's exceptions to us instead of printing them
            for key, value in SPINS.items():
                os.environ.setdefault(key, value)
            spell_what_cannot_be_printed()
            with debug.taken_from(sys.argv), _one_line_errors():
                flags, overrides = parted(sys.argv[1:])
                say_renamed(overrides)
                sys.argv[1:] = [*read([argument(at_home(o)) for o in overrides]), *flags]
                _failed.clear()
                result = app()
                if _failed:
                    raise UserError(f"{len(_failed)} of the jobs failed: {'; '.join(_failed)}")
                return result

        return script

    return decorate


def refuse_unread(cfg: DictConfig, hydra: Any, arguments: Sequence[str], root: str) -> None:
    """Refuse ``+key=value`` at the top, or directly below a node in ``READ``, where nothing reads the key.

    Elsewhere whatever is built from the node refuses it. A key that another value names is read:
    ``${key}`` or ``${oc.select:key,…}``.

    Args:
        cfg: what the arguments composed to, perhaps without those that are swept.
        hydra: its Hydra node.
        root: the name of the command's own configuration.

    Raises:
        UserError: the key, and those that come near.
    """
    given = [override_parser().parse_override(a) for a in arguments if a.startswith("+")]
    groups = ("hydra", *hydra.runtime.choices)
    keys = [o.key_or_group for o in given if o.package is None]
    tops = {key: key.split(".")[0] for key in keys}
    added = [k for k, top in tops.items() if not (top in groups or is_group(top)) or (top in READ and top != k)]
    if not added:
        return
    known, said = compose([], root), OmegaConf.to_yaml(cfg) + "\n".join(arguments)
    for key in added:
        deep = tops[key] in READ and tops[key] in known
        place = ".".join(key.split(".")[: 2 if deep else 1])
        if OmegaConf.select(known, place, default=known) is known and not re.search(
            rf"\$\{{(oc\.\w+:)?{re.escape(place)}\b", said
        ):
            parent, _, name = place.rpartition(".")
            others = set(cfg[parent] if parent else cfg) - {name, "hydra"}
            raise UserError(f"{no_key(place, others)}; + adds it and nothing reads it")


def check_switches(cfg: DictConfig, root: str) -> None:
    """Raise UserError where the command's own configuration has a switch, and something else is given.

    Any text but the empty one would be on.
    """
    own = flat(OmegaConf.to_container(OmegaConf.load(CONF / f"{root}.yaml")))
    for key in (key for key, default in own.items() if isinstance(default, bool) and not key.startswith("hydra.")):
        value = OmegaConf.select(cfg, key, default=False)
        if not isinstance(value, bool):
            raise UserError(f"{key} is {value}: give true or false")


def parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides: Hydra takes these in one row only.

    Raises:
        UserError: a flag that Hydra doesn't know, or without its value.
    """

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; --hydra-help lists the flags")

    parser = flag_parser()
    parser.error = refuse  # type: ignore[method-assign]
    known, unknown = parser.parse_known_intermixed_args(list(arguments))
    if strange := [argument for argument in unknown if argument.startswith("-")]:
        refuse(f"there is no flag {strange[0]}")
    overrides = known.overrides
    flags = list(arguments)
    for override in overrides:
        flags.remove(override)
    return flags, overrides


def say_renamed(overrides: Sequence[str]) -> None:
    """Tell who writes a key's old name what it is called, as UPGRADING.md promises."""
    for old, new in KEYS.items():
        if any(o.partition("=")[0] == old for o in overrides):
            print(f"spikefront: {old}=… is called {new}=… now, and works until the next minor release", file=sys.stderr)


def at_home(override: str) -> str:
    """``data.root=~/photos`` as Hydra takes it: shells leave the ``~`` there, and Hydra's grammar has none; nor has it
    the ``#`` of ``init=https://…#sha256=…``."""
    key, _, value = override.partition("=")
    if re.fullmatch(r"https?://[^,'\"]+#sha256=\w+", value):
        return f"{key}={written(value)}"
    if value != "~" and not value.startswith("~/"):
        return override
    return f"{key}={written(os.path.expanduser(value))}"


class _one_line_errors:
    """Context manager that ends the process with one line on stderr for anything that goes wrong inside it."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, tb: object) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        if isinstance(error, KeyboardInterrupt):
            print("spikefront: interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        if debug.tracebacks():
            traceback.print_exception(error)
        else:
            print(f"spikefront: {explain(error)}", file=sys.stderr)
        sys.stderr.flush()
        sys.exit(1)


_failed: list[str] = []  # jobs of this command's multirun


def _in_a_row(cfg: DictConfig) -> bool:
    """Whether this is a job of a multirun that runs its jobs one after the other in this process."""
    running = HydraConfig.get()
    basic = str(running.launcher["_target_"]).endswith("BasicLauncher")
    return running.mode == RunMode.MULTIRUN and basic and "search" not in cfg


class _of_several:
    """Context manager of one job of several: what goes wrong in it is said and kept, and the next one begins."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, tb: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        job = f"#{HydraConfig.get().job.num} ({explain(error)})"
        if debug.tracebacks():
            traceback.print_exception(error)
        print(f"spikefront: job {job}", file=sys.stderr, flush=True)
        _failed.append(job)
        return True


def explain(error: BaseException) -> str:
    """One line for any exception: what is wrong, where, what to do about it."""
    return mendable(error) or f"unexpected {one_line(error)} (debug=true shows the traceback)"


def plain(cfg: Any) -> Any:
    """A config as plain dicts and lists with everything resolved, for files and loggers."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True) if OmegaConf.is_config(cfg) else cfg
