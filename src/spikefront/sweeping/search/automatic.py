"""Which sampler a search has where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optuna.samplers import BaseSampler

from spikefront.sweeping.search.pruning import judged


@dataclass
class Auto:
    """``search/sampler=auto``: the front sampler for the objectives that it knows, else another."""

    front: BaseSampler
    otherwise: BaseSampler
    seed: int | None = None


def chosen(sampler: BaseSampler | Auto, objectives: Mapping[str, str]) -> BaseSampler:
    """The sampler that is meant, of these objectives."""
    if not isinstance(sampler, Auto):
        return sampler
    return sampler.front if judged(objectives) else sampler.otherwise
