"""The one exception a user is meant to see."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

ELSEWHERE = {  # keys that users of lightning-hydra-template look for, and what they are called here
    "ckpt_path": "resume=… goes on with a training, checkpoint=… is what evaluate and energy read",
    "train": "train always trains, evaluate only evaluates",
    "test": "a training always ends with the test part; trainer.limit_test_batches=1 makes that short",
    "tags": "logger.tags=[…] with logger=wandb",
    "task_name": "hydra.run.dir=… says where a run lies, logger.name=… what it is called",
    "paths": "data.root=… and hydra.run.dir=…",
    "extras": "there are none to set",
    "optimized_metric": "search.objectives=[…] of a sweep",
}

NEEDED = {  # what a command can't guess, and what it takes
    "checkpoint": "a file, a bundle's directory, wandb:…, hf:…, https://… or trial:<study>/<number>",
    "study": "its name, its directory, or a storage's file or URL",
    "format": "bundle, torch, onnx, int8, int4, nir, neurobench or sanafe; docs/deploy.md says what each is for",
}

# Hydra's, of a group at a place
NO_PLACE = re.compile(r"(?:In .*: )?Could not override '(.+)'\.\nDid you mean to override (?:one of )?(.+)\?")


class UserError(Exception):
    """Something the user can mend: the message is one line saying what is wrong, where, and what to do about it.

    Entry scripts print it without a traceback and exit with code 1 (a traceback under ``debug=true``).
    """


def near_matches(name: str, options: Iterable[str]) -> str:
    """A hint such as ``did you mean 'lif'? options: alif, if, lif`` for a name that is not among ``options``."""
    names = sorted(options)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}options: {', '.join(names)}"


def no_key(key: str, beside: Iterable[object]) -> str:
    """A line about a configuration key that there is not: its name here, or those ``beside`` it that come near."""
    if key in ELSEWHERE:
        return f"no configuration key '{key}': {ELSEWHERE[key]}"
    return f"no configuration key '{key}'; {near_matches(key.rpartition('.')[2], map(str, beside))}"


def one_line(error: BaseException) -> str:
    """One line for any exception: for what a user can mend what is wrong, where, what to do; else its kind and text."""
    text = _line(error)
    return mendable(error) or (f"{type(error).__name__}: {text}" if str(error).strip() else text)


@contextmanager
def in_a_line(where: str = "") -> Iterator[None]:
    """Context in which what a user can mend is raised as ``UserError``, its line after ``where``; all else as it is."""
    try:
        yield
    except Exception as error:
        if (line := mendable(error)) is None:
            raise
        raise UserError(where + line) from error


def mendable(error: BaseException) -> str | None:
    """One line for what a user can mend, whatever it was wrapped in on its way; None for what looks like our fault."""
    from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
    from omegaconf import DictConfig
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

    from spikefront.config import unreadable

    chain = list(_causes(error))
    for e in chain:
        if isinstance(e, UserError):
            return _line(e, whole=True)
    for e in chain:
        if isinstance(e, MissingConfigException):
            group, _, name = (e.missing_cfg_file or "").rpartition("/")
            if not group or e.options is None:
                return _line(e)
            return f"{group}={name} does not exist; {near_matches(name, e.options)}"
    for e in chain:
        if isinstance(e, ConfigAttributeError | ConfigKeyError) and isinstance(e.parent_node, DictConfig):
            return no_key(str(e.full_key or e.key), e.parent_node)
    if isinstance(error, MissingMandatoryValue) and (key := error.full_key):
        return f"nothing says {key}: give {key}=…" + (f" ({NEEDED[key]})" if key in NEEDED else "")
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, error.__context__ or error)
    if isinstance(error, InstantiationException):
        at = re.search(r"full_key: (\S+)", str(error))
        return _line(chain[-1]) + (f" (building '{at[1]}' of the configuration)" if at else "")
    if isinstance(error, HydraException | OmegaConfBaseException):
        if said := NO_PLACE.match(str(error)):
            place, there = said.groups()
            return f"nothing stands at '{place}' in this configuration; {near_matches(place, there.split(', '))}"
        if argument := re.match(r"Ambiguous value for argument '(.*)'\n", str(error)):
            return unreadable(argument[1], "several values need -m, a list brackets")
        return _line(error)
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {_line(error, whole=True)}"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, its cause, that one's cause and so on, each once: one raised from what it caused goes round."""
    cause: BaseException | None = error
    seen = set[int]()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _line(error: BaseException, whole: bool = False) -> str:
    """The first line of an exception's text, or all of it in one."""
    text = str(error).strip() or type(error).__name__
    return " ".join((text if whole else text.splitlines()[0]).split())
