"""The study: the only state a sweep's workers share. Opened, made, checked against what it was made with."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.storages import BaseStorage
from optuna.study import Study

from spikefront import renamed
from spikefront.cluster.mirror import Mirror
from spikefront.cluster.stores import beneath, is_address, local
from spikefront.config import is_group
from spikefront.console import shown
from spikefront.errors import UserError
from spikefront.start import spelled
from spikefront.sweeping.search import engines
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, attributes
from spikefront.sweeping.study.attributes import (
    ARGUMENTS,
    BEGAN,
    BENCHED,
    BUDGET,
    ELASTIC,
    FORGIVEN,
    RECORD,
    SAMPLER,
    STAGE,
    TOKEN,
    TRAINING,
    Made,
)
from spikefront.sweeping.study.request import Request
from spikefront.sweeping.study.storage import file_of, note_place, open_storage, place_of, storage_errors, url

SETTLE = 1.0  # seconds in which two commands that make a study at one moment see each other's
PLACES = ("space", "study", "dir", "storage", "warm_start", "worker", "trust")

logging.getLogger("optuna").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", module=r"optuna\..*", message=r".*(Fixed parameter|is not used|inferred).*")


def load(search: Mapping[str, Any]) -> tuple[Study, BaseStorage]:
    """Attach to a study that exists.

    Raises:
        UserError: there is none of that name, or its storage can't be used.
    """
    address = url(search)
    file = file_of(address)
    missing = UserError(f"no study '{search['study']}' in {shown(address)}; start it with {spelled('sweep')} -m …")
    if file is not None and not file.exists():
        raise missing
    storage = open_storage(address)
    with storage_errors(address):
        try:
            return optuna.load_study(study_name=search["study"], storage=storage), storage
        except KeyError as error:
            raise missing from error


def settings(study: Study, search: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """How a worker shall search: as the sweep's last command says, but for the worker's own ``search.*`` overrides."""
    stored = attributes.settings(study)
    if stored is None:
        return search
    own = OmegaConf.to_container(search, resolve=True)  # of what it names nothing is in a study
    merged = OmegaConf.create({**own, **stored})  # type: ignore[dict-item]
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").replace("/", ".")
        if key.startswith("search."):
            key = key.removeprefix("search.")
            OmegaConf.update(merged, key, OmegaConf.select(OmegaConf.create(own), key), merge=False)
    return merged


def record(study: Study) -> Made:
    """What the study was made with: ``space``, ``objectives``, ``base``, ``overrides``, ``seeds``, ``path`` …

    Raises:
        UserError: the study is another program's.
    """
    found = RECORD.get(study)
    if found is None:
        raise UserError(
            f"the study '{study.study_name}' was not made by a sweep of spikefront; choose another search.study"
        )
    found.setdefault("seeds", 1)
    found.setdefault("engine", engines.TRIALS)
    return found


def retraining(made: Made, space: Space, params: Mapping[str, Any], threads: int | None) -> list[str]:
    """Overrides of ``train.py`` that train a trial's configuration again, with as many threads as it had."""
    given = [*made["command"], *space.overrides(params)]
    has = any(o.lstrip("+").startswith("threads=") for o in given)
    return given if threads is None or has else [*given, f"threads={threads}"]


def elastic_checkpoint(study: Study, fetch: bool = False) -> Path | None:
    """The weights that an elastic study's trials are slices of; None before they are trained.

    Args:
        fetch: bring them here, if another machine trained them.
    """
    ended = study.get_trials(deepcopy=False, states=accounts.FINISHED)
    trained = next((t for t in ended if STAGE.get(t) == TRAINING), None)
    if trained is None:
        return None
    if fetch:
        bring(study, trained.number)
    return trial_directory(record(study), trained.number) / "checkpoints" / "last.ckpt"


def trial_directory(made: Made, number: int) -> Path:
    """Where a trial keeps its checkpoints on this machine."""
    return local(made["path"]) / "trials" / f"{number:05d}"


def mirror(study: Study, number: int, mine: Callable[[], bool] = lambda: False) -> Mirror | None:
    """What keeps a trial's directory the same as at the study's address; None of a study in a directory."""
    made = record(study)
    return _mirror(made, TOKEN.get(study), number, mine) if is_address(made["path"]) else None


def _mirror(made: Made, token: str, number: int, mine: Callable[[], bool] = lambda: False) -> Mirror:
    address = beneath(made["path"], f"trials/{number:05d}")
    return Mirror(trial_directory(made, number), address, token, mine)


def bring(study: Study, number: int) -> None:
    """Have a trial's directory hold what another machine left at the study's address."""
    if (there := mirror(study, number)) is not None:
        there.fetch()


def finder(study: Study) -> Callable[[int, str], Path | None]:
    """What finds a file that a finished trial left, by its number and the file's name, and brings it here if another
    machine has it; None if there is none."""
    made = record(study)
    there = partial(_mirror, made, TOKEN.get(study))

    def find(number: int, name: str) -> Path | None:
        path = trial_directory(made, number) / name
        if not path.is_file() and is_address(made["path"]):
            there(number).fetch_one(name)
        return path if path.is_file() else None

    return find


