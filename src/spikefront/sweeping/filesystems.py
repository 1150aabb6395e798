"""Whether a path lies on a file system that several machines share, and whether an error means that one is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "afs", "panfs", "pvfs2", "9p"}
SHARED |= {"fuse.ceph", "fuse.glusterfs", "fuse.juicefs", "fuse.sshfs", "fuse.cvmfs2", "wekafs", "orangefs"}


def shared(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of the network file system that ``path`` (or where it will be) lies on; None if it is local or unknown.

    Args:
        mounts: the kernel's table of mounts, proc(5).
    """
    place, kind, depth = os.path.realpath(path), None, -1
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= depth:  # of two on one point the later covers the earlier
            kind, depth = after.split()[0], len(point)
    return kind if kind in SHARED else None


def full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
