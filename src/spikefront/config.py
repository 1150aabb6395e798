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
            return hydra_compose(root, overrides=list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = running


def is_group(override: str) -> bool:
    """Whether an override chooses a config group's option rather than setting a value."""
    group = override.partition("=")[0].lstrip("+~").partition("@")[0]
    return (CONF / group).is_dir()


def merge(first: Iterable[str], then: Iterable[str]) -> list[str]:
    """Both lists of overrides; of two for one key the later stays."""
    return list({o.partition("=")[0].lstrip("+"): o for o in (*first, *then)}.values())
