"""A sweep from the command line's side: make or check the study, start workers, say what came out."""

from __future__ import annotations

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.samplers import CmaEsSampler
from optuna.study import Study
from rich.console import Console

from spikefront.config import compose
from spikefront.errors import UserError, near_matches
from spikefront.sweeping import ledger, pruning
from spikefront.sweeping import objectives as objectives_
from spikefront.sweeping import study as studies
from spikefront.sweeping.budgets import Limits
from spikefront.sweeping.configuration import is_group, merge
from spikefront.sweeping.constraints import Constraints
from spikefront.sweeping.inspection import importance_lines
from spikefront.sweeping.processes import default_workers, gpus_of
from spikefront.sweeping.records import records
from spikefront.sweeping.space import Space, parse
from spikefront.sweeping.warm import start as warm_start
from spikefront.tracking.front import front_table, write_front_html
from spikefront.tracking.study import StudyRun
from spikefront.tracking.terminal import SweepView

EXHAUSTIVE = ("optuna.samplers.BruteForceSampler", "spikefront.sweeping.samplers.Exhaustive")
PAGE = "front.html"
WORKERS_ELSEWHERE = 8  # by default on a cluster


def sweep(
    cfg: DictConfig,
    arguments: Sequence[str],
    options: Callable[[str], list[str]],
    launch: Callable[[list[list[str]]], Any],
    elsewhere: bool = False,
) -> None:
    """Run the search that ``cfg.search`` and the sweeping ``arguments`` describe, or continue it.

    Args:
        cfg: ``conf/sweep.yaml`` composed without the sweeping arguments, with Hydra's own node.
        arguments: the command line's overrides.
        options: the options of a config group.
        launch: starts one worker for each list of overrides and waits for all.
        elsewhere: workers run on other machines, so the default storage is a journal file.

    Raises:
        UserError: a contradictory search, a study that was made with another, workers that failed.
    """
    console = Console(highlight=False, soft_wrap=True)
    fixed, space = _space(cfg, arguments, options)
    _validated(cfg)
    search = _plain(cfg.search)
    objectives = objectives_.parse(search["objectives"])
    budget = _budget(search, space)
    with open_dict(cfg.search):
        cfg.search.study = search["study"] = search["study"] or _name(cfg, space)
        if elsewhere and not search["storage"] and studies.url(search).startswith("sqlite:") and _is_new(search):
            cfg.search.storage = search["storage"] = studies.journal_url(search)
    worker = [*fixed, f"search.study={search['study']}", "search.worker=true"]
    wanted = search["workers"] or (WORKERS_ELSEWHERE if elsewhere else default_workers(gpus_of(cfg.trainer)))
    if cfg.get("dry_run"):
        console.print(
            f"study {search['study']} in {studies.shown(studies.url(search))}:"
            f" {budget} trials, {min(wanted, budget)} workers"
        )
        launch([worker] * min(wanted, budget))
        return
    default = {p.key: _choice(cfg, p.key) if is_group(p.key) else OmegaConf.select(cfg, p.key) for p in space}
    base = {k: v for k, v in _base(cfg).items() if not any(k == p.key or k.startswith(f"{p.key}.") for p in space)}
    limits = _checked(cfg, search, objectives)
    shared = [o for o in fixed if not o.startswith(("search.", "search/", "hydra."))]
    study, _, new = studies.create(
        search,
        budget,
        space,
        objectives,
        base,
        space.nearest(default),
        shared,
        command=_train_arguments(cfg, shared),
        exhaustive=_exhaustive(search),
    )
    with studies.storage_errors(studies.url(search)):
        warm = warm_start(study, _sources(search), space, partial(_option_of, shared, options), search["dir"])
    finished = len(ledger.finished(study))
    workers = int(min(wanted, max(1, budget - finished)))
    console.print(
        f"study {search['study']}: {', '.join(f'{n} ({d})' for n, d in objectives.items())} over"
        f" {', '.join(f'{p.key}={p.text}' for p in space)}"
    )
    console.print(
        f"{'new' if new else 'continued'} in {studies.shown(studies.url(search))}:"
        f" {finished} of {budget} trials finished"
        + (f", {workers} worker{'s' if workers > 1 else ''}" if finished < budget else "")
    )
    if warm:
        console.print(warm)
    tracked = StudyRun.of(
        _plain(cfg).get("logger"), search["study"], studies.wandb_id(study, ""), studies.directory(search)
    )
    try:
        if finished < budget:
            with _progress(study, budget, console, tracked):
                launch([worker] * workers)
            if (finished := len(ledger.finished(study))) < budget and (limit := limits.reached(study)):
                console.print(
                    f"{limit}: {finished} of {budget} trials finished; with a higher limit the command goes on"
                )
    except KeyboardInterrupt:
        finished = len(ledger.finished(study))
        console.print(f"stopped with {finished} of {budget} trials finished; the same command continues")
        raise
    finally:
        _conclude(study, console, tracked)


