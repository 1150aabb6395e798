"""What a trial shall try: the sampler's proposal, each point of a space once, whoever asks at the same moment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.schema import Directions
from spikefront.config import Composer
from spikefront.errors import UserError, one_line
from spikefront.planning import untrained
from spikefront.sweeping.search import priors, pruning
from spikefront.sweeping.search.anytime import Shown
from spikefront.sweeping.search.automatic import chosen
from spikefront.sweeping.search.constraints import Measured, predicted
from spikefront.sweeping.search.excerpt import Excerpt
from spikefront.sweeping.search.frontier import FrontSampler
from spikefront.sweeping.search.optuna_internals import take_for_good
from spikefront.sweeping.search.samplers import Distinct, innermost, seeded
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, brought
from spikefront.sweeping.study.attributes import ADMITTED, INFEASIBLE, REPEATS, STAGE, is_retry
from spikefront.sweeping.study.storage import BROKEN
from spikefront.sweeping.study.storage_internals import look, together
from spikefront.training.inheritance import beginning

PATIENCE = 60.0  # seconds that another worker has for looking


class Repeated(Exception):
    """Another trial has the proposed point."""


class NoProposal(UserError):
    """The sampler fails: no trial's fault, and the next one would have it too."""


def sampler(search: DictConfig, objectives: Directions, space: Space, compose: Composer | None = None) -> BaseSampler:
    """The study's sampler as a worker uses it, which may look at networks that ``compose`` has the configuration of."""
    found = seeded(chosen(instantiate(search.sampler), objectives), search.sampler.get("seed"))
    bounds, before = Measured(search.constraints), predicted(search.constraints)
    read = partial(brought.candidate, bounds=bounds)
    if isinstance(found, FrontSampler):
        seen = pruning.remembered(partial(brought.seen, bounds=bounds))
        look = partial(_look, compose, space) if compose else None
        found.learns(space, lambda trial: seen(trial, objectives), search.anytime, look)
    told = partial(brought.told, predicted=before, bounds=bounds) if bounds or before else None
    excerpt = None
    if isinstance(found, TPESampler) and (most := search.get("excerpt")) is not None:
        excerpt = Excerpt(objectives, most)
        if len(objectives) > 1:
            take_for_good(found, excerpt.good)
    shown = Shown(found, objectives, read, accounts.bad, search.anytime, told, excerpt)
    guided = priors.guided(shown, priors.parse(search.get("priors") or {}, space))
    return Distinct(guided, space, accounts.Taken(space))


def _look(compose: Composer, space: Space, params: Mapping[str, Any]) -> tuple[float, float] | None:
    """An untrained network's firing rate and joules; nothing of one that can't be made, which its trial shall tell, or
    doesn't begin untrained."""
    try:
        cfg = compose(space.overrides(params))
        report = None if beginning(cfg)[0] else untrained(cfg)
    except Exception:  # of a component of anybody's
        return None
    return (report.firing_rate, report.total_joules) if report else None


def propose(trial: Trial, study: Study, space: Space) -> dict[str, Any]:
    """The values that a trial shall try.

    Raises:
        Repeated: another trial tries them.
        NoProposal: the sampler fails.
        UpdateFinishedTrialError: another worker has the trial by now.
    """
    try:
        with together(study):
            values = space.suggest(trial)
        admit(trial, study, space)
        return values
    except (Repeated, UserError, UpdateFinishedTrialError, *BROKEN):
        raise
    except Exception as error:
        name = type(innermost(study.sampler)).__name__
        raise NoProposal(f"search.sampler: {name} can't propose a point: {one_line(error)}") from error


def admit(trial: Trial, study: Study, space: Space) -> None:
    """Make sure that no other trial has a trial's point; of spaces with an end, as others hardly repeat one.

    A sampler avoids the points that it sees (``Distinct``), but two workers that ask at one moment can't see each
    other's. Each writes its point before it looks, so of two at least one sees the other; the lower number has it,
    unless the higher has looked already and seen nothing.

    Raises:
        Repeated: another has it.
    """
    if ADMITTED.get(trial) or STAGE.get(trial) or space.size() == math.inf:
        return
    point, deadline = space.point(trial.params), time.monotonic() + PATIENCE
    retried = is_retry(trial)

    def undecided_as_seen(other: FrozenTrial) -> bool:
        if ADMITTED.get(other):
            return False
        return other.state == TrialState.RUNNING or point in accounts.points(space, [other])

    while True:
        others = [
            t
            for t in look(study, undecided_as_seen)
            if t.number != trial.number
            and not INFEASIBLE.on(t)
            and not (retried and t.state == TrialState.FAIL)
            and not (t.state == TrialState.WAITING and not t.params)  # it will see this one when its turn comes
            and point in accounts.points(space, [t])
        ]
        undecided = [t for t in others if t.state == TrialState.RUNNING and not ADMITTED.get(t)]
        if settled := [t for t in others if t not in undecided or t.number < trial.number]:
            raise Repeated(f"{REPEATS}{settled[0].number}")
        if not undecided:
            ADMITTED.set(trial, True)
            return
        if time.monotonic() > deadline:
            raise Repeated(f"{REPEATS}{undecided[0].number}")
        time.sleep(0.1)
