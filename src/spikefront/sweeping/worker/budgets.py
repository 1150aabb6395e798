"""What a sweep may spend besides trials: hours, GPU-hours, joules."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Trial
from optuna.study import Study

from spikefront.analysis.schema import Spent
from spikefront.errors import UserError
from spikefront.sweeping.study.attributes import SPENT
from spikefront.sweeping.worker.power import PowerMeter

LIMITS = ("max_hours", "max_gpu_hours", "max_joules")
BEGAN = "SPIKEFRONT_BEGAN"  # environment: when this machine's sweep began, by its monotonic clock


class Limits:
    """``search.max_hours`` of this command, ``search.max_gpu_hours`` and ``search.max_joules`` of the study.

    Args:
        began: when the command began, by the clock of the machine that it was given on; on that machine its processes
            count from there by a clock that doesn't jump.

    Raises:
        UserError: not a positive number.
    """

    def __init__(self, search: Mapping[str, Any], began: float | None = None) -> None:
        for name in LIMITS:
            value = search.get(name)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise UserError(f"search.{name} is {value}: use a positive number, or null for no limit")
        self._limits = {name: search.get(name) for name in LIMITS}
        now, hours = time.monotonic(), self._limits["max_hours"]
        start = float(os.environ.get(BEGAN) or now - max(0.0, time.time() - (began or time.time())))
        self._deadline = start + 3600 * hours if hours else float("inf")
        self.on_trials = any(self._limits[name] for name in LIMITS[1:])

    def check_counters(self) -> None:
        """Raise UserError if this machine counts no joules and there is a budget of them."""
        if self._limits["max_joules"] and not PowerMeter().available:
            raise UserError(
                "search.max_joules can't be kept here: neither NVML (pip install nvidia-ml-py) nor RAPL"
                " (/sys/class/powercap, readable) counts joules on this machine; use search.max_gpu_hours or max_hours"
            )

    def out_of_time(self) -> bool:
        return time.monotonic() > self._deadline

    def reached(self, study: Study) -> str | None:
        """The limit that is reached, in words, or ``None``."""
        if self.out_of_time():
            return f"search.max_hours={self._limits['max_hours']} are over"
        if self.on_trials:
            total = spent(study)
            for name, sum_ in (("max_gpu_hours", total["gpu_hours"]), ("max_joules", total["joules"])):
                limit = self._limits[name]
                if limit and sum_ >= limit:
                    return f"search.{name}={limit} are spent ({sum_:.4g})"
        return None


class Account:
    """Adds to a trial's ``spent`` what this process puts into it."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._before = SPENT.get(trial)
        self._began, self._meter = time.monotonic(), PowerMeter()

    def enter(self, devices: int) -> None:
        """Write it down. ``devices``: GPUs in use, or processes where there is none."""
        SPENT.set(self._trial, self.total(devices))

    def total(self, devices: int) -> Spent:
        """All that the trial took by now."""
        seconds = time.monotonic() - self._began
        now: Spent = {"seconds": seconds, "gpu_hours": seconds * devices / 3600, "joules": self._meter.joules()}
        return _sum([self._before, now])


def spent(study: Study) -> Spent:
    """What all trials together took."""
    return _sum([SPENT.get(trial) for trial in study.get_trials(deepcopy=False)])


def _sum(parts: Sequence[Spent]) -> Spent:
    return {
        "seconds": sum(p.get("seconds", 0.0) for p in parts),
        "gpu_hours": sum(p.get("gpu_hours", 0.0) for p in parts),
        "joules": sum(p.get("joules", 0.0) for p in parts),
    }
