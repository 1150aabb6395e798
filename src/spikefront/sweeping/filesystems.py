"""Whether a path lies on a file system that several machines share."""

from __future__ import annotations

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
