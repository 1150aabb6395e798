"""Optuna's relational storage, asked for what a worker needs in few statements; its tables stay as they are.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import check_distribution_compatibility, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError

from spikefront.sweeping.study.looks import Drawing, Drawn, Looks
from spikefront.sweeping.study.rows_internals import batched, frozen, heads
from spikefront.sweeping.study.writes_internals import Writes, now_utc


class Tables(Drawing, Writes, _CachedStorage):
    """Optuna's relational storage."""

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._looks = defaultdict(Looks)

    def draw(self, study_id: int, drawn: Sequence[Drawn]) -> None:
        known = self._studies[study_id].param_distribution
        rows: list[dict[str, Any]] = []
        for trial_id, name, value, distribution in drawn:
            if name in known:
                check_distribution_compatibility(known[name], distribution)
                text = distribution_to_json(distribution)
                rows.append({"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": text})
            else:  # what other trials draw it from is looked up once
                super().set_trial_param(trial_id, name, value, distribution)
        if not rows:
            return
        try:
            with _create_scoped_session(self._backend.scoped_session) as session:
                _check_running(self._backend, session, rows[0]["trial_id"])
                session.connection().execute(sqlalchemy.insert(models.TrialParamModel), rows)
        except IntegrityError as error:  # it was returned meanwhile, and who has it now has drawn them
            raise UpdateFinishedTrialError(f"trial {rows[0]['trial_id']} is another worker's by now") from error
        if self.thorough:
            self.touch(rows[0]["trial_id"])

    def _fetch(self, study_id: int, ids: Collection[int], after: int) -> list[FrozenTrial]:
        own = models.TrialModel
        found: list[FrozenTrial] = []
        with self._reading() as connection:
            made = heads(connection, (own.study_id == study_id) & (own.trial_id > after))
            for some in batched(sorted(ids)):
                made += heads(connection, own.trial_id.in_(some))
            for part in batched(made):
                found += frozen(connection, part, self.unread)
        if not made and after < 0:
            self._backend.get_study_name_from_id(study_id)  # raises KeyError if there is none
        if study_id not in self._studies:  # a proxy that was started again isn't asked for it by name
            self.get_study_directions(study_id)
        with self._lock:
            # by which Optuna knows a trial's study; a finished one it would take to be whole
            self._add_trials_to_cache(study_id, [t for t in found if not t.state.is_finished()])
        return found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._reading() as connection:
            found = frozen(connection, heads(connection, models.TrialModel.trial_id == trial_id), ())
        return found[0] if found else super().get_trial(trial_id)  # which says what is wrong

    def held(self, trial_id: int, key: str) -> tuple[TrialState, Any]:
        """A trial's state and one of its system attributes as they are now; None where it hasn't got that."""
        trial, attribute = models.TrialModel, models.TrialSystemAttributeModel
        with self._reading() as connection:
            row = connection.execute(
                sqlalchemy.select(trial.state, attribute.value_json)
                .outerjoin(attribute, (attribute.trial_id == trial.trial_id) & (attribute.key == key))
                .where(trial.trial_id == trial_id)
            ).one()
        return row[0], None if row[1] is None else json.loads(row[1])

    def _reading(self) -> Any:
        """A connection on which every statement sees what there is, without a transaction around it."""
        return self._backend.engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        own, value_model = models.TrialModel, models.TrialValueModel
        if state == TrialState.RUNNING:
            return self._begin(trial_id)
        if not state.is_finished():
            return bool(super().set_trial_state_values(trial_id, state, values))
        rows = []
        for objective, value in enumerate(values or ()):
            number, kind = value_model.value_to_stored_repr(value)
            rows.append({"trial_id": trial_id, "objective": objective, "value": number, "value_type": kind})
        try:
            with _create_scoped_session(self._backend.scoped_session) as session:
                _check_running(self._backend, session, trial_id, lock=True)
                if rows:
                    session.connection().execute(sqlalchemy.insert(value_model), rows)
                told = {"state": state, "_datetime_complete_utc": now_utc()}
                session.execute(sqlalchemy.update(own).where(own.trial_id == trial_id).values(told))
        except IntegrityError:
            return False
        finally:
            self.touch(trial_id)
        return True

    def _begin(self, trial_id: int) -> bool:
        """Have a waiting trial run, if nobody else has: in one statement, as SQLite locks no row that was read."""
        own = models.TrialModel
        waiting = (own.trial_id == trial_id) & (own.state == TrialState.WAITING)
        begun = {"state": TrialState.RUNNING, "_datetime_start_utc": now_utc()}
        try:
            with _create_scoped_session(self._backend.scoped_session) as session:
                came: Any = session.execute(sqlalchemy.update(own).where(waiting).values(begun))
                if not came.rowcount:
                    _check_running(self._backend, session, trial_id)
                return bool(came.rowcount)
        finally:
            self.touch(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.set_all(trial_id, {key: value})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.set_all(trial_id, {key: value}, models.TrialSystemAttributeModel)

    def set_all(self, trial_id: int, values: Mapping[str, Any], kind: Any = models.TrialUserAttributeModel) -> None:
        """Several attributes of a trial, in one transaction."""
        given = {key: json.dumps(value) for key, value in values.items()}
        try:
            with _create_scoped_session(self._backend.scoped_session) as session:
                _check_running(self._backend, session, trial_id)
                known = sqlalchemy.select(kind.key).where(kind.trial_id == trial_id, kind.key.in_(given))
                for key in session.scalars(known).all():
                    place = (kind.trial_id == trial_id) & (kind.key == key)
                    session.connection().execute(sqlalchemy.update(kind).where(place).values(value_json=given.pop(key)))
                if given:
                    rows = [{"trial_id": trial_id, "key": key, "value_json": text} for key, text in given.items()]
                    session.connection().execute(sqlalchemy.insert(kind), rows)
        except IntegrityError:  # another has written one of them meanwhile
            self.set_all(trial_id, values, kind)
        if self.thorough:
            self.touch(trial_id)


def _check_running(backend: RDBStorage, session: Any, trial_id: int, lock: bool = False) -> None:
    """Raise UpdateFinishedTrialError for a trial that is finished, KeyError where there is none.

    Args:
        lock: have nobody else finish it until the session ends.
    """
    own = models.TrialModel
    wanted = sqlalchemy.select(own.state).where(own.trial_id == trial_id)
    state = session.scalar(wanted.with_for_update() if lock else wanted)
    if state is None:
        raise KeyError(models.NOT_FOUND_MSG)
    backend.check_trial_is_updatable(trial_id, state)
