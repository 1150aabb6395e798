"""Several processes that train each trial together (DDP): the first asks and tells, the others train what it says."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from torch.distributed import TCPStore

from spikefront.cluster.jobs import requeue

FOREVER = timedelta(days=365)


class Team:
    """The processes that srun or torchrun started as one worker; usually one, which needs none of this.

    They meet at the address at which Lightning's meet, one port further.
    """

    def __init__(self) -> None:
        environment = _environment()
        self.size = environment.world_size() if environment else 1
        self.rank = environment.global_rank() if environment else 0
        self._count = 0
        self._store: TCPStore | None = None
        if environment and self.size > 1:
            address, port = environment.main_address, environment.main_port + 1
            self._store = TCPStore(address, port, None, self.rank == 0, FOREVER, wait_for_workers=False)

    def announce(self, trial: int, cfg: DictConfig) -> None:
        """Have the others train this too."""
        self._say(f"{trial}\n{OmegaConf.to_yaml(cfg)}")

    def dismiss(self) -> None:
        """There is nothing more to train."""
        self._say("")

    def next(self) -> tuple[int, DictConfig] | None:
        """What the first process announces next: the trial's id in the storage and its configuration."""
        assert self._store is not None
        said = self._store.get(str(self._count)).decode()
        self._count += 1
        trial, _, cfg = said.partition("\n")
        made: Any = OmegaConf.create(cfg)
        return (int(trial), made) if said else None

    def break_up(self) -> None:
        """After an error that the others may not have had and wait in vain for: start all of them again."""
        if self.size > 1:
            requeue(os.environ)
            sys.stdout.flush()
            os._exit(1)

    def _say(self, words: str) -> None:
        if self._store is not None:
            self._store.set(str(self._count), words)
            self._count += 1


def _environment() -> ClusterEnvironment | None:
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_PROCID" in os.environ and SLURMEnvironment.detect():
        return SLURMEnvironment(auto_requeue=False)
    return None
