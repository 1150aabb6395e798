"""Made-up studies: real Optuna studies in memory, with what a sweep's workers leave in them, as their records."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from spikefront.analysis.schema import StudyRecord
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import Outcome
from spikefront.sweeping.study.records import records

GROUPS = ("embedding", "attention projections", "attention operator", "mlp", "head")
KEPT: dict[str, StudyRecord] = {}  # by what they were made of: to weigh parameters takes seconds
SPACE = {
    "model.dim": "choice(32,48,64,96)",
    "neuron": "lif,plif,if",
    "optimizer.lr": "tag(log,interval(0.0001,0.01))",
}
OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}
BEGAN = datetime(2026, 1, 1)
BESIDE = ("pruned", "failed", "infeasible", "running")  # a study's last trials


def study(
    name: str = "made",
    trials: int = 40,
    seed: int = 0,
    data: str = "digits",
    repeats: int = 0,
    space: Mapping[str, str] = SPACE,
    objectives: Mapping[str, str] = OBJECTIVES,
    importance: bool = True,
    changed: Mapping[int, Outcome] | None = None,
) -> StudyRecord:
    """A study whose accuracy saturates with energy; the last trials are a pruned, a failed, an infeasible and a running
    one, which has 3 epochs behind it.

    Args:
        repeats: more trainings of trial 0, with other seeds.
        changed: of some trials what they came to otherwise.
    """
    asked = json.dumps(
        [name, trials, seed, data, repeats, list(space.items()), list(objectives.items()), importance, changed]
    )
    if asked not in KEPT:
        KEPT[asked] = _study(name, trials, seed, data, repeats, space, objectives, importance, changed or {})
    return copy.deepcopy(KEPT[asked])


def _study(
    name: str,
    trials: int,
    seed: int,
    data: str,
    repeats: int,
    space: Mapping[str, str],
    objectives: Mapping[str, str],
    importance: bool,
    changed: Mapping[int, Outcome],
) -> StudyRecord:
    rng, plan = random.Random(seed), Space.parse(dict(space))
    made = [(_params(plan, rng), rng.random(), rng.random(), 0) for _ in range(trials)]
    made += [(*made[0][:2], made[0][2] + 0.03 * k, k) for k in range(1, repeats + 1)]
    shown: list[dict[str, Any]] = []
    for number, (params, cheap, good, own_seed) in enumerate(made):
        came = _outcome(params, cheap, good, own_seed) | changed.get(number, {})
        shown.append({"state": "complete", "params": params, "outcome": came})
    shown += [{"state": state, "params": _params(plan, rng)} for state in BESIDE]
    found = records_of(name, shown, space, objectives, data)
    for trial in found["trials"][: len(made)]:  # a worker says so as its trial ends
        shown[trial["number"]]["outcome"]["front_then"] = trial["on_front"]
    return records_of(name, shown, space, objectives, data, importance)


def records_of(
    name: str,
    trials: Sequence[Mapping[str, Any]],
    space: Mapping[str, str] = SPACE,
    objectives: Mapping[str, str] = OBJECTIVES,
    data: str = "digits",
    importance: bool = False,
) -> StudyRecord:
    """What ``records`` says of a study of these trials, each ``{"state", "params", "outcome", "span"}``: ``outcome``
    has what it came to, ``span`` the seconds after ``BEGAN`` of its beginning and its end."""
    made = optuna.create_study(study_name=name, directions=list(objectives.values()))
    attributes.RECORD.set(
        made,
        {
            "space": dict(space),
            "objectives": dict(objectives),
            "base": {"data.name": data},
            "overrides": [f"data={data}"],
            "command": [f"data={data}"],
            "exhaustive": False,
            "seeds": 1,
            "storage": f"sqlite:///outputs/studies/{name}/study.db",
            "path": f"outputs/studies/{name}",
        },
    )
    attributes.TOKEN.set(made, "ab")
    attributes.BUDGET.set(made, len(trials))
    attributes.SAMPLER.set(made, "random")
    distributions = {p.key: p.distribution for p in Space.parse(dict(space))}
    for number, trial in enumerate(trials):
        made.add_trial(_frozen(number, trial, objectives, distributions))
        begun = optuna.Trial(made, number) if trial["state"] == "running" else None
        if begun is not None:
            for epoch, accuracy in enumerate((0.5, 0.75, 0.875), 1):
                attributes.set_point(begun, epoch, {"accuracy": accuracy, "energy_joules": 2e-7, "firing_rate": 0.1})
    return records(made, importance=importance)


def _frozen(
    number: int, trial: Mapping[str, Any], objectives: Mapping[str, str], distributions: Mapping[str, Any]
) -> FrozenTrial:
    state = {"failed": TrialState.FAIL, "infeasible": TrialState.PRUNED}.get(trial["state"])
    state = state or TrialState[trial["state"].upper()]
    come = trial.get("outcome") or {}
    said = {
        "failed": {attributes.REASON.name: "loss is <NaN>"},
        "infeasible": {attributes.INFEASIBLE.name: "parameters <= 30 does not hold: 40"},
    }.get(trial["state"], {})
    begun, ended = trial.get("span", (number, number + 3600))
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=[come["metrics"][n] for n in objectives] if state == TrialState.COMPLETE else None,
        datetime_start=BEGAN + timedelta(seconds=begun),
        datetime_complete=BEGAN + timedelta(seconds=ended) if state.is_finished() else None,
        params=dict(trial.get("params") or {}),
        distributions={k: distributions[k] for k in trial.get("params") or {}},
        user_attrs={**come, **said},
        system_attrs={},
        intermediate_values={},
    )


def _params(space: Space, rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for p in space:
        d = p.distribution
        if isinstance(d, optuna.distributions.CategoricalDistribution):
            found[p.key] = rng.choice(d.choices)
        else:
            assert isinstance(d, optuna.distributions.FloatDistribution)
            found[p.key] = d.low * (d.high / d.low) ** rng.random()
    return found


def _outcome(params: Mapping[str, Any], cheap: float, good: float, seed: int) -> Outcome:
    """``cheap`` and ``good``, 0-1: how the trial fares beside others of its size."""
    dim = params.get("model.dim", 64)
    joules = 2e-8 * dim**1.5 / 100 * (0.5 + 1.1 * cheap)
    best = 1 - 0.08 * (2e-8 / joules) ** 0.6 - 0.12 * (1 - good)
    early: list[Any] = [
        {"t": t, "accuracy": best * (1 - 0.25 / t**2), "energy_joules": joules * t / 4} for t in (1, 2, 3)
    ]
    return {
        "metrics": {
            "accuracy": best,
            "energy": joules,
            "firing_rate": 0.05 + 0.25 * good,
            "parameters": dim**2 * 26,
            "seconds": 20 + 40 * cheap,
            "latency": 1e-4 * dim,
        },
        "anytime": [*early, {"t": 4, "accuracy": best, "energy_joules": joules}],
        "samples": 360,
        "test": {"accuracy": best - 0.01, "energy_joules": joules, "samples": 297, "anytime": []},
        "firing_rate": 0.05 + 0.25 * good,
        "parameters": dim**2 * 26,
        "seconds": 20 + 40 * cheap,
        "epochs": 10,
        "convention": "paper, first layer per timestep",
        "seed": seed,
        "energy_groups": dict(zip(GROUPS, (joules * s for s in (0.4, 0.2, 0.02, 0.36, 0.02)), strict=True)),
        "energy_layers": [
            {
                "name": f"block.{i}.{part}",
                "group": "mlp",
                "joules": joules * s,
                "firing_rate": None if i == 0 else 0.1 * i,
            }
            for i in range(3)
            for part, s in (("attn.q_conv", 0.1), ("mlp.fc1_conv", 0.2))
        ],
    }
