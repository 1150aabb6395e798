"""What reading recordings costs: `python benchmarks/data.py formats` runs it. Events a second of each decoder, of the
filters, and an EVT3 file into the cache beside reading it decoded by another library (``--python`` of an environment
that has one: evt3 or eventcv)."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SENSOR = (640, 480)
THEIRS = {
    "evt3": "import evt3; evt3.decode_file(path)",
    "eventcv": "import eventcv; eventcv.load(path).numpy()",
}


def events(count: int) -> np.ndarray:
    """A camera's events: bursts around a moving blob at half a million a second."""
    rng = np.random.default_rng(0)
    made = np.empty(count, [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")])
    made["t"] = np.sort(rng.integers(2 * count, size=count))
    centre = 320 + 200 * np.sin(made["t"] / 3e5)
    made["x"], made["y"] = (np.clip(centre + rng.normal(0, 40, count), 0, 639), rng.integers(480, size=count))
    made["p"] = rng.integers(2, size=count)
    return made


def evt2(found: np.ndarray) -> bytes:
    t = found["t"]
    words = np.empty((len(found), 2), "<u4")
    words[:, 0] = 8 << 28 | t >> 6
    words[:, 1] = found["p"].astype("u4") << 28 | (t & 63) << 22 | found["x"].astype("u4") << 11 | found["y"]
    kept = np.ones(words.shape, bool)
    kept[1:, 0] = t[1:] >> 6 != t[:-1] >> 6
    return b"% evt 2.0\n% geometry 640x480\n% end\n" + words[kept].tobytes()


def evt3(found: np.ndarray) -> bytes:
    t = found["t"]
    words = np.empty((len(found), 4), "<u2")
    words[:, 0], words[:, 1] = 8 << 12 | t >> 12 & 0xFFF, 6 << 12 | t & 0xFFF
    words[:, 2], words[:, 3] = found["y"], 2 << 12 | found["p"].astype("u2") << 11 | found["x"]
    kept = np.ones(words.shape, bool)
    kept[1:, 0] = t[1:] >> 12 != t[:-1] >> 12
    kept[1:, 1] = t[1:] != t[:-1]
    return b"% evt 3.0\n% geometry 640x480\n% end\n" + words[kept].tobytes()


def dat(found: np.ndarray) -> bytes:
    words = np.empty((len(found), 2), "<u4")
    words[:, 0] = found["t"]
    words[:, 1] = found["x"] | found["y"].astype("u4") << 14 | found["p"].astype("u4") << 28
    return b"% Data file containing CD events.\n% Version 2\n% Height 480\n% Width 640\n\x0c\x08" + words.tobytes()


def davis(found: np.ndarray) -> bytes:
    words = np.empty((len(found), 2), ">u4")
    x, y, p = found["x"].astype("u4") % 240, found["y"].astype("u4") % 180, found["p"].astype("u4")
    words[:, 0], words[:, 1] = y << 22 | x << 12 | p << 11, found["t"]
    return b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n" + words.tobytes()


def median(call: Callable[[], object], rounds: int) -> float:
    call()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def through(path: Path) -> int:
    from spikefront.data.formats import open_recording

    return sum(len(block) for block in open_recording(path).blocks())


def decoders(root: Path, rounds: int, count: int = 5_000_000) -> None:
    print("| format | MB | million events/s |\n|---|--:|--:|")
    made = events(count)
    for write in (evt2, evt3, dat, davis):
        path = root / write.__name__
        path.write_bytes(write(made))
        assert through(path) == count
        seconds = median(lambda path=path: through(path), rounds)
        print(f"| {write.__name__} | {path.stat().st_size / 1e6:.0f} | {count / seconds / 1e6:.1f} |", flush=True)
        path.unlink()


def filters(rounds: int, count: int = 5_000_000) -> None:
    from spikefront.data.noise import hot_pixels, neighbours, refractory, without_hot_pixels

    made = events(count)
    mask = hot_pixels([made], SENSOR)
    calls: dict[str, Callable[[], object]] = {
        "finding hot pixels": lambda: hot_pixels([made], SENSOR),
        "hot pixels": lambda: without_hot_pixels(made, mask),
        "refractory": lambda: refractory(made, SENSOR, 1000),
        "neighbours": lambda: neighbours(made, SENSOR, 2000),
    }
    print("\n| filter | million events/s |\n|---|--:|")
    for name, call in calls.items():
        print(f"| {name} | {count / median(call, rounds) / 1e6:.1f} |", flush=True)


def into_cache(path: Path, root: Path) -> float:
    """Seconds that a file takes into the cache, the cache's file written and synchronised."""
    from spikefront.data.cache import Recording, open_cache
    from spikefront.data.cleaning import cleaned
    from spikefront.data.formats import open_recording

    def read(recording: Recording) -> Iterator[np.ndarray]:
        return cleaned(recording.read(), SENSOR)

    small = root / "small"
    small.write_bytes(evt3(events(1000)))
    listed = [
        Recording("long", 0, "train", lambda: open_recording(path).blocks()),
        Recording("short", 0, "test", lambda: open_recording(small).blocks()),
    ]
    with tempfile.TemporaryDirectory(dir=root) as directory:
        started = time.perf_counter()
        open_cache(Path(directory), "bench", listed, read, "raise", {})
        return time.perf_counter() - started


def reading(path: Path, python: str, library: str) -> float | None:
    """Seconds in which another library reads the file; None: that environment hasn't got it."""
    program = (
        f"import sys, time; path = sys.argv[1]\nimport {library}\n"
        f"started = time.perf_counter(); {THEIRS[library]}; print(time.perf_counter() - started)"
    )
    made = subprocess.run([python, "-c", program, str(path)], capture_output=True, text=True)
    return float(made.stdout.split()[-1]) if made.returncode == 0 else None


def cached(root: Path, rounds: int, python: str, megabytes: int) -> None:
    one = evt3(events(2_000_000))
    head = one.index(b"% end\n") + 6
    path = root / "long.raw"
    with open(path, "wb") as file:
        file.write(one[:head])
        time_on = one[head:]  # its clock begins again after 4 s, as a camera's does after 16.8
        words = np.frombuffer(time_on, "<u2").copy()
        high = words >> 12 == 8
        upper = int((words[high] & 0xFFF).max()) + 1
        for i in range(max(1, int(megabytes * 1e6) // len(time_on))):
            shifted = words.copy()
            shifted[high] = 8 << 12 | (words[high] & 0xFFF) + i * upper % 0x1000 & 0xFFF
            file.write(shifted.tobytes())
    total = through(path)
    rows: dict[str, list[float]] = {"ours, into the cache": [], "ours, read": []}
    peaks = []
    for _ in range(rounds):
        for library in THEIRS:
            if (seconds := reading(path, python, library)) is not None:
                rows.setdefault(library, []).append(seconds)
        for name, of in (("ours, into the cache", "cache"), ("ours, read", "read")):
            told = subprocess.check_output([sys.executable, __file__, of, str(path), str(root)], text=True).split()
            rows[name].append(float(told[0]))
            peaks.append(float(told[1]))
    size = path.stat().st_size / 1e6
    medians = {name: statistics.median(times) for name, times in rows.items()}
    print(f"\n{size:.0f} MB of EVT3, {total:,} events:")
    for name, seconds in medians.items():
        share = 100 * seconds / medians["ours, into the cache"]
        ratio = f"; ours into the cache at {share:.0f} % of it" if name in THEIRS else ""
        print(f"{name}: {seconds:.2f} s ({size / seconds:.0f} MB/s, {total / seconds / 1e6:.1f} M/s){ratio}")
    print(f"memory that ours needed more than for a file of 4 kB: {max(peaks):.0f} MB")


def alone(what: str, path: Path, root: Path) -> None:
    """One reading in a process of its own: its seconds, and the MB of memory beyond what a short one needs."""
    small = root / "warm"
    small.write_bytes(evt3(events(1000)))
    through(small)
    into_cache(small, root)
    before = highest()
    started = time.perf_counter()
    if what == "cache":
        seconds = into_cache(path, root)
    else:
        through(path)
        seconds = time.perf_counter() - started
    print(seconds, highest() - before)


def highest() -> float:
    """The most memory that this process has had, in MB."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def formats(rounds: int) -> None:
    python = os.environ.get("PYTHON_OF_OTHERS", sys.executable)
    with tempfile.TemporaryDirectory() as directory:
        decoders(Path(directory), rounds)
        filters(rounds)
        cached(Path(directory), max(1, rounds // 5), python, int(os.environ.get("MEGABYTES", 200)))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    alone(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
