"""Trials begun and told several at once, where each takes a fraction of a second: evaluations of an elastic training.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from spikefront.sweeping.search.optuna_internals import as_asked, id_of
from spikefront.sweeping.study.storage_internals import at_once, held, log_attributes, set_all
from spikefront.sweeping.study.writes_internals import Told, is_mine


@dataclass(frozen=True)
class Ending:
    """How a trial ends: with the values of a complete one, and user attributes that are written with it."""

    trial: Trial
    state: TrialState
    values: Sequence[float] | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)


def begin(study: Study, count: int, attributes: Mapping[str, Any]) -> dict[int, int]:
    """Make trials that run, with these system attributes; their ids by their numbers."""
    storage = study._storage
    if (whole := at_once(storage)) is not None:
        ids = whole.begin(study._study_id, count, attributes)
        whole.look(study._study_id, ())  # from here on it knows whose they are
        return ids
    template = create_trial(state=TrialState.RUNNING, system_attrs=dict(attributes))
    made = [storage.create_new_trial(study._study_id, template) for _ in range(count)]
    return {storage.get_trial_number_from_id(own): own for own in made}


def begun(study: Study, trial_id: int) -> Trial:
    """One of those, to be worked on."""
    study._thread_local.cached_all_trials = None  # as where it is asked for
    return Trial(study, trial_id)


def tell(study: Study, endings: Sequence[Ending], key: str, owner: str) -> list[bool]:
    """Tell how trials ended, all or none where the storage can; of each whether it was still ours.

    Args:
        key: of the system attribute whose ``"id"`` is ``owner`` in a trial that is ours.
    """
    storage = study._storage
    whole, several = at_once(storage), len(endings) > 1
    if whole is None and not (several and isinstance(storage, JournalStorage)):
        return [_tell_one(study, e, key, owner) for e in endings]
    if not several and endings[0].state != TrialState.COMPLETE:  # of which Optuna makes a value of the last step's
        return [_tell_one(study, endings[0], key, owner)]
    for e in endings:
        study.sampler.after_trial(study, as_asked(e.trial), e.state, e.values)
    if whole is not None:
        return whole.tell([Told(id_of(e.trial), e.state, e.values, e.kept) for e in endings], key, owner)
    assert isinstance(storage, JournalStorage)
    return _tell_journal(storage, endings, key, owner)


def _tell_one(study: Study, ending: Ending, key: str, owner: str) -> bool:
    if not is_mine(*held(study._storage, id_of(ending.trial), key), owner):
        return False
    with contextlib.suppress(ValueError, UpdateFinishedTrialError):  # told by another between the look and now
        if ending.kept:
            set_all(study._storage, id_of(ending.trial), ending.kept)
        study.tell(ending.trial, None if ending.values is None else list(ending.values), state=ending.state)
    return True


def _tell_journal(storage: JournalStorage, endings: Sequence[Ending], key: str, owner: str) -> list[bool]:
    ours = [is_mine(*held(storage, id_of(e.trial), key), owner) for e in endings]
    logs: list[dict[str, Any]] = []
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    for e in (e for e, own in zip(endings, ours, strict=True) if own):
        logs += log_attributes(storage, id_of(e.trial), e.kept)
        values = None if e.values is None else [float(v) for v in e.values]
        told = {"trial_id": id_of(e.trial), "state": e.state, "values": values, "datetime_complete": now}
        head = {"op_code": JournalOperation.SET_TRIAL_STATE_VALUES, "worker_id": storage._replay_result.worker_id}
        logs.append({**head, **told})
    with storage._thread_lock, contextlib.suppress(UpdateFinishedTrialError):  # as in ``_tell_one``
        storage._backend.append_logs(logs)
        storage._sync_with_backend()
    return ours
