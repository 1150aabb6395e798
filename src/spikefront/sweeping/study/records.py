"""A study as plain records: what tables, figures and reports are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.front import completed, judge
from spikefront.analysis.importance import importances
from spikefront.analysis.schema import CurvePoint, State, StudyRecord, TrialRecord
from spikefront.cluster.stores import local
from spikefront.config import override
from spikefront.start import typed
from spikefront.sweeping.search.constraints import Measured
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.accounts import account
from spikefront.sweeping.study.attributes import (
    ARGUMENTS,
    BENCHED,
    BUDGET,
    CHOICES,
    ELASTIC,
    INFEASIBLE,
    KNOWN,
    LINE,
    ORIGIN,
    REASON,
    SAMPLER,
    SPENT,
    STAGE,
    TAKEN,
    TRAINING,
    Made,
)
from spikefront.sweeping.study.brought import candidate
from spikefront.sweeping.study.hosts import engine_of, host_of
from spikefront.sweeping.study.presence import gone
from spikefront.sweeping.study.study import elastic_checkpoint, record, retraining

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def records(study: Study, importance: bool = False, volumes: bool = True) -> StudyRecord:
    """The study as plain data; ``importance`` and hypervolumes (``volumes``) take their time.

    Raises:
        UserError: the study is another program's.
    """
    made, said = record(study), attributes.said(study)
    objectives, space = made["objectives"], Space.stored(made["space"])
    elastic = elastic_checkpoint(study) if ELASTIC.get(said) else None
    line = LINE.get(said) or (typed("sweep", "-m", *given) if (given := ARGUMENTS.get(said)) else None)
    again = partial(_again, space, made, elastic, line)
    every = [t for t in study.get_trials(deepcopy=False) if not _place(t)]
    bounds = Measured((attributes.settings(said) or {}).get("constraints", {}))
    trials = [_trial(t, made, again, bounds) for t in every]
    shares, spread = importances(study, objectives) if importance else ({}, {})
    judged = judge(trials, objectives, volumes)
    return {
        "study": study.study_name,
        "path": str(local(made["path"])),
        "storage": made["storage"],
        "objectives": [{"name": n, "direction": d} for n, d in objectives.items()],
        "data": made["base"].get("data.name"),
        "settings": {**CHOICES.get(said), **made["base"]},
        "space": made["space"],
        "sampler": SAMPLER.get(said),
        "convention": next((t["convention"] for t in completed(trials) if t["convention"]), None),
        "budget": account(study).budget or BUDGET.get(said),
        "command": line,
        "trials": trials,
        "described": next((d for t in every if (d := attributes.outcome(t).get("described"))), None),
        **judged,
        "taken": TAKEN.get(said),
        "benched": BENCHED.get(said),
        "importance": shares,
        "importance_spread": spread,
    }


def _place(t: FrozenTrial) -> bool:
    """Whether a trial is but a place that a worker gave back, as it was one too many or had nothing proposed yet."""
    return t.state == TrialState.WAITING and not (t.params or attributes.queued(t) or ORIGIN.get(t))


def taking(path: str, number: int, *more: str) -> str:
    """The command that takes a trial of the study in this directory."""
    return typed("study", override("study", path), "action=take", f"trial={number}", *more)


def _left(t: FrozenTrial) -> bool:
    """Whether a trial runs no more, as its worker is gone: the next one goes on with it."""
    return t.state == TrialState.RUNNING and gone(attributes.lease(t))


def _again(space: Space, made: Made, elastic: Path | None, sweep: str | None, t: FrozenTrial) -> str | None:
    """The line that trains a trial again; of an inherited network the one that evaluates it again."""
    came, stage = attributes.outcome(t), STAGE.get(t)
    if stage == TRAINING:
        return sweep
    given = retraining(made, space, t.params, came.get("threads"))
    if elastic is not None and stage is None:
        return typed("evaluate", override("checkpoint", str(elastic)), override("member", dict(t.params)))
    if elastic is not None:
        given = [*given, override("init", str(elastic)), f"trainer.max_epochs={came.get('epochs')}"]
    if seeds := [str(int(s["seed"])) for s in came.get("seeds", [])]:
        given = ["-m", *(o for o in given if not o.startswith("seed=")), f"seed={','.join(seeds)}"]
    return typed("train", *given)


def _trial(t: FrozenTrial, made: Made, again: Callable[[FrozenTrial], str | None], bounds: Measured) -> TrialRecord:
    came, points = attributes.outcome(t), attributes.curve(t)
    curve: list[CurvePoint] = [{"epoch": epoch, **point} for epoch, point in points.items()]
    return {
        **candidate(t, made["objectives"], bounds),
        "state": "infeasible" if INFEASIBLE.on(t) else "waiting" if _left(t) else STATES[t.state],
        "metrics": came.get("metrics", {}),
        "curve": curve,
        "firing_rate": came.get("firing_rate"),
        "parameters": came.get("parameters"),
        "seconds": came.get("seconds"),
        "epochs": came.get("epochs") or max(points, default=0),
        "asked_epochs": t.params.get("trainer.max_epochs", made["base"].get("trainer.max_epochs")),
        "threads": came.get("threads"),
        "host": host_of(attributes.lease(t)),
        "engine": engine_of(attributes.lease(t)),
        "seed": came.get("seed"),
        "seeds": came.get("seeds", []),
        "spread": came.get("spread", {}),
        "spent": SPENT.get(t),
        "energy_groups": came.get("energy_groups", {}),
        "energy_layers": came.get("energy_layers", []),
        "convention": came.get("convention"),
        "twin_joules": came.get("twin_joules"),
        "on_front": False,  # until the study is judged as a whole
        "front_then": came.get("front_then"),
        "reason": REASON.get(t) or INFEASIBLE.get(t),
        "known": KNOWN.on(t),
        "started": t.datetime_start.isoformat() if t.datetime_start else None,
        "finished": t.datetime_complete.isoformat() if t.datetime_complete else None,
        "command": again(t),
        "take": taking(made["path"], t.number, "seeds=5"),
    }
