"""What a sweep takes beside its trainings, with forked workers and with started ones, side by side, in alternation.

    python benchmarks/startup.py [--workers 4] [--repeat 3]

One short trial a worker on digits, through src/sweep.py: seconds by the clock until the command has ended, and the
memory of all its worker processes, pages that several share counted once (PSS), when each has had its first epoch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
STARTED = (
    "import runpy, sys; sys.argv = sys.argv[1:]; sys.path[:0] = [{src!r}];"
    " from spikefront.sweeping.worker import template; template.POSSIBLE = False;"
    " runpy.run_path(sys.argv[0], run_name='__main__')"
)


def sweep(way: str, workers: int) -> tuple[float, float]:
    """Seconds and bytes of one sweep."""
    script = str(ROOT / "src" / "sweep.py")
    program = [script] if way == "forked" else ["-c", STARTED.format(src=str(ROOT / "src")), script]
    with tempfile.TemporaryDirectory() as place:
        short = ["hparams_search=demo", f"search.dir={place}", f"search.n_trials={workers}", "trainer.max_epochs=2"]
        command = [sys.executable, *program, "-m", *short, f"search.workers={workers}", "logger=none"]
        begun, most = time.monotonic(), 0.0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "WANDB_MODE": "offline"})
        while process.poll() is None:
            logs = list(Path(place).glob("*/workers/*.log"))
            if not most and len(logs) == workers and all("epoch 1/" in log.read_text() for log in logs):
                below = psutil.Process(process.pid).children(recursive=True)
                most = sum(p.memory_full_info().pss for p in below)
            time.sleep(0.1)
        if process.returncode:
            sys.exit(f"the sweep ended with {process.returncode}")
        return time.monotonic() - begun, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"started": [], "forked": []}
    for _ in range(given.repeat):
        for way, own in found.items():
            own.append(sweep(way, given.workers))
    for way, own in found.items():
        seconds, memory = ([f[i] for f in own] for i in (0, 1))
        print(
            f"{way}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} - {max(seconds):.1f}),"
            f" {statistics.median(memory) / 2**20:.0f} MiB"
        )
    one, other = (statistics.median(s for s, _ in found[way]) for way in ("forked", "started"))
    print(f"forked / started: {one / other:.2f} of the time")


if __name__ == "__main__":
    main()
