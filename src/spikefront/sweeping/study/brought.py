"""What a trial brings: to the front, and to a pruner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.schema import Candidate, Step
from spikefront.sweeping.search.constraints import Measured
from spikefront.sweeping.search.pruning import Seen
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import Outcome

UNBOUND = Measured({})


def candidate(trial: FrozenTrial, objectives: dict[str, str], bounds: Measured = UNBOUND) -> Candidate:
    """What a trial brings to the front of a study with these bounds on what is measured; no values until it is
    complete."""
    came, complete = attributes.outcome(trial), trial.state == TrialState.COMPLETE
    values = dict(zip(objectives, trial.values or (), strict=True)) if complete else {}
    metrics = {**came.get("metrics", {}), **values}
    anytime, breaks = _judged(came.get("anytime", []), metrics, bounds if complete else UNBOUND)
    return {
        "number": trial.number,
        "params": dict(trial.params),
        "values": values,
        "test": came.get("test", {}),
        "anytime": anytime,
        "samples": came.get("samples"),
        "origin": attributes.ORIGIN.get(trial),
        "breaks": breaks,
    }


def _judged(anytime: Sequence[Step], metrics: Mapping[str, float], bounds: Measured) -> tuple[list[Step], list[str]]:
    """The anytime points with the bounds that each breaks, and those that the whole network does."""
    if not bounds:
        return list(anytime), []
    steps: list[Step] = []
    for step in anytime:
        own = {**metrics, "accuracy": step["accuracy"], "energy": step["energy_joules"]}
        steps.append({**step, "breaks": bounds.broken(own)})
    return steps, bounds.broken(metrics)


def would_be(number: int, came: Outcome, bounds: Measured = UNBOUND) -> Candidate:
    """The same of a trial that isn't told yet."""
    anytime, breaks = _judged(came["anytime"], came["metrics"], bounds)
    return {
        "number": number,
        "params": {},
        "values": dict(came["metrics"]),
        "test": came["test"],
        "anytime": anytime,
        "samples": came.get("samples"),
        "origin": None,
        "breaks": breaks,
    }


def told(trial: FrozenTrial, objectives: dict[str, str], predicted: Sequence[str], bounds: Measured) -> FrozenTrial:
    """A finished trial, with the values it has here, as far beyond each of a study's constraints as these are now; 0
    beyond one on what is predicted that the trial, an older one or brought by a warm start, wasn't asked."""
    assert trial.values is not None
    metrics = {**attributes.outcome(trial).get("metrics", {}), **dict(zip(objectives, trial.values, strict=True))}
    before = {text: trial.constraints.get(text, 0.0) for text in predicted}
    return attributes.constrained(trial, {**before, **{v.text: v.excess for v in bounds.verdicts(metrics)}})


def seen(trial: FrozenTrial, objectives: dict[str, str], bounds: Measured = UNBOUND) -> Seen | None:
    """What a pruner learns from a trial that has ended; None from one of which no final points are known."""
    final = attributes.OUTLOOK.get(trial)  # also of one that is shown as the worst
    stopped = bool(final) or trial.state == TrialState.PRUNED
    if stopped:
        broken: list[int] = []
    else:
        own = candidate(trial, objectives, bounds)
        final = [(p["accuracy"], p["energy_joules"]) for p in own["anytime"]]
        broken = [i for i, p in enumerate(own["anytime"]) if p.get("breaks")]
        if not final:  # a known point has its values alone
            final, broken = [(own["values"]["accuracy"], own["values"]["energy"])], [0] if own["breaks"] else []
    points = [(a, e) for a, e in final]
    seconds = attributes.outcome(trial).get("seconds")
    return Seen(trial.params, attributes.curve(trial), points, stopped, broken, seconds) if points else None
