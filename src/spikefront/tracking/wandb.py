"""The Weights & Biases client as this project uses it: never in the way of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import wandb
from pytorch_lightning.loggers import WandbLogger
from requests.utils import get_netrc_auth

from spikefront.errors import UserError


def has_account() -> bool:
    """Whether a W&B key is configured here (environment or netrc); asks neither the network nor the person."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    return get_netrc_auth(os.environ.get("WANDB_BASE_URL", wandb.Settings().base_url)) is not None


def wandb_logger(
    save_dir: str,
    project: str = "spikefront",
    entity: str | None = None,
    group: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    mode: str = "auto",
    id: str | None = None,
    job_type: str = "train",
) -> WandbLogger:
    """A Lightning logger; ``mode="auto"`` is online with an account and offline without, ``WANDB_MODE`` goes first.

    Raises:
        UserError: another mode.
    """
    if mode not in ("auto", "online", "offline"):
        raise UserError(f"logger.mode is {mode!r}: use auto, online or offline")
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if has_account() else "offline")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=name,
        save_dir=save_dir,
        id=id,
        project=project,
        entity=entity,
        group=group,
        tags=list(tags),
        job_type=job_type,
        offline=mode != "online",
        settings=wandb.Settings(silent=True, console="off"),
    )
