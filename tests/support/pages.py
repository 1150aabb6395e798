"""The documentation's pages: their blocks, and a reader who does what a page says from its top to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from spikefront.config import ROOT

FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.M | re.S)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def figures(line: str) -> list[float]:
    """The numbers of a line, energies in microjoules; not how long it took."""
    line = re.sub(r"   [\d.]+ m?s$", "", line)
    scale = {"nJ": 1e-3, "µJ": 1.0}
    return [float(n) * scale.get(unit, 1.0) for n, unit in re.findall(r"(\d+(?:\.\d+)?) ?(nJ|µJ)?", line)]


def follow(
    text: str, home: Path, wanted: Callable[[str], bool] = lambda block: True, **environment: str
) -> Iterator[tuple[str, str]]:
    """Write the files of a page's blocks with a title into ``home`` and run its ``sh`` blocks there, as a reader with
    a clone would.

    Args:
        wanted: which of the ``sh`` blocks are run.

    Yields:
        Each of these and what it printed; the next one begins when it is asked for.
    """
    for part in ("src", "slurm"):
        if not (home / part).exists():
            (home / part).symlink_to(ROOT / part)
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **environment}
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    for kind, title, block in FENCE.findall(text):
        if title:
            (home / title).write_text(block, encoding="utf-8")
        elif kind == "sh" and wanted(block):
            done = subprocess.run(
                ["bash", "-euc", block], cwd=home, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            yield block, done.stdout
