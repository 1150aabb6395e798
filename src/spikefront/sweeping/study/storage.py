"""Where a study is kept: addresses of storages, how they are opened, and what is wrong with one in a line."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, unquote_plus

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from spikefront.cluster import stores
from spikefront.console import HIDDEN, PASSWORD, SECRET, shown
from spikefront.errors import UserError
from spikefront.files import write_atomically
from spikefront.sweeping.study import filesystems, servers
from spikefront.sweeping.study.journal_internals import Journal
from spikefront.sweeping.study.proxy_internals import Proxy, make_server
from spikefront.sweeping.study.storage_internals import pace
from spikefront.sweeping.study.tables_internals import Tables

LOCK_PATIENCE = 60.0  # seconds that SQLite waits for another process's transaction
ELSEWHERE = "storage.url"  # in a study's directory, where its storage is not there
BROKEN = (SQLAlchemyError, optuna.exceptions.StorageInternalError)


def place_of(search: Mapping[str, Any]) -> str:
    """Where a study keeps its trials: a directory, or an address such as ``s3://bucket/sweep/study``."""
    return stores.beneath(search["dir"], str(search["study"]))


def directory(search: Mapping[str, Any]) -> Path:
    """Where a study keeps its trials on this machine, logs and, by default, its storage."""
    return stores.local(place_of(search))


def file_of(address: str) -> Path | None:
    """The file behind a ``journal://`` or ``sqlite:///`` URL, SQLite's own ``file:…?…`` form too."""
    kind, _, rest = address.partition("://")
    if kind != "sqlite" or not rest:
        return Path(rest) if kind == "journal" else None
    return Path(unquote(rest.removeprefix("/").removeprefix("file:").partition("?")[0]))


