"""N local worker processes: started, replaced when killed, stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from spikefront.cluster.restarts import Restarts
from spikefront.console import last_words
from spikefront.errors import UserError
from spikefront.start import POOLS
from spikefront.sweeping.worker.budgets import BEGAN
from spikefront.sweeping.worker.template import PARENT, Forked, Template

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass
class _Slot:
    command: list[str]
    environment: dict[str, str]
    cores: list[int]
    log: Path
    process: subprocess.Popen[bytes] | Forked | None = None
    restarts: Restarts = field(default_factory=Restarts)
    began: float = 0.0
    due: float | None = None  # when to start it again
    failed: bool = False
    finished: bool = field(default=False)


class Processes:
    """Runs one process a command until all have ended by themselves; a killed one is started again.

    Each gets its share of the cores (affinity, thread pools) and of the GPUs. The first interrupt, as which the closing
    of the terminal counts too, is handed to the processes; the second ends them. If this process is killed, they stop
    as if interrupted (``stop_with_parent``).

    Args:
        commands: each process's whole command line.
        gpus: how many each process uses, itself and those that it starts (``trainer.devices``).
        template: forks them, where there is one; it was started with what all commands begin with.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], logs: Path, gpus: int = 1, template: Template | None = None
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        total, self._template = len(commands), template
        self._slots = [
            _Slot(list(command), _environment(i, total, gpus), _share(i, total), logs / f"worker_{i}.log")
            for i, command in enumerate(commands)
        ]
        self.interrupts = 0

    def run(self) -> None:
        """Wait for all processes.

        Raises:
            KeyboardInterrupt: interrupted, and all have ended.
            UserError: all ended with an error; the last line of the log.
        """
        with _heard(self._interrupt):
            try:
                for slot in self._slots:
                    self._start(slot)
                while any(not s.finished for s in self._slots):
                    time.sleep(0.05)
                    for slot in self._slots:
                        self._look(slot)
            finally:
                self._signal(signal.SIGKILL)
        if self.interrupts:
            raise KeyboardInterrupt
        broken = [s for s in self._slots if s.failed]
        if broken:
            raise UserError(last_words(broken[0].log))

    def _start(self, slot: _Slot) -> None:
        slot.began, slot.due = time.monotonic(), None
        environment = {**os.environ, **slot.environment}
        if self._template is not None and not self._template.gone:
            slot.process = self._template.start(slot.command, environment, slot.log, slot.cores)
            return
        with slot.log.open("ab") as log:
            slot.process = subprocess.Popen(
                slot.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, PARENT: str(os.getpid())},
                start_new_session=True,  # the terminal's Ctrl-C reaches the sweep alone, which passes it on
            )
        if hasattr(psutil.Process, "cpu_affinity"):  # not on macOS
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(slot.process.pid).cpu_affinity(slot.cores)

    def _look(self, slot: _Slot) -> None:
        if slot.finished or slot.process is None or (code := slot.process.poll()) is None:
            return
        stopping = self.interrupts or any(s.failed for s in self._slots)
        if slot.process.pid is None and not stopping:  # the template could not import all: a worker says why
            self._start(slot)
            return
        if code < 0 and not stopping:
            now = time.monotonic()
            if slot.due is not None:
                if now >= slot.due:
                    self._start(slot)
                return
            if (pause := slot.restarts.pause(now - slot.began)) is not None:
                slot.due = now + pause
                _say(f"a worker was killed ({signal.Signals(-code).name}); starting another")
                return
        slot.finished = True
        if code not in (0, 130) and not stopping:
            slot.failed = True
            for other in self._slots:  # what stops one worker for good stops all
                if other is not slot and other.process is not None and other.process.poll() is None:
                    other.process.send_signal(signal.SIGINT)

    def _interrupt(self, *_: Any) -> None:
        self.interrupts += 1
        if self.interrupts == 1:
            _say("\nstopping: running trials write their checkpoints (Ctrl-C again stops at once)")
            self._signal(signal.SIGINT)
        else:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is None:
                if number == signal.SIGKILL and slot.process.pid is not None:
                    _kill_below(slot.process.pid)
                slot.process.send_signal(number)


def run_sweep(command: Sequence[str]) -> int:
    """Run another sweep's command to its end; its exit code.

    Raises:
        KeyboardInterrupt: interrupted, which was handed on to it (its jobs elsewhere may go on).
    """
    heard: list[int] = []

    def hand_on(number: int, _: Any) -> None:
        heard.append(number)
        process.send_signal(signal.SIGINT)

    environment = {**os.environ, PARENT: str(os.getpid())}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    with _heard(hand_on):
        code = process.wait()
    if heard:
        raise KeyboardInterrupt
    return code


@contextlib.contextmanager
def _heard(handler: Callable[..., None]) -> Iterator[None]:
    """Context in which what stops a command calls ``handler``; nohup has SIGHUP ignored."""
    heard = [s for s in STOPPING if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, handler) for s in heard}
    try:
        yield
    finally:
        for s, handler_before in before.items():
            signal.signal(s, handler_before)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is closed
        print(line, file=sys.stderr, flush=True)


def stop_with_parent() -> None:
    """Have this process interrupted when the one that started it as a worker is gone; nothing to do for others."""
    parent = os.environ.pop(PARENT, None)
    if parent is None or os.getppid() != int(parent):
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        print("the sweep's own process is gone: stopping", flush=True)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def default_workers(trainer: Mapping[str, Any]) -> int:
    """As many as there are GPUs for, or cores, up to eight; a training takes one for each of its devices."""
    if gpus := gpus_of(trainer):
        return max(1, len(_gpus()) // gpus)
    return max(1, min(8, len(_cores()) // _devices(trainer, 1)))


def gpus_of(trainer: Mapping[str, Any]) -> int:
    """How many GPUs one training takes: what ``conf/trainer`` says, one if that is open, none if there is none."""
    found = [] if trainer.get("accelerator") == "cpu" else _gpus()
    return _devices(trainer, len(found)) if found else 0


def _devices(trainer: Mapping[str, Any], everything: int) -> int:
    devices = trainer.get("devices")
    if isinstance(devices, str) and devices not in ("auto", "-1"):  # "2" is two, "0,1" and "3," are lists
        devices = int(devices) if devices.isdigit() else [d for d in devices.split(",") if d.strip()]
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return max(1, len(devices))
    if devices in (-1, "-1"):
        return max(1, everything)
    return devices if isinstance(devices, int) and devices > 0 else 1


def _environment(index: int, total: int, gpus: int) -> dict[str, str]:
    threads = str(len(_share(index, total)))
    environment = {name: os.environ.get(name) or threads for name in POOLS}
    environment[BEGAN] = str(time.monotonic())
    if gpus and (found := _gpus()):
        mine = [found[(index * gpus + i) % len(found)] for i in range(min(gpus, len(found)))]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return environment


def _share(index: int, total: int) -> list[int]:
    """The cores of one of ``total`` processes: neighbours, and one each in turn where there are more processes."""
    cores = _cores()
    if total >= len(cores):
        return [cores[index % len(cores)]]
    return cores[index * len(cores) // total : (index + 1) * len(cores) // total]


def _cores() -> list[int]:
    if hasattr(psutil.Process, "cpu_affinity"):  # not on macOS
        return sorted(psutil.Process().cpu_affinity())
    return list(range(os.cpu_count() or 1))


def _kill_below(pid: int) -> None:
    """End what a process started and what that started: a killed one can't, and a waiting one would stay for ever."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [g for g in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if g]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split() if listed.returncode == 0 else []
