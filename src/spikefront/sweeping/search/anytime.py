"""The sampler's view of a study: a finished trial by the best of its anytime points, a failed one as the worst."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis import pareto
from spikefront.analysis.front import minimised, numbers_on_front, points
from spikefront.analysis.schema import Candidate, Directions
from spikefront.sweeping.search.excerpt import Excerpt
from spikefront.sweeping.search.optuna_internals import StudyView
from spikefront.sweeping.search.samplers import Around

Read = Callable[[FrozenTrial, Directions], Candidate]
"""What a finished trial brings to the front, from where the study keeps it."""


class Front:
    """The finished trials whose points are a growing study's front; each is looked at once.

    Attributes:
        trials: these, as of the last ``look``.
        candidates: what each brings.
    """

    def __init__(self, objectives: Directions, read: Read) -> None:
        self.trials: list[FrozenTrial] = []
        self.candidates: list[Candidate] = []
        self._objectives, self._read = objectives, read
        self._seen: set[int] = set()

    def look(self, study: Study) -> bool:
        """Take in what has finished since the last time; whether something has."""
        new = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.number not in self._seen]
        self._seen.update(t.number for t in new)
        if new:
            known = [*self.trials, *new]
            brought = [*self.candidates, *(self._read(t, self._objectives) for t in new)]
            best = self._best(brought)
            self.trials = [t for t in known if t.number in best]
            self.candidates = [c for c in brought if c["number"] in best]
        return bool(new)

    def takes(self, candidate: Candidate) -> bool:
        """Whether none of the trials dominates all points of another, whose number is none of theirs."""
        return candidate["number"] in self._best([*self.candidates, candidate])

    def _best(self, candidates: list[Candidate]) -> set[int]:
        return numbers_on_front(candidates, self._objectives)


class Shown(Around):
    """Any sampler, shown the study as one is to learn from it: the front as it is, and failures for what they are.

    A trial that reaches the front with its first timesteps is one to learn from: a finished one is shown with the
    values of that of its points (after t = 1 … T timesteps) which adds most to the front's hypervolume, or with its own
    if none is on the front. One that failed or diverged is shown as the worst in every objective, where a sampler that
    sees nothing of it would propose the like again.

    Args:
        anytime: show trials by their early points too.
        told: a complete trial, with these values, and how far it is beyond each of the study's constraints as they are
            now, as samplers want all of them; None where it has none.
        bad: the trials of a study that came to nothing, by their configurations' fault as far as one knows.
        excerpt: chooses which trials of a study with many the sampler is shown; None lets it see all.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        objectives: Directions,
        read: Read,
        bad: Callable[[Study], list[FrozenTrial]],
        anytime: bool = True,
        told: Callable[[FrozenTrial, Directions], FrozenTrial] | None = None,
        excerpt: Excerpt | None = None,
    ) -> None:
        super().__init__(sampler)
        self._excerpt = excerpt
        self._chosen: list[FrozenTrial] | None = None
        self._told, self._bound = told, dict[int, FrozenTrial]()
        self.objectives, self.anytime, self.bad = objectives, anytime, bad
        self._shown: dict[int, FrozenTrial] = {}
        self._worst: dict[int, FrozenTrial] = {}
        self._front = Front(objectives, read)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._look(study)
        super().before_trial(study, trial)

    def _view(self, study: Study) -> Any:
        shown = {**self._bound, **self._shown, **self._worst}
        return StudyView(study, shown, self._chosen) if shown or self._chosen is not None else study

    def _look(self, study: Study) -> None:
        """Choose each trial's point anew when another trial has finished."""
        if self.anytime and self._front.look(study):
            front = self._front.trials
            shown = zip(front, best(front, self._front.candidates, self.objectives), strict=True)
            self._shown = {t.number: self._with_constraints(instead) for t, instead in shown if instead}
        bad = [t for t in self.bad(study) if t.params]
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if self._told or bad else []
        if self._told:
            self._bound |= {t.number: self._with_constraints(t) for t in complete if t.number not in self._bound}
        self._worst = {}
        if bad and complete:
            worst = _worst(complete, self.objectives)
            self._worst = {t.number: self._with_constraints(_with(t, worst)) for t in bad}
        if self._excerpt is not None:
            self._chosen = self._excerpt.choose(study.get_trials(deepcopy=False), self._bound, self._shown)

    def _with_constraints(self, trial: FrozenTrial) -> FrozenTrial:
        return self._told(trial, self.objectives) if self._told else trial


def _worst(trials: list[FrozenTrial], objectives: Directions) -> list[float]:
    columns = zip(*(t.values for t in trials), strict=True)
    return [min(c) if d == "maximize" else max(c) for c, d in zip(columns, objectives.values(), strict=True)]


def _with(trial: FrozenTrial, values: list[float]) -> FrozenTrial:
    """A copy of a trial, complete with these values."""
    copied = copy.copy(trial)
    copied.state = TrialState.COMPLETE
    copied.values = values
    return copied


def best(front: list[FrozenTrial], candidates: list[Candidate], objectives: Directions) -> list[FrozenTrial | None]:
    """For each trial of a front a copy with the values of its best early point; ``None`` where its own are the best."""
    every = [points(c, objectives) for c in candidates]
    if not any(len(own) > 1 for own in every):
        return [None] * len(front)
    owner = np.repeat(np.arange(len(every)), [len(own) for own in every])
    values = np.array([minimised(p["values"], objectives) for own in every for p in own])
    feasible = np.flatnonzero([p["feasible"] for own in every for p in own])
    keep = feasible[pareto.non_dominated(values[feasible])]
    gains = dict(zip(keep.tolist(), pareto.contributions(values[keep]), strict=True))
    chosen: list[FrozenTrial | None] = [None] * len(front)
    for i, trial in enumerate(front):
        mine = np.flatnonzero(owner == i).tolist()
        top = max((j for j in mine if j in gains), key=lambda j: gains[j])
        if top == mine[-1]:  # the trial's own
            continue
        signs = [-1.0 if d == "maximize" else 1.0 for d in objectives.values()]
        chosen[i] = _with(trial, [s * v for s, v in zip(signs, values[top].tolist(), strict=True)])
    return chosen
