"""What a user thinks is good, given to any sampler: a share of the first trials is drawn near it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from spikefront.errors import UserError
from spikefront.sweeping.search import finite
from spikefront.sweeping.search.samplers import Around, Exhaustive, innermost
from spikefront.sweeping.search.space import Space

HALVED = 10  # trials after which half as many are drawn near the priors
SURE: Mapping[
    str, tuple[float, float, float]
] = {  # share of the first trials; width, of a range; of a choice the chance
    "low": (0.3, 0.3, 0.4),
    "medium": (0.5, 0.2, 0.6),
    "high": (0.7, 0.1, 0.8),
}
KEPT_OUT = (CmaEsSampler, Exhaustive)  # what they tell must be what they proposed


@dataclass(frozen=True)
class Prior:
    """The value of a parameter that is thought to be good, and how sure of it one is."""

    value: Any
    confidence: str = "medium"

    def draw(self, d: BaseDistribution, draw: random.Random) -> Any:
        """A value of the parameter near it."""
        _, width, chance = SURE[self.confidence]
        if isinstance(d, CategoricalDistribution):
            return self.value if draw.random() < chance else draw.choice(d.choices)
        return finite.near(d, self.value, width, draw)


def parse(entries: Any, space: Space) -> dict[str, Prior]:
    """From ``{key: value}`` or ``{key: {value: …, confidence: low|medium|high}}``.

    Raises:
        UserError: a key that isn't searched, a value that it can't have, or another confidence.
    """
    if not isinstance(entries, Mapping):
        raise UserError(
            f"search.priors is {entries}: write {{<searched key>: <value>}}, such as {{neuron.threshold: 1.0}}"
        )
    found = {}
    for key, entry in entries.items():
        given = dict(entry) if isinstance(entry, Mapping) else {"value": entry}
        if set(given) - {"value", "confidence"} or "value" not in given:
            raise UserError(
                f"search.priors.{key}: write {{value: …, confidence: medium}}, not {sorted(map(str, given))}"
            )
        prior = Prior(**given)
        if key not in space.parameters:
            raise UserError(f"search.priors.{key}: it isn't searched: of {', '.join(space.parameters)}")
        if not space.holds(key, prior.value):
            raise UserError(f"search.priors.{key} is {prior.value}: not one of {space.parameters[key].text}")
        if prior.confidence not in SURE:
            raise UserError(f"search.priors.{key}: confidence is {prior.confidence}: use {', '.join(SURE)}")
        found[key] = prior
    return found


class Guided(Around):
    """Any sampler, some of whose first proposals are moved to near the priors.

    Trial n is drawn near them with the probability of their confidence, which halves every ``HALVED`` trials; what has
    no prior is the sampler's own even then. It sees what came of it as of any trial, so a prior that is wrong
    costs these trials and no more, and one that is right has it look there (as the prior's share of the new
    configurations in PriorBand, Mallik et al., NeurIPS 2023).
    """

    def __init__(self, sampler: BaseSampler, priors: Mapping[str, Prior]) -> None:
        super().__init__(sampler)
        self.priors = priors
        self._guided, self._draw = False, random.Random()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._draw = random.Random(f"prior {trial.number}")
        share = max(SURE[p.confidence][0] for p in self.priors.values()) * 0.5 ** (trial.number / HALVED)
        self._guided = self._draw.random() < share
        super().before_trial(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        proposed = super().sample_relative(study, trial, search_space)
        return {key: self._moved(key, search_space[key], value) for key, value in proposed.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = super().sample_independent(study, trial, param_name, param_distribution)
        return self._moved(param_name, param_distribution, value)

    def _moved(self, key: str, d: BaseDistribution, value: Any) -> Any:
        return self.priors[key].draw(d, self._draw) if self._guided and key in self.priors else value


def guided(sampler: BaseSampler, priors: Mapping[str, Prior]) -> BaseSampler:
    """The sampler with these priors, where there are some and it can take them."""
    return Guided(sampler, priors) if priors and not isinstance(innermost(sampler), KEPT_OUT) else sampler


def note(sampler: BaseSampler, name: str, priors: Mapping[str, Any]) -> str | None:
    """A line about priors that a sampler doesn't look at."""
    if not priors or not isinstance(sampler, KEPT_OUT):
        return None
    return f"search/sampler={name} looks at no priors: search.priors is left out"
