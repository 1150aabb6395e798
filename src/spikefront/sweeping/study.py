"""The study: the only state a sweep's workers share. Opened, made, checked against what it was made with."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from spikefront.errors import UserError
from spikefront.sweeping import filesystems, ledger
from spikefront.sweeping.space import Space

RECORD = "spikefront"  # the study's user attribute that holds what it was made with
SAMPLER = "spikefront:sampler"  # what the last command searched with: tpe, random …
SETTINGS = "spikefront:search"  # the last command's search settings, which every worker follows
TOKEN = "spikefront:token"  # tells this study from an earlier one of its name
BUDGET = "spikefront:budget"  # how many finished trials the last command asked for
FREE = ("data.root", "data.num_workers", "data.cache", "trainer.accelerator", "trainer.devices", "trainer.num_nodes")
BEGAN = "spikefront:began"  # when the last command began, by its machine's clock
LOCK_PATIENCE = 60.0  # seconds that SQLite waits for another process's transaction
BROKEN = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
PLACES = ("space", "study", "dir", "storage", "worker")
FREE_GROUPS = ("logger", "callbacks", "debug", "dry_run", "output_dir", "resume", "search")

logging.getLogger("optuna").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", module=r"optuna\..*", message=r".*(Fixed parameter|is not used|inferred).*")


def directory(search: Mapping[str, Any]) -> Path:
    """Where a study keeps its trials, logs and, by default, its storage."""
    return Path(search["dir"]).absolute() / search["study"]


def file_of(address: str) -> Path | None:
    """The file behind a ``journal://`` or ``sqlite:///`` URL, SQLite's own ``file:…?…`` form too."""
    kind, _, rest = address.partition("://")
    if kind == "journal":
        return Path(rest)
    if kind != "sqlite" or not rest:
        return None
    return Path(rest.removeprefix("/").removeprefix("file:").partition("?")[0])


def shown(address: str) -> str:
    """A storage's URL to be printed or kept: without its password."""
    masked = re.sub(r"(://[^/@:]*:)[^/]*@", r"\1***@", address)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", masked)


def url(search: Mapping[str, Any]) -> str:
    """The storage's URL: ``search.storage``, by default SQLite in the study's directory, or, where other machines may
    see it, a journal file."""
    if search.get("storage"):
        return search["storage"]
    database, journal = directory(search) / "study.db", directory(search) / "study.log"
    if not database.exists() and (journal.exists() or filesystems.shared(database)):
        return journal_url(search)
    return f"sqlite:///{database}"


def journal_url(search: Mapping[str, Any]) -> str:
    """The journal file in the study's directory."""
    return f"journal://{directory(search) / 'study.log'}"


