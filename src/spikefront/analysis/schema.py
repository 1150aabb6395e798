"""A study as plain records, JSON-ready: the contract between who knows trials (a storage, W&B) and who shows them.

Whoever makes records fills in every key; what isn't known is ``None`` or empty. Energies are joules a sample, times
seconds, memory bytes, accuracies and shares 0-1; moments are ISO 8601 texts.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

State = Literal["complete", "pruned", "failed", "running", "waiting", "infeasible"]
Params = dict[str, Any]
Directions = dict[str, str]
"""The objectives in their order, each ``maximize`` or ``minimize``."""


class Objective(TypedDict):
    """One thing that the search optimises."""

    name: str
    direction: str


class Step(TypedDict):
    """A network stopped after timestep ``t``."""

    t: int
    accuracy: float
    energy_joules: float


class EpochPoint(TypedDict, total=False):
    """What a training's validation said after one epoch; ``anytime`` are pairs of both after t = 1 … T."""

    accuracy: float
    energy_joules: float
    firing_rate: float
    anytime: list[tuple[float, float]]


class CurvePoint(EpochPoint, total=False):
    """The same in a list, with its epoch, from 1."""

    epoch: int


class Tested(TypedDict, total=False):
    """The test part's figures; of one timestep, or of a whole network with its ``anytime`` steps."""

    t: int
    accuracy: float | None
    energy_joules: float | None
    anytime: list[Step]


class Spent(TypedDict, total=False):
    """What went into a trial's training so far, whoever ran it."""

    seconds: float
    gpu_hours: float
    joules: float


class Layer(TypedDict):
    """One layer's energy, and the firing rate of what enters it (None where that is no spikes)."""

    name: str
    group: str
    joules: float
    firing_rate: float | None


class Candidate(TypedDict):
    """What a trial brings to the front: its values by objective (validation part), and its anytime points."""

    number: int
    params: Params
    values: dict[str, float]
    test: Tested
    anytime: list[Step]


class TrialRecord(Candidate):
    """One trial.

    Attributes:
        values: empty unless the trial is complete.
        metrics: everything else that its training logged.
        curve: a point each epoch, also of what was stopped or runs.
        seed: of the first training; ``seeds`` has each one's metrics if there were several, ``spread`` their standard
            deviations.
        energy_groups: joules by group of layers.
        convention: how the energies were counted.
        on_front: at least one of its points is on the study's front; ``front_then``: it was as the trial ended.
        reason: why it failed, was stopped or not begun.
        origin: who proposed it, if not the sampler.
        known: not trained here, a warm start brought it.
        command: the line that trains it again.
    """

    state: State
    metrics: dict[str, float]
    curve: list[CurvePoint]
    firing_rate: float | None
    parameters: int | None
    seconds: float | None
    epochs: int | None
    seed: int | None
    seeds: list[dict[str, float]]
    spread: dict[str, float]
    spent: Spent
    energy_groups: dict[str, float]
    energy_layers: list[Layer]
    convention: str | None
    on_front: bool
    front_then: bool | None
    reason: str | None
    origin: str | None
    known: bool
    started: str | None
    finished: str | None
    command: str | None


class FrontPoint(TypedDict):
    """A trial, or the same network stopped early.

    Attributes:
        t: the timestep it stops at; None if the objectives have no anytime points, or the trial.
        final: it is the trial's own result, with all its timesteps.
    """

    number: int
    t: int | None
    final: bool
    values: dict[str, float]
    params: Params
    test: Tested


class StudyRecord(TypedDict):
    """One study.

    Attributes:
        path: its directory, or where it was read from.
        data: the data set's name, if all trials have the same.
        sampler: what the last command searched with.
        convention: how the energies were counted.
        budget: finished trials that the last command asked for.
        front: by the first objective, the best last.
        reference: the hypervolume's reference point by objective: 0 for what is maximised, the worst of the trials'
            final values for the rest; empty while no trial is complete.
        hypervolume_over_trials: after each complete trial, in the order that they finished; empty if not asked for.
        importance: share of each objective's variance that each parameter explains; empty if not asked for.
    """

    study: str
    path: str
    storage: str
    objectives: list[Objective]
    data: str | None
    sampler: str | None
    convention: str | None
    budget: int | None
    trials: list[TrialRecord]
    front: list[FrontPoint]
    reference: dict[str, float]
    hypervolume: float
    hypervolume_over_trials: list[float]
    importance: dict[str, dict[str, float]]
