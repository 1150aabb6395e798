"""A database server that is away for a while; ``test_faults.py`` has a real one."""

from __future__ import annotations

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from spikefront.sweeping.study import servers


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(servers, "PAUSE", 0.0)


def failure(cut):
    try:
        raise StorageInternalError("commit") from OperationalError(
            "select 1", {}, Exception("gone"), connection_invalidated=cut
        )
    except StorageInternalError as error:
        return error


def test_what_a_cut_connection_ended_is_gone_on_with():
    said, errors = [], [failure(True), failure(True)]

    def work():
        said.append("work")
        if errors:
            raise errors.pop()

    servers.outlast(work, lambda: said.append("again"))
    assert said == ["work", "again", "work", "again", "work"]
    errors = [failure(False)]
    with pytest.raises(StorageInternalError):
        servers.outlast(work, lambda: None)
    errors = [ValueError()]
    with pytest.raises(ValueError):
        servers.outlast(work, lambda: None)


def test_a_server_that_is_away_is_waited_for_and_said_once(monkeypatch, capsys):
    engine = sqlalchemy.create_engine("sqlite://")
    servers._wait_where_it_is_away(engine, "there")
    connect, refusals = engine.dialect.connect, [3]

    def refuse(*arguments, **options):
        if refusals[0]:
            refusals[0] -= 1
            raise engine.dialect.loaded_dbapi.OperationalError("refused\nmore")
        return connect(*arguments, **options)

    monkeypatch.setattr(engine.dialect, "connect", refuse)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("select 1")) == 1
    assert capsys.readouterr().err == "the study's storage there is away, waiting for it (refused)\n"
    engine.dispose()
    monkeypatch.setattr(servers, "PATIENCE", -1.0)
    refusals[0] = 3
    with pytest.raises(OperationalError, match="refused"):
        engine.connect()
