"""From a sensor to a square that the network sees: what is cut away, what is added, how pixels are pooled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikefront.errors import UserError, near_matches

FITS = ("pad", "square", "squash")
POOLS = ("sum", "mean", "any")
OFF = np.iinfo(np.uint16).max  # where an event goes that nobody sees


class Framing:
    """Moves events from a sensor into a square, by a table for each axis.

    Args:
        sensor: width, height in pixels.
        crop: x, y, width and height of what is looked at; None: all of it.
        fit: how that becomes square: ``pad`` adds empty pixels at both sides, ``square`` takes the central square,
            ``squash`` leaves it as it is (whoever bins it distorts it).
        pooled: side to which pixels are pooled before binning: each event goes to the pixel that its own lies in, so
            that counts stay counts; None, or the square is no larger: left as it is.

    Attributes:
        size: width, height of what comes out.
        factor: pixels of the sensor along the side of one of these.

    Raises:
        UserError: a crop that isn't on the sensor, no such ``fit``.
    """

    def __init__(
        self, sensor: Sequence[int], crop: Sequence[int] | None = None, fit: str = "pad", pooled: int | None = None
    ) -> None:
        if fit not in FITS:
            raise UserError(f"data.fit is {fit!r}; {near_matches(str(fit), FITS)}")
        left, top, width, height = check_crop(crop, sensor)
        across, down = np.arange(sensor[0]) - left, np.arange(sensor[1]) - top
        side = width, height
        if fit == "pad":
            side = (max(side),) * 2
        elif fit == "square":
            side = (min(side),) * 2
        across += (side[0] - width) // 2
        down += (side[1] - height) // 2
        beside = [(across < 0) | (across >= side[0]), (down < 0) | (down >= side[1])]
        beside[0] |= (np.arange(sensor[0]) < left) | (np.arange(sensor[0]) >= left + width)
        beside[1] |= (np.arange(sensor[1]) < top) | (np.arange(sensor[1]) >= top + height)
        self.sensor, self.seen, self.fit, self.factor = (sensor[0], sensor[1]), (width, height), fit, 1.0
        if pooled is not None and fit != "squash" and side[0] > pooled:
            self.factor = side[0] / pooled
            across, down = across * pooled // side[0], down * pooled // side[0]
            side = pooled, pooled
        self.size = side
        self._tables = [np.where(o, OFF, v).astype(np.uint16) for o, v in zip(beside, (across, down), strict=True)]
        self.cuts = any(o.any() for o in beside)
        self.moves = any((t != np.arange(len(t))).any() for t in self._tables)

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """Events with fields x, y, t, p on the sensor as those of the square; fewer where something is cut away."""
        if not self.moves:
            return events
        x, y = (table[events[axis]] for table, axis in zip(self._tables, "xy", strict=True))
        kept = (x != OFF) & (y != OFF) if self.cuts else slice(None)
        moved = events[kept].copy()
        moved["x"], moved["y"] = x[kept], y[kept]
        return moved

    def __repr__(self) -> str:
        """For the log: ``1280x720, padded to 1280x1280, 20 by 20 pixels pooled into 64x64``."""
        steps = [f"{self.sensor[0]}x{self.sensor[1]}"]
        if self.seen != self.sensor:
            steps.append(f"cut to {self.seen[0]}x{self.seen[1]}")
        square = max(self.seen) if self.fit == "pad" else min(self.seen)
        if self.fit == "squash" and self.seen[0] != self.seen[1]:
            steps.append("squashed into a square")
        elif self.fit != "squash" and self.seen[0] != self.seen[1]:
            steps.append(f"{'padded to' if self.fit == 'pad' else 'its central'} {square}x{square}")
        if self.factor > 1:
            steps.append(f"{self.factor:.3g} by {self.factor:.3g} pixels pooled into {self.size[0]}x{self.size[1]}")
        return ", ".join(steps)


def check_crop(crop: Sequence[int] | None, sensor: Sequence[int] | None) -> tuple[int, int, int, int]:
    """x, y, width, height; the whole sensor without a crop.

    Raises:
        UserError: no such four numbers, or not on the sensor.
    """
    if crop is None:
        return (0, 0, *sensor) if sensor is not None else (0, 0, 0, 0)  # type: ignore[return-value]
    numbers = list(crop) if isinstance(crop, Sequence) and not isinstance(crop, str) else []
    if len(numbers) != 4 or not all(isinstance(n, int) and n >= 0 for n in numbers) or 0 in numbers[2:]:
        raise UserError(f"data.crop is {crop}: give x, y, width and height in pixels, such as [160,0,320,320]")
    x, y, width, height = numbers
    if sensor is not None and (x + width > sensor[0] or y + height > sensor[1]):
        raise UserError(f"data.crop={numbers} reaches beyond the sensor of {sensor[0]}x{sensor[1]}")
    return x, y, width, height
