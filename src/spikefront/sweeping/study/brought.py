"""What a trial brings: to the front, and to a pruner."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.schema import Candidate
from spikefront.sweeping.search.pruning import Seen
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import Outcome


def candidate(trial: FrozenTrial, objectives: dict[str, str]) -> Candidate:
    """What a complete trial brings to the front."""
    assert trial.values is not None
    came = attributes.outcome(trial)
    return {
        "number": trial.number,
        "params": trial.params,
        "values": dict(zip(objectives, trial.values, strict=True)),
        "test": came.get("test", {}),
        "anytime": came.get("anytime", []),
        "samples": came.get("samples"),
        "origin": attributes.ORIGIN.get(trial),
    }


def would_be(number: int, came: Outcome) -> Candidate:
    """The same of a trial that isn't told yet."""
    return {
        "number": number,
        "params": {},
        "values": dict(came["metrics"]),
        "test": came["test"],
        "anytime": came["anytime"],
        "samples": came.get("samples"),
        "origin": None,
    }


def seen(trial: FrozenTrial, objectives: dict[str, str]) -> Seen | None:
    """What a pruner learns from a trial that has ended; None from one of which no final points are known."""
    stopped = trial.state == TrialState.PRUNED
    if stopped:
        final = attributes.OUTLOOK.get(trial)
    else:
        own = candidate(trial, objectives)
        final = [(p["accuracy"], p["energy_joules"]) for p in own["anytime"]]
        final = final or [(own["values"]["accuracy"], own["values"]["energy"])]  # a known point has its values alone
    return Seen(trial.params, attributes.curve(trial), [(a, e) for a, e in final], stopped) if final else None