def _space(cfg: DictConfig, arguments: Sequence[str], options: Callable[[str], list[str]]) -> tuple[list[str], Space]:
    """The command line's fixed overrides, and the space of YAML and command line together.

    What the command line sweeps goes before the YAML's values for the same key; what it fixes leaves the space.
    """
    entries: dict[str, Any] = dict(OmegaConf.to_container(cfg.search.space, resolve=True) or {})  # type: ignore[arg-type]
    fixed = []
    for argument in arguments:
        override = parse(argument)
        key = override.key_or_group
        entries.pop(key, None)
        if override.is_sweep_override():
            entries[key] = override.get_value_string()
        else:
            fixed.append(argument)
    if not entries:
        raise UserError(
            "the search space is empty: choose hparams_search=…, or sweep on the command line, such as"
            " model.timesteps=choice(1,2,4)"
        )
    space = Space.parse(entries, options)
    for p in space:
        _exists(cfg, p.key, p.when is not None)
        if is_group(p.key):
            for value in space.parameters[p.key].spelled or ():
                compose(merge(fixed, [p.override(value)]), root="sweep")  # Hydra's own message names what's wrong
    return fixed, space


def _validated(cfg: DictConfig) -> None:
    if not cfg.data.get("val_fraction"):
        raise UserError(
            "data.val_fraction is 0: a sweep selects on a validation part, never on the test part;"
            " set data.val_fraction=0.1"
        )


def _exists(cfg: DictConfig, key: str, conditional: bool) -> None:
    if is_group(key) or conditional:
        return
    node: Any = cfg
    for part in key.split("."):
        if not OmegaConf.is_dict(node) or part not in node:
            options = list(node) if OmegaConf.is_dict(node) else []
            raise UserError(f"search.space.{key}: no such configuration key; {near_matches(part, map(str, options))}")
        node = node._get_node(part)
        node = node._maybe_dereference_node() if node is not None and node._is_interpolation() else node


def _budget(search: Mapping[str, Any], space: Space) -> int:
    exhaustive = _exhaustive(search)
    size = space.size() if exhaustive else math.inf
    if exhaustive and size == math.inf:
        endless = " and ".join(p.key for p in space if p.size == math.inf)
        raise UserError(
            f"search/sampler=grid tries every point, and {endless} has no end of them: give it steps, such as"
            " range(0.5,1.5,0.25), or take search/sampler=tpe"
        )
    wanted = search["n_trials"]
    if wanted is None:
        if not exhaustive:
            raise UserError("search.n_trials is null: only an exhaustive search (search/sampler=grid) ends by itself")
        return int(size)
    if not isinstance(wanted, int) or wanted < 1:
        raise UserError(f"search.n_trials is {wanted}: it must be a whole number of at least 1")
    return int(min(wanted, size))


def _is_new(search: Mapping[str, Any]) -> bool:
    return not (studies.directory(search) / "study.db").exists()


def _exhaustive(search: Mapping[str, Any]) -> bool:
    return search["sampler"]["_target_"] in EXHAUSTIVE


def _name(cfg: DictConfig, space: Space) -> str:
    """A study's name from what it searches and on what: ``timesteps-digits-sdt_tiny``."""
    parts = [_choice(cfg, "hparams_search") or "-".join(p.key.split(".")[-1] for p in space)]
    parts += [str(_choice(cfg, group)) for group in ("data", "model") if group not in space.parameters]
    return "-".join(parts).replace("/", "_")


def _choice(cfg: DictConfig, group: str) -> Any:
    return cfg.hydra.runtime.choices.get(group)


