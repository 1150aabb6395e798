"""Warm start: what another study, a CSV file or W&B already knows about this space."""

from __future__ import annotations

import contextlib
import csv
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from spikefront.cluster.stores import local
from spikefront.config import compose, merge
from spikefront.console import shown
from spikefront.errors import UserError
from spikefront.sweeping.search.grammar import Options
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.attributes import KNOWN, SOURCES, asked_for
from spikefront.sweeping.study.study import record

LOGGED = {"accuracy": "val/accuracy", "energy": "val/energy_joules", "firing_rate": "val/firing_rate"}
WANDB = "wandb://"
OptionOf = Callable[[str, Mapping[str, Any]], str | None]  # which option of a config group has a given configuration
Covers = Callable[[Mapping[str, Any], dict[str, Any]], bool]  # whether a W&B run's configuration is a point's here


@dataclass(frozen=True)
class Point:
    """Parameters, and the objectives' values if they hold for this study as they stand."""

    params: dict[str, Any]
    values: list[float] | None
    origin: str
    of: FrozenTrial | None = None  # the trial of another study that it is


def start(study: Study, sources: Sequence[str], space: Space, option_of: OptionOf, covers: Covers, dir: str) -> str:
    """Give the study what the sources know, each point once, however often it is begun; what that was, in words.

    Points with values become finished trials that the sampler learns from and the front shows; they don't count
    towards ``search.n_trials``. Of the others the parameters are queued, to be trained first.

    Raises:
        UserError: a source that isn't there or has nothing about this space.
    """
    known = queued = 0
    for source in sources:
        if shown(source) in SOURCES.get(study):
            continue
        points = list(_points(source, study, space, option_of, covers, dir))
        if not points:
            raise UserError(f"search.warm_start={shown(source)}: it holds no finished point of this search space")
        with _alone(study):
            taken = SOURCES.get(study)
            if shown(source) in taken:  # by the same command, started elsewhere meanwhile
                continue
            points = list(_new(points, study.get_trials(deepcopy=False)))
            _add(study, points, space)
            SOURCES.set(study, [*taken, shown(source)])
        known += sum(p.values is not None for p in points)
        queued += sum(p.values is None for p in points)
    return f"warm start: {known} known points, {queued} to be trained first" if known or queued else ""


def options_by_content(shared: Sequence[str], options: Options) -> OptionOf:
    """What says which option of a config group builds what a configuration builds, as written or as W&B has it."""

    @functools.cache
    def built(group: str) -> dict[str, str | None]:
        def kind(option: str) -> str | None:
            return _kind(OmegaConf.select(compose(merge(shared, [f"{group}={option}"])), group) or {})

        return {option: kind(option) for option in options(group)}

    def option_of(group: str, node: Mapping[str, Any]) -> str | None:
        wanted = _kind(node)
        return next((option for option, kind in built(group).items() if kind is not None and kind == wanted), None)

    return option_of


def _kind(node: Mapping[str, Any]) -> str | None:
    """What tells a component of a configuration from others: its own name, or that of its class."""
    return node.get("name") or str(node.get("_target_") or "").rpartition(".")[2] or None


def _alone(study: Study) -> FileLock:
    """Context that one command on a study's directory is in at a time; the end of its process leaves it too."""
    path = local(record(study)["path"])
    path.mkdir(parents=True, exist_ok=True)
    return FileLock(path / "warm.lock")


def _new(points: Iterable[Point], trials: Sequence[FrozenTrial]) -> Iterator[Point]:
    """Those that the study has not got: of known points each as it stands, of parameters to try each once."""
    known = {(KNOWN.get(t), _same(t.params), tuple(t.values)) for t in trials if KNOWN.on(t)}
    tried = {_same(asked_for(t)) for t in trials}
    for point in points:
        params = _same(point.params)
        if point.values is None:
            if params not in tried:
                yield point
        elif (point.origin, params, tuple(point.values)) not in known:
            yield point
        tried.add(params)


