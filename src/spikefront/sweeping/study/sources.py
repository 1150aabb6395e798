"""A study by whatever a user calls it: its name, its directory, its storage's file or URL."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from spikefront.analysis.schema import StudyRecord
from spikefront.cluster.stores import is_address
from spikefront.console import shown
from spikefront.errors import UserError, near_matches
from spikefront.start import spelled
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.attributes import ELASTIC, STAGE
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.study import record

PREFIX = "trial:"


def checkpoint_of(address: str) -> Path:
    """The checkpoint of ``trial:<study>/<number>``, the study as ``open_study`` takes it: of several seeds the first's,
    of a slice of an elastic training that training's.

    Raises:
        UserError: no such study or trial, or one that keeps no checkpoint.
    """
    source, _, number = address.removeprefix(PREFIX).rpartition("/")
    if not source or not number.isdecimal():
        raise UserError(f"{address} is not {PREFIX}<study>/<number>")
    study = open_study(source)
    made = record(study)
    with storages.storage_errors(made["storage"]):
        known = {t.number: t for t in study.get_trials(deepcopy=False)}
        if int(number) not in known:
            raise UserError(f"{address}: the study '{study.study_name}' has no trial {number} of its {len(known)}")
        inherited = ELASTIC.get(study) is not None and not STAGE.on(known[int(number)])
        whole = studies.elastic_checkpoint(study, fetch=True) if inherited else None
    if whole is None:
        studies.bring(study, int(number))
    folder = studies.trial_directory(made, int(number))
    names = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")
    kept = [folder / place / name for place in ("", "seed_0") for name in names] if whole is None else [whole]
    found = next((path for path in kept if path.is_file()), None)
    if found is None:
        raise UserError(f"{address} keeps no checkpoint in {folder}: it wasn't trained there, or not to an epoch's end")
    return found


def read_study(
    source: str, dir: str = "outputs/studies", storage: str | None = None, importance: bool = False
) -> list[StudyRecord]:
    """The records of what ``open_studies`` finds."""
    return [read(study, importance) for study in open_studies(source, dir, storage)]


def read(study: Study, importance: bool = False) -> StudyRecord:
    """A study's records.

    Raises:
        UserError: its storage can't be read; another program's study.
    """
    with storages.storage_errors(record(study)["storage"]):
        return records(study, importance=importance)


def open_studies(source: str, dir: str = "outputs/studies", storage: str | None = None) -> list[Study]:
    """A study, found as ``open_study`` finds it, or all that a storage's URL or file holds.

    Raises:
        UserError: there is none, or its storage can't be read.
    """
    if (address := _address(source, dir, storage)) is None:
        return [open_study(source, dir, storage)]
    there, names = _names_in(address)
    with storages.storage_errors(address):
        return [optuna.load_study(study_name=name, storage=there) for name in names]


def open_study(source: str, dir: str = "outputs/studies", storage: str | None = None) -> Study:
    """One study, whatever its storage.

    Args:
        source: its name, or that's beginning if only one has it; its directory or address; or the file or the URL of
            a storage that holds no other.
        dir: where studies that are given by name have their directories.
        storage: the URL of the storage of a study that is given by name.

    Raises:
        UserError: there is none, or its storage can't be read.
    """
    if (address := _address(source, dir, storage)) is not None:
        return _only(address)
    if not storage:
        dir, source = _place(source, dir)
    try:
        return studies.load({"study": source, "dir": dir, "storage": storage})[0]
    except UserError:
        address = storages.url({"study": source, "dir": dir})
        file = storages.file_of(address)
        if storage or file is None or not file.is_file() or source in _names_in(address)[1]:
            raise
        return _only(address)  # a directory that was copied or renamed


def _address(source: str, dir: str, storage: str | None) -> str | None:
    """The URL that a source is, or that of the file; None of a name, of a directory and of a store's address."""
    if "://" in source:
        return None if is_address(source) else source
    path = Path(source).absolute()
    if storage or not path.is_file() or (Path(dir) / source).is_dir():
        return None
    with path.open("rb") as file:
        sqlite = file.read(16).startswith(b"SQLite format 3")
    return storages.sqlite_url(path) if sqlite else f"journal://{path}"


def _place(source: str, dir: str) -> tuple[str, str]:
    """The directory and the name of the study in a directory, or of that name, or of the only one whose begins so."""
    if is_address(source):
        folder, _, name = source.rstrip("/").rpartition("/")
        return folder, name
    if is_address(dir):
        return dir, source
    root, place = Path(os.path.abspath(dir)), Path(os.path.abspath(Path(dir) / source))
    if not place.is_dir():
        place = Path(os.path.abspath(source))
        if not storages.lies_in(place):
            place = root / _begun(source, dir)
    if place.is_relative_to(root) and place != root:
        return str(root), str(place.relative_to(root))
    return str(place.parent), place.name


def _begun(source: str, dir: str) -> str:
    """The name of the only study in a directory whose name begins so."""
    here = [p.name for p in Path(dir).iterdir() if p.is_dir()] if Path(dir).is_dir() else []
    begin = [name for name in here if name.startswith(source)]
    if len(begin) == 1:
        return begin[0]
    hint = near_matches(source, here) if here else f"there are none in {dir}; start one with {spelled('sweep')} -m …"
    raise UserError(f"no study '{source}'; {hint}")


def _only(address: str) -> Study:
    storage, names = _names_in(address)
    if len(names) > 1:
        raise UserError(
            f"{shown(address)} holds {len(names)} studies: {', '.join(names)}; give the directory of one,"
            " or its name beside storage=…"
        )
    with storages.storage_errors(address):
        return optuna.load_study(study_name=names[0], storage=storage)


def _names_in(url: str) -> tuple[BaseStorage, list[str]]:
    file = storages.file_of(url)
    if file is not None and not file.is_file():
        raise UserError(f"no storage at {shown(url)}; an absolute path has four slashes: sqlite:////path/study.db")
    storage = storages.open_storage(url)
    with storages.storage_errors(url):
        names = optuna.get_all_study_names(storage)
    if not names:
        raise UserError(f"{shown(url)} holds no study")
    return storage, names
