"""Test processes are forks of one that has imported what they need: to import it takes each some fifteen seconds.

execnet, by which pytest-xdist starts them, would begin ``python -u -c …`` and speak with it over its standard streams.
It begins ``python forks.py -u -c …`` instead, which hands its streams to a fork and waits for that to end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterable
from pathlib import Path
from select import select
from typing import Any

DOOR = "SPIKEFRONT_TESTS_DOOR"  # environment: the socket at which a fork is asked for
SRC = Path(__file__).resolve().parents[2] / "src"
NEEDED = (
    *("numpy", "sklearn.datasets", "spikefront.commands.sweep", "spikefront.data.formats"),
    *("spikefront.sweeping.worker.worker", "spikefront.tracking.pages.page"),
)
POSSIBLE = hasattr(os, "pidfd_open")  # Linux; elsewhere libraries don't stand a fork


class Forks:
    """What the test processes of one run are forked from."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="spikefront-forks-")
        os.environ[DOOR] = f"{self._place.name}/door"
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(os.environ[DOOR])
            door.listen()
            command = [sys.executable, __file__, str(door.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[door.fileno()])

    def take(self, specs: Iterable[Any]) -> None:
        """Have execnet begin what these describe as forks."""
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = shlex.join([sys.executable, __file__])

    def close(self) -> None:
        """Wait for the last of them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._place.cleanup()


def serve(door: socket.socket) -> str:
    """Fork for whoever asks until standard input is closed; in each fork return the program that it shall run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core: more threads would only wait for each other
    sys.path.insert(0, str(SRC))
    gc.disable()
    for name in NEEDED:
        importlib.import_module(name)
    gc.freeze()
    while door in select([door, 0], [], [])[0]:
        asked, _ = door.accept()
        program, streams, _, _ = socket.recv_fds(asked, 1 << 16, 3)
        if os.fork():
            for descriptor in (*streams, asked.detach()):
                os.close(descriptor)
            continue
        asked.detach()  # closed by this fork's end, for which the other side waits
        door.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.enable()
        sys.modules["numpy"].random.seed()  # else all forks draw alike; Python's own generator sees to that itself
        return program.decode()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            sys.exit()


def main() -> None:
    given = sys.argv[1:]
    if given[0] != "-u":
        program = serve(socket.socket(fileno=int(given[0])))
        sys.argv, sys.stdin = ["-c"], open(0, closefd=False)  # noqa: SIM115
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(program, vars(sys.modules["__main__"]))
        return
    with socket.socket(socket.AF_UNIX) as fork:
        fork.connect(os.environ[DOOR])
        socket.send_fds(fork, [given[-1].encode()], [0, 1, 2])
        fork.recv(1)


if __name__ == "__main__":
    main()
