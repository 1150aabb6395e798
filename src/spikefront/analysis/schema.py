"""A study as plain records, JSON-ready: the contract between who knows trials (a storage, W&B) and who shows them.

Whoever makes records fills in every key; what isn't known is ``None`` or empty. Energies are joules a sample, times
seconds, memory bytes, accuracies and shares 0-1; moments are ISO 8601 texts.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

State = Literal["complete", "pruned", "failed", "running", "waiting", "infeasible"]
Params = dict[str, Any]
Directions = dict[str, str]
"""The objectives in their order, each ``maximize`` or ``minimize``."""


class Objective(TypedDict):
    """One thing that the search optimises."""

    name: str
    direction: str


class Step(TypedDict):
    """A network stopped after timestep ``t``; means, with each seed's accuracy, where several were trained, and the
    study's constraints that it breaks where it has some."""

    t: int
    accuracy: float
    energy_joules: float
    accuracies: NotRequired[list[float]]
    breaks: NotRequired[list[str]]


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
    """The test part's figures, of ``samples`` images or recordings; of one timestep, or of a whole network with its
    ``anytime`` steps, and of a user's own folder with the classes it confuses most and the samples it is most surely
    wrong about."""

    samples: int | None
    t: int
    accuracy: float | None
    energy_joules: float | None
    anytime: list[Step]
    confused: list[dict[str, Any]]
    wrong: list[dict[str, Any]]


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
    """What a trial brings to the front: its values by objective (validation part, of ``samples`` images or recordings),
    its anytime points, who proposed it, if not the sampler, and the constraints on what is measured that it breaks."""

    number: int
    params: Params
    values: dict[str, float]
    test: Tested
    anytime: list[Step]
    samples: int | None
    origin: str | None
    breaks: list[str]


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
        twin_joules: what the same network without spikes would take.
        on_front: at least one of its points is on the study's front; ``front_then``: it was as the trial ended.
        reason: why it failed, was stopped or not begun.
        known: not trained here, a warm start brought it.
        asked_epochs: how many it shall have.
        threads: of each of its processes, where they computed on a CPU.
        host: the machine that trains it or did last, ``engine`` what had started its worker there.
        command: the line that trains it again.
        take: the line that trains it with other seeds; `` t=1`` behind it takes a point.
    """

    state: State
    metrics: dict[str, float]
    curve: list[CurvePoint]
    firing_rate: float | None
    parameters: int | None
    seconds: float | None
    epochs: int | None
    asked_epochs: int | None
    threads: int | None
    host: NotRequired[str | None]
    engine: NotRequired[str | None]
    seed: int | None
    seeds: list[dict[str, float]]
    spread: dict[str, float]
    spent: Spent
    energy_groups: dict[str, float]
    energy_layers: list[Layer]
    convention: str | None
    twin_joules: float | None
    on_front: bool
    front_then: bool | None
    reason: str | None
    known: bool
    started: str | None
    finished: str | None
    command: str | None
    take: str | None


class Point(TypedDict):
    """A trained network, stopped after ``t`` timesteps: a trial is as many of them as it has timesteps.

    Attributes:
        number: its trial's.
        t: the timestep it stops at; None if the objectives have no anytime points, or the trial.
        final: it is the trial's own result, with all its timesteps.
        feasible: it keeps the study's constraints on what is measured; else it is no member, and dominates none.
        member: no other feasible point of the study dominates it.
        near: it is a member, or dominated by too little accuracy to tell it apart from those that dominate it; None
            where that can't be said: accuracy is no objective, or nobody knows on how many samples it rests.
        interval: 95 % interval of its accuracy, see ``analysis.confidence``.
        samples: images or recordings of the validation part that its accuracy was measured on.
        origin: as its trial's.
    """

    number: int
    t: int | None
    final: bool
    feasible: bool
    member: bool
    near: bool | None
    values: dict[str, float]
    interval: tuple[float, float] | None
    samples: int | None
    params: Params
    test: Tested
    origin: str | None


class Taken(TypedDict):
    """A point trained again with other seeds: each seed's values by objective, and accuracy on the test part.

    Attributes:
        number, t: the point's.
        study: that of the seeds, ``trials`` their numbers there.
    """

    number: int
    t: int | None
    study: str
    seeds: list[int]
    trials: list[int]
    values: dict[str, list[float]]
    tested: list[float]


class StudyRecord(TypedDict):
    """One study.

    Attributes:
        path: its directory, or where it was read from.
        data: the data set's name, if all trials have the same.
        settings: what all trials have, under dotted keys; empty where nobody knows.
        space: what is searched, as a sweep's ``params`` say it; missing where nobody knows.
        sampler: what the last command searched with.
        convention: how the energies were counted.
        budget: finished trials that the last command asked for.
        command: the line that begins it and goes on with it.
        points: every point of every complete trial, by trial and timestep; ``front``: those no other dominates, by the
            first objective, the best last.
        taken: points that were trained again.
        benched: hosts that get no more trials, and why.
        described: of a user's own folder its classes, the split's hash and more, as the first finished trial had it.
        reference: the hypervolume's reference point by objective: 0 for what is maximised, the worst of the trials'
            final values for the rest; empty while no trial is complete.
        hypervolume_over_trials: after each complete trial, in the order that they finished; empty if not asked for.
        decades: the hypervolume with what is minimised in decades below the reference (``front.in_decades``), and
            ``decades_over_trials`` after each trial; None and empty where nothing is minimised or all costs are 0.
        importance: share of each objective's variance that each parameter explains, ``importance_spread`` how far that
            is to be trusted; empty if not asked for, or of too few trials.
    """

    study: str
    path: str
    storage: str
    objectives: list[Objective]
    data: str | None
    settings: dict[str, Any]
    space: NotRequired[dict[str, Any]]
    sampler: str | None
    convention: str | None
    budget: int | None
    command: str | None
    trials: list[TrialRecord]
    points: list[Point]
    front: list[Point]
    taken: list[Taken]
    described: NotRequired[dict[str, Any] | None]
    benched: NotRequired[dict[str, str]]
    reference: dict[str, float]
    hypervolume: float
    hypervolume_over_trials: list[float]
    decades: float | None
    decades_over_trials: list[float]
    importance: dict[str, dict[str, float]]
    importance_spread: dict[str, dict[str, float]]
