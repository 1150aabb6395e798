"""Events to frames, bit for bit as tonic's ToFrame does it, at the speed of one pass over the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from tonic.functional import to_timesurface_numpy, to_voxel_grid_numpy
from tonic.slicers import SliceByEventBins, SliceByTime, SliceByTimeBins
from torch import Tensor

from spikefront.errors import UserError, near_matches

MODES = ("time", "count", "window")
REPRESENTATIONS = ("frames", "voxel_grid", "time_surface")
NORMALISATIONS = ("max", "std", "mean")
TONIC = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])


@numba.njit(cache=True, nogil=True)
def _accumulate(x, y, p, begin, end, frames):  # type: ignore[no-untyped-def]
    """Count into ``frames``; how many events lie off them: compiled code would write there."""
    off = 0
    for i in range(len(begin)):
        frame = frames[i]
        for j in range(begin[i], end[i]):
            if p[j] < frame.shape[0] and y[j] < frame.shape[1] and x[j] < frame.shape[2]:
                frame[p[j], y[j], x[j]] += 1
            else:
                off += 1
    return off


@numba.njit(cache=True, nogil=True)
def search(t, values):  # type: ignore[no-untyped-def]
    """``np.searchsorted`` without the copy that it makes of a column."""
    found = np.empty(len(values), np.int64)
    for i in range(len(values)):
        low, high = 0, len(t)
        while low < high:
            middle = (low + high) // 2
            if t[middle] < values[i]:
                low = middle + 1
            else:
                high = middle
        found[i] = low
    return found


class _Times:
    """What tonic's slicers ask of records with a time, without the copies that numpy makes of such a column."""

    dtype = np.dtype([("t", np.int64)])

    def __init__(self, t: np.ndarray) -> None:
        self.t = t

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: int | str) -> Any:
        return self if index == "t" else np.int64(self.t[index])  # tonic subtracts: unsigned ones would wrap around

    def searchsorted(self, values: np.ndarray, side: str = "left", sorter: None = None) -> np.ndarray:
        return search(self.t, np.asarray(values, np.float64))


def to_frames(
    events: np.ndarray,
    sensor: Sequence[int],
    *,
    n_time_bins: int | None = None,
    n_event_bins: int | None = None,
    time_window: float | None = None,
    rest: bool = False,
) -> np.ndarray:
    """Count events into frames ``(T, 2, height, width)`` int32, polarities apart, as ``tonic.transforms.ToFrame``.

    The edges of the bins are tonic's own slicers', but that fewer events than bins stand one in a bin, as far apart as
    there is room. The counting is ours: tonic's int16 turns a hot pixel's 35,000 events into -30,536.

    Args:
        events: structured array with x, y, t, p inside the sensor (``clean`` has checked it).
        sensor: width, height in pixels.
        n_time_bins, n_event_bins, time_window: exactly one; frames of equal time, of equal count, of a fixed time (µs).
        rest: the last frame takes the events that don't divide, fewer than ``n_event_bins``, which tonic leaves out.
    """
    edges = _edges(events, n_time_bins, n_event_bins, time_window, rest)
    frames = np.zeros((len(edges), 2, sensor[1], sensor[0]), np.int32)
    p = events["p"]
    p = p.view(np.uint8) if p.dtype == bool else p
    if off := _accumulate(events["x"], events["y"], p, edges[:, 0], edges[:, 1], frames):
        raise ValueError(f"{off} events lie off the sensor of {sensor[0]}x{sensor[1]}")
    return frames


