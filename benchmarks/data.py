"""What binning, caching and loading cost, against tonic's own in the same process.

python benchmarks/data.py binning    # events to frames: ours against tonic's ToFrame, Gesture-sized streams
python benchmarks/data.py cache      # reading a parsed recording: ours against tonic's DiskCachedDataset, warm
python benchmarks/data.py epoch      # does an epoch of sdt_2_256 wait for its data? digits_dvs, and Gesture-sized
python benchmarks/data.py formats    # recordings decoded, filtered and cached; MEGABYTES=1000 of EVT3, and with
                                     # PYTHON_OF_OTHERS=<python that has evt3 or eventcv> beside these
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from recordings import formats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

SENSOR = (128, 128)
GESTURE = 370_000  # events: about the mean of DVS128 Gesture's recordings of 6 s


def stream(events: int, seed: int, seconds: float = 6.0) -> np.ndarray:
    """Events around a waving blob, as tonic's DVSGesture gives them."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(int(seconds * 1e6), size=events))
    centre = 64 + 30 * np.sin(t / 3e5)
    made = np.empty(events, [("x", np.int16), ("y", np.int16), ("p", bool), ("t", np.int64)])
    made["x"] = np.clip(centre + rng.normal(0, 12, events), 0, 127)
    made["y"] = np.clip(64 + rng.normal(0, 18, events), 0, 127)
    made["p"], made["t"] = rng.integers(2, size=events), t - t[0]
    return made


def paired(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, alternating, and the median of the rounds' ratios."""
    first(), second()
    times = []
    for _ in range(rounds):
        row = []
        for call in (first, second):
            started = time.perf_counter()
            call()
            row.append(time.perf_counter() - started)
        times.append(row)
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(a / b for a, b in times),
    )


def binning(rounds: int) -> None:
    from tonic.transforms import ToFrame

    from spikefront.data.binning import to_frames
    from spikefront.data.events import clean

    print("| events | frames | tonic ToFrame | ours | ratio |\n|--:|---|--:|--:|--:|")
    for count in (50_000, GESTURE, 1_000_000):
        events = stream(count, 0)
        cached = clean(events, SENSOR)  # what the cache holds
        modes = {"time": {"n_time_bins": 16}, "count": {"n_event_bins": 16}, "window": {"time_window": 375_000}}
        for mode, bins in modes.items():
            theirs = partial(ToFrame(sensor_size=(*SENSOR, 2), **bins), events)
            ours = partial(to_frames, cached, SENSOR, **bins)
            assert np.array_equal(theirs(), ours())
            a, b, ratio = paired(theirs, ours, rounds)
            print(f"| {count:,} | 16 by {mode} | {a * 1e3:.2f} ms | {b * 1e3:.2f} ms | {ratio:.1f}x |", flush=True)


class Sample:
    """A parsed recording beside its class, as tonic's cache takes it."""

    def __init__(self, count: int, each: int) -> None:
        self.events = [stream(each, seed) for seed in range(count)]

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.events[index], index


def entry(root: Path, samples: Sample):  # type: ignore[no-untyped-def]
    from spikefront.data.cache import Recording, open_cache
    from spikefront.data.events import clean

    made = [
        Recording(f"{i}", i % 11, "test" if i % 4 == 0 else "train", partial(samples.events.__getitem__, i))
        for i in range(len(samples))
    ]
    return open_cache(root, "bench", made, lambda r: [clean(r.read(), SENSOR)], "raise", {})


def cache(rounds: int) -> None:
    from tonic import DiskCachedDataset

    samples = Sample(40, GESTURE)

    def each(read: Callable[[int], object]) -> None:
        for i in range(len(samples)):
            read(i)

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        ours = entry(root / "ours", samples)
        read = partial(each, lambda i: ours[i].view(np.uint8).copy())  # tonic's arrays are copies too
        own = sum(f.stat().st_size for f in (root / "ours").rglob("events.bin")) / len(samples)
        for name, settings in (("lzf, its default", {}), ("uncompressed", {"compress": False})):
            theirs = DiskCachedDataset(samples, str(root / name[:3]), **settings)
            a, b, ratio = paired(partial(each, theirs.__getitem__), read, rounds)
            size = sum(f.stat().st_size for f in (root / name[:3]).iterdir()) / len(samples)
            print(
                f"tonic DiskCachedDataset, {name}: {a / len(samples) * 1e3:.2f} ms a recording, {size / 1e6:.2f} MB;"
                f" ours {b / len(samples) * 1e3:.2f} ms, {own / 1e6:.2f} MB; ratio {ratio:.1f}x",
                flush=True,
            )


def epoch(rounds: int) -> None:
    """Seconds of loading a sample against seconds of training on it, one after the other, no loader processes."""
    import spikefront
    from spikefront.config import compose
    from spikefront.data import build_data
    from spikefront.data.binning import Binning
    from spikefront.data.events import Frames

    print("| data | loading a sample | training on it | waits for data |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        digits = build_data(compose(["data=digits_dvs", f"data.cache={directory}"]).data, timesteps=6)
        digits.setup()
        recordings = entry(Path(directory) / "gesture", Sample(32, GESTURE))
        sets = {"digits_dvs": (digits.train_set, 6)}
        for name, timesteps, size in (("dvs128_gesture", 16, 128), ("cifar10_dvs", 10, 64)):
            sets[name] = Frames(recordings, range(32), Binning(timesteps, SENSOR, size, "count")), timesteps
        for name, (samples, timesteps) in sets.items():
            model = spikefront.create_model("sdt_2_256", data=name, timesteps=timesteps)
            each = 8 if name == "digits_dvs" else 2
            loading, training = [], []
            for r in range(rounds + 1):
                started = time.perf_counter()
                images = torch.stack([samples[i][0] for i in range(r * each, (r + 1) * each)])
                loaded = time.perf_counter()
                torch.nn.functional.cross_entropy(model(images), torch.arange(each)).backward()
                training.append((time.perf_counter() - loaded) / each)
                loading.append((loaded - started) / each)
            a, b = statistics.median(loading[1:]), statistics.median(training[1:])  # the first warms up
            share = f"{100 * a / (a + b):.1f} %"
            print(f"| {name}, {tuple(images.shape[1:])} | {a * 1e3:.2f} ms | {b * 1e3:.0f} ms | {share} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["binning", "cache", "epoch", "formats"], nargs="?")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for name, measure in (("binning", binning), ("cache", cache), ("epoch", epoch), ("formats", formats)):
        if options.what in (None, name):
            measure(options.rounds if name != "epoch" else 4)
