"""What a worker asks of a study's storage beyond Optuna's interface, whichever storage it is.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.sweeping.study.looks import Choose, Looking
from spikefront.sweeping.study.proxy_internals import Proxy
from spikefront.sweeping.study.tables_internals import Tables

SHARE = 0.05  # of a worker's time, what looking at the trials that others run may take


def pace(storage: BaseStorage, unread: Iterable[str] = ()) -> None:
    """Have looks at the trials that others run take no more than ``SHARE`` of the time.

    Args:
        unread: user attributes that need not be read of all trials; ``"epoch:"`` is all that begin so.
    """
    if isinstance(storage, Looking):
        storage.share, storage.unread = SHARE, tuple(unread)


def look(study: Study, choose: Choose) -> list[FrozenTrial]:
    """A study's trials; what others run may be as old as ``looked`` says, but for those that ``choose`` picks."""
    if isinstance(study._storage, Looking):
        return study._storage.look(study._study_id, choose=choose)
    return study.get_trials(deepcopy=False)


def looked(study: Study) -> float:
    """As of when a study tells of trials that others run, by the monotonic clock."""
    if isinstance(study._storage, Looking):
        return study._storage.looked(study._study_id)
    return time.monotonic()


class Ended:
    """Tells which of a study's trials have finished since it was asked last."""

    def __init__(self, study: Study) -> None:
        self._study, self._told = weakref.ref(study), 0
        self._known: set[int] = set()

    def new(self) -> list[FrozenTrial]:
        study = self._study()
        assert study is not None
        if isinstance(study._storage, Looking):
            every = study._storage.ended(study._study_id)
            self._told, found = len(every), every[self._told :]
            return found
        every = study.get_trials(deepcopy=False, states=[s for s in TrialState if s.is_finished()])
        found = [t for t in every if t.number not in self._known]
        self._known.update(t.number for t in found)
        return found


@contextlib.contextmanager
def together(study: Study) -> Iterator[None]:
    """Write the parameters of a trial that are drawn here at once, where the storage can."""
    whole = at_once(study._storage)
    with contextlib.nullcontext() if whole is None else whole.together(study._study_id):
        yield


def at_once(storage: BaseStorage) -> Tables | Proxy | None:
    """The storage, if it writes several things in one transaction."""
    return storage if isinstance(storage, Tables) or (isinstance(storage, Proxy) and storage.ours) else None


def held(storage: BaseStorage, trial_id: int, key: str) -> tuple[TrialState, Any]:
    """A trial's state and one of its system attributes as they are now; None where it hasn't got that."""
    if (whole := at_once(storage)) is not None:
        return whole.held(trial_id, key)
    trial = storage.get_trial(trial_id)
    return trial.state, trial.system_attrs.get(key)


def set_all(storage: BaseStorage, trial_id: int, values: Mapping[str, Any]) -> None:
    """Several user attributes of a trial, written at once where the storage can.

    Raises:
        UpdateFinishedTrialError: the trial is finished.
    """
    if (whole := at_once(storage)) is not None:
        whole.set_all(trial_id, values)
    elif isinstance(storage, JournalStorage):
        _journal_all(storage, trial_id, values)
    else:
        for key, value in values.items():
            storage.set_trial_user_attr(trial_id, key, value)


def _journal_all(storage: JournalStorage, trial_id: int, values: Mapping[str, Any]) -> None:
    with storage._thread_lock:
        storage._backend.append_logs(log_attributes(storage, trial_id, values))
        storage._sync_with_backend()


def log_attributes(storage: JournalStorage, trial_id: int, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the journal says of user attributes that a trial gets."""
    head = {
        "op_code": JournalOperation.SET_TRIAL_USER_ATTR,
        "worker_id": storage._replay_result.worker_id,
        "trial_id": trial_id,
    }
    return [{**head, "user_attr": {key: value}} for key, value in values.items()]
