"""When a process that was killed is started again."""

from __future__ import annotations

STARTS = 100  # of one process: far beyond any accident
LONGEST_PAUSE = 60.0  # seconds before another start, after a life shorter than that


class Restarts:
    """The starts of one process that is kept at work: the pause before the next grows while its lives are short."""

    def __init__(self) -> None:
        self._starts, self._pause = 1, 0.5

    def pause(self, lived: float) -> float | None:
        """Seconds to wait before the process is started again, which lived so many; None if it has had its starts."""
        if self._starts >= STARTS:
            return None
        self._starts += 1
        self._pause = 1.0 if lived > LONGEST_PAUSE else min(2 * self._pause, LONGEST_PAUSE)
        return self._pause
