"""Studies' records by the name or the storage URL that a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from spikefront.errors import UserError, near_matches
from spikefront.sweeping import study as studies
from spikefront.sweeping.records import records


def read_study(
    source: str, dir: str = "outputs/studies", storage: str | None = None, importance: bool = False
) -> list[dict[str, Any]]:
    """The records of one study, by name, its beginning if only one has it, or directory; or of all in a storage URL.

    Raises:
        UserError: there is none, or its storage can't be read; a study that another program made.
    """
    if "://" in source:
        return _all_in(source, importance)
    if (Path(source) / "study.db").is_file():
        dir, source = str(Path(source).parent), Path(source).name
    if storage is None and not (Path(dir) / source).is_dir():
        here = [p.name for p in Path(dir).iterdir() if p.is_dir()] if Path(dir).is_dir() else []
        begin = [name for name in here if name.startswith(source)]
        if len(begin) == 1:
            return read_study(begin[0], dir, storage, importance)
        hint = (
            near_matches(source, here) if here else f"there are none in {dir}; start one with python src/sweep.py -m …"
        )
        raise UserError(f"no study '{source}'; {hint}")
    study, _ = studies.load({"study": source, "dir": dir, "storage": storage})
    with studies.storage_errors(studies.url({"study": source, "dir": dir, "storage": storage})):
        return [records(study, importance=importance)]


def _all_in(url: str, importance: bool) -> list[dict[str, Any]]:
    kind, _, rest = url.partition("://")
    file = Path(rest.removeprefix("/") if kind == "sqlite" else rest)
    if kind in ("sqlite", "journal") and not file.is_file():
        raise UserError(f"no storage at {url}; an absolute path has four slashes: sqlite:////path/study.db")
    storage = studies.open_storage(url)
    with studies.storage_errors(url):
        names = optuna.get_all_study_names(storage)
        if not names:
            raise UserError(f"{url} holds no study")
        return [records(optuna.load_study(study_name=n, storage=storage), importance=importance) for n in names]
