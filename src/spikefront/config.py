"""Where the configuration lives and how to compose it outside an entry script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"


def compose(overrides: Sequence[str] = (), root: str = "train", with_hydra: bool = False) -> DictConfig:
    """Compose ``conf/<root>.yaml`` with Hydra ``overrides``; safe inside a running Hydra application too.

    Raises Hydra's own exceptions for names and values that don't exist; ``commands.cli.explain`` puts them in a line.
    """
    globally = GlobalHydra.instance()
    running, globally.hydra = globally.hydra, None
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            chosen, _ = traceback_flag(overrides)  # studies of earlier versions keep it among their overrides
            return hydra_compose(root, overrides=chosen, return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = running


def traceback_flag(arguments: Iterable[str]) -> tuple[list[str], bool | None]:
    """Arguments without ``debug=true`` and ``debug=false``, and what the last of these says; None if there is none."""
    flags = {"debug=true": True, "debug=false": False}
    said = [flags.get(a.replace(" ", "").lower()) for a in arguments]
    rest = [a for a, flag in zip(arguments, said, strict=True) if flag is None]
    return rest, next((flag for flag in reversed(said) if flag is not None), None)


def is_group(override: str) -> bool:
    """Whether an override chooses a config group's option rather than setting a value."""
    group = override.partition("=")[0].lstrip("+~").partition("@")[0]
    return (CONF / group).is_dir()


def merge(first: Iterable[str], then: Iterable[str]) -> list[str]:
    """Both lists of overrides; of two for one key the later stays."""
    return list({o.partition("=")[0].lstrip("+"): o for o in (*first, *then)}.values())
