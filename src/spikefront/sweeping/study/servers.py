"""Studies in a database server: it is away now and then, and MySQL's texts are short."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from spikefront.console import shown

IDLE = 1.0  # seconds without use after which a connection is tried first
PATIENCE = 300.0  # seconds for which a server that was there is waited for: it is restarted, or its disk made free
PAUSE = 1.0  # seconds between tries
MYSQL = ("mysql", "mariadb")  # the names of its dialect
OPTIONS = {"pool_pre_ping": False}  # of the engine: see ``_try_the_idle``

logging.getLogger("psycopg").setLevel(logging.ERROR)  # of a lost connection our own line is enough


def prepare(storage: RDBStorage, place: str) -> None:
    """Have a server's storage outlive the server's being away for a while, and take texts of any length.

    Args:
        place: the storage, as it may be shown.
    """
    if storage.engine.dialect.name in MYSQL:
        _make_room(storage.engine)
    _try_the_idle(storage.engine)
    _wait_where_it_is_away(storage.engine, place)


def outlast(work: Callable[[], None], again: Callable[[], None]) -> None:
    """Do what asks a server, to its end; where that ended a connection meanwhile, ``again`` and once more."""
    cut = False
    while True:
        try:
            if cut:
                again()
            work()
            return
        except Exception as error:
            if not _was_cut(error):
                raise
        cut = True
        time.sleep(PAUSE)


def _was_cut(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__
    return False


def _make_room(engine: sqlalchemy.Engine) -> None:
    """Have MySQL's and MariaDB's tables take attributes of more than 64 kB, where Optuna's texts end, and parts of
    seconds."""
    wider = {"text": "LONGTEXT", "datetime": "DATETIME(6)"}
    short = "column_name = 'value_json' AND data_type = 'text' OR table_name = 'trials' AND datetime_precision = 0"
    names = "SELECT table_name, column_name, data_type FROM information_schema.columns"
    with engine.begin() as connection:
        found = connection.execute(sqlalchemy.text(f"{names} WHERE table_schema = DATABASE() AND ({short})"))
        for table, column, kind in found.all():
            connection.execute(sqlalchemy.text(f"ALTER TABLE {table} MODIFY {column} {wider[kind]}"))


def _try_the_idle(engine: sqlalchemy.Engine) -> None:
    """Try a connection before its use that was not used for a while: a server that was away has forgotten it.

    SQLAlchemy's own ``pool_pre_ping`` tries it each time: half of all that is said to the server.
    """

    def put_back(_: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    def take(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("used", math.inf) < IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:  # the driver's own: another connection is made
            raise DisconnectionError from error

    event.listen(engine, "checkin", put_back)
    event.listen(engine, "checkout", take)


def _wait_where_it_is_away(engine: sqlalchemy.Engine, place: str) -> None:
    """Wait for a server that refuses a connection and said nothing wrong before; of a process's threads one asks it."""
    asking, since = threading.Lock(), math.inf

    def connect(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        nonlocal since
        while True:
            with asking:
                try:
                    found = dialect.connect(*arguments, **options)
                    since = math.inf
                    return found
                except dialect.loaded_dbapi.OperationalError as error:
                    now = time.monotonic()
                    if now - since > PATIENCE:
                        raise
                    if since == math.inf:
                        since, why = now, shown(str(error).strip().splitlines()[0])
                        line = f"the study's storage {place} is away, waiting for it ({why})"
                        print(line, file=sys.stderr, flush=True)
            time.sleep(PAUSE)

    event.listen(engine, "do_connect", connect)
