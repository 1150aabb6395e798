"""Debian's PostgreSQL server on a data directory of a test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from system import unable

EMPTY = ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"]


class Server:
    """One that runs, for tests that stop it and start it again.

    Args:
        directory: one that its user can reach; what it keeps is in ``data`` there, what it says in ``log``.
        settings: of its configuration, by name.
    """

    def __init__(self, directory: Path, **settings):
        self._directory, self._data, self.log = directory, directory / "data", directory / "log"
        self._port, self._root = free_port(), os.geteuid() == 0
        self._data.mkdir(exist_ok=True)
        if self._root:  # the server refuses to run as root
            for place in (directory, self._data):
                shutil.chown(place, "postgres", "postgres")
        self.url = f"postgresql://sweep@127.0.0.1:{self._port}/postgres"
        given = {"port": self._port, "unix_socket_directories": directory, "listen_addresses": "127.0.0.1"}
        self._options = " ".join(f"-c {k}={v}" for k, v in {**given, "fsync": "off", **settings}.items())
        self._run("initdb", "-U", "sweep", "-A", "trust", "--wal-segsize=1")
        self.start()

    def start(self):
        self._run("pg_ctl", "-l", self.log, "-w", "-o", self._options, "start")

    def stop(self):
        """As if it had been killed: what wasn't committed is lost."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def running(self):
        return self._run("pg_ctl", "status", check=False) == 0

    def ask(self, statement):
        """The rows of a statement's answer, by a connection of its own."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def cut(self):
        """End every other connection; how many there were."""
        others = "FROM pg_stat_activity WHERE usename = 'sweep' AND pid <> pg_backend_pid()"
        return len(self.ask(f"SELECT pg_terminate_backend(pid) {others}"))

    def _run(self, program, *arguments, check=True):
        command = [str(_binaries() / program), "-D", str(self._data), *map(str, arguments)]
        as_user = ["runuser", "-u", "postgres", "--"] if self._root else []
        quiet = {"stdout": subprocess.DEVNULL, "cwd": self._directory}
        return subprocess.run([*as_user, *command], check=check, **quiet).returncode


@contextmanager
def server():
    """Context of its URL; ends the test where the server isn't installed."""
    with tempfile.TemporaryDirectory(prefix="spikefront-postgresql-") as directory:  # pytest's own are closed to others
        found = started(Path(directory))
        try:
            yield found.url
        finally:
            found.stop()


def started(directory: Path, **settings) -> Server:
    """One in this directory; ends the test where the server isn't installed."""
    if not _binaries():
        unable("needs PostgreSQL's server")
    return Server(directory, **settings)


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