def open_storage(address: str) -> BaseStorage:
    """``sqlite:///file.db``, ``postgresql://…``, ``mysql://…``, ``journal:///file.log`` or ``grpc://host:port``.

    Raises:
        UserError: it can't be opened.
    """
    kind, _, rest = address.partition("://")
    with storage_errors(address):
        if kind == "journal":
            path = Path(rest)
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path), filesystems.JournalLock(path)))
        if kind == "grpc":
            host, _, port = rest.partition(":")
            return GrpcStorageProxy(host=host, port=int(port or 13000))
        if not rest:
            raise UserError(f"search.storage is {shown(address)!r}: give a URL such as sqlite:////path/study.db")
        if kind == "sqlite":
            file = cast(Path, file_of(address))
            _refuse_shared(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            options: dict[str, Any] = {"connect_args": {"timeout": LOCK_PATIENCE}}
        else:
            options = {"pool_pre_ping": True}
        storage = RDBStorage(address, engine_kwargs=options)
        if kind == "sqlite":
            _write_ahead(storage)
        return optuna.storages.get_storage(storage)  # type: ignore[attr-defined]


def _refuse_shared(file: Path) -> None:
    kind = filesystems.shared(file)
    if kind is not None:
        raise UserError(
            f"SQLite's locks don't hold on {kind}, where {file} lies: use search.storage=journal://{file.with_suffix('.log')}"
            " (or postgresql://…, grpc://…); slurm/README.md says how to take a study along"
        )


def _write_ahead(storage: RDBStorage) -> None:
    """SQLite's write-ahead log: readers never wait for a writer, and a commit waits for the disk only now and then.

    No kill loses a commit; a power cut can lose the last ones, whose trials run again.
    """

    def prepare(connection: Any, _: Any) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # locked or read-only: it stays as it is
            connection.execute("pragma busy_timeout = 0")
            connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma busy_timeout = {int(1000 * LOCK_PATIENCE)}")
        connection.execute("pragma synchronous = normal")

    event.listen(storage.engine, "connect", prepare)
    storage.engine.dispose()


@contextlib.contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Say in one line what is wrong with a storage."""
    place = shown(address)
    try:
        yield
    except json.JSONDecodeError as error:
        raise UserError(
            f"the study's storage {place} can't be used: it is no journal, or damaged: move it away or restore a copy"
            f" ({error})"
        ) from error
    except (*BROKEN, OSError) as error:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        raise UserError(f"the study's storage {place} can't be used: {_hint(str(cause))}") from error
    except ImportError as error:
        raise UserError(
            f"search.storage {place} needs a package that is missing: pip install 'spikefront[storage]' ({error})"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise UserError(f"search.storage {place}: {str(error).splitlines()[0]}") from error
    except Exception as error:
        if not type(error).__module__.startswith("grpc"):
            raise
        details = str(error.details())  # type: ignore[attr-defined]
        raise UserError(f"the study's storage {place} can't be reached: {_hint(details)}") from error


def _hint(reason: str) -> str:
    reason = reason.strip().splitlines()[0] if reason.strip() else "unknown error"
    for sign, hint in {
        "locked": "; another program holds it: close that, or use search.storage=journal:///… or PostgreSQL",
        "readonly": "; give yourself the right to write it, or another search.storage",
        "read-only": "; give yourself the right to write it, or another search.storage",
        "not a database": "; the file is damaged or something else: move it away or restore a copy",
        "malformed": "; the file is damaged: restore a copy",
        "is full": "; free some space or raise your quota, then the same command continues",
        "quota": "; free some space or raise your quota, then the same command continues",
        "No space left": "; free some space or raise your quota, then the same command continues",
        "refused": "; is the server up, and is this its name as seen from the workers' machines?",
        "could not translate": "; is this the server's name as seen from the workers' machines?",
        "failed to resolve": "; is this the server's name as seen from the workers' machines?",
        "timeout expired": "; may the workers' machines reach the server through the firewall?",
    }.items():
        if sign in reason:
            return reason + hint
    return reason


def load(search: Mapping[str, Any]) -> tuple[Study, BaseStorage]:
    """Attach to a study that exists.

    Raises:
        UserError: there is none of that name, or its storage can't be used.
    """
    address = url(search)
    file = file_of(address)
    missing = UserError(f"no study '{search['study']}' in {shown(address)}; start it with python src/sweep.py -m …")
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
    stored = study.user_attrs.get(SETTINGS)
    if stored is None:
        return search
    merged = OmegaConf.create({**OmegaConf.to_container(search), **stored})  # type: ignore[dict-item]
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").replace("/", ".")
        if key.startswith("search."):
            key = key.removeprefix("search.")
            OmegaConf.update(merged, key, OmegaConf.select(search, key), merge=False)
    return merged


def record(study: Study) -> dict[str, Any]:
    """What the study was made with: ``space``, ``objectives``, ``base``, ``overrides``, ``seeds``, ``path`` …

    Raises:
        UserError: the study is another program's.
    """
    found = study.user_attrs.get(RECORD)
    if found is None:
        raise UserError(
            f"the study '{study.study_name}' was not made by a sweep of spikefront; choose another search.study"
        )
    return {"seeds": 1, **found}


def budget(study: Study) -> int:
    """How many finished trials the study shall have; an exhaustive search doesn't replace what failed or can't be."""
    wanted = study.user_attrs.get(BUDGET, 0)
    gone = len(ledger.failed(study)) + len(ledger.infeasible(study)) if record(study)["exhaustive"] else 0
    return wanted - gone


def whole(study: Study) -> bool:
    """Whether the study has as many finished trials as the last command asked for."""
    return len(ledger.finished(study)) >= budget(study)


def create(
    search: Mapping[str, Any],
    wanted: float,
    space: Space,
    objectives: Mapping[str, Any],
    base: Mapping[str, Any],
    default: Mapping[str, Any],
    overrides: list[str],
    command: list[str],
    exhaustive: bool = False,
) -> tuple[Study, BaseStorage, bool]:
    """Make the study, or attach to it if it is the same search; the last value says whether it is new.

    Args:
        wanted: how many finished trials the study shall have.
        base: the configuration without the searched parameters, resolved: a study's trials must agree in it.
        default: the searched parameters' default values, which become trial 0.
        overrides: Hydra overrides that every trial has.
        command: the same as train.py takes them.
        exhaustive: the sampler visits every point once.

    Raises:
        UserError: the study exists and its space, objectives or base differ, or its storage can't be used.
    """
    address = url(search)
    made = {
        "space": space.to_plain(),
        "objectives": dict(objectives),
        "base": dict(base),
        "overrides": overrides,
        "command": command,
        "exhaustive": exhaustive,
        "seeds": search.get("seeds", 1),
        "storage": shown(address),
        "path": str(directory(search)),
    }
    storage = open_storage(address)
    with storage_errors(address):
        try:
            study = optuna.create_study(
                study_name=search["study"], storage=storage, directions=list(objectives.values())
            )
            new = True
        except optuna.exceptions.DuplicatedStudyError:
            study, new = optuna.load_study(study_name=search["study"], storage=storage), False
        if new:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(objectives))
            study.set_user_attr(TOKEN, secrets.token_hex(2))
            study.set_user_attr(RECORD, made)
    if not new:
        with storage_errors(address):
            found = record(study)
        _same(search["study"], found, json.loads(json.dumps(made)))
    with storage_errors(address):
        study.set_user_attr(BUDGET, wanted)
        study.set_user_attr(BEGAN, time.time())
        study.set_user_attr(SAMPLER, _sampler(search))
        study.set_user_attr(SETTINGS, {k: v for k, v in search.items() if k not in PLACES})
        if not study.get_trials(deepcopy=False) and search.get("default_first", True):
            study.enqueue_trial(dict(default), user_attrs={"origin": "default configuration"})
    return study, storage, new


def wandb_id(study: Study, number: int | str) -> str:
    """The id of a trial's W&B run: whoever continues the trial continues the run."""
    return re.sub(r"[^\w.-]", "_", f"{study.study_name[:80]}-{study.user_attrs.get(TOKEN, '')}-{number}")


def _sampler(search: Mapping[str, Any]) -> str:
    return str(search["sampler"]["_target_"]).rpartition(".")[2].removesuffix("Sampler").lower()


def comparable(base: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration as flat keys, without what may differ between workers and between sessions."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, Mapping) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        elif prefix not in FREE:
            flat[prefix] = node

    for group, node in base.items():
        if group not in FREE_GROUPS:
            walk(group, node)
    return flat


def _same(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    cure = f"choose another name with search.study=… or go on with the old settings (study '{name}' is untouched)"
    if then["seeds"] != now["seeds"]:
        raise UserError(f"the study's seeds a configuration were {then['seeds']}, now {now['seeds']}: {cure}")
    for part, what in (("objectives", "objectives"), ("space", "search space"), ("base", "configuration")):
        if then[part] == now[part] and (part != "objectives" or list(then[part]) == list(now[part])):
            continue
        keys = [k for k in {**then[part], **now[part]} if then[part].get(k, "nothing") != now[part].get(k, "nothing")]
        if not keys:  # the order of the objectives
            raise UserError(f"the study's {what} were {list(then[part])}, now {list(now[part])}: {cure}")
        first = keys[0]
        more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        raise UserError(
            f"the study's {what} changed: {first} was {then[part].get(first, 'not there')}, now"
            f" {now[part].get(first, 'not there')}{more}: {cure}"
        )
