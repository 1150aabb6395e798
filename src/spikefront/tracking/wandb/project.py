"""What is read back from W&B: a project's runs as studies, and checkpoints kept as artifacts."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import wandb

from spikefront.errors import UserError
from spikefront.start import spelled
from spikefront.analysis.importance import importances, study_of

PREFIX = "wandb:"
STATES = {"finished": "complete", "running": "running", "pending": "waiting"}
DEFAULT = {"accuracy": "maximize", "energy": "minimize"}
T = TypeVar("T")


def checkpoint_path(address: str) -> str:
    """The local file that ``address`` stands for: ``wandb:<entity>/<project>/<artifact>:<alias>`` is downloaded (once;
    W&B caches by content), anything else is returned as it is.

    Raises:
        UserError: no such artifact, no account, no network, or no checkpoint in it.
    """
    if not address.startswith(PREFIX):
        return address
    name = address.removeprefix(PREFIX)
    name = name if ":" in name else f"{name}:best"

    def fetch() -> str:
        artifact = wandb.Api(timeout=60).artifact(name)
        return artifact.download(root=str(Path(tempfile.gettempdir()) / "spikefront" / artifact.digest[:16]))

    found = sorted(
        p for p in Path(_ask(address, fetch)).rglob("*") if p.suffix in (".ckpt", ".pth", ".tar", ".safetensors")
    )
    if not found:
        raise UserError(f"{address} holds no checkpoint (.ckpt, .pth.tar or .safetensors)")
    return str(found[0])


def project_records(address: str) -> list[dict[str, Any]]:
    """The studies of ``<entity>/<project>`` or the one of ``<entity>/<project>/<group>``, as
    ``spikefront.sweeping.study.records`` gives those of a storage; runs without a group are a study of the project's name.

    The parameters of runs that no sweep made are what their configurations differ in.

    Raises:
        UserError: no such project or group, no account, no network.
    """
    entity, _, rest = address.partition("/")
    project, _, group = rest.partition("/")
    if not entity or not project:
        raise UserError(f"study={PREFIX}{address} is not {PREFIX}<entity>/<project>[/<group>]")
    filters = {"group": group} if group else {}

    def fetch() -> list[Any]:
        return list(wandb.Api(timeout=60).runs(f"{entity}/{project}", filters=filters, per_page=200, lazy=False))

    groups: dict[str, list[Any]] = {}
    for run in _ask(f"{PREFIX}{address}", fetch):
        if run.job_type != "study":
            groups.setdefault(run.group or project, []).append(run)
    if not groups:
        raise UserError(f"{PREFIX}{address} holds no runs; the group is the study's name")
    return [_study(name, f"{PREFIX}{entity}/{project}", runs) for name, runs in groups.items()]


def _ask(address: str, question: Callable[[], T]) -> T:
    try:
        return question()
    except (wandb.Error, ValueError, OSError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{address} can't be read from W&B: {reason[:300]}") from error


def _study(name: str, address: str, runs: Sequence[Any]) -> dict[str, Any]:
    own = [_params(run) for run in runs]
    if not any(own):
        own = differing([dict(run.config) for run in runs])
    trials = [_trial(i, run, params) for i, (run, params) in enumerate(zip(runs, own, strict=True))]
    asked = (dict(run.config.get("trial") or {}).get("objectives") for run in runs)
    objectives: dict[str, str] = next((o for o in asked if o), DEFAULT)
    for trial in trials:
        trial["values"] = {n: trial["values"][n] for n in objectives if n in trial["values"]}
        if trial["state"] == "complete" and len(trial["values"]) < len(objectives):
            trial["state"] = "failed"  # ended before it was evaluated
    complete = [t for t in trials if t["state"] == "complete"]
    finished = [(t["params"], t["values"]) for t in complete]
    front = _front(complete, objectives)
    for trial in trials:
        trial["on_front"] = any(p["number"] == trial["number"] for p in front)
    data = {dict(run.config.get("data") or {}).get("name") for run in runs}
    return {
        "study": name,
        "path": address,
        "storage": address,
        "objectives": [{"name": n, "direction": d} for n, d in objectives.items()],
        "data": data.pop() if len(data) == 1 else None,
        "sampler": None,
        "convention": next((t["convention"] for t in trials if t["convention"]), None),
        "trials": trials,
        "front": front,
        "importance": importances(study_of(finished, objectives), objectives),
    }


def _params(run: Any) -> dict[str, Any]:
    return dict(dict(run.config.get("trial") or {}).get("params") or {})


def _trial(index: int, run: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    s = dict(run.summary)
    state = "pruned" if s.get("pruned") else STATES.get(run.state, "failed")
    overrides = run.config.get("overrides")
    return {
        "number": dict(run.config.get("trial") or {}).get("number", index),
        "state": state,
        "params": dict(params),
        "values": {k: v for k, v in s.items() if isinstance(v, int | float)} if state == "complete" else {},
        "metrics": {},
        "test": {"accuracy": s.get("test/accuracy"), "energy_joules": s.get("test/energy_joules")},
        "anytime": [dict(p) for p in s.get("anytime") or []],
        "curve": [],
        **{k: s.get(k) for k in ("firing_rate", "parameters", "seconds", "epochs", "convention")},
        "seed": run.config.get("seed"),
        "energy_groups": dict(s.get("energy_groups") or {}),
        "energy_layers": [],
        "reason": None,
        "started": run.created_at,
        "finished": run.heartbeat_at,
        "command": " ".join([spelled("train"), *map(shlex.quote, overrides)]) if overrides else None,
    }


def differing(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each configuration's values, under dotted keys, where not all have the same."""
    flat = [dict(_flat("", c)) for c in configs]
    keys = list(dict.fromkeys(k for f in flat for k in f))
    keys = [k for k in keys if len({str(f.get(k)) for f in flat}) > 1]
    return [{k: f[k] for k in keys if f.get(k) is not None} for f in flat]


def _flat(prefix: str, node: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _front(complete: Sequence[Mapping[str, Any]], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """The points no other dominates, those of networks stopped early among them."""
    points = []
    for t in complete:
        steps = t["anytime"] if list(objectives) in (["accuracy", "energy"], ["energy", "accuracy"]) else []
        last = steps[-1]["t"] if steps else None
        own = {"number": t["number"], "params": t["params"]}
        points += [
            {
                **own,
                "t": p["t"],
                "final": False,
                "test": {},
                "values": {"accuracy": p["accuracy"], "energy": p["energy_joules"]},
            }
            for p in steps[:-1]
        ]
        points.append({**own, "t": last, "final": True, "test": t["test"], "values": t["values"]})

    def loss(point: Mapping[str, Any]) -> list[float]:
        return [-point["values"][n] if d == "maximize" else point["values"][n] for n, d in objectives.items()]

    front: list[dict[str, Any]] = []
    for point in sorted(points, key=loss):  # whoever dominates a point comes before it
        mine = loss(point)
        if not any(all(a <= b for a, b in zip(loss(q), mine, strict=True)) and loss(q) != mine for q in front):
            front.append(point)
    return front
