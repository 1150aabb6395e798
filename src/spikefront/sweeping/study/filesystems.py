"""File systems that several machines share: which those are, a lock that holds on them, and when one is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import psutil
from filelock import SoftFileLock, Timeout
from optuna.storages.journal import JournalFileOpenLock

SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "afs", "panfs", "pvfs2", "9p"}
SHARED |= {"fuse.ceph", "fuse.glusterfs", "fuse.juicefs", "fuse.sshfs", "fuse.cvmfs2", "wekafs", "orangefs"}


def shared(path: Path) -> str | None:
    """The kind of network file system that ``path`` (or where it will be) lies on; None if it is local or unknown."""
    place, kind, depth = os.path.realpath(path), None, -1
    try:
        mounts = psutil.disk_partitions(all=True)
    except (OSError, psutil.Error):
        return None
    for mount in mounts:
        inside = place == mount.mountpoint or place.startswith(mount.mountpoint.rstrip("/") + "/")
        if inside and len(mount.mountpoint) >= depth:  # of two on one point the later covers the earlier
            kind, depth = mount.fstype, len(mount.mountpoint)
    return kind if kind in SHARED else None


class JournalLock(JournalFileOpenLock):
    """Optuna's lock of a journal file, by exclusive creation, which no killed worker leaves behind.

    The lock names its process: another on that machine sees at once that it is gone (Optuna's own waits 30 seconds, in
    which no worker can renew a lease). A machine that died while it held the lock is
    waited for as long as Optuna waits.

    Args:
        file: the journal.
        patience: seconds after which one that never changed hands is broken.
    """

    def __init__(self, file: Path, patience: float = 30.0) -> None:
        self._file, self._patience = file, patience
        self._lock = SoftFileLock(f"{file}.lock", poll_interval=0.01)

    def __reduce__(self) -> tuple[type, tuple[Path, float]]:
        return type(self), (self._file, self._patience)  # to another process goes the place, not who holds it

    def acquire(self) -> bool:
        """Wait until it is ours."""
        while True:
            held = self._holder()
            try:
                self._lock.acquire(timeout=self._patience)
                return True
            except Timeout:
                if held is not None and held == self._holder():
                    self._lock.break_lock()

    def release(self) -> None:
        """Give it up."""
        self._lock.release()

    def _holder(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self._lock.lock_file)
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns


def full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