def _same(params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(params.items())


def _add(study: Study, points: Iterable[Point], space: Space) -> None:
    for point in points:
        if point.values is None:
            attributes.enqueue(study, point.params, point.origin)
        else:
            distributions = {k: space.parameters[k].distribution for k in point.params}
            study.add_trial(attributes.known_trial(point.params, distributions, point.values, point.origin, point.of))


def _points(source: str, study: Study, space: Space, option_of: OptionOf, covers: Covers, dir: str) -> Iterator[Point]:
    made = record(study)
    if source.startswith(WANDB):
        return _from_wandb(source, space, made["objectives"], option_of, covers if made["seeds"] == 1 else _nothing)
    if source.endswith(".csv"):
        return _from_csv(Path(source), space, made["objectives"])
    return _from_study(source, study, space, dir)


def _from_study(source: str, study: Study, space: Space, dir: str) -> Iterator[Point]:
    """Trials of the same configuration but for the space as known points; of another, its front to be trained."""
    from spikefront.sweeping.study.records import records
    from spikefront.sweeping.study.sources import open_study

    other = open_study(source, dir)
    here, there = record(study), record(other)
    found, trials = records(other, volumes=False), other.trials
    same = here["objectives"] == there["objectives"] and here["seeds"] == there["seeds"]
    front = {p["number"] for p in found["front"]}
    for trial in found["trials"]:
        if trial["state"] != "complete":
            continue
        whole = {**there["base"], **trial["params"]}
        origin = f"trial {trial['number']} of {other.study_name}"  # by whichever address
        params = {k: whole[k] for k in space.parameters if k in whole}
        if same and _covers(whole, here["base"]) and _complete(params, space):
            yield Point(params, list(trial["values"].values()), origin, trials[trial["number"]])
        elif trial["number"] in front and (near := space.nearest(params)):
            yield Point(near, None, origin)


def _covers(whole: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Whether a trial's whole configuration agrees with a study's in all that isn't searched there."""
    missing = object()
    return all(whole.get(k, missing) == v for k, v in base.items())


def _complete(params: Mapping[str, Any], space: Space) -> bool:
    """Whether these are exactly the parameters that a trial of the space has, each within its values."""
    return set(params) == set(space.active(params)) and all(space.holds(k, v) for k, v in params.items())


def _from_csv(path: Path, space: Space, objectives: Mapping[str, str]) -> Iterator[Point]:
    """A row a point: a column for each parameter, and known ones have one for each objective too."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"search.warm_start={path}: {error}") from error
    columns = set(rows[0]) if rows else set()
    if not columns & set(space.parameters):
        raise UserError(
            f"search.warm_start={path}: no column is a parameter of this search; name them"
            f" {', '.join(space.parameters)}, and the objectives {', '.join(objectives)} if they are known"
        )
    for line, row in enumerate(rows, 2):
        if row.get("state") not in (None, "", "complete") or row.get("final") in ("False", "0"):
            continue  # an exported study's: no trial's own result
        params = {}
        for key, p in space.parameters.items():
            if text := (row.get(key) or "").strip():
                params[key] = value = _read(text, p.distribution)
                if not space.holds(key, value):
                    raise UserError(f"search.warm_start={path}, line {line}: {key}={text} is not in {p.text}")
        texts = [(row.get(name) or "").strip() for name in objectives]
        origin = f"line {line} of {path.name}"
        try:
            values = [float(t) for t in texts] if all(texts) and _complete(params, space) else None
        except ValueError as error:
            raise UserError(f"search.warm_start={path}, line {line}: {error}") from error
        if params:
            yield Point(params, values, origin)


def _read(text: str, distribution: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return next((c for c in distribution.choices if str(c) == text), text)
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _from_wandb(
    source: str, space: Space, objectives: Mapping[str, str], option_of: OptionOf, covers: Covers
) -> Iterator[Point]:
    """Ended runs of ``wandb://entity/project`` or, with one more part, of a group there: a study of this engine.

    Known is what was trained to its end in a configuration of this study's; of the rest the parameters are tried.
    """
    import wandb

    entity, project, *group = source.removeprefix(WANDB).strip("/").split("/") + [""] * 2
    if not entity or not project:
        raise UserError(f"search.warm_start={source}: write wandb://entity/project or wandb://entity/project/group")
    filters = {"state": "finished", **({"group": group[0]} if group[0] else {})}
    try:
        runs = list(wandb.Api(timeout=60).runs(f"{entity}/{project}", filters=filters))
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise UserError(f"search.warm_start={source}: {str(error).splitlines()[0]}") from error
    for run in runs:
        told = (run.config.get("trial") or {}).get("params") or {}
        found = {k: told.get(k, _configured(run.config, k, option_of)) for k in space.parameters}
        params = {k: found[k] for k in space.active(found) if found[k] is not None}
        if not _complete(params, space):
            continue
        values = [run.summary.get(name, run.summary.get(LOGGED.get(name, name))) for name in objectives]
        whole = all(isinstance(v, int | float) for v in values) and not run.summary.get("pruned")
        known = whole and covers(run.config, params)
        origin = f"W&B run {run.name} of {entity}/{project}"
        yield Point(params, [float(v) for v in values] if known else None, origin)


def _nothing(*_: Any) -> bool:
    """One training is none of several seeds' means."""
    return False


def _configured(config: Mapping[str, Any], key: str, option_of: OptionOf) -> Any:
    """A key's value in a run's configuration; of a config group the option that was chosen."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return option_of(key, node) if isinstance(node, Mapping) else node
