"""Whether the kernel, or SLURM, ended a worker for want of memory, as far as they tell."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from spikefront.cluster.jobs import state_of
from spikefront.sweeping.study.attributes import Holder

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def oom_kills() -> int | None:
    """How often the out-of-memory killer has struck in this process's control group; None where Linux doesn't say.

    Version 2 counts in ``memory.events``, version 1 in ``memory.oom_control`` (kernel documentation, cgroup-v2 and
    cgroup-v1/memory); psutil knows neither.
    """
    try:
        groups = [line.split(":", 2) for line in MEMBERSHIP.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    for _, controllers, path in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.oom_control") if controllers else (CGROUPS, "memory.events")
        files = [root / path.lstrip("/") / name, root / name]
        for file in files:  # in a container the path may be the host's, and its own group the root
            try:
                found = re.search(r"^oom_kill (\d+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            except OSError:
                continue
            if found:
                return int(found[1])
    return None


def starved(holder: Holder) -> bool:
    """Whether a dead worker was ended so, going by what it wrote into its lease."""
    now, then = oom_kills(), holder.get("oom_kills")
    if now is not None and then is not None and holder.get("host", "").split("|")[0] == platform.node() and now > then:
        return True
    return "job" in holder and state_of(holder["job"]) == "OUT_OF_MEMORY"
