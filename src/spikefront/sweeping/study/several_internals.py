"""Trials begun and told several at once, where each takes a fraction of a second: evaluations of an elastic training.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.storages.journal._storage import JournalOperation
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from spikefront.sweeping.search.optuna_internals import as_asked, id_of
from spikefront.sweeping.study.storage_internals import held, log_attributes, set_all
from spikefront.sweeping.study.tables_internals import Tables, now_utc

Mine = Callable[[Any], bool]
"""Whether what an attribute holds, None where there is none, says that a trial is this worker's."""


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
    if isinstance(storage, Tables):
        return _begin(storage, study._study_id, count, attributes)
    template = create_trial(state=TrialState.RUNNING, system_attrs=dict(attributes))
    ids = [storage.create_new_trial(study._study_id, template) for _ in range(count)]
    return {storage.get_trial_number_from_id(own): own for own in ids}


def begun(study: Study, trial_id: int) -> Trial:
    """One of those, to be worked on."""
    study._thread_local.cached_all_trials = None  # as where it is asked for
    return Trial(study, trial_id)


def tell(study: Study, endings: Sequence[Ending], key: str, mine: Mine) -> list[bool]:
    """Tell how trials ended, all or none where the storage can; of each whether it was still ours.

    Args:
        key: of the system attribute by which ``mine`` knows whose a trial is.
    """
    storage = study._storage
    several = len(endings) > 1
    if not (isinstance(storage, Tables) or (several and isinstance(storage, JournalStorage))):
        return [_tell_one(study, e, key, mine) for e in endings]
    if not several and endings[0].state != TrialState.COMPLETE:  # of which Optuna makes a value of the last step's
        return [_tell_one(study, endings[0], key, mine)]
    for e in endings:
        study.sampler.after_trial(study, as_asked(e.trial), e.state, e.values)
    if isinstance(storage, Tables):
        return _tell_tables(storage, endings, key, mine)
    return _tell_journal(storage, endings, key, mine)


def _tell_one(study: Study, ending: Ending, key: str, mine: Mine) -> bool:
    if not _is_mine(held(study._storage, id_of(ending.trial), key), mine):
        return False
    with contextlib.suppress(ValueError, UpdateFinishedTrialError):  # told by another between the look and now
        if ending.kept:
            set_all(study._storage, id_of(ending.trial), ending.kept)
        study.tell(ending.trial, None if ending.values is None else list(ending.values), state=ending.state)
    return True


def _is_mine(found: tuple[TrialState, Any], mine: Mine) -> bool:
    return found[0] == TrialState.RUNNING and mine(found[1])


def _tell_journal(storage: JournalStorage, endings: Sequence[Ending], key: str, mine: Mine) -> list[bool]:
    ours = [_is_mine(held(storage, id_of(e.trial), key), mine) for e in endings]
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


def _begin(storage: Tables, study_id: int, count: int, attributes: Mapping[str, Any]) -> dict[int, int]:
    trial, system = models.TrialModel, models.TrialSystemAttributeModel
    with _create_scoped_session(storage._backend.scoped_session) as session:
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)  # by which numbers are given in turn
        made = [trial(study_id=study_id, state=TrialState.RUNNING, _datetime_start_utc=now_utc()) for _ in range(count)]
        session.add_all(made)
        session.flush()
        made.sort(key=lambda t: t.trial_id)
        first = made[0].count_past_trials(session)
        for number, one in enumerate(made, first):
            one.number = number
        ids: dict[Any, Any] = {one.number: one.trial_id for one in made}
        rows = [
            {"trial_id": i, "key": k, "value_json": json.dumps(v)} for i in ids.values() for k, v in attributes.items()
        ]
        session.execute(sqlalchemy.insert(system), rows)
    for own in ids.values():
        storage.touch(own)
    storage.look(study_id, ())  # from here on it knows whose they are
    return ids


def _tell_tables(storage: Tables, endings: Sequence[Ending], key: str, mine: Mine) -> list[bool]:
    trial, system = models.TrialModel, models.TrialSystemAttributeModel
    ids = [id_of(e.trial) for e in endings]
    running = trial.trial_id.in_(ids) & (trial.state == TrialState.RUNNING)
    whose = sqlalchemy.select(trial.trial_id, system.value_json).where(running)
    whose = whose.outerjoin(system, (system.trial_id == trial.trial_id) & (system.key == key))
    try:
        with _create_scoped_session(storage._backend.scoped_session) as session:
            # of which nothing changes, but nobody else ends or takes them until the transaction is through
            session.execute(sqlalchemy.update(trial).where(running).values(state=TrialState.RUNNING))
            found = session.execute(whose).all()
            ours = {own for own, text in found if mine(None if text is None else json.loads(text))}
            _write(session, [e for e in endings if id_of(e.trial) in ours])
    finally:
        for own in ids:
            storage.touch(own)
    return [own in ours for own in ids]


def _write(session: Any, endings: Sequence[Ending]) -> None:
    value, user, trial = models.TrialValueModel, models.TrialUserAttributeModel, models.TrialModel
    values: list[dict[str, Any]] = []
    attributes: dict[tuple[int, str], str] = {}
    ended: dict[TrialState, list[int]] = defaultdict(list)
    for e in endings:
        own = id_of(e.trial)
        ended[e.state].append(own)
        attributes |= {(own, k): json.dumps(v) for k, v in e.kept.items()}
        for objective, told in enumerate(e.values or ()):
            number, kind = value.value_to_stored_repr(float(told))
            values.append({"trial_id": own, "objective": objective, "value": number, "value_type": kind})
    known = sqlalchemy.select(user.trial_id, user.key).where(
        user.trial_id.in_([id_of(e.trial) for e in endings]), user.key.in_({k for _, k in attributes})
    )
    for own, key in session.execute(known).all():
        place = (user.trial_id == own) & (user.key == key)
        session.execute(sqlalchemy.update(user).where(place).values(value_json=attributes.pop((own, key))))
    _insert(session, value, values)
    _insert(session, user, ({"trial_id": i, "key": k, "value_json": text} for (i, k), text in attributes.items()))
    for state, those in ended.items():
        end = {"state": state, "_datetime_complete_utc": now_utc()}
        session.execute(sqlalchemy.update(trial).where(trial.trial_id.in_(those)).values(end))


def _insert(session: Any, model: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    if given := list(rows):
        session.execute(sqlalchemy.insert(model), given)
