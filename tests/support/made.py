"""Records of made-up studies, in the shape that ``spikefront.sweeping.study.records`` gives."""

from __future__ import annotations

import random
from typing import Any

GROUPS = ("embedding", "attention projections", "attention operator", "mlp", "head")


def study(
    name: str = "made", trials: int = 40, seed: int = 0, data: str = "digits", repeats: int = 0
) -> dict[str, Any]:
    """A study whose accuracy saturates with energy; the last trials are failed, pruned and running ones."""
    rng = random.Random(seed)
    made = [_trial(n, rng, data) for n in range(trials)]
    for k in range(repeats):
        made.append({**_trial(0, random.Random(seed), data, jitter=0.004 * k), "number": trials + k, "seed": k + 1})
    for number, state in zip(
        range(len(made), len(made) + 4), ("pruned", "failed", "infeasible", "running"), strict=True
    ):
        other = _trial(number, rng, data)
        made.append({**other, "state": state, "values": {}, "reason": "loss is <NaN>" if state == "failed" else None})
    points = [
        {"number": t["number"], "t": p["t"], "final": p["t"] == 4, "params": t["params"], "test": t["test"]}
        | {"values": {"accuracy": p["accuracy"], "energy": p["energy_joules"]}}
        for t in made
        if t["state"] == "complete"
        for p in t["anytime"]
    ]
    front = [p for p in points if not any(_beats(q["values"], p["values"]) for q in points)]
    for trial in made:
        trial["on_front"] = trial["front_then"] = any(p["number"] == trial["number"] for p in front)
    return {
        "study": name,
        "path": f"outputs/sweep/{name}",
        "storage": f"sqlite:///outputs/sweep/{name}/study.db",
        "objectives": [{"name": "accuracy", "direction": "maximize"}, {"name": "energy", "direction": "minimize"}],
        "convention": "paper, first layer per timestep",
        "trials": made,
        "front": front,
        "importance": {
            "accuracy": {"optimizer.lr": 0.55, "model.dim": 0.3, "neuron": 0.15},
            "energy": {"model.dim": 0.8, "neuron": 0.15, "optimizer.lr": 0.05},
        },
        "hypervolume": 0.0,
        "hypervolume_over_trials": [],
    }


def _trial(number: int, rng: random.Random, data: str, jitter: float = 0.0) -> dict[str, Any]:
    params = {
        "model.dim": rng.choice([32, 48, 64, 96]),
        "neuron": rng.choice(["lif", "plif", "if"]),
        "optimizer.lr": 10 ** rng.uniform(-4, -2),
    }
    joules = 2e-8 * params["model.dim"] ** 1.5 / 100 * rng.uniform(0.5, 1.6)
    best = 1 - 0.08 * (2e-8 / joules) ** 0.6 - rng.uniform(0, 0.12) + jitter
    anytime = [{"t": t, "accuracy": best * (1 - 0.25 / t**2), "energy_joules": joules * t / 4} for t in (1, 2, 3)]
    anytime.append({"t": 4, "accuracy": best, "energy_joules": joules})
    return {
        "number": number,
        "state": "complete",
        "params": params,
        "values": {"accuracy": best, "energy": joules},
        "test": {"accuracy": best - 0.01, "energy_joules": joules, "anytime": []},
        "anytime": anytime,
        "firing_rate": rng.uniform(0.05, 0.3),
        "parameters": params["model.dim"] ** 2 * 26,
        "seconds": rng.uniform(20, 60),
        "epochs": 10,
        "seed": 0,
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
        "reason": None,
        "started": f"2026-01-01T00:{number // 60 % 60:02d}:{number % 60:02d}",
        "finished": f"2026-01-01T{1 + number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}",
        "command": f"python src/train.py data={data} model.dim={params['model.dim']} neuron={params['neuron']}",
    }


def _beats(a: dict[str, float], b: dict[str, float]) -> bool:
    return a["accuracy"] >= b["accuracy"] and a["energy"] <= b["energy"] and a != b
