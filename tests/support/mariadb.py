"""Debian's MariaDB server on a data directory of a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgresql import free_port
from system import missing, unable

INSTALL, SERVER = "mariadb-install-db", "mariadbd"
EMPTY = ["SET foreign_key_checks = 0", "CREATE OR REPLACE DATABASE sweeps CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"]


@contextmanager
def server():
    """Context of its URL; ends the test where the server or PyMySQL isn't installed."""
    if gone := missing((INSTALL, SERVER)):
        unable(f"needs MariaDB's {gone[0]}")
    pymysql = pytest.importorskip("pymysql", reason="needs PyMySQL: pip install 'spikefront[mysql]'")
    with tempfile.TemporaryDirectory(prefix="spikefront-mariadb-") as place:  # pytest's own are closed to other users
        directory, port = Path(place), free_port()
        (directory / "init.sql").write_text(f"{EMPTY[-1]};\n")
        user = ["--user=mysql"] if os.geteuid() == 0 else []
        if user:  # the server refuses to run as root
            shutil.chown(directory, "mysql", "mysql")
        own = ["--no-defaults", f"--datadir={directory}/data", f"--tmpdir={directory}", *user]
        with (directory / "log").open("w") as log:
            said = {"stdout": log, "stderr": log}
            subprocess.run([INSTALL, *own, "--auth-root-authentication-method=normal"], check=True, **said)
            more = [
                f"--port={port}",
                "--bind-address=127.0.0.1",
                f"--socket={directory}/s",
                f"--pid-file={directory}/pid",
            ]
            process = subprocess.Popen([SERVER, *own, *more, f"--init-file={directory}/init.sql"], **said)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    pymysql.connect(host="127.0.0.1", port=port, user="root", database="sweeps").close()
                    break
                except pymysql.err.OperationalError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        pytest.fail((directory / "log").read_text()[-2000:])
                time.sleep(0.1)
            yield f"mysql+pymysql://root@127.0.0.1:{port}/sweeps"
        finally:
            process.kill()
            process.wait()
