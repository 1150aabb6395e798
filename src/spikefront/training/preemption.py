"""Stop on a signal with everything saved, and go on later as if nothing had happened.

SLURM sends SIGTERM before it preempts, requeues or cancels a job, and the signal that ``--signal`` names (SIGUSR1 or
SIGUSR2 here) before a time limit. The handler only takes note: the checkpoint is written between two batches, by all
processes at the same batch, so it is never of half an optimiser step.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins import TorchCheckpointIO
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from spikefront.cluster.jobs import is_preempted, requeue
from spikefront.data.order import ResumableLoader
from spikefront.files import writing
from spikefront.training.ddp import of_several
from spikefront.training.lightning_internals import (
    batches_begun,
    begin_validation_again,
    log_epoch,
    log_step,
    validation_batches_begun,
    within_epoch,
)
from spikefront.training.resumption import follow
from spikefront.training.team import started_here

KEY = "continuation"  # of the checkpoint's own part for this
LAST = Path("checkpoints") / "last.ckpt"
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)  # by convention sent ahead of a time limit: the job shall run again


class Interrupted(Exception):
    """The run stopped before its end, its checkpoint written."""


class Signals:
    """Context in which SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and ``more`` ask for a stop instead of ending the process.

    ``received`` is the first that came. A second SIGINT ends the process at once. Under nohup SIGHUP stays ignored.
    """

    def __init__(self, *more: signal.Signals) -> None:
        hung_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
        self.numbers = (signal.SIGTERM, *REQUEUE, *hung_up, *more)
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {number: signal.getsignal(number) for number in self.numbers}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals, again if someone else took them meanwhile."""
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(130)
        self.received = self.received or signal.Signals(number)

    def hand_over(self) -> None:
        """Give the signal to whoever had it before, now that all is saved; otherwise have SLURM run the job again.

        Submitit's handler requeues its job and ends the process. Without one, SIGUSR1 and SIGUSR2 requeue the SLURM
        job that this process belongs to. So does SIGTERM where it announces a preemption: SLURM takes a job that ends
        by itself within the grace time for completed.
        """
        number = self.received
        if number is None:
            return
        if number == signal.SIGTERM and os.environ.get("SLURM_PROCID", "0") == "0" and is_preempted(os.environ):
            requeue(os.environ)
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, None)
        elif number in REQUEUE and os.environ.get("SLURM_PROCID", "0") == "0":
            requeue(os.environ)


