"""What is wrong with a search, said before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.samplers import CmaEsSampler, TPESampler

from spikefront.cluster import stores
from spikefront.errors import UserError
from spikefront.sweeping.search import engines, priors, pruning, samplers
from spikefront.sweeping.search.automatic import chosen
from spikefront.sweeping.search.constraints import Constraints, Measured
from spikefront.sweeping.search.excerpt import Excerpt
from spikefront.sweeping.search.frontier import FrontSampler
from spikefront.sweeping.search.space import Space

WHOLE: dict[str, tuple[int | None, ...]] = {  # the least, and others
    "seeds": (1,),
    "workers": (1, None),
    "max_failures": (0,),
    "max_lives": (1, None),
    "finetune_epochs": (1, None),
}
Predict = Callable[..., Any]  # (configuration, time=…) to its predicted cost


def check_validated(cfg: DictConfig) -> None:
    """Raise UserError where no validation part is set aside."""
    if not cfg.data.get("val_fraction"):
        raise UserError(
            "data.val_fraction is 0: a sweep selects on a validation part, never on the test part;"
            " set data.val_fraction=0.1"
        )


def check_place(cfg: DictConfig, search: Mapping[str, Any]) -> None:
    """Raise UserError where trials can't be kept: at an address that is none, or from several nodes at once."""
    if "://" not in str(search["dir"]):
        return
    stores.check(str(search["dir"]))
    if int(cfg.trainer.get("num_nodes") or 1) > 1:
        raise UserError(
            f"search.dir={search['dir']} is read and written by a trial's first node alone: use trainer.num_nodes=1,"
            " or a directory that all nodes see"
        )


def check(
    cfg: DictConfig, search: Mapping[str, Any], objectives: dict[str, str], predict: Predict, space: Space
) -> list[str]:
    """Say what is wrong with constraints, seeds, sampler and pruner before anything is made of them.

    Returns:
        What is right but may not be what was meant.
    """
    for key, (least, *others) in WHOLE.items():
        if (value := search[key]) not in others and (type(value) is not int or value < least):  # type: ignore[operator]
            raise UserError(f"search.{key} is {value}: it must be a whole number of at least {least}")
    if type(beat := search["heartbeat"]) not in (int, float) or not 0 < beat < math.inf:
        raise UserError(f"search.heartbeat is {beat}: give seconds, a number above 0")
    Constraints(search["constraints"], predict).check(cfg)  # of the default configuration, whatever the verdict
    Measured(search["constraints"])
    sampler = chosen(_built(cfg, "sampler"), objectives)
    if isinstance(sampler, CmaEsSampler) and len(objectives) > 1:
        raise UserError(
            f"search/sampler=cmaes searches one objective, not {', '.join(objectives)}: choose tpe, gp or nsga2, or"
            " search.objectives=[accuracy]"
        )
    if isinstance(sampler, FrontSampler) and not pruning.judged(objectives):
        raise UserError(
            f"search/sampler=front needs the objectives accuracy and energy, not {', '.join(objectives)}: choose tpe,"
            " gp or nsga2"
        )
    if (most := search["excerpt"]) is not None:
        Excerpt(objectives, most)
    if (pruner := _built(cfg, "pruner")) is not None:
        engines.check_pruner(search, choice(cfg, "search/pruner"))
        pruning.check(pruner, search["prune_on"], objectives)
    said = [
        priors.note(sampler, choice(cfg, "search/sampler"), search["priors"]),
        samplers.note(sampler, choice(cfg, "search/sampler"), space),
        pruning.note(pruner, choice(cfg, "search/pruner"), search["prune_on"], objectives),
    ]
    if most is not None and not isinstance(sampler, TPESampler):
        said.append(f"search.excerpt={most} is for search/sampler=tpe alone: it is left out")
    return list(filter(None, said))


def _built(cfg: DictConfig, part: str) -> Any:
    """The sampler or the pruner, as every worker builds it; None if there is none.

    Raises:
        UserError: it has no such settings.
    """
    try:
        return instantiate(cfg.search[part]) if cfg.search[part] else None
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"search.{part}: {str(cause).splitlines()[0]}") from error


def choice(cfg: DictConfig, group: str) -> Any:
    """The option of a config group that a configuration was composed with."""
    return cfg.hydra.runtime.choices.get(group)