def _base(cfg: DictConfig) -> dict[str, Any]:
    plain = {k: v for k, v in cfg.items_ex(resolve=False) if k != "hydra"}
    masked = OmegaConf.create(plain, flags={"allow_objects": True})
    masked.output_dir = "."
    return studies.comparable(_plain(masked))


def _plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def _train_arguments(cfg: DictConfig, shared: Sequence[str]) -> list[str]:
    """Arguments of train.py that give what all trials share, the search file's own settings spelled out."""
    own = [o for o in shared if not o.startswith("hparams_search=")]
    plain = compose(own)
    with_search = OmegaConf.create({k: v for k, v in cfg.items_ex(resolve=False) if k != "hydra"})
    now, then = (studies.comparable(_plain(c, resolve=False)) for c in (with_search, plain))
    return own + [f"{k}={v}" for k, v in now.items() if k in then and then[k] != v]


def _sources(search: Mapping[str, Any]) -> list[str]:
    given = search.get("warm_start") or []
    return [given] if isinstance(given, str) else list(map(str, given))


def _option_of(
    shared: Sequence[str], options: Callable[[str], list[str]], group: str, node: Mapping[str, Any]
) -> str | None:
    """Which option of a config group builds what a configuration builds."""
    for option in options(group):
        here = OmegaConf.select(compose(merge(shared, [f"{group}={option}"])), group)
        if here is not None and here.get("_target_") == node.get("_target_"):
            return option
    return None


def _checked(cfg: DictConfig, search: Mapping[str, Any], objectives: Mapping[str, str]) -> Limits:
    """Say what is wrong with limits, constraints and seeds before anything is made of them."""
    if not isinstance(search["seeds"], int) or search["seeds"] < 1:
        raise UserError(f"search.seeds is {search['seeds']}: it must be a whole number of at least 1")
    Constraints(search["constraints"]).check(cfg)  # of the default configuration, whatever the verdict
    if isinstance(_built(cfg, "sampler"), CmaEsSampler) and len(objectives) > 1:
        raise UserError(
            f"search/sampler=cmaes searches one objective, not {', '.join(objectives)}: choose tpe, gp or nsga2, or"
            " search.objectives=[accuracy]"
        )
    if (pruner := _built(cfg, "pruner")) is not None:
        pruning.check(pruner, search["prune_on"], objectives)
    return Limits(search)


def _built(cfg: DictConfig, part: str) -> Any:
    """The sampler or the pruner, as every worker builds it; None if there is none.

    Raises:
        UserError: it has no such settings.
    """
    try:
        return instantiate(cfg.search[part]) if cfg.search[part] else None
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"search.{part}: {str(cause).splitlines()[0]}") from error


@contextmanager
def _progress(study: Study, budget: int, console: Console, tracked: StudyRun | None) -> Iterator[None]:
    """Show the study while it grows, in the terminal and in W&B, as long as the context lasts."""
    end = threading.Event()

    def look() -> float:
        """Draw what is there now; the seconds that took."""
        begun = time.monotonic()
        now = records(study, volumes=False)
        shown.show(now)
        if tracked is not None and tracked.due(now):
            tracked.update(records(study))
        return time.monotonic() - begun

    def watch() -> None:
        pause = 1.0
        while not end.wait(pause):
            with contextlib.suppress(Exception):  # the storage is busy: the next look tells
                pause = max(1.0, 10 * look())

    with SweepView(console, budget, records(study, volumes=False)) as shown:
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            look()


def _conclude(study: Study, console: Console, tracked: StudyRun | None) -> None:
    found = records(study, importance=True)
    _say(found, console)
    if tracked is not None:
        tracked.close(found)  # last: W&B may take its time


def _say(found: Mapping[str, Any], console: Console) -> None:
    if not found["front"]:
        console.print("no trial has finished yet")
        return
    page = write_front_html(found, Path(found["path"]) / PAGE)
    console.print(front_table(found))
    for line in importance_lines(found):
        console.print(line)
    counts: dict[str, int] = {}
    for trial in found["trials"]:
        counts[trial["state"]] = counts.get(trial["state"], 0) + 1
    console.print(
        ", ".join(f"{n} {state}" for state, n in counts.items())
        + f"; hypervolume {found['hypervolume']:.4g}"
        + (f"; energies: {found['convention']}" if found["convention"] else "")
    )
    console.print(f"plot:  {page}")
    console.print(f"study: {found['storage']}  ({shlex.quote(found['study'])})")
