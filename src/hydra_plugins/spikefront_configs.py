"""How Hydra finds the other search paths (sweeps/, slurm/), models by name (sdt_<depth>_<dim>), an own directory,
and what a user's own folder of samples tells."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.experimental.callback import Callback
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, flag_override

from spikefront.cluster.stores import local
from spikefront.config import CONF, ROOT, override

ANY_MODEL = re.compile(r"model/sdt_(\d+)_(\d+)(\.yaml)?")


class SpikefrontSearchPath(SearchPathPlugin):
    """Adds sweeps/, slurm/ and the models that have no file; leaves other Hydra applications alone."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        ours = [s for s in search_path.get_path() if s.provider == "main" and s.path and s.path.endswith(str(CONF))]
        if ours:
            search_path.append("sweeps", f"file://{ROOT / 'sweeps'}")
            search_path.append("slurm", f"file://{ROOT / 'slurm'}")
            search_path.append("models", "sdt://")


class AnyModel(ConfigSource):
    """Serves ``model=sdt_<depth>_<dim>`` for every depth and width that ``conf/model`` has no file for."""

    @staticmethod
    def scheme() -> str:
        return "sdt"

    def load_config(self, config_path: str) -> ConfigResult:
        match = ANY_MODEL.fullmatch(config_path)
        assert match
        depth, dim = int(match[1]), int(match[2])
        config = OmegaConf.create({"defaults": ["sdt", "_self_"], "depth": depth, "dim": dim})
        return ConfigResult(config=config, path="sdt://", provider=self.provider, header={"package": None})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.rstrip("/") == "model"

    def is_config(self, config_path: str) -> bool:
        return ANY_MODEL.fullmatch(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []


class OwnDirectory(Callback):
    """Makes the directory of a command that is named by the time; of two that begin in one second one is ``…-2``."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _claim(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if _claim(config.hydra.sweep):  # each job is composed anew
            config.hydra.overrides.hydra.append(override("hydra.sweep.dir", config.hydra.sweep.dir))


def _claim(node: DictConfig) -> bool:
    by_time = "${now:" in str(OmegaConf.to_container(node, resolve=False)["dir"])  # type: ignore[index,call-overload]
    if not by_time or any(int(os.environ.get(rank) or 0) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        return False  # a user's own place, or another process of a run, whose first one makes it
    for path in itertools.chain([node.dir], (f"{node.dir}-{i}" for i in itertools.count(2))):
        with contextlib.suppress(FileExistsError), flag_override(node, ["readonly", "struct"], False):
            Path(path).mkdir(parents=True)
            node.dir = path
            return True
    raise AssertionError


def _of_folder(what: str, kind: str, *, _parent_: DictConfig) -> Any:
    from spikefront.data.own.folder import told  # only then: it loads PyTorch

    return told(what, _parent_, kind)


OmegaConf.register_new_resolver("local", lambda place: str(local(place)), replace=True)  # of a sweep at an address
OmegaConf.register_new_resolver("folder", _of_folder, replace=True)  # what conf/data takes from a user's own folder