class StopBetweenBatches(pl.Callback):
    """Writes ``checkpoint`` and raises ``Interrupted`` at the first batch's end at which any process was signalled."""

    def __init__(self, checkpoint: Path, signals: Signals, wanted: Callable[[], bool] = lambda: False) -> None:
        self.checkpoint, self.signals, self.wanted = checkpoint, signals, wanted

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signals.install()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning's own handlers talk to the other processes from inside the handler, or checkpoint there
        self.signals.install()

    on_test_start = on_validation_start

    def elsewhere(self) -> Callable[[Signals], pl.Callback]:
        """What the other processes of the training have in its place."""
        return partial(StopBetweenBatches, self.checkpoint)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # after an epoch's last batch the validation's first is a better place: a resumed run then validates as well;
        # between accumulated passes their gradients would be lost
        if within_epoch(trainer) and batches_begun(trainer) % trainer.accumulate_grad_batches == 0:
            self._look(trainer, within_batch=True)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # shares of the validation part may differ by a batch, so all processes meet at their first only
        if trainer.state.fn != "fit":
            self.on_test_batch_end(trainer)
        elif trainer.world_size == 1 or validation_batches_begun(trainer) == 1:
            self._look(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # `last` may be every so many steps; the evaluation that follows is of the best weights, not of these
        if trainer.world_size == 1 and trainer.checkpoint_callback is not None and not self._is_saved(trainer):
            trainer.save_checkpoint(self.checkpoint)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.world_size == 1 and self.signals.received is not None:
            if not self._is_saved(trainer):  # no checkpoints are wanted, but what was trained shall not be lost
                trainer.save_checkpoint(self.checkpoint)
            raise Interrupted

    def _is_saved(self, trainer: pl.Trainer) -> bool:
        """Whether the checkpoint is of the step that training is at."""
        read = partial(torch.load, self.checkpoint, mmap=True, weights_only=True)
        return self.checkpoint.is_file() and bool(read()["global_step"] == trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # the epoch's row is logged, and its best weights are kept, after this: stop here only if no batch is a place to
        if trainer.num_training_batches <= trainer.accumulate_grad_batches:
            self._look(trainer)

    def _look(self, trainer: pl.Trainer, within_batch: bool = False) -> None:
        """All processes stop if one shall, and all of them then have its signal."""
        said = 1 + (self.signals.received or 0) if self.signals.received or self.wanted() else 0
        if trainer.world_size > 1:
            mine = torch.tensor(said, device=trainer.strategy.root_device)
            said = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if said > 1:
            self.signals.received = signal.Signals(said - 1)
        if said:
            if trainer.logger is not None and (within_batch or trainer.validating):
                (log_step if within_batch else log_epoch)(trainer)  # a resumed run begins after that
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.validating and trainer.state.fn == "fit":
            begin_validation_again(checkpoint)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then puts it there, so that no kill and no full disk leaves half of one.

    Lightning's own writes in the temporary directory and moves, which on another file system is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with writing(path, "wb", durable=True) as file:
            torch.save(checkpoint, file)


class Continuation(pl.Callback):
    """Keeps in every checkpoint what else a run needs to go on exactly, and restores it.

    That is: random state of all processes, the epoch's batches already given, and the W&B run's id.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        run = getattr(trainer.logger, "version", None)
        loader = trainer.train_dataloader
        checkpoint[KEY] = {
            "random": _gather(_random_state()),
            "loader": loader.state_dict() if isinstance(loader, ResumableLoader) else None,
            "run": run if isinstance(run, str) and run else None,
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._state = checkpoint.get(KEY)
        follow(trainer, checkpoint)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._state is None:
            return
        loader = trainer.train_dataloader
        if self._state["loader"] and isinstance(loader, ResumableLoader):
            # Lightning does so too, but not where the schedule asked for the number of steps before
            loader.load_state_dict(self._state["loader"])
        if len(self._state["random"]) == trainer.world_size:
            _restore(self._state["random"][trainer.global_rank])
        self._state = None


def run_id(checkpoint: Mapping[str, Any]) -> str | None:
    """The W&B run that a checkpoint belongs to."""
    return checkpoint.get(KEY, {}).get("run")


@contextmanager
def preemptible(cfg: DictConfig, again: str = "resume=auto") -> Iterator[list[pl.Callback]]:
    """Context for one training run of its own: the callbacks it needs; ends the process when it was interrupted.

    ``resume=auto`` and the same output directory continue the run, as the command line ``again`` does; a job that SLURM
    runs again does so by itself. The exit code is 128 plus the signal's number.
    """
    if cfg.resume is None and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0:
        cfg.resume = "auto"
    with Signals(signal.SIGINT) as signals:
        try:
            yield [StopBetweenBatches(Path(cfg.output_dir) / LAST, signals)]
            return
        except Interrupted:
            pass
        except Exception:
            # SLURM signals every process of a step, such as W&B's service, whose end then shows up here
            if signals.received is None or not (Path(cfg.output_dir) / LAST).is_file():
                raise
    assert signals.received is not None
    with suppress(OSError):  # the terminal is closed
        rank_zero_only(print)(f"{signals.received.name}: stopped with everything saved; go on with {again}", flush=True)
    with _first_process_first():
        signals.hand_over()
    sys.exit(128 + signals.received)


@contextmanager
def _first_process_first() -> Iterator[None]:
    """Context that other processes enter when the first leaves it: srun may end all as soon as one has ended."""
    several = of_several() and not started_here()
    if several and dist.get_rank():
        _meet()
    try:
        yield
    finally:
        if several and not dist.get_rank():
            _meet()


def _meet() -> None:
    with suppress(RuntimeError):  # another one was ended meanwhile
        dist.barrier()


def _random_state() -> dict[str, Any]:
    kind, keys, *position = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position],
        "python": random.getstate(),
    }


def _restore(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, *position = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *position))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _gather(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not of_several():
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states
