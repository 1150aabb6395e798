"""How a search comes by its trials' weights: each trial trains its own, or one elastic training has them all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from spikefront.errors import UserError

TRIALS, ELASTIC = "trials", "elastic"
# the least of what the elastic one counts
LEAST = {"epochs": 1, "pool": 1, "random": 0, "warmup_epochs": 0, "norm_batches": 1, "finetune": 0}
SLICES = ("accuracy", "energy", "firing_rate", "parameters", "latency")  # what is measured of an inherited network


def of(search: Mapping[str, Any]) -> str:
    """How a search comes by its trials' weights: ``trials`` or ``elastic``."""
    return str((search.get("engine") or {}).get("name", TRIALS))


def check_elastic(search: Mapping[str, Any], objectives: Mapping[str, str]) -> None:
    """Raise UserError for settings of the elastic engine that are none, and for what it can't be asked for."""
    engine = search["engine"]
    for key, least in LEAST.items():
        if type(value := engine[key]) is not int and not (key == "epochs" and value is None):
            raise UserError(f"search.engine.{key} is {value}: it must be a whole number of at least {least}")
        if value is not None and value < least:
            raise UserError(f"search.engine.{key} is {value}: it must be at least {least}")
    if not isinstance(share := engine["distillation"], int | float) or not 0 <= share <= 1:
        raise UserError(f"search.engine.distillation is {share}: give a share, 0 to 1")
    if not isinstance(weight := engine["rate_weight"], int | float) or not 0 <= weight < math.inf:
        raise UserError(f"search.engine.rate_weight is {weight}: give a number of at least 0")
    if search["seeds"] != 1:
        raise UserError(
            f"search.seeds={search['seeds']}: search/engine=elastic trains once for all; action=take of study.py trains"
            " a point of its front with several seeds"
        )
    if strange := [name for name in objectives if name not in SLICES and not name.startswith("val/")]:
        raise UserError(
            f"search.objectives: {strange[0]} is a training's, and search/engine=elastic evaluates networks that have"
            f" none of their own: use {', '.join(SLICES)}"
        )


def check_pruner(search: Mapping[str, Any], chosen: Any) -> None:
    """Raise UserError for a pruner where no trial trains."""
    if of(search) == ELASTIC:
        raise UserError(f"search/pruner={chosen}: search/engine=elastic has nothing to stop early: leave it out")
