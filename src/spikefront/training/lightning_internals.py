"""Where in its epoch Lightning is, which it keeps in counters of its own; ``test_lightning_internals.py`` watches them.

Each of these raises one ``UserError`` where Lightning keeps the counter elsewhere than in the versions we know: a run
that could not be stopped between two batches must not find that out when it is stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.strategies import ParallelStrategy

from spikefront.errors import UserError

VALIDATION = "epoch_loop.val_loop.batch_progress"  # of a checkpoint's fit loop


def within_epoch(trainer: pl.Trainer) -> bool:
    """Whether the training batch just given was not its epoch's last."""
    with _known("whether a batch is the epoch's last"):
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not isinstance(last, bool):
            raise TypeError(last)
        return not last


def batches_begun(trainer: pl.Trainer) -> int:
    """Training batches of this epoch, with the one just given."""
    with _known("how many batches an epoch has had"):
        return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)


def validation_batches_begun(trainer: pl.Trainer) -> int:
    """Batches of the validation that training runs, with the one just given."""
    with _known("how many batches a validation has had"):
        return int(trainer.fit_loop.epoch_loop.val_loop.batch_progress.current.ready)


def begin_validation_again(checkpoint: dict[str, Any]) -> None:
    """Have a checkpoint written within a validation say that it has just begun: half a one can't go on elsewhere."""
    with _known("the validation's progress in a checkpoint"):
        progress = checkpoint["loops"]["fit_loop"][VALIDATION]
        for counts in (progress["current"], progress["total"]):
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            if counts.keys() != begun.keys():
                raise KeyError(*counts)
            counts.update(begun)
        progress["is_last_batch"] = False


def epochs_of(checkpoint: Mapping[str, Any]) -> int:
    """Epochs that a checkpoint's training has ended."""
    with _known("how many epochs a checkpoint has had"):
        return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def layer_sync(trainer: pl.Trainer) -> LayerSync | None:
    """What synchronises norms over a training's processes; None where nothing does."""
    if not isinstance(trainer.strategy, ParallelStrategy):
        return None
    with _known("how norms are synchronised"):
        found: LayerSync | None = trainer.strategy._layer_sync
        return found


def batches_of(trainer: pl.Trainer) -> int | float:
    """Training batches of a whole epoch, infinitely many of data without a length."""
    with _known("how many batches an epoch has"):
        trainer.fit_loop.setup_data()
        return trainer.num_training_batches


def log_step(trainer: pl.Trainer) -> None:
    """Log the training batch just given, which Lightning does after the hooks that a stop never leaves."""
    with _known("how a training batch is logged"):
        trainer._logger_connector.update_train_step_metrics()


def log_epoch(trainer: pl.Trainer) -> None:
    """Log an epoch's training from within its validation, after which Lightning does it."""
    with _known("how an epoch's training is logged"):
        metrics = trainer.fit_loop.epoch_loop._results.metrics(on_step=False)["log"]
        trainer._logger_connector.log_metrics(metrics)


@contextmanager
def _known(what: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"pytorch-lightning {pl.__version__} does not tell {what} where earlier versions do ({error});"
            " install the version in constraints.txt"
        ) from error
