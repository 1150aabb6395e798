"""What tests may do to the machine: nothing, unless they are asked to.

``SPIKEFRONT_TEST_SYSTEM=1``, which ``make test-system`` and ``make test-slurm`` set, lets a test that needs it install
Debian packages and mount small file systems, as root. There a test that can't run has failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import pytest

ASKED = os.environ.get("SPIKEFRONT_TEST_SYSTEM") == "1"


def unable(reason: str) -> None:
    """End a test that can't run here: it is skipped, or has failed where it was asked for."""
    if ASKED:
        pytest.fail(reason)
    pytest.skip(f"{reason}; make test-system or test-slurm installs and mounts what tests need, as root")


def install(*packages: str) -> None:
    """Install Debian packages, all at once and before any test: two that install at one moment lock each other out."""
    if os.geteuid() or shutil.which("apt-get") is None:
        raise SystemExit(f"needs root and apt-get to install {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        ran = subprocess.run(["apt-get", "--quiet", *command], capture_output=True, text=True, env=environment)
        if ran.returncode:
            raise SystemExit(
                f"apt-get {command[0]} failed: {(ran.stderr.strip().splitlines() or ['no reason given'])[-1]}"
            )


@contextmanager
def small_disk(directory: Path, size: str):
    """A file system of its own, soon full, on a directory; ends the test where it can't be mounted."""
    directory.mkdir(exist_ok=True)
    if not ASKED or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]).returncode:
        unable("needs a small disk of its own")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def missing(programs: Iterable[str]) -> list[str]:
    """Those programs that aren't there."""
    return [p for p in programs if shutil.which(p) is None]


if __name__ == "__main__":
    import sys

    print(f"installing {' '.join(sys.argv[1:])}", flush=True)
    install(*sys.argv[1:])
