"""Trials as Optuna's tables hold them, read by the thousand: as rows, and only what is asked for.

``tests/sweeping/study/test_storage_internals.py`` says what has changed in Optuna and what then goes wrong.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

AT_ONCE = 500  # trials that one statement names
_parse = json.JSONDecoder().raw_decode  # twice as fast as ``json.loads`` on texts as short as these


def batched(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """As many as one statement names."""
    return (rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE))


def heads(connection: Any, where: Any) -> list[Any]:
    """The trials of which a condition holds, each with what stands in its own table."""
    columns = models.TrialModel.__table__.c
    wanted = (columns.trial_id, columns.number, columns.state, columns.datetime_start, columns.datetime_complete)
    return list(connection.execute(sqlalchemy.select(*wanted).where(where)))


def frozen(connection: Any, found: Sequence[Any], unread: tuple[str, ...]) -> list[FrozenTrial]:
    """Trials with all that belongs to them but what is ``unread``, in one statement."""
    params: dict[int, list[Any]] = defaultdict(list)
    values: dict[int, list[Any]] = defaultdict(list)
    steps: dict[int, dict[int, float]] = defaultdict(dict)
    users: dict[int, dict[str, Any]] = defaultdict(dict)
    systems: dict[int, dict[str, Any]] = defaultdict(dict)
    step = models.TrialIntermediateValueModel
    contents = connection.execute(_contents(unread), {"ids": [row.trial_id for row in found]})
    for row in contents.cursor.fetchall():  # as SQLAlchemy's own rows it takes twice as long
        kind, own, place, name, text, number = row
        if kind == "user":
            users[own][name] = _parse(text)[0]
        elif kind == "param":
            params[own].append((place, name, _distribution(text), number))
        elif kind == "system":
            systems[own][name] = _parse(text)[0]
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
        for row in found
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
    if stored is None:
        return None
    return stored + _zone(stored.replace(minute=0, second=0, microsecond=0), stored.minute // 15)


@functools.lru_cache(maxsize=1024)
def _zone(hour: datetime.datetime, quarter: int) -> datetime.timedelta:
    """How far this machine's zone was ahead of UTC in a quarter of an hour, where zones change."""
    utc = hour + datetime.timedelta(minutes=15 * quarter)
    return utc.replace(tzinfo=datetime.UTC).astimezone().utcoffset() or datetime.timedelta()


@functools.lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)
