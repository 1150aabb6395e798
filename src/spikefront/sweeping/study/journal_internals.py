"""Optuna's journal file, of which a worker that joins reads the end: the rest from a snapshot beside it.

Optuna has snapshots too, of its Redis journal: pickles, which run what whoever wrote them likes. Ours is the journal
that leads straight to where it stood, a line a trial, in the same JSON.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import uuid
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal import _storage as optunas
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult
from optuna.trial import FrozenTrial

from spikefront.files import write_atomically
from spikefront.sweeping.study.filesystems import JournalLock

EVERY = 20_000  # lines, after which who joins writes a snapshot: some 200 trials' that train

# A third of what replaying takes; parameters of one kind share it, as they do in ``Tables``
optunas.json_to_distribution = functools.lru_cache(maxsize=1024)(json_to_distribution)


class Journal(JournalStorage):
    """Optuna's storage of a journal file."""

    def __init__(self, file: Path) -> None:
        self._file, self._snapshot = _File(str(file), JournalLock(file)), Path(f"{file}.snapshot")
        super().__init__(self._file)

    def _sync_with_backend(self) -> None:
        if self._replay_result.log_number_read:
            super()._sync_with_backend()
            return
        from_snapshot = self._begin()
        super()._sync_with_backend()
        if self._replay_result.log_number_read - from_snapshot >= EVERY:
            with contextlib.suppress(OSError):  # no room, or no right: the next reads all too
                self._save()

    def _begin(self) -> int:
        """Be where the snapshot ends; the lines of the journal that it stands for."""
        try:
            head, *logs = map(json.loads, self._snapshot.read_bytes().splitlines())
            if head["logs"] != len(logs) or head["end"] != self._end_of(head["offset"]):
                return 0  # half of one; of another journal that was in this place
            result = JournalStorageReplayResult(self._worker_id_prefix)
            result.apply_logs(logs)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError):  # none, or not whole
            return 0
        lines: int = head["lines"]
        result.log_number_read = lines
        self._file._log_number_offset[lines] = head["offset"]
        self._replay_result = result
        return lines

    def _save(self) -> None:
        lines = self._replay_result.log_number_read
        offset = self._file._log_number_offset[lines]
        logs = [json.dumps(log, separators=(",", ":")) for log in _shortest(self._replay_result)]
        head = {"logs": len(logs), "lines": lines, "offset": offset, "end": self._end_of(offset)}
        write_atomically(self._snapshot, "\n".join([json.dumps(head), *logs]) + "\n")

    def _end_of(self, offset: int) -> str:
        """By which a journal is known: a digest of the last that stands before that place."""
        with open(self._file._file_path, "rb") as file:
            file.seek(max(0, offset - 1024))
            return hashlib.sha256(file.read(min(offset, 1024))).hexdigest()


def _shortest(result: JournalStorageReplayResult) -> Iterator[dict[str, Any]]:
    """The lines that lead to where a journal stands."""

    def log(operation: JournalOperation, **fields: Any) -> dict[str, Any]:
        return {"op_code": operation, "worker_id": "", **fields}

    gone = [i for i in range(result._next_study_id) if i not in result._studies]
    for own in range(result._next_study_id):
        study = result._studies.get(own)
        name, directions = (study.study_name, study.directions) if study else (str(uuid.uuid4()), [1])
        yield log(JournalOperation.CREATE_STUDY, study_name=name, directions=directions)
    for own, trial in sorted(result._trials.items()):
        yield log(JournalOperation.CREATE_TRIAL, study_id=result._trial_id_to_study_id[own], **_whole(trial))
    for own, study in result._studies.items():
        for key, value in study.user_attrs.items():
            yield log(JournalOperation.SET_STUDY_USER_ATTR, study_id=own, user_attr={key: value})
        for key, value in study.system_attrs.items():
            yield log(JournalOperation.SET_STUDY_SYSTEM_ATTR, study_id=own, system_attr={key: value})
    for own in gone:
        yield log(JournalOperation.DELETE_STUDY, study_id=own)


def _whole(trial: FrozenTrial) -> dict[str, Any]:
    """All of a trial as the line has it that makes one."""
    found = {
        "state": trial.state,
        "values": trial.values,
        "datetime_start": _utc(trial.datetime_start),
        "distributions": {k: distribution_to_json(d) for k, d in trial.distributions.items()},
        "params": {k: trial.distributions[k].to_internal_repr(v) for k, v in trial.params.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": trial.intermediate_values,
    }
    return found if trial.datetime_complete is None else {**found, "datetime_complete": _utc(trial.datetime_complete)}


def _utc(local: datetime | None) -> str | None:
    return None if local is None else local.astimezone(UTC).isoformat(timespec="microseconds")


class _File(JournalFileBackend):
    """Optuna's journal file, whose errors are known as a storage's."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        with _as_storages():
            yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with _as_storages():
            super().append_logs(logs)


@contextlib.contextmanager
def _as_storages() -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as error:
        cure = "it is no journal, or damaged: move it away or restore a copy"
        raise StorageInternalError(f"{cure} ({error})") from None
    except OSError as error:
        raise StorageInternalError(str(error)) from error
