"""A study as plain records: what tables, figures and reports are made of."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.front import front_of, reference_point, volumes_over
from spikefront.analysis.importance import importances
from spikefront.start import spelled
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study.ledger import INFEASIBLE, KNOWN, SPENT
from spikefront.sweeping.study.study import RECORD, SAMPLER, record

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


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
    reference = reference_point(complete, objectives)
    over_trials = volumes_over(ordered, objectives, reference) if volumes else []
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
        "command": " ".join([spelled("train"), *map(_shell, [*made["command"], *space.overrides(t.params)])]),
    }


def _epochs(attributes: Mapping[str, Any]) -> list[int]:
    return sorted(int(k.removeprefix("epoch:")) for k in attributes if k.startswith("epoch:"))


def _shell(argument: str) -> str:
    return shlex.quote(argument)
