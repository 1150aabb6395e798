"""Recordings cut into windows of one time, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from spikefront.errors import UserError
from spikefront.units import microseconds


@dataclass(frozen=True)
class Windows:
    """How recordings are cut: windows of ``width`` µs, each ``stride`` µs after the one before."""

    width: float
    stride: float

    @staticmethod
    def of(window: object, stride: object) -> Windows | None:
        """From ``data.window`` and ``data.stride``; None without a window.

        Raises:
            UserError: no such times.
        """
        if window is None:
            if stride is not None:
                raise UserError(f"data.stride={stride} does nothing without data.window, the time of a window")
            return None
        times = {"window": window, "stride": window if stride is None else stride}
        found = {key: microseconds(value) for key, value in times.items()}
        for key, value in found.items():
            if value is None or not value >= 1:
                raise UserError(f"data.{key} is {times[key]!r}: give a time such as 1.5s, 200ms or 5000us")
        return Windows(*found.values())  # type: ignore[arg-type]

    def over(self, start: int, end: int, last: int) -> Iterator[tuple[int, int]]:
        """Those of a stretch that may hold events, of a recording from 0 to ``last``."""
        ahead = math.floor(max(0, -start) / self.stride) * self.stride
        return self.within(start + round(ahead), min(end, last + math.ceil(self.width)))

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Whole windows of [start, end) µs; the stretch itself where it is no longer than one."""
        if end - start <= self.width:
            yield start, end
            return
        for i in range(math.floor((end - start - self.width) / self.stride + 1e-9) + 1):
            begin = start + round(i * self.stride)
            yield begin, begin + round(self.width)
