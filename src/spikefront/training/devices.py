"""How many processes a training takes, who started them, and each one's share of this machine's cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator, MPSAccelerator
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from spikefront.errors import UserError
from spikefront.nn.kernels.build import multiplies_bfloat16
from spikefront.start import POOLS

KINDS: dict[str, type[Accelerator]] = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator}

NUMBERS = {  # Lightning's names of them, and what they are
    "16-true": "float16",
    "bf16-true": "bfloat16",
    "32-true": "float32",
    "64-true": "float64",
    "16-mixed": "float16 mixed with float32",
    "bf16-mixed": "bfloat16 mixed with float32",
}


def count_devices(trainer: Mapping[str, Any]) -> int:
    """How many devices of a node, and so processes, a ``conf/trainer`` asks for.

    Raises:
        UserError: ``trainer.devices`` can't be read, or they aren't there.
    """
    kind = _kind(trainer.get("accelerator"))
    if kind is None:
        return 1  # one of Lightning's others, which knows best
    asked = _asked(trainer)
    if asked in (None, "auto"):
        return max(1, kind.auto_device_count())
    try:
        found = kind.parse_devices(asked)  # type: ignore[arg-type]
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise _refusal(trainer, kind) from error
    return len(found) if isinstance(found, list) else int(found or 1)


def check_devices(trainer: Mapping[str, Any]) -> None:
    """Raise UserError if ``trainer.devices`` can't be read; they may be another machine's."""
    kind, asked = _kind(trainer.get("accelerator")), _asked(trainer)
    if kind is None or asked in (None, "auto"):
        return
    try:
        kind.parse_devices(asked)  # type: ignore[arg-type]
    except MisconfigurationException:
        return  # not here
    except (TypeError, ValueError) as error:
        raise _refusal(trainer, kind) from error


def _asked(trainer: Mapping[str, Any]) -> Any:
    asked = trainer.get("devices")
    return list(asked) if isinstance(asked, Sequence) and not isinstance(asked, str) else asked


def _refusal(trainer: Mapping[str, Any], kind: type[Accelerator]) -> UserError:
    there = f"{kind.auto_device_count()} there" if kind.is_available() else "none there"
    return UserError(
        f"trainer.devices={trainer.get('devices')} with trainer.accelerator={trainer.get('accelerator')}: {there};"
        " use a number, a list such as [0,1], or auto"
    )


def _kind(accelerator: Any) -> type[Accelerator] | None:
    if accelerator in (None, "auto", "gpu"):
        found = next((k for k in (CUDAAccelerator, MPSAccelerator) if k.is_available()), None)
        return found or (CUDAAccelerator if accelerator == "gpu" else CPUAccelerator)
    return KINDS.get(str(accelerator))


def given() -> ClusterEnvironment | None:
    """The processes that srun, torchrun, LSF or MPI started, this one among them."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_PROCID" in os.environ and SLURMEnvironment.detect():
        os.environ.setdefault("MASTER_PORT", str(_port(os.environ)))
        return SLURMEnvironment(auto_requeue=False)
    return next((kind() for kind in (LSFEnvironment, MPIEnvironment) if kind.detect()), None)


def spread() -> tuple[int, int] | None:
    """Processes on each node and nodes, if srun or torchrun started several."""
    environment = given()
    if environment is None or (processes := environment.world_size()) == 1:
        return None
    nodes = int(os.environ.get("GROUP_WORLD_SIZE") or os.environ.get("SLURM_NNODES") or 1)
    return processes // nodes, nodes


def _port(environment: Mapping[str, str]) -> int:
    """A port for a job step: one that SLURM reserved, else another than those of steps and jobs around it."""
    if reserved := environment.get("SLURM_STEP_RESV_PORTS"):
        return int(reserved.replace(",", "-").split("-")[0])
    job = int(environment.get("SLURM_JOB_ID", "0"))
    step = environment.get("SLURM_STEP_ID", "0")
    return 15000 + (job + 1009 * (int(step) if step.isdigit() else 0)) % 10000


@contextlib.contextmanager
def threads(wanted: int | None) -> Iterator[None]:
    """Context in which PyTorch computes with so many threads on the CPU; None: with as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_each(trainer: Mapping[str, Any]) -> int | None:
    """CPU threads of each process of a training in this one's place; None where a ``conf/trainer`` asks for GPUs,
    whose sums don't depend on them."""
    if _kind(trainer.get("accelerator")) is not CPUAccelerator:
        return None
    size = count_devices(trainer)
    return torch.get_num_threads() if size == 1 else int(threads_of(size)[POOLS[0]])


def all_threads(trainer: Mapping[str, Any]) -> int | None:
    """CPU threads of each process of a training that has this machine's cores to itself; None like ``threads_each``."""
    if _kind(trainer.get("accelerator")) is not CPUAccelerator:
        return None
    return max(1, len(_cores()) // count_devices(trainer))


def threads_of(size: int) -> dict[str, str]:
    """Environment that gives each of ``size`` processes its share of this one's cores in threads."""
    share = max(1, len(_cores()) // size)
    return {name: str(min(share, _number(os.environ.get(name), share))) for name in POOLS}


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else otherwise


def pin(place: int | Sequence[int] | None, size: int = 1) -> list[int]:
    """Keep this process on these cores, or on the ``place``-th of ``size`` shares of its own; the cores it had."""
    cores = _cores()
    if place is None or not hasattr(os, "sched_setaffinity"):
        return cores
    if isinstance(place, Sequence):
        mine = list(place)
    elif size > len(cores):
        mine = [cores[place % len(cores)]]
    else:
        mine = cores[place * len(cores) // size : (place + 1) * len(cores) // size]
    os.sched_setaffinity(0, mine)
    return cores


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def where(trainer: pl.Trainer) -> str:
    """What a trainer computes on and in what numbers: ``cpu, 4 threads, float32``."""
    several = f"{trainer.world_size} x " if trainer.world_size > 1 else ""
    return f"{several}{named(trainer.strategy.root_device)}, {NUMBERS.get(trainer.precision, trainer.precision)}"


def slower_than_float32(trainer: pl.Trainer) -> str | None:
    """What to say of bfloat16 on a processor without instructions for it; None elsewhere."""
    here = trainer.strategy.root_device.type == "cpu" and multiplies_bfloat16() is False
    if not here or not str(trainer.precision).startswith("bf16"):
        return None
    return (
        f"trainer.precision={trainer.precision}: this processor has no bfloat16 instructions, so training will be"
        " slower than with trainer.precision=32-true"
    )


def named(device: torch.device) -> str:
    """A device of this machine as its users know it: ``NVIDIA H100``, ``cpu, 4 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    own = torch.get_num_threads()
    return f"cpu, {own} thread{'s' if own > 1 else ''}" if device.type == "cpu" else device.type