def create(asked: Request) -> tuple[Study, bool]:
    """Make the study, or attach to it if it is the same search; the last value says whether it is new.

    Raises:
        UserError: the study exists and its space, objectives or base differ, or its storage can't be used.
    """
    search = asked.search
    address = url(search)
    directions: list[Any] = list(asked.objectives.values())
    made: Made = {
        "space": asked.space.to_plain(),
        "objectives": asked.objectives,
        "base": asked.base,
        "overrides": asked.shared,
        "command": asked.command,
        "exhaustive": asked.exhaustive,
        "seeds": search.get("seeds", 1),
        "engine": engines.of(search),
        "storage": shown(address),
        "path": place_of(search),
    }
    storage = open_storage(address)
    with storage_errors(address):
        try:
            study = optuna.create_study(study_name=search["study"], storage=storage, directions=directions)
            new = True
        except optuna.exceptions.DuplicatedStudyError:
            study, new = optuna.load_study(study_name=search["study"], storage=storage), False
        if new:
            _make(study, made)
        elif _is_unmade(study, directions):
            time.sleep(SETTLE)  # whoever creates it at this moment writes what it is
            if _is_unmade(study, directions):  # and whoever did before was killed
                _make(study, made)
                time.sleep(SETTLE)
        note_place(search)
        found = record(study)
        _same(search["study"], found, json.loads(json.dumps(made)), asked.beside(place_of(search)))
        BUDGET.set(study, asked.budget)
        BEGAN.set(study, time.time())
        if BENCHED.get(study):
            BENCHED.set(study, {})
        ARGUMENTS.set(study, [shown(a) for a in asked.arguments])
        SAMPLER.set(study, _sampler(search))
        FORGIVEN.set(study, [t.number for t in accounts.account(study).failed])
        attributes.set_settings(study, {k: v for k, v in search.items() if k not in PLACES})
        if asked.elastic is not None:
            _train_elastic(study, asked)
        begun = any(not STAGE.on(t) for t in study.get_trials(deepcopy=False))
        if not begun and asked.elastic is None and search.get("default_first", True):
            attributes.enqueue(study, asked.default, asked.default_origin)
    return study, new


def _train_elastic(study: Study, asked: Request) -> None:
    """Have the largest network trained and all others with it, unless that is done or will be."""
    elastic = asked.elastic
    assert elastic is not None
    if ELASTIC.get(study) is None:
        if asked.search.get("default_first", True) and asked.default != elastic["params"]:
            elastic = {**elastic, "first": asked.default, "first_origin": asked.default_origin}
        ELASTIC.set(study, elastic)
    stages = [t for t in study.get_trials(deepcopy=False) if STAGE.get(t) == TRAINING]
    if all(accounts.came_to_nothing(t) for t in stages):
        origin = "the largest network, trained with all others"
        attributes.enqueue(study, elastic["params"], origin, **{STAGE.name: TRAINING})


def _is_unmade(study: Study, directions: list[str]) -> bool:
    """Whether a study is one of ours of which nothing is there but its name."""
    same = [d.name.lower() for d in study.directions] == directions
    return same and not attributes.names(study) - {TOKEN.name} and not study.trials


def _make(study: Study, made: Made) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(made["objectives"]))
    TOKEN.set(study, secrets.token_hex(2))
    RECORD.set(study, made)


def wandb_id(study: Study, number: int | str) -> str:
    """The id of a trial's W&B run: whoever continues the trial continues the run."""
    return re.sub(r"[^\w.-]", "_", f"{study.study_name[:80]}-{TOKEN.get(study)}-{number}")


def _sampler(search: Mapping[str, Any]) -> str:
    return str(search["sampler"]["_target_"]).rpartition(".")[2].removesuffix("Sampler").lower()


def _same(name: str, then: Mapping[str, Any], now: Mapping[str, Any], beside: str) -> None:
    cure = (
        f"go on with the old settings (study '{name}' is untouched), or begin another that knows what is known here:"
        f" {shown(beside)}"
    )
    if then["seeds"] != now["seeds"]:
        raise UserError(f"the study's seeds a configuration were {then['seeds']}, now {now['seeds']}: {cure}")
    if then["engine"] != now["engine"]:
        raise UserError(f"the study's search/engine was {then['engine']}, now {now['engine']}: {cure}")
    for part, what in (("objectives", "objectives"), ("space", "search space"), ("base", "configuration")):
        if then[part] == now[part] and (part != "objectives" or list(then[part]) == list(now[part])):
            continue
        keys = [k for k in {**then[part], **now[part]} if then[part].get(k, "nothing") != now[part].get(k, "nothing")]
        if part == "base":
            keys = _chosen(keys, then, now)
            if not keys:
                continue
        if not keys:  # the order of the objectives
            raise UserError(f"the study's {what} were {list(then[part])}, now {list(now[part])}: {cure}")
        first = keys[0]
        more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        raise UserError(
            f"the study's {what} changed: {first} was {then[part].get(first, 'not there')}, now"
            f" {now[part].get(first, 'not there')}{more}: {cure}"
        )


def _chosen(keys: list[str], then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Those keys of a configuration that this command changes, not another version's defaults.

    A later version has keys that the study doesn't know, lacks others, and may name the same default otherwise.
    """
    given = [o.partition("=")[0].lstrip("+~") for o in now["overrides"] if not is_group(o)]

    def is_given(key: str) -> bool:
        return any(key == g or key.startswith(f"{g}.") for g in given)

    def is_known(key: str) -> bool:
        both = key in then["base"] and key in now["base"]
        return both and not renamed.same_default(key, then["base"][key], now["base"][key])

    return [key for key in keys if is_given(key) or is_known(key)]
