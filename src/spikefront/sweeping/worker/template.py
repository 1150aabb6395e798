"""A process that has imported what a command needs, and is that command as often as asked.

PyTorch, Lightning and the rest take many seconds to import, a fork takes hundredths of one. The template is started as
the command itself, so its forks go on as the command would: with its path, its name in ``ps``, its way to end.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from spikefront.start import POOLS, SPINS, again

PARENT = "SPIKEFRONT_PARENT"  # environment: the process with whose end a worker shall end
DOOR = "SPIKEFRONT_TEMPLATE"  # environment: the socket at which a process is asked for forks of itself
NO_THREAD = {"ORT_DISABLE_TELEMETRY": "1"}  # environment: of onnxruntime, which else begins one as it is imported
SHOWN = ("search.worker=true",)  # arguments of the template itself, for whoever looks at it in `ps`
POSSIBLE = hasattr(os, "pidfd_open")  # Linux; elsewhere libraries don't stand a fork


class Template:
    """The template of what begins with ``program``; ends with the process that started it, or with this object.

    Args:
        program: a command line up to the arguments in which its processes differ.
        shown: arguments for whoever looks at the template in ``ps``.
    """

    def __init__(self, program: Sequence[str], shown: Sequence[str] = ()) -> None:
        self._program = list(program)
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                [*program, *shown],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**dict.fromkeys(POOLS, "1"), **SPINS, **NO_THREAD, **os.environ, DOOR: str(there.fileno())},
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        weakref.finalize(self, self._process.kill)
        self._line, self._known, self._asked = _Line(here), dict[int, dict[str, int]](), 0

    @property
    def gone(self) -> bool:
        """Whether it has ended: it begins nothing any more."""
        return self._line.cut

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path, cores: Sequence[int]) -> Forked:
        """Have a process begin, as soon as all is imported, whose whole command, environment and output these are."""
        arguments = list(command[len(self._program) :])
        assert [*self._program, *arguments] == list(command)
        where = {"log": str(log.absolute()), "cores": list(cores), "place": os.getcwd()}
        self._asked += 1
        self._line.say({"number": self._asked, "arguments": arguments, "environment": dict(environment), **where})
        return Forked(self, self._asked)

    def known(self, number: int) -> dict[str, int]:
        """Of a process: its ``pid`` once it has begun, its exit ``code`` once it has ended."""
        for news in self._line.heard():
            self._known.setdefault(news.pop("number"), {}).update(news)
        return self._known.get(number, {})

    def end(self) -> None:
        """End the template. What it has begun stops as if this process were gone."""
        self._process.kill()
        self._line.cut = True


_ahead: list[Template] = []


def begin_ahead() -> None:
    """Begin what the workers of the sweep in ``sys.argv`` will be forked from, if it is one that has them here.

    It imports while this process does. ``begun`` takes it, ``spare`` ends it; else it ends with this process.
    """
    flags = {a for a in sys.argv[1:] if a.startswith("-")}
    other = any(a.startswith(("hydra/launcher=", "dry_run=")) for a in sys.argv[1:])
    if POSSIBLE and not asked() and flags and flags <= {"-m", "--multirun"} and not other:
        _ahead.append(Template(again(), SHOWN))


def begun() -> Template | None:
    """What this process's workers are forked from; None where none can be."""
    return _ahead.pop() if _ahead else Template(again(), SHOWN) if POSSIBLE else None


def spare() -> None:
    """Workers are begun elsewhere, or by something else."""
    while _ahead:
        _ahead.pop().end()


class Forked:
    """A process that a template began: of ``subprocess.Popen`` what is asked of a worker."""

    def __init__(self, template: Template, number: int) -> None:
        self._template, self._number = template, number

    @property
    def pid(self) -> int | None:
        """None until the template has imported all."""
        return self._template.known(self._number).get("pid")

    def poll(self) -> int | None:
        """Its exit code, negative for the signal that killed it; None while it runs."""
        code = self._template.known(self._number).get("code")
        return -signal.SIGKILL if code is None and self._template.gone else code

    def send_signal(self, number: int) -> None:
        """What has not begun shall not begin."""
        if self.pid is None:
            self._template.end()
        elif self.poll() is None:
            os.kill(self.pid, number)


class _Line:
    """One end of a socket over which things are said, each a dict; ``cut`` once the other end is closed."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._part, self.cut = end, b"", False

    def fileno(self) -> int:
        return self._end.fileno()

    def say(self, what: dict[str, Any]) -> None:
        try:
            self._end.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            self.cut = True

    def heard(self) -> Iterator[dict[str, Any]]:
        """What the other end has said since the last call."""
        while not self.cut and select.select([self], [], [], 0)[0]:
            try:
                more = self._end.recv(1 << 16)
            except OSError:
                more = b""
            self.cut = not more
            *whole, self._part = (self._part + more).split(b"\n")
            yield from map(json.loads, whole)


def asked() -> bool:
    """Whether this process was started as a template."""
    return DOOR in os.environ


def serve(command: Callable[[], object]) -> NoReturn:
    """Fork for whoever asks; each fork is ``command``, with its arguments in ``sys.argv``, and ends with it.

    To be called when all is imported and before anything is computed: threads don't live on in a fork.
    """
    line, own = _Line(socket.socket(fileno=int(os.environ.pop(DOOR)))), os.getpid()
    running: dict[int, tuple[int, int]] = {}  # a descriptor of each process: its number, its id
    while not line.cut:
        ready = select.select([line.fileno(), *running], [], [])[0]
        for ended in [descriptor for descriptor in running if descriptor in ready]:
            number, pid = running.pop(ended)
            os.close(ended)
            line.say({"number": number, "code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])})
        for request in line.heard():
            number = request.pop("number")
            if not (pid := os.fork()):
                for descriptor in (line.fileno(), *running):
                    os.close(descriptor)
                _become(own, **request)
                _end(_code(command))
            running[os.pidfd_open(pid)] = number, pid
            line.say({"number": number, "pid": pid})
    os._exit(0)


def _code(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End as Python does and no further: what libraries in C++ do then may wait for threads of theirs that a fork
    hasn't got, and abort it (onnxruntime, which torchmetrics imports where librosa is)."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become(
    parent: int, arguments: Sequence[str], environment: Mapping[str, str], log: str, cores: Sequence[int], place: str
) -> None:
    """Be a process as ``subprocess`` starts one, in a session of its own."""
    os.setsid()
    os.chdir(place)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment, **{PARENT: str(parent)})
    os.sched_setaffinity(0, cores)
    sys.argv[1:] = arguments
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # else all forks draw alike; Python's own generator sees to that itself
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # the pools of other libraries stay at one thread
