"""How Hydra finds the other search paths (sweeps/, slurm/) and models by name (sdt_<depth>_<dim>)."""

from __future__ import annotations

import re

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from spikefront.config import CONF, ROOT

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
