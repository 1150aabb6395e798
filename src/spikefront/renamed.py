"""What earlier versions called otherwise: studies and checkpoints hold configurations that name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {
    "spikefront.sweeping.samplers.Exhaustive": "spikefront.sweeping.search.samplers.Exhaustive",
    "spikefront.sweeping.pruning.FrontPruner": "spikefront.sweeping.search.pruning.FrontPruner",
    "spikefront.tracking.wandb.wandb_logger": "spikefront.tracking.wandb.logger.wandb_logger",
}

KEYS = {"weights": "init"}  # of the command line, until the next minor release
SHORT = {"init": "init.checkpoint"}  # what a user may write for a node's one important key

DEFAULTS: dict[str, tuple[Any, Any]] = {
    "trainer.effective_batch": (None, "auto"),  # of one process the same; several shared data.batch_size by hand
    # what there was no switch for
    "schedule.cooldown_epochs": (None, 0),
    "schedule.interval": (None, "step"),
    "schedule.warmup_prefix": (None, False),
    "schedule.layer_decay": (None, 1),
    "init.slice": (None, False),
    "finetune.freeze": (None, []),
    "finetune.head_epochs": (None, 0),
    "data.drop_last": (None, True),
    "data.half_inputs": (None, False),
    "data.smooth_after_mixup": (None, True),
    "data.cut_polarities": (None, False),
    "data.fit": (None, "squash"),
    "data.binning.rest": (None, False),
    "data.binning.total": (None, False),
    "data.binning.antialias": (None, False),
    "data.augmentation.wide": (None, False),
    "data.augmentation.thirds": (None, False),
    "data.augmentation.re_mode": (None, "const"),
}


def same_default(key: str, then: Any, now: Any) -> bool:
    """Whether a configuration's key had this value by default where it has that one now, and means the same."""
    return (then, now) == DEFAULTS.get(key)


def argument(text: str) -> str:
    """An override under the keys of today: ``weights=x`` and ``init=x`` are ``init.checkpoint=x``.

    Hydra can't have both ``init=x`` and ``init.slice=true``: the first puts a text where the second needs a node.
    """
    key, equals, value = text.partition("=")
    key = KEYS.get(key, key)
    if not equals or value.startswith("{"):
        return f"{key}{equals}{value}"
    return f"{SHORT.get(key, key)}={value}"


def current(node: Any) -> Any:
    """A stored configuration, plain mappings and lists, with each ``_target_`` as it is called now."""
    if isinstance(node, Mapping):
        return {k: NAMES.get(v, v) if k == "_target_" and isinstance(v, str) else current(v) for k, v in node.items()}
    return [current(v) for v in node] if isinstance(node, list) else node
