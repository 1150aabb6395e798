"""Optuna's relational storage, asked for what a worker needs in few statements; its tables stay as they are.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError

from spikefront.sweeping.study.looks import Looking, Looks

AT_ONCE = 500  # trials that one statement names


class Tables(Looking, _CachedStorage):
    """Optuna's relational storage."""

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._looks = defaultdict(Looks)
        self._later: list[tuple[Any, ...]] | None = None

    def set_trial_param(self, *given: Any, **more: Any) -> None:
        if self._later is None:
            super().set_trial_param(*given, **more)
        else:
            self._later.append(given)

    @contextlib.contextmanager
    def together(self, study_id: int) -> Iterator[None]:
        """Write the parameters of a trial that are drawn here in one transaction.

        Raises:
            UpdateFinishedTrialError: it is finished, or another draws them too.
        """
        self._later = []
        try:
            yield
        finally:
            drawn, self._later = self._later, None
        known = self._studies[study_id].param_distribution
        rows = []
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

    def _fetch(self, study_id: int, ids: Collection[int], after: int) -> list[FrozenTrial]:
        own = models.TrialModel
        found: list[FrozenTrial] = []
        with self._reading() as connection:
            made = _rows(connection, (own.study_id == study_id) & (own.trial_id > after))
            for some in _batched(sorted(ids)):
                made += _rows(connection, own.trial_id.in_(some))
            for part in _batched(made):
                found += _frozen(connection, part, self.unread)
        if not made and after < 0:
            self._backend.get_study_name_from_id(study_id)  # raises KeyError if there is none
        with self._lock:
            # by which Optuna knows a trial's study; a finished one it would take to be whole
            self._add_trials_to_cache(study_id, [t for t in found if not t.state.is_finished()])
        return found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._reading() as connection:
            found = _frozen(connection, _rows(connection, models.TrialModel.trial_id == trial_id), ())
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
                told = {"state": state, "_datetime_complete_utc": _now()}
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
        begun = {"state": TrialState.RUNNING, "_datetime_start_utc": _now()}
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


def _now() -> datetime.datetime:
    """As the tables hold it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def _batched(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE))


def _rows(connection: Any, where: Any) -> list[Any]:
    columns = models.TrialModel.__table__.c
    wanted = (columns.trial_id, columns.number, columns.state, columns.datetime_start, columns.datetime_complete)
    return list(connection.execute(sqlalchemy.select(*wanted).where(where)))


def _frozen(connection: Any, rows: Sequence[Any], unread: tuple[str, ...]) -> list[FrozenTrial]:
    """Trials with all that belongs to them but what is ``unread``, in one statement."""
    params: dict[int, list[Any]] = defaultdict(list)
    values: dict[int, list[Any]] = defaultdict(list)
    steps: dict[int, dict[int, float]] = defaultdict(dict)
    users: dict[int, dict[str, Any]] = defaultdict(dict)
    systems: dict[int, dict[str, Any]] = defaultdict(dict)
    step = models.TrialIntermediateValueModel
    for kind, own, place, name, text, number in connection.execute(
        _contents(unread), {"ids": [row.trial_id for row in rows]}
    ).all():
        if kind == "user":
            users[own][name] = json.loads(text)
        elif kind == "param":
            params[own].append((place, name, _distribution(text), number))
        elif kind == "system":
            systems[own][name] = json.loads(text)
        elif kind == "value":
            told = models.TrialValueModel.stored_repr_to_value(number, models.TrialValueModel.TrialValueType[text])
            values[own].append((place, told))
        else:
            steps[own][place] = step.stored_repr_to_intermediate_value(number, step.TrialIntermediateValueType[text])
    for drawn in params.values():
        drawn.sort(key=itemgetter(0))
    return [
        FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=[told for _, told in sorted(values[row.trial_id])] or None,
            datetime_start=_local(row.datetime_start),
            datetime_complete=_local(row.datetime_complete),
            params={name: d.to_external_repr(inner) for _, name, d, inner in params[row.trial_id]},
            distributions={name: d for _, name, d, _ in params[row.trial_id]},
            user_attrs=users[row.trial_id],
            system_attrs=systems[row.trial_id],
            intermediate_values=steps[row.trial_id],
            trial_id=row.trial_id,
        )
        for row in rows
    ]


@functools.cache
def _contents(unread: tuple[str, ...]) -> Any:
    """``(kind, trial, place, name, text, number)`` of all that belongs to the trials ``ids``."""
    ids: Any = sqlalchemy.bindparam("ids", expanding=True)
    select, literal, text, null = sqlalchemy.select, sqlalchemy.literal_column, sqlalchemy.String, sqlalchemy.null()
    no_place, no_text, no_number = (sqlalchemy.cast(null, t) for t in (sqlalchemy.Integer, text, sqlalchemy.Double))
    param, value, step = models.TrialParamModel, models.TrialValueModel, models.TrialIntermediateValueModel
    user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    of_value = sqlalchemy.cast(value.value_type, text)
    of_step = sqlalchemy.cast(step.intermediate_value_type, text)
    parts = (
        ("param", param, (param.param_id, param.param_name, param.distribution_json, param.param_value)),
        ("value", value, (value.objective, no_text, of_value, value.value)),
        ("step", step, (step.step, no_text, of_step, step.intermediate_value)),
        ("user", user, (no_place, user.key, user.value_json, no_number)),
        ("system", system, (no_place, system.key, system.value_json, no_number)),
    )
    begun = [name for name in unread if name.endswith(":")]
    but = {user: [user.key.not_in(set(unread) - set(begun)), *(~user.key.startswith(name) for name in begun)]}
    return sqlalchemy.union_all(
        *(
            select(literal(f"'{kind}'"), model.trial_id, *columns).where(model.trial_id.in_(ids), *but.get(model, ()))
            for kind, model, columns in parts
        )
    )


def _local(stored: datetime.datetime | None) -> datetime.datetime | None:
    """A time as Optuna tells it, of this machine's zone; kept is that of UTC."""
    return None if stored is None else stored.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


@functools.lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)
