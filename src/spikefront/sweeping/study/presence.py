"""Which process of which machine a worker is, and whether it is gone: told by counters that no clock changes."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path

import psutil

from spikefront.start import RAY_NODE
from spikefront.sweeping.study.attributes import Holder

SAME_START = 2.0  # seconds: two processes of one number that started within so few are one, its clock set meanwhile


def identity(pid: int) -> Holder:
    """Who a process of this machine is, in its leases."""
    return {"host": host(), "pid": pid, "since_boot": since_boot(pid)}


@functools.cache
def host() -> str:
    """The machine, its boot and its process namespace: where a process number means something. On Ray also the node.

    The last two are read here, as psutil has no name for them: containers share host names, and each counts processes
    for itself.
    """
    parts = [platform.node()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        parts.append(_try(read))
    node = os.environ.get(RAY_NODE)
    return "|".join([*parts, node] if node else parts)


def _try(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:
        return ""


def since_boot(pid: int) -> float | None:
    """Seconds from the machine's start to the process's, which no clock changes; None if there is no such process.

    Raises:
        psutil.AccessDenied: the system doesn't tell.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        boot = psutil.boot_time()  # first: both follow the wall clock, and older psutil adds the one read last
        return process.create_time() - boot
    except psutil.NoSuchProcess:
        return None


def gone(lease: Holder | None) -> bool:
    """Whether the lease's process is known to be gone: only its own machine can tell.

    Workers of versions that wrote ``started`` instead are judged by their silence alone, as are ours by them.
    """
    told = lease.get("since_boot") if lease else None
    if not lease or told is None or lease.get("host") != host():
        return False
    try:
        began = since_boot(lease["pid"])
    except psutil.AccessDenied:
        return False
    return began is None or abs(began - told) > SAME_START
