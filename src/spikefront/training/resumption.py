"""What a run goes on with: whether its checkpoint fits what is asked for now, and what of that is new."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from spikefront.config import LOCAL, flat
from spikefront.errors import UserError
from spikefront.nn.checkpoints import configuration, misfit, network_state, read_checkpoint
from spikefront.renamed import same_default
from spikefront.training.lightning_internals import epochs_of

# what says where and how a run goes on, not what it learns
SILENT = (
    *(
        "output_dir",
        "resume",
        "weights",
        "init",
        "dry_run",
        "latency",
        "debug",
        "logger",
        "callbacks",
        "energy",
        *LOCAL,
    ),
    *("trainer.strategy", "trainer.sync_batchnorm", "trainer.precision", "trainer.plugins", "trainer.profiler"),
    *("trainer.log_every_n_steps", "trainer.enable_model_summary", "model.compile", "model.checkpoint_blocks"),
    *("recipe", "data.train_samples", "elastic.base"),  # what a recipe chooses is among the rest
)
AVERAGE = "callbacks.ema"
# what a checkpoint's optimizer state was made by, and which samples it has not seen
FIXED = ("optimizer._target_", "optimizer.amsgrad", "data.val_fraction", "data.seed", "finetune.freeze")
RATES = "finetune.rates"  # which part its parameters are of
DECAY = "optimizer.weight_decay"  # without any, all parameters are of one kind
CURE = "choose another directory (hydra.run.dir=…) to begin anew, or go on with the old setting"
NOTHING = "not there"


def continued(path: str, asked: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The contents of the checkpoint at ``path``, from which a run goes on as ``asked``, its resolved configuration.

    Says in a line which settings the run goes on with that are not those it had.

    Raises:
        UserError: it can't be read, holds no training, or can't go on so: another network, optimizer or validation
            part, fewer epochs than it has had.
    """
    content = read_checkpoint(path)
    if not {"state_dict", "optimizer_states", "loops"} <= content.keys():
        raise UserError(f"resume={path}: it holds weights, but no training to go on with; train.py's last.ckpt does")
    then = configuration(content)
    changed = {} if then is None else differences(then, asked)
    if (why := misfit(model.state_dict(), network_state(content))) is not None:
        raise UserError(f"resume={path} is of another network: {of_the_network(changed, asked) or why}: {CURE}")
    fixed = {
        k: v
        for k, v in changed.items()
        if k in FIXED or k.startswith(RATES) or (k == DECAY and {*v} & {0, None, NOTHING})
    }
    if fixed:
        raise UserError(f"resume={path} can't go on so: {_told(fixed)}: {CURE}")
    had, limit = epochs_of(content), asked["trainer"].get("max_epochs")
    if limit not in (None, -1) and had > limit:
        raise UserError(f"resume={path} has had {had} epochs: trainer.max_epochs={limit} is less; evaluate.py takes it")
    if changed:
        rank_zero_only(print)(f"going on with other settings than before: {_told(changed)}", flush=True)
    return content


def follow(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Have each ModelCheckpoint find what a checkpoint says of its files where they are now, if they moved with it.

    Lightning's own forgets which was the best, and how good, where its directory has another name.
    """
    for callback in trainer.checkpoint_callbacks:
        state, here = checkpoint["callbacks"].get(callback.state_key, {}), getattr(callback, "dirpath", None)
        there = state.get("dirpath")
        if here and there and here != there and (Path(here) / Path(state["best_model_path"]).name).is_file():
            checkpoint["callbacks"][callback.state_key] = _moved(state, str(there), str(here))


def _moved(value: Any, there: str, here: str) -> Any:
    if isinstance(value, dict):
        return {_moved(k, there, here): _moved(v, there, here) for k, v in value.items()}
    if isinstance(value, str) and (value == there or value.startswith(there + os.sep)):
        return here + value.removeprefix(there)
    return value


def of_the_network(changed: Mapping[str, tuple[Any, Any]], asked: Mapping[str, Any]) -> str:
    """The first of the ``changed`` settings that make a network, in words; empty if none does."""
    return _told({k: v for k, v in changed.items() if k.split(".")[0] in ("model", "data", *asked["model"])})


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys that say something else now of what is learned and how, with what they said and say; each once.

    A key that is null or not there is the same: another version may know others.
    """
    old, new = flat(then), flat(now)
    changed = {
        key: (old.get(key, NOTHING), new.get(key, NOTHING))
        for key in {**new, **old}
        if old.get(key) != new.get(key) and _counts(key) and not same_default(key, old.get(key), new.get(key))
    }
    copies = {key for key in changed if key.startswith("model.") and key.removeprefix("model.") in changed}
    return {key: values for key, values in changed.items() if key not in copies}


def _counts(key: str) -> bool:
    silent = any(key == s or key.startswith(f"{s}.") for s in SILENT)
    return not silent or key == AVERAGE or key.startswith(f"{AVERAGE}.")


def _told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    if not changed:
        return ""
    key, (then, now) = next(iter(changed.items()))
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return f"{key} was {then}, now {now}{more}"
