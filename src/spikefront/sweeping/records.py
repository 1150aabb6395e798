"""A study as plain records: what tables, figures and reports are made of."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.sweeping import pareto
from spikefront.sweeping.budgets import SPENT
from spikefront.sweeping.ledger import INFEASIBLE, KNOWN
from spikefront.sweeping.space import Space
from spikefront.sweeping.study import RECORD, SAMPLER, record
from spikefront.tracking.importance import importances

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
ANYTIME = {"accuracy": "accuracy", "energy": "energy_joules"}  # objectives that stopping after t timesteps changes
STEADY = ("parameters",)  # objectives that it doesn't


def records(study: Study, importance: bool = False, volumes: bool = True) -> dict[str, Any]:
    """The study as plain data, JSON-ready; ``importance`` and hypervolumes (``volumes``) take their time.

    Keys: ``study``, ``path``, ``storage``, ``objectives`` (``[{"name", "direction"}]``), ``data`` (the data set's name,
    if all trials have the same), ``sampler``, ``convention`` of the energies, ``trials``, ``front``, ``hypervolume``,
    ``hypervolume_over_trials`` (after each finished trial, in their order), ``reference`` (the hypervolume's reference
    point), ``importance`` (``{objective: {parameter: share}}``).

    A trial: ``number``, ``state`` (complete, pruned, failed, running, infeasible, waiting), ``params``, ``values`` (by
    objective, on the validation part), ``test`` (``accuracy``, ``energy_joules``, ``anytime``), ``anytime`` (``[{"t",
    "accuracy", "energy_joules"}]``, validation), ``curve`` (a point each epoch), ``firing_rate``, ``parameters``,
    ``seconds``, ``epochs``, ``seed``, ``seeds`` (each one's metrics, if there were several) and ``spread`` (standard
    deviations over them), ``spent`` (``seconds``, ``gpu_hours``, ``joules`` of training), ``energy_groups``,
    ``energy_layers`` (``[{"name", "group", "joules", "firing_rate"}]``), ``reason``, ``origin`` (who proposed it, if
    not the sampler), ``known`` (not trained here: a warm start brought it), ``on_front``, ``front_then`` (on the front
    as it ended), ``started``, ``finished``, ``command``. Missing figures are ``None``.

    A front entry: ``number`` of the trial, ``t`` (the timestep it stops at; ``None`` if the objectives have no anytime
    points), ``final`` (whether that is the trial's own T), ``values``, ``params``, ``test``; by the first objective.

    The hypervolume's reference is 0 for what is maximised and the worst of the trials' final values for the rest.
    """
    made = record(study)
    objectives: dict[str, str] = made["objectives"]
    space = Space.parse(made["space"])
    trials = [_trial(t, objectives, space, made) for t in study.get_trials(deepcopy=False)]
    complete = [t for t in trials if t["state"] == "complete"]
    front = front_of(complete, objectives)
    for trial in trials:
        trial["on_front"] = any(p["number"] == trial["number"] for p in front)
    ordered = sorted(complete, key=lambda t: t["finished"] or "")
    reference = _reference(complete, objectives)
    over_trials = _volumes(ordered, objectives, reference) if volumes else []
    return {
        "study": study.study_name,
        "path": made["path"],
        "storage": made["storage"],
        "objectives": [{"name": n, "direction": d} for n, d in objectives.items()],
        "data": made["base"].get("data.name"),
        "sampler": study.user_attrs.get(SAMPLER),
        "convention": next((t.get("convention") for t in complete if t.get("convention")), None),
        "budget": study.user_attrs.get(f"{RECORD}:budget"),
        "trials": trials,
        "front": front,
        "reference": dict(zip(objectives, reference, strict=True)) if complete else {},
        "hypervolume": over_trials[-1] if over_trials else 0.0,
        "hypervolume_over_trials": over_trials,
        "importance": importances(study, objectives) if importance else {},
    }


def points(trial: Mapping[str, Any], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """A finished trial's points: its own values, and those of stopping after each earlier timestep if that has a
    meaning for all objectives."""
    own = {"t": None, "final": True, "values": trial["values"], "test": trial["test"]}
    anytime = trial["anytime"] or []
    if not anytime or not all(name in ANYTIME or name in STEADY for name in objectives):
        return [own]
    last = anytime[-1]["t"]
    tested = {p["t"]: p for p in trial["test"].get("anytime") or []}
    early = [
        {
            "t": p["t"],
            "final": False,
            "values": {n: p[ANYTIME[n]] if n in ANYTIME else trial["values"][n] for n in objectives},
            "test": tested.get(p["t"], {}),
        }
        for p in anytime
        if p["t"] != last
    ]
    return [*early, {**own, "t": last}]


def plain(t: FrozenTrial, objectives: Mapping[str, str]) -> dict[str, Any]:
    """What ``points`` and ``front_of`` read of a finished trial, without the rest of its record."""
    assert t.values is not None
    values = dict(zip(objectives, t.values, strict=True))
    return {
        "number": t.number,
        "params": t.params,
        "values": values,
        "test": {},
        "anytime": t.user_attrs.get("anytime"),
    }


def front_of(complete: list[dict[str, Any]], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """The non-dominated points of the finished trials, anytime points among them."""
    candidates = [{"number": t["number"], **p, "params": t["params"]} for t in complete for p in points(t, objectives)]
    if not candidates:
        return []
    keep = pareto.non_dominated([minimised(c["values"], objectives) for c in candidates])
    chosen = [c for c, k in zip(candidates, keep, strict=True) if k]
    return sorted(chosen, key=lambda c: minimised(c["values"], objectives), reverse=True)


class Front:
    """The finished trials whose points are a growing study's front; each is looked at once.

    Attributes:
        trials: these, as of the last ``look``.
    """

    def __init__(self, objectives: Mapping[str, str]) -> None:
        self.trials: list[FrozenTrial] = []
        self._objectives = objectives
        self._seen: set[int] = set()

    def look(self, study: Study) -> bool:
        """Take in what has finished since the last time; whether something has."""
        new = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.number not in self._seen]
        self._seen.update(t.number for t in new)
        known = [*self.trials, *new]
        if new:
            best = self._best([plain(t, self._objectives) for t in known])
            self.trials = [t for t in known if t.number in best]
        return bool(new)

    def takes(self, attributes: Mapping[str, Any]) -> bool:
        """Whether none of the trials dominates all points of one with these attributes."""
        own = {"number": -1, "params": {}, "values": dict(attributes["metrics"]), **attributes}
        return -1 in self._best([*(plain(t, self._objectives) for t in self.trials), own])

    def _best(self, trials: list[dict[str, Any]]) -> set[int]:
        return {p["number"] for p in front_of(trials, self._objectives)}


def minimised(values: Mapping[str, float], objectives: Mapping[str, str]) -> list[float]:
    """The values in the objectives' order, negated where more is better."""
    return [-values[n] if d == "maximize" else values[n] for n, d in objectives.items()]


def _trial(t: FrozenTrial, objectives: Mapping[str, str], space: Space, made: Mapping[str, Any]) -> dict[str, Any]:
    a = t.user_attrs
    return {
        "number": t.number,
        "state": "infeasible" if INFEASIBLE in a else STATES[t.state],
        "params": dict(t.params),
        "values": dict(zip(objectives, t.values, strict=True)) if t.state == TrialState.COMPLETE else {},
        "metrics": a.get("metrics", {}),
        "test": a.get("test", {}),
        "anytime": a.get("anytime", []),
        "curve": [{"epoch": e, **a[f"epoch:{e}"]} for e in _epochs(a)],
        "firing_rate": a.get("firing_rate"),
        "parameters": a.get("parameters"),
        "seconds": a.get("seconds"),
        "epochs": a.get("epochs") or max(_epochs(a), default=0),
        "seed": a.get("seed"),
        "seeds": a.get("seeds", []),
        "spread": a.get("spread", {}),
        "spent": a.get(SPENT, {}),
        "energy_groups": a.get("energy_groups", {}),
        "energy_layers": a.get("energy_layers", []),
        "convention": a.get("convention"),
        "front_then": a.get("front_then"),
        "reason": a.get("reason") or a.get(INFEASIBLE),
        "origin": a.get("origin"),
        "known": KNOWN in a,
        "started": t.datetime_start.isoformat() if t.datetime_start else None,
        "finished": t.datetime_complete.isoformat() if t.datetime_complete else None,
        "command": " ".join(["python src/train.py", *map(_shell, [*made["command"], *space.overrides(t.params)])]),
    }


def _epochs(attributes: Mapping[str, Any]) -> list[int]:
    return sorted(int(k.removeprefix("epoch:")) for k in attributes if k.startswith("epoch:"))


def _shell(argument: str) -> str:
    return shlex.quote(argument)


def _reference(complete: list[dict[str, Any]], objectives: Mapping[str, str]) -> list[float]:
    """Reference point, minimised: 0 for what is maximised, the worst final value for the rest."""
    if not complete:
        return []
    worst = np.max([minimised(t["values"], objectives) for t in complete], axis=0)
    return [0.0 if d == "maximize" else float(w) for d, w in zip(objectives.values(), worst, strict=True)]


def _volumes(ordered: list[dict[str, Any]], objectives: Mapping[str, str], reference: list[float]) -> list[float]:
    volumes: list[float] = []
    kept = np.empty((0, len(objectives)))
    for t in ordered:
        new = np.array([minimised(p["values"], objectives) for p in points(t, objectives)])
        fresh = [p for p in new if not np.any(np.all(kept <= p, axis=1))]
        if fresh:
            kept = np.vstack([kept, fresh])
            kept = kept[pareto.non_dominated(kept)]
        volumes.append(pareto.hypervolume(kept, reference) if fresh else volumes[-1])
    return volumes