def _hidden(reason: str, address: str) -> str:
    """What a driver says of a storage, without the passwords of that or of any other URL."""
    given = [found[1] for found in (*PASSWORD.findall(address), *SECRET.findall(address))]
    given += [part for password in given for part in password.split("@")]
    own = {text for password in given for text in (password, unquote(password), unquote_plus(password)) if text}
    reason = reason.replace(address, shown(address))
    for password in sorted(own, key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", HIDDEN, reason)
    return shown(reason)


def url(search: Mapping[str, Any]) -> str:
    """The storage's URL: ``search.storage``, by default that of the study's directory.

    There lies an SQLite database or, where other machines may see it, a journal file, or a note of where that is.

    Raises:
        UserError: the note lacks the password, which is not kept; an address without one, or that can't be read.
    """
    if search.get("storage"):
        return str(search["storage"])
    here = directory(search)
    database, journal, elsewhere = here / "study.db", here / "study.log", here / ELSEWHERE
    if "://" in str(search["dir"]) and not elsewhere.exists():
        if (note := stores.read(stores.beneath(place_of(search), ELSEWHERE))) is None:
            cure = "give search.storage=postgresql://… or grpc://…, which all workers reach (slurm/README.md)"
            raise UserError(f"search.dir={search['dir']} keeps files, no database: {cure}")
        write_atomically(elsewhere, note.decode())
    if not database.exists() and not journal.exists() and elsewhere.exists():
        noted = elsewhere.read_text(encoding="utf-8").strip()
        if HIDDEN in noted:
            raise UserError(f"the study in {here} is kept in {noted}, and the password nowhere: give storage=… with it")
        return noted
    if not database.exists() and (journal.exists() or filesystems.shared(database)):
        return journal_url(search)
    return sqlite_url(database)


def sqlite_url(file: Path) -> str:
    """The URL of an SQLite database, whatever its path is made of."""
    return "sqlite:///" + re.sub(r"[?%#{}\n]", lambda match: quote(match[0]), str(file))


def lies_in(place: Path) -> bool:
    """Whether a directory is a study's."""
    return any((place / name).exists() for name in ("study.db", "study.log", ELSEWHERE))


def note_place(search: Mapping[str, Any]) -> None:
    """Leave in the study's directory where its storage is, if that is elsewhere, for who looks for the study there."""
    address, note = str(search.get("storage") or ""), directory(search) / ELSEWHERE
    if not address:
        return
    file = file_of(address)
    if file is not None:
        address = sqlite_url(file.absolute()) if address.startswith("sqlite") else f"journal://{file.absolute()}"
    if file is None or file.absolute().parent != directory(search):
        write_atomically(note, shown(address) + "\n")
        if "://" in str(search["dir"]):
            stores.write(stores.beneath(place_of(search), ELSEWHERE), note.read_bytes())


def journal_url(search: Mapping[str, Any]) -> str:
    """The journal file in the study's directory."""
    return f"journal://{directory(search) / 'study.log'}"


def open_storage(address: str) -> BaseStorage:
    """``sqlite:///file.db``, ``postgresql://…``, ``mysql+pymysql://…``, ``journal:///file.log`` or ``grpc://host:port``.

    Raises:
        UserError: it can't be opened.
    """
    kind, _, rest = address.partition("://")
    with _opening(address), storage_errors(address):
        if kind == "journal":
            path = Path(rest)
            path.parent.mkdir(parents=True, exist_ok=True)
            return Journal(path)
        if kind == "grpc":
            host, _, port = rest.partition(":")
            if not host or not (port or "13000").isdecimal():
                raise UserError(f"search.storage is {shown(address)!r}: give it as grpc://host:port")
            return Proxy(host=host, port=int(port or 13000))
        if not rest:
            raise UserError(f"search.storage is {shown(address)!r}: give a URL such as sqlite:////path/study.db")
        if kind == "sqlite":
            file = cast(Path, file_of(address))
            _refuse_shared(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            options: dict[str, Any] = {"connect_args": {"timeout": LOCK_PATIENCE}}
            if not rest.startswith("/file:"):  # versions of SQLAlchemy differ in what of a path they decode
                open_file = partial(sqlite3.connect, file, LOCK_PATIENCE, check_same_thread=False)
                options = {"creator": open_file}
        else:
            options = servers.OPTIONS
        storage = RDBStorage(address, engine_kwargs=options)
        if kind == "sqlite":
            _write_ahead(storage)
        else:
            servers.prepare(storage, shown(address))
        return Tables(storage)


def serve(address: str, host: str = "localhost", port: int = 13000) -> None:
    """Optuna's gRPC proxy before a storage, for workers with ``search.storage=grpc://host:port``: a process of its own,
    which doesn't end.

    With Optuna's own storage behind it, it reads every running trial for each that asks. What workers write passes
    through here, so only that is read again: give all workers of a study the same proxy.

    Raises:
        SystemExit: with a line, where the storage can't be opened or the port is taken.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # of a port that is taken our own line is enough
    try:
        storage = open_storage(address)
        pace(storage)
        if isinstance(storage, Tables):
            storage.thorough = True
        server = make_server(storage, host, port)
    except UserError as error:
        sys.exit(f"spikefront: {error}")
    server.start()
    server.wait_for_termination()


def _refuse_shared(file: Path) -> None:
    kind = filesystems.shared(file)
    if kind is not None:
        raise UserError(
            f"SQLite's locks don't hold on {kind}, where {file} lies: use search.storage=journal://{file.with_suffix('.log')}"
            " (or postgresql://…, grpc://…); slurm/README.md says how to take a study along"
        )


def _write_ahead(storage: RDBStorage) -> None:
    """SQLite's write-ahead log: readers never wait for a writer, and a commit waits for the disk only now and then.

    No kill loses a commit; a power cut can lose the last ones, whose trials run again.
    """

    def prepare(connection: Any, _: Any) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # locked or read-only: it stays as it is
            connection.execute("pragma busy_timeout = 0")
            connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma busy_timeout = {int(1000 * LOCK_PATIENCE)}")
        connection.execute("pragma synchronous = normal")

    event.listen(storage.engine, "connect", prepare)
    storage.engine.dispose()


@contextlib.contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Say in one line what is wrong with a storage; errors that are not a storage's pass as they are."""
    place = shown(address)
    try:
        yield
    except BROKEN as error:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        raise UserError(f"the study's storage {place} can't be used: {_hint(_hidden(str(cause), address))}") from error
    except Exception as error:
        if not type(error).__module__.startswith("grpc"):
            raise
        details = str(error.details())  # type: ignore[attr-defined]
        raise UserError(f"the study's storage {place} can't be reached: {_hint(_hidden(details, address))}") from error


@contextlib.contextmanager
def _opening(address: str) -> Iterator[None]:
    """The same for what only the opening of one can bring."""
    place = shown(address)
    try:
        yield
    except OSError as error:
        raise UserError(f"the study's storage {place} can't be used: {_hint(str(error))}") from error
    except ImportError as error:
        extra, why = "mysql" if place.startswith(servers.MYSQL) else "storage", _hidden(str(error), address)
        cure = f"pip install 'spikefront[{extra}]'" + (" and give it as mysql+pymysql://…" if extra == "mysql" else "")
        raise UserError(f"search.storage {place} needs a package that is missing: {cure} ({why})") from error
    except (RuntimeError, ValueError) as error:
        raise UserError(f"search.storage {place}: {_hidden(str(error), address).splitlines()[0]}") from error


def _hint(reason: str) -> str:
    reason = reason.strip().splitlines()[0] if reason.strip() else "unknown error"
    for sign, hint in {
        "locked": "; another program holds it: close that, or use search.storage=journal:///… or PostgreSQL",
        "readonly": "; give yourself the right to write it, or another search.storage",
        "read-only": "; give yourself the right to write it, or another search.storage",
        "not a database": "; the file is damaged or something else: move it away or restore a copy",
        "malformed": "; the file is damaged: restore a copy",
        "is full": "; free some space or raise your quota, then the same command continues",
        "quota": "; free some space or raise your quota, then the same command continues",
        "No space left": "; free some space or raise your quota, then the same command continues",
        "refused": "; is the server up, and is this its name as seen from the workers' machines?",
        "could not translate": "; is this the server's name as seen from the workers' machines?",
        "failed to resolve": "; is this the server's name as seen from the workers' machines?",
        "timeout expired": "; may the workers' machines reach the server through the firewall?",
    }.items():
        if sign in reason:
            return reason + hint
    return reason
