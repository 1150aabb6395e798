"""Search for the best accuracy-energy trade-offs: python src/sweep.py -m hparams_search=timesteps"""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from spikefront.analysis.inherited import agreement
from spikefront.analysis.schema import StudyRecord
from spikefront.commands.cli import check_switches, entry, plain, refuse_unread
from spikefront.commands.memory import keep_freed_memory
from spikefront.commands.study import importance_lines
from spikefront.config import Composer, compose, places
from spikefront.console import console as plain_console
from spikefront.console import shown
from spikefront.errors import UserError
from spikefront.start import importing, spelled
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, attributes, request, warm
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study import study as studies
from spikefront.sweeping.study.records import records
from spikefront.sweeping.study.request import Options, Request
from spikefront.sweeping.worker import template
from spikefront.sweeping.worker.budgets import Limits
from spikefront.sweeping.worker.processes import default_workers, stop_with_parent
from spikefront.tracking.pages.front_table import front_table, volumes_told, write_front_html
from spikefront.tracking.pages.terminal import SweepView
from spikefront.tracking.wandb.filters import told_apart
from spikefront.tracking.wandb.study_run import StudyRun

PAGE = "front.html"
WORKERS_ELSEWHERE = 8  # by default on a cluster
Launch = Callable[[list[list[str]]], Any]


def main() -> None:
    """Run a sweep, be one of its workers, or have the imports of its workers ready for them."""
    if template.asked():
        make_ready()
        template.serve(command)
    command()


def make_ready() -> None:
    """Have behind this process what each of its forks would begin with."""
    with importing():
        import spikefront.data.sets.digits  # noqa: F401 (what it imports others do too)
        import spikefront.sweeping.worker.worker  # noqa: F401

        RDBStorage("sqlite://")  # imports what a first look at a database would
        compose(root="sweep")  # and at a configuration


@entry("sweep")
def command(cfg: DictConfig) -> None:
    """Be one worker of a study; a sweep itself comes from Hydra's ``-m``, through ``sweep``."""
    from hydra.core.hydra_config import HydraConfig

    if not cfg.search.worker:
        raise UserError(f"a sweep needs -m: {spelled('sweep')} -m hparams_search=timesteps")
    stop_with_parent()  # before what takes its time
    with importing():
        from spikefront.sweeping.worker.worker import Worker

    keep_freed_memory()
    running = HydraConfig.get()
    with storages.storage_errors(storages.url(cfg.search)):
        Worker(cfg, [*places(running), *running.overrides.task]).run()


