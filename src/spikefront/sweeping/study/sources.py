"""Studies' records by the name or the storage URL that a user gives."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from spikefront.analysis.schema import StudyRecord
from spikefront.errors import UserError, near_matches
from spikefront.start import spelled
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.study import record


def read_study(
    source: str, dir: str = "outputs/studies", storage: str | None = None, importance: bool = False
) -> list[StudyRecord]:
    """The records of one study, by name, its beginning if only one has it, or directory; or of all in a storage URL.

    Raises:
        UserError: there is none, or its storage can't be read; a study that another program made.
    """
    if "://" in source:
        return _all_in(source, importance)
    study = open_study(source, dir, storage)
    with storages.storage_errors(record(study)["storage"]):
        return [records(study, importance=importance)]


def open_study(source: str, dir: str = "outputs/studies", storage: str | None = None) -> Study:
    """One study by name, its beginning if only one has it, directory, or the URL of a storage that holds no other.

    Raises:
        UserError: there is none, or its storage can't be read.
    """
    if "://" in source:
        opened, names = _names_in(source)
        if len(names) > 1:
            raise UserError(
                f"{storages.shown(source)} holds {len(names)} studies: {', '.join(names)}; give the directory of one"
            )
        return optuna.load_study(study_name=names[0], storage=opened)
    if (Path(source) / "study.db").is_file():
        dir, source = str(Path(source).parent), Path(source).name
    if storage is None and not (Path(dir) / source).is_dir():
        here = [p.name for p in Path(dir).iterdir() if p.is_dir()] if Path(dir).is_dir() else []
        begin = [name for name in here if name.startswith(source)]
        if len(begin) == 1:
            return open_study(begin[0], dir, storage)
        hint = (
            near_matches(source, here) if here else f"there are none in {dir}; start one with {spelled('sweep')} -m …"
        )
        raise UserError(f"no study '{source}'; {hint}")
    return studies.load({"study": source, "dir": dir, "storage": storage})[0]


def _all_in(url: str, importance: bool) -> list[StudyRecord]:
    storage, names = _names_in(url)
    with storages.storage_errors(url):
        return [records(optuna.load_study(study_name=n, storage=storage), importance=importance) for n in names]


def _names_in(url: str) -> tuple[BaseStorage, list[str]]:
    file = storages.file_of(url)
    if file is not None and not file.is_file():
        raise UserError(f"no storage at {url}; an absolute path has four slashes: sqlite:////path/study.db")
    storage = storages.open_storage(url)
    with storages.storage_errors(url):
        names = optuna.get_all_study_names(storage)
    if not names:
        raise UserError(f"{storages.shown(url)} holds no study")
    return storage, names
