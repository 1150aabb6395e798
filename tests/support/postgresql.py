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


@contextmanager
def server():
    """Context of its URL; ends the test where the server isn't installed."""
    if not (binaries := _binaries()):
        unable("needs PostgreSQL's server")
    port, root = free_port(), os.geteuid() == 0
    directory = Path(tempfile.mkdtemp(prefix="spikefront-postgresql-"))  # pytest's own are closed to other users
    if root:  # the server refuses to run as root
        shutil.chown(directory, "postgres", "postgres")

    def run(*command):
        as_user = ["runuser", "-u", "postgres", "--"] if root else []
        subprocess.run([*as_user, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=directory)

    data = directory / "data"
    run(binaries / "initdb", "-D", data, "-U", "sweep", "-A", "trust")
    options = f"-p {port} -k {directory} -c fsync=off -c listen_addresses=127.0.0.1"
    run(binaries / "pg_ctl", "-D", data, "-l", directory / "log", "-w", "-o", options, "start")
    try:
        yield f"postgresql://sweep@127.0.0.1:{port}/postgres"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(directory)


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
