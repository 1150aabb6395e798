"""Folders as W&B's artifacts: a bundle is logged as one, and read back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from spikefront.files import cache_folder
from spikefront.tracking.wandb.client import PREFIX, ask, mode_of, safe_id


def log_folder(address: str, folder: Path, names: Sequence[str]) -> str:
    """Log the files ``names`` of a folder as the artifact ``wandb:<entity>/<project>/<artifact>``; a line that says
    where it is now.

    Without an account it is written offline, as runs are.
    """
    entity, project, name = address.removeprefix(PREFIX).split("/")
    artifact = wandb.Artifact(safe_id(name), "model")
    for kept in names:
        artifact.add_file(str(folder / kept), name=kept)
    settings = wandb.Settings(silent=True, console="off")
    mode = mode_of("auto")
    where = os.environ.get("WANDB_DIR") or Path.cwd()  # else where this process first asked W&B for anything
    with wandb.init(entity=entity, project=project, job_type="export", mode=mode, settings=settings, dir=where) as run:
        run.log_artifact(artifact)
        place = Path(run.dir).parent
    return f"logged offline: wandb sync {place} sends it" if mode == "offline" else f"pushed to {address}"


def artifact_folder(address: str, names: Sequence[str]) -> Path:
    """The local folder with the files ``names`` of ``wandb:<entity>/<project>/<artifact>[:<alias>]``, of its latest
    version without an alias.

    Raises:
        UserError: no such artifact, no account, no network.
    """
    name = address.removeprefix(PREFIX)
    name = name if ":" in name else f"{name}:latest"

    def fetch() -> Path:
        artifact: Any = wandb.Api(timeout=60).artifact(name)
        place = cache_folder() / "bundles" / safe_id(artifact.digest)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for kept in names:
            if kept in artifact.manifest.entries:
                artifact.download(str(place), path_prefix=kept)
        return place

    return ask(address, fetch)
