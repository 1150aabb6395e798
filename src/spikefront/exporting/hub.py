"""Hubs: Hugging Face's, through ``huggingface_hub``, and W&B's artifacts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from spikefront.errors import UserError
from spikefront.nn.addresses import CONFIG, WEIGHTS, local
from spikefront.tracking.wandb.artifacts import artifact_folder, log_folder
from spikefront.tracking.wandb.client import PREFIX as WANDB

HF = "hf:"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
CARD = "README.md"  # of a bundle, beside weights and configuration
FILES = (WEIGHTS, CONFIG, CARD)
CARRIED = ("bundle", "int8", "int4")  # what from_pretrained reads


def check_address(address: str, format: str) -> None:
    """Raise UserError where nothing can be pushed, before anything is made."""
    if format not in CARRIED:
        raise UserError(f"push={address}: a hub takes what from_pretrained reads, format={' or '.join(CARRIED)}")
    if address.startswith(HF):
        if not REPOSITORY.fullmatch(address.removeprefix(HF)):
            raise UserError(f"push={address}: write hf:<owner>/<name>")
    elif not re.fullmatch(r"wandb:[^/]+/[^/]+/[^/:]+", address):
        raise UserError(f"push={address}: write hf:<owner>/<name> or wandb:<entity>/<project>/<artifact>")


def push(address: str, folder: Path) -> str:
    """Send a bundle to a hub; a line that says where it is now.

    Raises:
        UserError: the hub can't be reached, or refuses it; the folder stays.
    """
    try:
        if address.startswith(WANDB):
            return log_folder(address, folder, FILES)
        import huggingface_hub

        api = huggingface_hub.HfApi()
        repository = api.create_repo(address.removeprefix(HF), exist_ok=True).repo_id
        what: dict[str, Any] = {"repo_id": repository, "folder_path": str(folder), "allow_patterns": list(FILES)}
        told = api.upload_folder(**what, commit_message="Export of spikefront")
        return f"pushed to {told.commit_url or repository}; spikefront.from_pretrained('{HF}{repository}') reads it"
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"push={address} fails: {_reason(error)}; the bundle is in {folder}") from error


def fetched(address: str) -> Path:
    """The local folder with a bundle's files.

    Raises:
        UserError: there is none, or it can't be had.
    """
    if address.startswith(WANDB):
        return artifact_folder(address, FILES)
    if not (folder := local(Path(address).expanduser() if address.startswith("~") else address)).is_dir():
        raise UserError(f"{address} is no folder: give that of a bundle, hf:<owner>/<name> or wandb:<artifact>")
    return folder


def _reason(error: BaseException) -> str:
    """An exception of a client in a line, and not all of its pages."""
    return " ".join(str(error).split())[:300] or type(error).__name__
