"""Joules that this process draws, by the machine's own counters: NVML for its GPUs, RAPL for its share of the CPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil

POWERCAP = Path("/sys/class/powercap")


class PowerMeter:
    """Reads the energy counters; ``available`` says whether there is one.

    A GPU is taken to be this process's own. Of the CPU packages' energy the process is charged its share of the busy
    core time, idle power included.

    Args:
        powercap: where Linux shows the RAPL domains.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._packages = [p for p in sorted(powercap.glob("*-rapl:[0-9]*")) if p.name.count(":") == 1 and _readable(p)]
        self._handles = _gpus()
        self.available = bool(self._packages or self._handles)
        self._last = self._read()
        self._joules = 0.0

    def joules(self) -> float:
        """Joules since the meter was made."""
        now, before = self._read(), self._last
        self._last = now
        cpu = 0.0
        for package, uj in now["packages"].items():
            step = uj - before["packages"][package]
            cpu += (step if step >= 0 else step + _number(Path(package) / "max_energy_range_uj")) * 1e-6
        busy = now["busy"] - before["busy"]
        share = min(1.0, (now["own"] - before["own"]) / busy) if busy > 0 else 0.0
        self._joules += cpu * share + (now["gpus"] - before["gpus"]) * 1e-3
        return self._joules

    def _read(self) -> dict[str, Any]:
        times = os.times()
        return {
            "packages": {str(p): _number(p / "energy_uj") for p in self._packages},
            "gpus": sum(_millijoules(h) for h in self._handles),
            "own": times.user + times.system + times.children_user + times.children_system,
            "busy": _busy() if self._packages else 0.0,
        }


def _number(path: Path) -> float:
    return float(path.read_text(encoding="utf-8"))


def _readable(package: Path) -> bool:
    try:
        _number(package / "energy_uj")
    except (OSError, ValueError):
        return False
    return True


def _busy() -> float:
    """Core seconds that the machine's processes have used."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def _gpus() -> list[Any]:
    """NVML's handles of the GPUs that this process sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        uuids = [torch.cuda.get_device_properties(i).uuid for i in range(torch.cuda.device_count())]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in uuids]
        for handle in handles:
            _millijoules(handle)
        return handles
    except Exception:  # no pynvml, or a GPU older than these counters
        return []


def _millijoules(handle: object) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