def _edges(
    events: np.ndarray,
    n_time_bins: int | None,
    n_event_bins: int | None,
    time_window: float | None,
    rest: bool = False,
) -> np.ndarray:
    """First event of each bin and the one after its last, ``(bins, 2)``."""
    if n_event_bins and len(events) < n_event_bins:
        bounds = -(-np.arange(n_event_bins + 1) * len(events) // n_event_bins)
        return np.stack([bounds[:-1], bounds[1:]], 1)
    if n_time_bins:
        slices = SliceByTimeBins(n_time_bins)
    elif n_event_bins:
        slices = SliceByEventBins(n_event_bins)
    elif time_window:
        slices = SliceByTime(time_window)
    else:
        raise ValueError("give one of n_time_bins, n_event_bins, time_window")
    found = slices.get_slice_metadata(_Times(events["t"]), None)
    edges = np.asarray(found, dtype=np.int64).reshape(-1, 2)
    if n_event_bins and rest:
        edges[-1, 1] = len(events)
    return edges


class Binning:
    """Turns a recording into the network's ``timesteps`` frames.

    Args:
        mode: ``time`` (T frames of equal duration), ``count`` (T of equally many events) or ``window`` (frames of
            ``window`` µs, the first T of them; a shorter recording ends in empty frames).
        representation: ``frames`` (counts, 2 channels), ``voxel_grid`` (signed, bilinear in time, 1 channel;
            arXiv 1812.08156) or ``time_surface`` (2 channels, decay ``tau`` µs): tonic's own.
        log: ``log(1 + count)``.
        normalise: divide a sample by its largest value (``max``), its standard deviation (``std``) or the mean of its
            values without their signs (``mean``).
        rest: of ``mode=count``: the last frame takes the events that don't divide, as in SpikingJelly.
        total: a channel more, the sum of the others.
        once: a pixel counts once a frame, however often it fires.
        antialias: reach a smaller side as torchvision resizes, bilinearly with antialiasing.
        timesteps, sensor, size: T; width and height of the sensor; side of the network's input, reached by averaging
            areas when smaller than the sensor and by bilinear interpolation when larger.
    """

    def __init__(
        self,
        timesteps: int,
        sensor: Sequence[int],
        size: int,
        mode: str = "time",
        window: float | None = None,
        representation: str = "frames",
        tau: float = 50_000.0,
        log: bool = False,
        normalise: str | None = None,
        rest: bool = False,
        total: bool = False,
        antialias: bool = False,
        once: bool = False,
    ) -> None:
        for key, value, options in (
            ("mode", mode, MODES),
            ("representation", representation, REPRESENTATIONS),
            ("normalise", normalise, (None, *NORMALISATIONS)),
        ):
            if value not in options:
                hint = near_matches(str(value), [str(o) for o in options if o])
                raise UserError(f"data.binning.{key} is {value!r}; {hint}")
        if mode == "window" and window is None:
            raise UserError("data.binning.mode=window needs data.binning.window, the microseconds of one frame")
        for name, number in (("window", window), ("tau", tau)):
            if number is not None and (
                isinstance(number, bool) or not isinstance(number, int | float) or not number > 0
            ):
                raise UserError(f"data.binning.{name} is {number!r}: give microseconds, a number above 0")
        if (mode == "count" and representation != "frames") or (mode == "window" and representation == "voxel_grid"):
            raise UserError(
                f"data.binning.representation={representation} is made of equal times: it can't be of mode={mode};"
                " use data.binning.mode=time, or representation=frames"
            )
        self.timesteps, self.sensor, self.size = timesteps, tuple(sensor), size
        self.mode, self.window, self.representation, self.tau = mode, window, representation, tau
        self.log, self.normalise, self.rest = log, normalise, rest
        self.total, self.antialias, self.once = total, antialias, once

    def check(self, channels: int) -> None:
        """Raises UserError if the network expects another number of channels than this gives."""
        given = (1 if self.representation == "voxel_grid" else 2) + self.total
        if channels != given:
            made = self.representation + ", total=true" * self.total
            raise UserError(f"data.channels is {channels}, but data.binning.representation={made} gives {given}")

    def __call__(self, events: np.ndarray) -> Tensor:
        """``(T, C, size, size)`` float32; zeros of no events."""
        if not len(events):
            channels = (1 if self.representation == "voxel_grid" else 2) + self.total
            return torch.zeros(self.timesteps, channels, self.size, self.size)
        frames = torch.from_numpy(self._frames(events)).float()
        if self.once:
            frames = frames.clamp(-1, 1)
        if self.log:
            frames = frames.sign() * frames.abs().log1p()
        width, height = self.sensor
        if (height, width) != (self.size, self.size):
            smaller = self.size <= min(width, height)
            linear = {"mode": "bilinear", "align_corners": False, "antialias": smaller}
            method: dict[str, Any] = {"mode": "area"} if smaller and not self.antialias else linear
            frames = F.interpolate(frames, (self.size, self.size), **method)
        if self.total:
            frames = torch.cat([frames, frames.sum(1, keepdim=True)], 1)
        if self.normalise == "max":
            frames = frames / frames.abs().max().clamp_min(1e-6)
        elif self.normalise == "std":
            frames = frames / frames.std().clamp_min(1e-6)
        elif self.normalise == "mean":
            frames = frames / frames.abs().mean().clamp_min(1e-6)
        return frames

    def gaps(self, events: np.ndarray) -> tuple[float, float]:
        """The share of a recording's events that no frame takes, and of the frames that take none."""
        if not len(events):
            return 0.0, 1.0
        edges = _edges(events, *self._bins(), rest=self.rest)[: self.timesteps]
        counts = edges[:, 1] - edges[:, 0]
        return 1 - counts.sum() / len(events), 1 - (counts > 0).sum() / self.timesteps

    def _bins(self) -> tuple[int | None, int | None, float | None]:
        """Frames of equal time, of equal count, or their time: one of them."""
        bins = self.timesteps
        return {"time": (bins, None, None), "count": (None, bins, None), "window": (None, None, self.window)}[self.mode]

    def _frames(self, events: np.ndarray) -> np.ndarray:
        if self.representation != "frames":
            return self._tonic(events)
        by_time, by_count, window = self._bins()
        frames = to_frames(
            events, self.sensor, n_time_bins=by_time, n_event_bins=by_count, time_window=window, rest=self.rest
        )
        return _exactly(frames, self.timesteps)

    def _tonic(self, events: np.ndarray) -> np.ndarray:
        sensor_size = (*self.sensor, 2)
        if off := int(((events["x"] >= self.sensor[0]) | (events["y"] >= self.sensor[1])).sum()):
            raise ValueError(f"{off} events lie off the sensor of {self.sensor[0]}x{self.sensor[1]}")
        if events["t"][-1] == events["t"][0]:  # an instant has no duration to divide by
            shape = (self.timesteps, 1 if self.representation == "voxel_grid" else 2, self.sensor[1], self.sensor[0])
            return np.zeros(shape, np.float32)
        events = events.astype(TONIC)
        if self.representation == "voxel_grid":
            return to_voxel_grid_numpy(events, sensor_size, self.timesteps)
        duration = events["t"][-1] - events["t"][0]
        step = self.window if self.mode == "window" else duration / self.timesteps
        return _exactly(to_timesurface_numpy(events, sensor_size, dt=step, tau=self.tau), self.timesteps)


def _exactly(frames: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` frames, empty ones after the last."""
    frames = frames[:count]
    return np.concatenate([frames, np.zeros((count - len(frames), *frames.shape[1:]), frames.dtype)])
