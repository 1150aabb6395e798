"""What is read back from W&B: a project's runs as studies, and checkpoints kept as artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from spikefront.analysis.front import completed, judge
from spikefront.analysis.importance import importances, study_of
from spikefront.analysis.schema import Params, State, Step, StudyRecord, TrialRecord
from spikefront.errors import UserError
from spikefront.files import cache_folder
from spikefront.start import typed
from spikefront.tracking.wandb.client import PREFIX, ask, safe_id

STATES: dict[str, State] = {"finished": "complete", "running": "running", "pending": "waiting"}
CHECKPOINTS = (".ckpt", ".pth", ".pth.tar", ".tar", ".safetensors")
DEFAULT = {"accuracy": "maximize", "energy": "minimize"}


def checkpoint_path(address: str) -> str:
    """The local file that ``address`` stands for: ``wandb:<entity>/<project>/<artifact>:<alias>`` is downloaded into
    the user's cache (once), anything else is returned as it is.

    Raises:
        UserError: no such artifact, no account, no network, or no checkpoint in it.
    """
    if not address.startswith(PREFIX):
        return address
    name = address.removeprefix(PREFIX)
    name = name if ":" in name else f"{name}:best"

    def fetch() -> str:
        artifact = wandb.Api(timeout=60).artifact(name)
        kept = sorted(path for path in artifact.manifest.entries if path.endswith(CHECKPOINTS))
        if not kept:
            raise UserError(f"{address} holds no checkpoint (.ckpt, .pth.tar or .safetensors)")
        place = cache_folder() / "checkpoints" / safe_id(artifact.digest)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        # what is there is compared by content
        path = Path(artifact.download(str(place), path_prefix=kept[0])) / kept[0]
        path.chmod(0o600)
        return str(path)

    return ask(address, fetch)


def project_records(address: str) -> list[StudyRecord]:
    """The studies of ``<entity>/<project>`` or the one of ``<entity>/<project>/<group>``, as
    ``spikefront.sweeping.study.records`` gives those of a storage; runs without a group are a study of the project's
    name.

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

    try:
        runs = ask(f"{PREFIX}{address}", fetch)
    except UserError as error:
        raise UserError(f"{error}; a study of this machine has the same front: study=<its name>") from error
    groups: dict[str, list[Any]] = {}
    for run in runs:
        if run.job_type != "study":
            groups.setdefault(run.group or project, []).append(run)
    if not groups:
        raise UserError(f"{PREFIX}{address} holds no runs; the group is the study's name")
    return [_study(name, f"{PREFIX}{entity}/{project}", runs) for name, runs in groups.items()]


def _study(name: str, address: str, runs: Sequence[Any]) -> StudyRecord:
    own = [_params(run) for run in runs]
    if not any(own):
        own = differing([dict(run.config) for run in runs])
    asked = (dict(run.config.get("trial") or {}).get("objectives") for run in runs)
    objectives: dict[str, str] = next((o for o in asked if o), DEFAULT)
    trials = [_trial(i, run, params, objectives) for i, (run, params) in enumerate(zip(runs, own, strict=True))]
    judged = judge(trials, objectives)
    finished = [(t["params"], t["values"]) for t in completed(trials)]
    shares, spread = importances(study_of(finished, objectives), objectives)
    data = {dict(run.config.get("data") or {}).get("name") for run in runs}
    return {
        "study": name,
        "path": address,
        "storage": address,
        "objectives": [{"name": n, "direction": d} for n, d in objectives.items()],
        "data": data.pop() if len(data) == 1 else None,
        "settings": {},
        "sampler": None,
        "convention": next((t["convention"] for t in trials if t["convention"]), None),
        "budget": None,
        "command": None,
        "trials": trials,
        **judged,
        "taken": [],
        "importance": shares,
        "importance_spread": spread,
    }


def _params(run: Any) -> Params:
    return dict(dict(run.config.get("trial") or {}).get("params") or {})


def _trial(index: int, run: Any, params: Params, objectives: Mapping[str, str]) -> TrialRecord:
    s = dict(run.summary)
    metrics = {k: float(v) for k, v in s.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    values = {n: metrics[n] for n in objectives if n in metrics}
    state: State = "pruned" if s.get("pruned") else STATES.get(run.state, "failed")
    if state == "complete" and len(values) < len(objectives):
        state = "failed"  # ended before it was evaluated
    overrides = run.config.get("overrides")
    return {
        "number": dict(run.config.get("trial") or {}).get("number", index),
        "state": state,
        "params": dict(params),
        "values": values if state == "complete" else {},
        "metrics": {k: v for k, v in metrics.items() if not k.startswith("_")},
        "test": {
            "accuracy": s.get("test/accuracy"),
            "energy_joules": s.get("test/energy_joules"),
            "samples": s.get("test/samples"),
            "anytime": _steps(s.get("test/anytime")),
        },
        "anytime": _steps(s.get("anytime")),
        "samples": s.get("samples"),
        "curve": [],
        "firing_rate": s.get("firing_rate"),
        "parameters": s.get("parameters"),
        "seconds": s.get("seconds"),
        "epochs": s.get("epochs"),
        "asked_epochs": dict(run.config.get("trainer") or {}).get("max_epochs"),
        "threads": run.config.get("threads"),
        "seed": run.config.get("seed"),
        "seeds": [],
        "spread": {},
        "spent": {},
        "energy_groups": dict(s.get("energy_groups") or {}),
        "energy_layers": [],
        "convention": s.get("convention"),
        "twin_joules": s.get("twin_joules"),
        "on_front": False,  # until the study is judged as a whole
        "front_then": s.get("on_front"),
        "reason": None,
        "origin": None,
        "breaks": [],
        "known": False,
        "started": run.created_at,
        "finished": run.heartbeat_at,
        "command": typed("train", *overrides) if overrides else None,
        "take": None,
    }


def _steps(points: Any) -> list[Step]:
    return [{"t": p["t"], "accuracy": p["accuracy"], "energy_joules": p["energy_joules"]} for p in points or []]


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
