"""Several of a study's trials written in one transaction of Optuna's relational storage: begun, and told.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import TrialState

from spikefront.sweeping.study.looks import Looking


class Told(NamedTuple):
    """How a trial ends: with the values of a complete one, and user attributes that are written with it."""

    trial_id: int
    state: TrialState
    values: Sequence[float] | None
    kept: Mapping[str, Any]


def is_mine(state: TrialState, holder: Any, owner: str) -> bool:
    """Whether a trial runs under this owner's lease."""
    return state == TrialState.RUNNING and (holder or {}).get("id") == owner


def now_utc() -> datetime.datetime:
    """As the tables hold it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


class Writes(Looking):
    """What Optuna's relational storage writes of several trials in one transaction."""

    _backend: RDBStorage

    def begin(self, study_id: int, count: int, attributes: Mapping[str, Any]) -> dict[int, int]:
        """Make trials that run, with these system attributes; their ids by their numbers."""
        trial, system = models.TrialModel, models.TrialSystemAttributeModel
        with _create_scoped_session(self._backend.scoped_session) as session:
            # by which numbers are given in turn
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            new = {"study_id": study_id, "state": TrialState.RUNNING, "_datetime_start_utc": now_utc()}
            made = [trial(**new) for _ in range(count)]
            session.add_all(made)
            session.flush()
            made.sort(key=lambda t: t.trial_id)
            first = made[0].count_past_trials(session)
            for number, one in enumerate(made, first):
                one.number = number
            ids: dict[Any, Any] = {one.number: one.trial_id for one in made}
            given = {key: json.dumps(value) for key, value in attributes.items()}
            rows = ({"trial_id": i, "key": k, "value_json": text} for i in ids.values() for k, text in given.items())
            _insert(session, system, rows)
        for own in ids.values():
            self.touch(own)
        return ids

    def tell(self, endings: Sequence[Told], key: str, owner: str) -> list[bool]:
        """End trials, all or none; of each whether ``owner`` still held it, by the attribute ``key``."""
        trial, system = models.TrialModel, models.TrialSystemAttributeModel
        ids = [e.trial_id for e in endings]
        running = trial.trial_id.in_(ids) & (trial.state == TrialState.RUNNING)
        whose = sqlalchemy.select(trial.trial_id, system.value_json).where(running)
        whose = whose.outerjoin(system, (system.trial_id == trial.trial_id) & (system.key == key))
        try:
            with _create_scoped_session(self._backend.scoped_session) as session:
                # of which nothing changes, but nobody else ends or takes them until the transaction is through
                session.execute(sqlalchemy.update(trial).where(running).values(state=TrialState.RUNNING))
                found = session.execute(whose).all()
                ours = {own for own, text in found if is_mine(TrialState.RUNNING, json.loads(text or "null"), owner)}
                _write(session, [e for e in endings if e.trial_id in ours])
        finally:
            for own in ids:
                self.touch(own)
        return [own in ours for own in ids]


def _write(session: Any, endings: Sequence[Told]) -> None:
    value, user, trial = models.TrialValueModel, models.TrialUserAttributeModel, models.TrialModel
    values: list[dict[str, Any]] = []
    attributes: dict[tuple[int, str], str] = {}
    ended: dict[TrialState, list[int]] = defaultdict(list)
    for e in endings:
        ended[e.state].append(e.trial_id)
        attributes |= {(e.trial_id, k): json.dumps(v) for k, v in e.kept.items()}
        for objective, told in enumerate(e.values or ()):
            number, kind = value.value_to_stored_repr(float(told))
            values.append({"trial_id": e.trial_id, "objective": objective, "value": number, "value_type": kind})
    known = sqlalchemy.select(user.trial_id, user.key).where(
        user.trial_id.in_([e.trial_id for e in endings]), user.key.in_({k for _, k in attributes})
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
