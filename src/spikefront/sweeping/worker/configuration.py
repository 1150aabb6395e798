"""From a trial's parameters to the configuration of its run."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf, open_dict

from spikefront.config import compose, is_group, merge
from spikefront.sweeping.search.grammar import parse


class Composer:
    """Composes the run of each trial: what all trials share is composed once for each choice of config groups.

    Args:
        overrides: Hydra overrides that every trial has.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self._shared = list(overrides)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Iterable[str]) -> DictConfig:
        """The run's configuration, unresolved: ``conf/train.yaml`` with the shared and these overrides."""
        overrides = list(overrides)
        groups = tuple(o for o in overrides if is_group(o))
        if groups not in self._composed:
            cfg = compose(merge(self._shared, groups), root="sweep")
            with open_dict(cfg):
                cfg.pop("search", None)
            self._composed[groups] = cfg
        cfg = copy.deepcopy(self._composed[groups])
        for override in overrides:
            if override not in groups:
                parsed = parse(override)
                added = parsed.is_add() or parsed.is_force_add()
                OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), force_add=added)
        return cfg