def sweep(
    cfg: DictConfig,
    arguments: Sequence[str],
    options: Options,
    launch: Launch,
    elsewhere: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Run the search that ``cfg.search`` and the sweeping ``arguments`` describe, or continue it.

    Args:
        cfg: ``conf/sweep.yaml`` composed without the sweeping arguments, with Hydra's own node.
        arguments: the command line's overrides.
        options: the options of a config group.
        launch: starts one worker for each list of overrides and waits for all.
        elsewhere: workers run on other machines, so the default storage is a journal file.
        prepare: called as soon as it is clear that workers will be launched.

    Raises:
        UserError: a contradictory search, a study that was made with another, workers that failed.
    """
    console = plain_console(soft_wrap=True)
    added = [f"{key}=0" for key in cfg.search.space or () if key.startswith("+")]
    refuse_unread(cfg, cfg.hydra, [*arguments, *added], "sweep")
    check_switches(cfg, "sweep")
    StudyRun.mode(logger := plain(cfg.get("logger")))  # refuses, before a study is made
    asked = request.read(cfg, arguments, options, elsewhere, _predict, _slices)
    limits = Limits(asked.search)
    wanted = asked.search["workers"] or (WORKERS_ELSEWHERE if elsewhere else default_workers(cfg.trainer))
    if cfg.get("dry_run"):
        _show_plan(asked, min(wanted, asked.budget), launch, console)
        return
    prepare()
    chosen = {g: o for g, o in cfg.hydra.runtime.choices.items() if o and not ("/" in g or g in asked.space.parameters)}
    with storages.storage_errors(storages.url(asked.search)):
        study, new = studies.create(asked)
        attributes.CHOICES.set(study, chosen)
        known = _warm_start(study, asked, options)
        now = accounts.account(study)
        workers = min(wanted, max(1, now.budget - len(now.finished)))
        _announce(study, asked, new, now, workers, known, console)
        tracked = _tracked(logger, study, asked)
        try:
            _work(study, asked, workers, launch, limits, console, tracked)
        finally:
            found = records(study, importance=True)
            _say(found, console)
            if line := agreement(accounts.pairs(study.get_trials(deepcopy=False))):
                console.print(line)
            if tracked is not None:
                tracked.close(found)  # last: W&B may take its time
        _conclude(study)


def _show_plan(asked: Request, workers: int, launch: Launch, console: Console) -> None:
    trials = f"{min(asked.budget, asked.space.size())} trials"
    if asked.elastic is not None:
        tuned = min(asked.search["engine"]["finetune"], asked.budget)
        trials = f"an elastic training, {asked.budget} evaluations of its slices, {tuned} fine-tunings"
    console.print(
        f"study {asked.search['study']} in {shown(storages.url(asked.search))}:"
        f" {trials}, {workers} worker{'s' if workers > 1 else ''}"
    )
    for name in ("largest", "smallest") if asked.elastic is not None else ():
        console.print(f"{name}: {' '.join(asked.elastic[name])}")  # type: ignore[index, literal-required]
    for note in asked.notes:
        console.print(note)
    launch([asked.worker] * workers)


def _warm_start(study: Study, asked: Request, options: Options) -> str:
    compose, option_of = Composer(asked.shared), warm.options_by_content(asked.shared, options)

    def covers(run: Mapping[str, Any], params: dict[str, Any]) -> bool:
        here = told_apart(plain(compose(asked.space.overrides(params))))
        own, there = request.comparable(json.loads(json.dumps(here))), request.comparable(told_apart(run))
        return all(k in there and there[k] == v for k, v in own.items())

    with storages.storage_errors(storages.url(asked.search)):
        return warm.start(study, asked.sources, asked.space, option_of, covers, asked.search["dir"])


def _announce(
    study: Study, asked: Request, new: bool, now: accounts.Account, workers: int, known: str, console: Console
) -> None:
    finished, budget = len(now.finished), now.budget
    console.print(
        f"study {study.study_name}: {', '.join(f'{n} ({d})' for n, d in asked.objectives.items())} over"
        f" {', '.join(f'{p.key}={p.text}' for p in asked.space)}"
    )
    console.print(
        f"{'new' if new else 'continued'} in {shown(storages.url(asked.search))}:"
        f" {finished} of {budget} trials finished"
        + (f", {workers} worker{'s' if workers > 1 else ''}" if finished < budget else "")
    )
    for line in filter(None, [known, *asked.notes]):
        console.print(line)


def _tracked(logger: Any, study: Study, asked: Request) -> StudyRun | None:
    return StudyRun.of(logger, study.study_name, studies.wandb_id(study, ""), storages.directory(asked.search))


def _work(
    study: Study,
    asked: Request,
    workers: int,
    launch: Launch,
    limits: Limits,
    console: Console,
    tracked: StudyRun | None,
) -> None:
    """Have workers run until the study is whole, a limit is reached or somebody interrupts."""
    now = accounts.account(study)
    try:
        if not now.whole:
            with _progress(study, now.budget, console, tracked):
                launch([asked.worker] * workers)
    except KeyboardInterrupt:
        now = accounts.account(study)
        console.print(f"stopped with {len(now.finished)} of {now.budget} trials finished; the same command continues")
        raise
    now = accounts.account(study)
    finished = len(now.finished)
    if not now.whole and (limit := limits.reached(study)):
        console.print(f"{limit}: {finished} of {now.budget} trials finished; with a higher limit the command goes on")
    if now.exhausted:
        what = "trained" if now.stages is None else "trained, evaluated or fine-tuned"
        others = {"failed": len(now.failed), "broke a constraint": now.infeasible, "known before": now.known}
        told = "".join(f", {n} {what}" for what, n in others.items() if n)
        console.print(f"all {now.size:.0f} points of the search space are done with: {finished} {what}{told}")


def _conclude(study: Study) -> None:
    """Say so where a search that has ended came to nothing.

    Raises:
        UserError: no trial has a result.
    """
    now = accounts.account(study)
    if not now.whole or any(t.state == TrialState.COMPLETE for t in now.finished):
        return
    ended = {"failed": len(now.failed), "broke a constraint": now.infeasible, "stopped early": len(now.finished)}
    if now.known and not any(ended.values()):
        return
    told = ", ".join(f"{n} {what}" for what, n in ended.items() if n) or "none was tried"
    last = max(accounts.bad(study), key=lambda t: t.number, default=None)
    why = f"; the last: {attributes.REASON.get(last)}" if last is not None else ""
    raise UserError(f"no trial of the study '{study.study_name}' has a result ({told}{why})")


def _predict(cfg: DictConfig, **how: Any) -> Any:
    import spikefront  # loads PyTorch, which a sweep does only for constraints on what is predicted

    keep_freed_memory()  # as the workers do, of whom this is to be true
    return spikefront.predict_cost(cfg, **how)


def _slices(space: Space, shared: list[str], *how: Any) -> tuple[Space, attributes.Elastic]:
    with importing():  # networks are built, which a sweep does only to see whose weights are slices of whose
        from spikefront.sweeping.worker.members import plan

    return plan(space, Composer(shared), *how)


@contextmanager
def _progress(study: Study, budget: int, console: Console, tracked: StudyRun | None) -> Iterator[None]:
    """Show the study while it grows, in the terminal and in W&B, as long as the context lasts."""
    end = threading.Event()

    def look() -> float:
        """Draw what is there now; the seconds that took."""
        begun = time.monotonic()
        now = records(study, volumes=False)
        view.show(now)
        if tracked is not None and tracked.due(now):
            tracked.update(records(study))
        return time.monotonic() - begun

    def watch() -> None:
        pause = 1.0
        while not end.wait(pause):
            with contextlib.suppress(Exception):  # the storage is busy: the next look tells
                pause = max(1.0, 10 * look())

    with SweepView(console, budget, records(study, volumes=False)) as view:
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            look()


def _say(found: StudyRecord, console: Console) -> None:
    if not found["front"]:
        console.print("no trial has finished yet")
        return
    page = write_front_html(found, Path(found["path"]) / PAGE)
    console.print(front_table(found, console.width))
    for line in importance_lines(found):
        console.print(line)
    counts: dict[str, int] = {}
    for trial in found["trials"]:
        counts[trial["state"]] = counts.get(trial["state"], 0) + 1
    console.print(
        ", ".join(f"{n} {state}" for state, n in counts.items())
        + f"; {volumes_told(found)}"
        + (f"; energies: {found['convention']}" if found["convention"] else "")
    )
    console.print(f"plot:  {page}")
    console.print(f"study: {found['storage']}  ({shlex.quote(found['study'])})")
