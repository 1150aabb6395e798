"""Proposals that break a constraint: told to the sampler, and got past where it keeps making them."""

from __future__ import annotations

import math
from collections.abc import Callable

import optuna
from omegaconf import DictConfig
from optuna import Trial
from optuna.study import Study

from spikefront.config import Composer
from spikefront.errors import UserError
from spikefront.sweeping.search.constraints import Constraints
from spikefront.sweeping.search.optuna_internals import id_of
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import INFEASIBLE

PATIENCE = 10  # infeasible proposals in a row before a worker draws a feasible point at random
DRAWS = 500


class Infeasible(Exception):
    """The proposal breaks a constraint."""


class Feasibility:
    """What one worker knows of a study's constraints.

    Args:
        is_mine: whether a trial, by its id in the storage, is still this worker's.
        say: writes a line into the worker's log.
        exhaustive: the sampler visits every point once, so none is drawn in its place.
    """

    def __init__(
        self,
        constraints: Constraints,
        study: Study,
        space: Space,
        compose: Composer,
        is_mine: Callable[[int], bool],
        say: Callable[[str], None],
        exhaustive: bool,
    ) -> None:
        self._constraints, self._study, self._space, self._compose = constraints, study, space, compose
        self._is_mine, self._say, self._exhaustive = is_mine, say, exhaustive
        self._rejected = 0

    def accepted(self) -> None:
        """A proposal met them all."""
        self._rejected = 0

    def check(self, trial: Trial, cfg: DictConfig) -> None:
        """Tell the sampler how far each constraint is from its bound.

        Raises:
            Infeasible: one does not hold.
        """
        if not self._constraints:
            return
        verdicts = self._constraints.check(cfg)
        told = trial.constraints
        for verdict in verdicts:
            if verdict.text not in told:  # else the trial was put back after this
                trial.set_constraint(verdict.text, verdict.excess)
        if broken := [v for v in verdicts if v.excess > 0]:
            reason = "; ".join(map(str, broken))
            if self._is_mine(id_of(trial)):
                INFEASIBLE.set(trial, reason)
            raise Infeasible(reason)

    def after_rejection(self) -> None:
        """A sampler that keeps proposing what can't be gets a feasible point from us, drawn at random.

        Raises:
            UserError: none of many random points is feasible.
        """
        self._rejected += 1
        if self._rejected < PATIENCE or self._exhaustive:
            return
        self._rejected = 0
        closest: tuple[float, str] = (math.inf, "")
        draws = optuna.create_study(sampler=optuna.samplers.RandomSampler())
        seen: set[str] = set()
        self._say(f"{PATIENCE} proposals in a row broke search.constraints: looking for a point that meets them")
        for _ in range(DRAWS):
            draw = draws.ask()
            overrides = self._space.overrides(self._space.suggest(draw))
            if str(overrides) in seen:
                continue
            seen.add(str(overrides))
            verdicts = self._constraints.check(self._compose(overrides))
            if all(v.excess <= 0 for v in verdicts):
                origin = "drawn at random: the sampler's proposals broke the constraints"
                attributes.enqueue(self._study, draw.params, origin)
                return
            closest = min(closest, (sum(max(0.0, v.excess) for v in verdicts), "; ".join(map(str, verdicts))))
        raise UserError(
            f"search.constraints: none of {len(seen)} random points of the space meets them; the closest: {closest[1]};"
            " loosen a bound or widen the space"
        )
