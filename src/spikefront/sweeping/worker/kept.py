"""A trial's directory where no disk is shared: brought from the study's address first, sent there while it trains.

Of a study in a directory nothing of this happens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from spikefront.cluster.mirror import Mirror, NotOurs
from spikefront.cluster.stores import Away
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study.filesystems import full
from spikefront.sweeping.study.ledger import LeaseLost
from spikefront.training import Result
from spikefront.training.preemption import LAST, WholeCheckpoints

GRACE = 20.0  # seconds that a store may be away when a trial stops before its end, as SLURM's KillWait is 30
Train = Callable[[DictConfig, Sequence[pl.Callback]], Result]


class SendingCheckpoints(WholeCheckpoints):
    """Has the trial's directory sent, in a thread, each time that there is a checkpoint to go on from."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__()
        self._mirror = mirror

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        if Path(path).name == LAST.name:
            self._mirror.push()


class Sending(pl.Callback):
    """Puts these checkpoints in the place of a trainer's own, in its first process, the one that writes them."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = SendingCheckpoints(self._mirror)


@contextmanager
def kept(mirror: Mirror | None, train: Callable[..., Result]) -> Iterator[Train]:
    """Context in which a trial trains by what it gets, and whose end is reached when its directory is at the address.

    Args:
        mirror: of the trial's directory.
        train: what trains a configuration, with these callbacks.

    Raises:
        Away: the address can't be read, or written at the end.
        LeaseLost: the trial is another worker's by then.
    """
    if mirror is None:
        yield train
        return
    mirror.fetch()
    try:
        yield lambda cfg, callbacks: train(cfg, [*callbacks, Sending(mirror)])
    except (LeaseLost, *storages.BROKEN):
        raise
    except Exception:  # also of one that stops: who goes on with it does so elsewhere
        _try_to_settle(mirror)
        raise
    try:
        mirror.settle()
    except NotOurs as error:
        raise LeaseLost from error
    mirror.sweep_up()


def _try_to_settle(mirror: Mirror) -> None:
    try:
        mirror.settle(GRACE)
    except NotOurs:
        pass
    except Away as error:
        print(f"spikefront: {error}; until then the trial's checkpoint is here alone", file=sys.stderr, flush=True)


def unkept(error: BaseException, place: str) -> str | None:
    """Why a trial's directory can't be written, in a line; None where that is not what is wrong."""
    if isinstance(error, Away):
        return str(error)
    if full(error):
        return f"no space is left for {place} (or your quota is used up): free some, then the same command continues"
    return None
