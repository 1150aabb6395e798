"""Where a checkpoint may lie, and what of it lies here: a file or a bundle for every address that a user gives."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from spikefront.errors import UserError
from spikefront.files import cache_folder

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"  # of a bundle, a directory
HUB = re.compile(r"hf:(?P<repo>[^/@]+/[^/@]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
# What this room knows nothing of, found by its name as configuration's targets are
ELSEWHERE = {
    "wandb:": "spikefront.tracking.wandb.project.checkpoint_path",
    "trial:": "spikefront.sweeping.study.sources.checkpoint_of",
}
FORMS = (
    "a .pth, .pth.tar, .ckpt or .safetensors file, a bundle's directory, wandb:<entity>/<project>/<artifact>:<alias>,"
    " hf:<owner>/<name>[/<file>][@<revision>], https://…#sha256=<64 digits> or trial:<study>/<number>"
)


def local(address: str | Path) -> Path:
    """The file, or the directory of a bundle, that an address stands for; what lies elsewhere is fetched once.

    Args:
        address: a path; ``wandb:<entity>/<project>/<artifact>:<alias>``; ``hf:<owner>/<name>[/<file>][@<revision>]`` of
            the Hugging Face Hub, without a file its bundle, from its own cache (``HF_HOME``) where it is or
            ``HF_HUB_OFFLINE`` is set; ``https://…#sha256=…``, kept in the user's cache under that sum and only whole;
            ``trial:<study>/<number>``, the study by name, directory or storage, as ``study.py`` takes it.

    Raises:
        UserError: nothing there, no network, another checksum.
    """
    path = Path(address)
    if isinstance(address, Path) or path.exists():
        return path
    opened = next((opener for prefix, opener in OPENERS.items() if address.startswith(prefix)), None)
    return path if opened is None else _kept(opened, address)


@cache
def _kept(opener: Callable[[str], Path], address: str) -> Path:
    """Once a process: what an alias or a branch stands for stays the same in a run."""
    return opener(address)


def _elsewhere(address: str) -> Path:
    from hydra.utils import get_method

    return Path(get_method(ELSEWHERE[f"{address.partition(':')[0]}:"])(address))


def _hub(address: str) -> Path:
    import huggingface_hub

    if (found := HUB.fullmatch(address)) is None:
        raise UserError(f"{address} is not hf:<owner>/<name>[/<file>][@<revision>]")
    repo, file, revision = found["repo"], found["file"], found["revision"]
    try:
        with redirect_stdout(sys.stderr):
            if file is not None:
                return Path(huggingface_hub.hf_hub_download(repo, file, revision=revision))
            folder = Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # whatever a network, a hub or a cache can do wrong
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{address} can't be had from the Hugging Face Hub: {why[:300]}") from error
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{address} has no {WEIGHTS}: name its file, hf:{repo}/<file>")
    return folder


def _web(address: str) -> Path:
    from filelock import FileLock
    from torch.hub import download_url_to_file

    url, _, fragment = address.partition("#")
    asked = fragment.removeprefix("sha256=").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", asked) or not fragment.startswith("sha256="):
        raise UserError(f"{address}: say what it must be, {url}#sha256=<64 digits>, as its authors or sha256sum say")
    place = cache_folder() / "checkpoints" / asked
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / (PurePosixPath(urlsplit(url).path).name or "checkpoint")
    with FileLock(place / ".lock"):
        if path.is_file() and _sum(path) == asked:
            return path
        try:
            download_url_to_file(url, str(path), asked, progress=sys.stderr.isatty())
        except RuntimeError as error:  # another sum
            raise UserError(f"{url} is not what was asked for: {error}") from error
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise UserError(f"{url} can't be downloaded ({reason}); by hand: put it to {path}") from error
    return path


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


OPENERS: dict[str, Callable[[str], Path]] = {
    **dict.fromkeys(ELSEWHERE, _elsewhere),
    "hf:": _hub,
    "https://": _web,
    "http://": _web,
}
