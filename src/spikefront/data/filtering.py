"""What ``data.filters`` takes out of recordings before they are cached, block by block, and how much that was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from spikefront.data import noise
from spikefront.data.formats.refused import BadRecording
from spikefront.errors import UserError, near_matches
from spikefront.units import microseconds, si

HotPixels = dict[str, list[list[int]]]  # by sensor, ``640x480``: x, y of each
Sensor = tuple[int, int]
FACTOR = 10.0
WORDS = {"hot": "hot pixels", "refractory": "refractory", "neighbours": "neighbours"}


@dataclass(frozen=True)
class Filters:
    """Which events are left out, in this order.

    Args:
        hot: those of pixels with more than so many times the events of the most active pixel beside them, over the
            whole training part (see ``noise.hot_pixels``).
        refractory: those less than so many µs after the last kept one of their pixel.
        neighbours: those that no pixel beside them had an event less than so many µs before.
    """

    hot: float | None = None
    refractory: int | None = None
    neighbours: int | None = None

    @staticmethod
    def of(given: Mapping[str, Any] | None) -> Filters:
        """From ``data.filters``.

        Raises:
            UserError: another filter, no such factor or time.
        """
        if given is not None and not isinstance(given, Mapping):
            raise UserError(f"data.filters is {given!r}: give data.filters.{', data.filters.'.join(WORDS)}")
        asked = {key: value for key, value in (given or {}).items() if value is not None and value is not False}
        for key, value in asked.items():
            if key not in WORDS:
                raise UserError(f"data.filters has no '{key}'; {near_matches(str(key), WORDS)}")
            if key == "hot":
                asked[key] = FACTOR if value is True else value
                if not isinstance(asked[key], int | float) or not asked[key] > 1:
                    raise UserError(
                        f"data.filters.hot is {value!r}: give how many times as active as its neighbours a hot pixel"
                        f" is, such as {FACTOR:g}"
                    )
                continue
            time = microseconds(value)
            if time is None or not 1 <= time < 2**32:
                raise UserError(f"data.filters.{key} is {value!r}: give a time such as 1ms or 500us")
            asked[key] = round(time)
        return Filters(**asked)

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None for f in fields(self))

    def over(
        self, blocks: Iterable[np.ndarray], sensor: Sensor, hot: HotPixels | None, note: dict[str, Any]
    ) -> Iterator[np.ndarray]:
        """What is left of a recording's blocks; their times stay as they are.

        Args:
            hot: those of the training part.
            note: gets ``events``, how many there were, and ``removed``, how many of them each filter did.

        Raises:
            BadRecording: nothing is left.
        """
        steps = self._steps(sensor, hot)
        note["events"], removed = 0, dict.fromkeys(steps, 0)
        note["removed"] = removed
        left = 0
        for events in blocks:
            note["events"] += len(events)
            for name, step in steps.items():
                events, gone = step(events)
                removed[name] += gone
            left += len(events)
            yield events
        if not left:
            raise BadRecording(f"data.filters leave none of its {note['events']} events ({self})")

    def _steps(self, sensor: Sensor, hot: HotPixels | None) -> dict[str, Callable[[np.ndarray], tuple]]:
        steps: dict[str, Callable[[np.ndarray], tuple]] = {}
        if self.hot is not None:
            mask = np.zeros(sensor[::-1], bool)
            for x, y in (hot or {}).get(named(sensor), ()):
                mask[y, x] = True
            steps["hot"] = lambda events: noise.without_hot_pixels(events, mask)
        if (period := self.refractory) is not None:
            rested = noise.unseen(sensor)
            steps["refractory"] = lambda events: noise.refractory(events, sensor, period, rested)
        if (window := self.neighbours) is not None:
            supported = noise.unseen(sensor)
            steps["neighbours"] = lambda events: noise.neighbours(events, sensor, window, supported)
        return steps

    def found(self, recordings: Iterable[tuple[Sensor, Iterable[np.ndarray]]]) -> HotPixels:
        """The hot pixels in recordings of known sensors, in one pass over their blocks; bad ones are passed over."""
        assert self.hot is not None
        counts: dict[Sensor, np.ndarray] = {}
        for sensor, blocks in recordings:
            own = np.zeros(sensor[::-1], np.int64)
            try:
                for events in blocks:
                    noise.count(events, own)
            except BadRecording:
                continue  # what it does is said when it is cached
            counts[sensor] = counts.get(sensor, 0) + own
        masks = {named(sensor): noise.hot(each, self.hot) for sensor, each in counts.items()}
        return {name: np.argwhere(mask)[:, ::-1].tolist() for name, mask in masks.items()}

    def told(self, notes: Sequence[Mapping[str, Any]], hot: HotPixels | None) -> dict[str, Any]:
        """The filters beside the share of all events that each removed, by the recordings' notes."""
        events = sum(note["events"] for note in notes)
        shares = {
            key: sum(note["removed"][key] for note in notes) / max(events, 1)
            for key, value in asdict(self).items()
            if value is not None
        }
        return {**asdict(self), "removed": shares, "events": events} | (
            {"hot_pixels": sum(map(len, (hot or {}).values()))} if self.hot is not None else {}
        )

    def __str__(self) -> str:
        """``hot=10, refractory=1 ms``."""
        return ", ".join(
            f"{key}={value:g}" if key == "hot" else f"{key}={si(value / 1e6, 's')}"
            for key, value in asdict(self).items()
            if value is not None
        )


def line(told: Mapping[str, Any]) -> str:
    """For whoever watches, from ``Filters.told``."""
    found = f" ({told['hot_pixels']})" if "hot_pixels" in told else ""
    each = ", ".join(
        f"{WORDS[key]}{found if key == 'hot' else ''} {share:.2%}" for key, share in told["removed"].items()
    )
    return f"data.filters removed of {told['events']:,} events: {each}"


def named(sensor: Sequence[int]) -> str:
    return f"{sensor[0]}x{sensor[1]}"
