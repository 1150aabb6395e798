"""Searches beside each other on recorded trainings: what each has found after so many seconds, with 1, 4, 16 workers.

    python benchmarks/search.py [peer …] [--tables digits …] [--workers 1 4 16] [--seeds 20] [--trials 64]
    python benchmarks/search.py --report [--plot docs/search-bench.svg]   # what is measured so far
    python benchmarks/search.py --list                                    # who there is
    python benchmarks/search.py --python /tmp/peers/bin/python …          # peers of other packages: tables/peers.py

Nothing is trained: benchmarks/tables answers, from recorded trainings, what each configuration comes to after each
epoch and how long that takes. Workers are simulated; an epoch of one ends when its seconds are over, and what a search
may know by then it is told. All searches have the same compute, the seconds of so many trainings of the space's mean
configuration, over all workers. A search's own seconds are reported beside, not counted.

A network counts for the front once it is trained to its last epoch. The front is chosen by the accuracies that a
search saw, one seed's luck among them, and its hypervolume is that of the same configurations without that luck: a
search that picks winners by luck gains nothing by it. Reference: accuracy 0 and the dearest recorded network's energy;
energy as it is, and in decades down to a thousandth; 1 is the whole rectangle.

FILE (`build/search.jsonl`) gets a line a search, and the same command goes on where it was stopped. Several processes,
of one machine, may share the work: the same command again, or one of other rows.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import heapq
import itertools
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks" / "tables")]

import optuna  # noqa: E402
from filelock import FileLock, Timeout  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from record import DEFAULT_RAW, append, raw, seconds_of  # noqa: E402
from spaces import SETS  # noqa: E402
from table import Answer, Table, begun  # noqa: E402

from spikefront.analysis.front import DECADES  # noqa: E402
from spikefront.analysis.pareto import hypervolume, non_dominated  # noqa: E402
from spikefront.config import Composer, compose  # noqa: E402
from spikefront.sweeping.search import pruning  # noqa: E402
from spikefront.sweeping.search.optuna_internals import id_of  # noqa: E402
from spikefront.sweeping.search.space import Space  # noqa: E402
from spikefront.sweeping.study import attributes, brought  # noqa: E402
from spikefront.sweeping.worker.proposal import propose, sampler  # noqa: E402

OBJECTIVES = {"accuracy": "maximize", "energy": "minimize"}
DIRECTIONS = list(OBJECTIVES.values())
DEFAULT = {  # conf/train.yaml's, nearest of what is offered: trial 0 of a sweep of ours
    "model.timesteps": 4,
    "model.depth": 2,
    "model.dim": 64,
    "model.mlp_ratio": 4,
    "neuron": "lif",
    "neuron.threshold": 1.0,
    "neuron.tau": 2.0,
    "optimizer.lr": 6e-3,
}
GOOD = {  # of what is recorded on digits that which alone reaches the most, and that which reaches the least
    "model.timesteps": 4,
    "model.depth": 1,
    "model.dim": 24,
    "model.mlp_ratio": 4,
    "neuron": "ilif",
    "neuron.threshold": 0.485,
    "optimizer.lr": 0.0141,
}
BAD = {
    "model.timesteps": 1,
    "model.depth": 3,
    "model.dim": 16,
    "model.mlp_ratio": 2,
    "neuron": "ilif",
    "neuron.threshold": 2.97,
    "optimizer.lr": 3.2e-4,
}
SAID = ROOT / "build" / "search_peers.log"  # what other packages print
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the budget, at which the report looks
Points = list[list[float]]  # accuracy and joules after t = 1 … T
Curve = list[tuple[float, float]]  # seconds or epochs, and the hypervolume by then


@dataclass
class Job:
    """A training that a search asks for: from an epoch at which it rests, 0 for a new one, until another.

    ``seconds``: what it has taken so far."""

    key: int
    params: dict[str, Any]
    until: int
    begin: int = 0
    own: Any = None
    seconds: float = 0.0


class Peer(Protocol):
    """A search, told by the simulation what happens when it happens."""

    def ask(self) -> Job | None:
        """What a worker that is free shall train; None: nothing until something that runs has ended."""

    def report(self, job: Job, epoch: int, anytime: Points) -> bool:
        """An epoch of a job is over that isn't its last; whether to stop it."""

    def tell(self, job: Job, epoch: int, anytime: Points) -> None:
        """A job has ended after this epoch."""


class Ours:
    """Our own search: its samplers, pruner and record of a trial, as a worker has them, on a study in memory.

    Args:
        untrained: composes the configurations of networks that the sampler looks at.
    """

    def __init__(
        self,
        space: Space,
        epochs: int,
        workers: int,
        seed: int,
        options: Sequence[str],
        default: bool = True,
        untrained: Composer | None = None,
    ) -> None:
        self.search = compose([*options, f"search.sampler.seed={seed}"], root="sweep").search
        self.study, self.space, self.epochs = optuna.create_study(directions=DIRECTIONS), space, epochs
        attributes.RECORD.set(self.study, {"space": space.to_plain()})  # type: ignore[typeddict-item]
        self.study.sampler = sampler(self.search, OBJECTIVES, space, untrained)
        self.pruner = instantiate(self.search.pruner) if self.search.pruner else None
        if default:
            attributes.enqueue(self.study, space.nearest(DEFAULT), "default configuration")

    def ask(self) -> Job:
        trial = self.study.ask()
        return Job(trial.number, propose(trial, self.study, self.space), self.epochs, own=trial)

    def report(self, job: Job, epoch: int, anytime: Points) -> bool:
        self._enter(job, epoch, anytime)
        if self.pruner is None:
            return False
        where = (self.study, self.study._storage, id_of(job.own))
        judged = (self.search.prune_on, OBJECTIVES)
        stop = pruning.decide(self.pruner, *where, attributes.curve, brought.seen, *judged)
        if stop is not None and stop.outlook:
            attributes.OUTLOOK.set(job.own, stop.outlook)
        return stop is not None

    def tell(self, job: Job, epoch: int, anytime: Points) -> None:
        if epoch < self.epochs:
            self.study.tell(job.own, state=TrialState.PRUNED)
            return
        self._enter(job, epoch, anytime)
        accuracy, energy = anytime[-1]
        steps = [{"t": t, "accuracy": a, "energy_joules": e} for t, (a, e) in enumerate(anytime, 1)]
        came = {"metrics": {"accuracy": accuracy, "energy": energy}, "anytime": steps, "seconds": job.seconds}
        attributes.set_outcome(job.own, came)  # type: ignore[arg-type]
        self.study.tell(job.own, [accuracy, energy])

    def _enter(self, job: Job, epoch: int, anytime: Points) -> None:
        accuracy, energy = anytime[-1]
        point: Any = {"accuracy": accuracy, "energy_joules": energy, "anytime": anytime}
        attributes.set_point(job.own, epoch, point)


class Plain:
    """A sampler of Optuna's as a study by itself uses it: told a trial's final accuracy and energy, and no more."""

    def __init__(self, space: Space, epochs: int, workers: int, seed: int, make: Callable[[int], BaseSampler]) -> None:
        self.study = optuna.create_study(directions=DIRECTIONS, sampler=make(seed))
        self.space, self.epochs = space, epochs

    def ask(self) -> Job:
        trial = self.study.ask()
        return Job(trial.number, self.space.suggest(trial), self.epochs, own=trial)

    def report(self, job: Job, epoch: int, anytime: Points) -> bool:
        return False

    def tell(self, job: Job, epoch: int, anytime: Points) -> None:
        self.study.tell(job.own, anytime[-1])


class Elsewhere:
    """A search that runs under another environment's Python, a line of JSON a question (tables/peers.py).

    Args:
        name: what that program calls it.
    """

    def __init__(self, space: Space, epochs: int, workers: int, seed: int, name: str, python: str) -> None:
        command = [python, str(ROOT / "benchmarks" / "tables" / "peers.py")]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
        SAID.parent.mkdir(parents=True, exist_ok=True)
        with SAID.open("a") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=quiet
            )
        self.epochs, self._whole, self.seconds = epochs, space, 0.0
        plain = [described(p) for p in space]
        self._ask(do="begin", peer=name, space=plain, epochs=epochs, workers=workers, seed=seed)

    def _ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the other environment's process ended with {self._process.wait()}: {SAID} says why")
        answer = json.loads(line)
        self.seconds += answer["seconds"]
        return answer["value"]

    def ask(self) -> Job | None:
        told = self._ask(do="ask")
        if told is None:
            return None
        active = self._whole.active(told["params"])  # a condition that it knows nothing of
        return Job(told["key"], {k: told["params"][k] for k in active}, told["until"], told["begin"])

    def report(self, job: Job, epoch: int, anytime: Points) -> bool:
        return bool(self._ask(do="report", key=job.key, epoch=epoch, values=anytime[-1]))

    def tell(self, job: Job, epoch: int, anytime: Points) -> None:
        self._ask(do="tell", key=job.key, epoch=epoch, values=anytime[-1])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def described(p: Any) -> dict[str, Any]:
    """A parameter in plain words, for programs that know nothing of ours."""
    d = p.distribution
    if hasattr(d, "choices"):
        return {"key": p.key, "kind": "choice", "choices": list(d.choices)}
    kind = "int" if isinstance(d.low, int) else "float"
    return {"key": p.key, "kind": kind, "low": d.low, "high": d.high, "log": d.log}


def ours(*options: str, default: bool = True) -> Callable[..., Peer]:
    return partial(Ours, options=options, default=default)


def priors(values: dict[str, Any]) -> str:
    return "+search.priors={" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def plain(make: Callable[[int], BaseSampler]) -> Callable[..., Peer]:
    return partial(Plain, make=make)


FRONT = ("search/sampler=front", "search.sampler.hurry=1")  # which a seed alone switches off
PEERS: dict[str, Callable[..., Peer]] = {
    "ours: tpe": ours("search/sampler=tpe"),
    "ours: tpe, default not first": ours("search/sampler=tpe", default=False),
    "ours: front": ours(*FRONT),
    "ours: front, 10 first": ours(*FRONT, "search.sampler.startup_trials=10"),
    "ours: front, random start": ours(*FRONT, "search.sampler.untrained=0"),
    "ours: front, any length": ours(*FRONT, "search.sampler.hurry=0"),
    "ours: front, front": ours(*FRONT, "search/pruner=front"),
    "ours: front, good priors": ours(*FRONT, priors(GOOD)),
    "ours: front, bad priors": ours(*FRONT, priors(BAD)),
    "ours: tpe, good priors": ours("search/sampler=tpe", priors(GOOD)),
    "ours: tpe, bad priors": ours("search/sampler=tpe", priors(BAD)),
    "ours: tpe, front": ours("search/sampler=tpe", "search/pruner=front"),
    "ours: nsga2, front": ours("search/sampler=nsga2", "search/pruner=front"),
    "ours: gp, front": ours("search/sampler=gp", "search/pruner=front"),
    "ours: random, front": ours("search/sampler=random", "search/pruner=front"),
    "ours: qmc, front": ours("search/sampler=qmc", "search/pruner=front"),
    "random": plain(lambda seed: RandomSampler(seed=seed)),
    "Optuna TPE": plain(lambda seed: TPESampler(seed=seed)),
    "Optuna TPE, joint": plain(lambda seed: TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)),
    "Optuna NSGA-II": plain(lambda seed: NSGAIISampler(seed=seed)),
    "Optuna GP": plain(lambda seed: GPSampler(seed=seed)),
}
ELSEWHERE = (
    "hydra-optuna-sweeper",
    "Syne Tune MOASHA",
    "NePS PriMO",
    "NePS MO-BO",
    "Ax qNEHVI",
    "W&B Optuna",
    "W&B Ax",
)


@dataclass
class History:
    """What became of one search's trainings, in order of their ends.

    ``ended``: seconds and epochs of all workers by then, the epochs that it had in all, its points as they were seen
    and without luck, one a timestep.
    """

    ended: list[dict[str, Any]] = field(default_factory=list)
    own_seconds: float = 0.0
    asked: int = 0


def simulate(peer: Peer, answers: Callable[[dict[str, Any]], Answer], workers: int, budget: float) -> History:
    """Let a search run on simulated workers until ``budget`` seconds are over on each.

    Args:
        answers: from a configuration the course of its training.
    """
    found, courses = History(), dict[int, Answer]()
    running: list[tuple[float, int, Job, int]] = []  # when an epoch will be over, a number for equals, whose, which
    idle, now, spent, order = workers, 0.0, 0, itertools.count()

    def timed(call: Callable[..., Any], *given: Any) -> Any:
        began = time.process_time()
        try:
            return call(*given)
        finally:
            found.own_seconds += time.process_time() - began

    def begin(job: Job, epoch: int) -> None:
        course = courses[job.key]
        seconds = course.seconds[epoch - 1] + (course.before if epoch == job.begin + 1 else 0.0)
        seconds += course.after if epoch == len(course.seconds) else 0.0
        job.seconds += seconds
        heapq.heappush(running, (now + seconds, next(order), job, epoch))

    while True:
        while idle and (job := timed(peer.ask)) is not None:
            idle, found.asked = idle - 1, found.asked + (job.begin == 0)
            if job.key not in courses:
                courses[job.key] = answers(job.params)
            begin(job, job.begin + 1)
        if not running or running[0][0] > budget:
            return found
        now, _, job, epoch = heapq.heappop(running)
        spent += 1
        course = courses[job.key]
        seen = course.points[epoch - 1].tolist()
        if epoch < job.until and not timed(peer.report, job, epoch, seen):
            begin(job, epoch + 1)
            continue
        timed(peer.tell, job, epoch, seen)
        idle += 1
        found.ended.append(
            {"at": now, "spent": spent, "epochs": epoch, "seen": seen, "means": course.means[epoch - 1].tolist()}
        )


def volumes(lines: dict[str, Any], worst: float, epochs: int, anytime: bool, decades: bool, axis: str) -> Curve:
    """The hypervolume over seconds (``at``) or all workers' epochs (``spent``), by the trainings that ended whole."""
    seen, means, found = np.empty((0, 2)), np.empty((0, 2)), [(0.0, 0.0)]
    for end in lines["ended"]:
        if end["epochs"] < epochs:
            continue
        first = 0 if anytime else -1
        seen = np.vstack([seen, _minimised(end["seen"][first:], worst, decades)])
        means = np.vstack([means, _minimised(end["means"][first:], worst, decades)])
        kept = non_dominated(seen)
        seen, means = seen[kept], means[kept]
        reference = (0.0, 0.0 if decades else 1.0)
        found.append((end[axis], hypervolume(means, reference) / (DECADES if decades else 1.0)))
    return found


def _minimised(points: Points, worst: float, decades: bool) -> np.ndarray:
    accuracy, energy = np.array(points).T
    share = energy / worst
    return np.stack([-accuracy, np.maximum(np.log10(share), -DECADES) if decades else share], axis=1)


def at(curve: Curve, place: float) -> float:
    return [v for x, v in curve if x <= place][-1]


def reached(curve: Curve, goal: float) -> float:
    return next((x for x, v in curve if v >= goal), float("inf"))


def report(lines: list[dict[str, Any]], plot: Path | None) -> None:
    by: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    newest = {name: max(x["runs"] for x in lines if x["table"] == name) for name in {x["table"] for x in lines}}
    for line in lines:
        if line["runs"] == newest[line["table"]]:  # what was measured on fewer records is of another table
            by[line["table"], line["workers"]][line["peer"]].append(line)
    for (name, workers), peers in sorted(by.items()):
        for anytime, whose in ((True, "for those who see them"), (False, "for nobody")):
            team = f"{workers} worker{'s' * (workers > 1)}"
            print(f"\n### {name} ({newest[name]} recorded runs), {team}, anytime points counted {whose}\n")
            _table(peers, anytime)
    if plot is not None:
        draw(by, plot)
        print(f"\nplot: {plot}")


def counted(peer: str, anytime: bool) -> bool:
    """Whether a search's early points count: it must know of them."""
    return anytime and peer.startswith("ours")


def _table(peers: dict[str, list[dict[str, Any]]], anytime: bool) -> None:
    shares = " | ".join(f"{s:.0%}" for s in SHARES)
    print(
        f"| search | seeds | trained, whole | hypervolume after {shares} | goal at | in decades, {shares} | goal at |"
        f" after half the epochs | own s |"
    )
    print("|---|--:|--:|" + "--:|" * (2 * len(SHARES) + 4))
    goals = {}
    curves = {
        (peer, decades, axis): [volumes(r, r["worst"], r["epochs"], counted(peer, anytime), decades, axis) for r in own]
        for peer, own in peers.items()
        for decades in (False, True)
        for axis in ("at", "spent")
    }
    for decades in (False, True):  # the median at which the best of the others ends
        ends = [np.median([c[-1][1] for c in curves[p, decades, "at"]]) for p in peers if not p.startswith("ours")]
        goals[decades] = max(ends, default=float("inf"))
    for peer, own in peers.items():
        budget, half = own[0]["budget"], own[0]["trials"] * own[0]["epochs"] / 2
        whole = np.median([sum(e["epochs"] == r["epochs"] for e in r["ended"]) for r in own])
        cells = [peer, str(len(own)), f"{np.median([r['asked'] for r in own]):.0f}, {whole:.0f}"]
        for decades in (False, True):
            each = curves[peer, decades, "at"]
            cells += [f"{np.median([at(c, s * budget) for c in each]):.3f}" for s in SHARES]
            when = float(np.median([reached(c, goals[decades]) for c in each])) / budget
            cells.append(f"{when:.0%}" if np.isfinite(when) else "-")
        cells.append(f"{np.median([at(c, half) for c in curves[peer, False, 'spent']]):.3f}")
        cells.append(f"{np.median([r['own_seconds'] for r in own]):.1f}")
        print("| " + " | ".join(cells) + " |")


def draw(by: dict[tuple[str, int], dict[str, list[dict[str, Any]]]], path: Path) -> None:
    """Medians over seeds of the hypervolume in decades, a panel a table and number of workers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tables, teams = sorted({t for t, _ in by}), sorted({w for _, w in by})
    figure, axes = pyplot.subplots(
        len(tables), len(teams), figsize=(4.5 * len(teams), 3.4 * len(tables)), squeeze=False, layout="constrained"
    )
    names = list(dict.fromkeys(p for peers in by.values() for p in peers))
    for (name, workers), peers in by.items():
        panel = axes[tables.index(name)][teams.index(workers)]
        for peer, own in peers.items():
            grid = np.linspace(0, 1, 101)
            each = [volumes(r, r["worst"], r["epochs"], counted(peer, True), True, "at") for r in own]
            middle = [np.median([at(c, g * own[0]["budget"]) for c in each]) for g in grid]
            style = "-" if peer.startswith("ours") else "--"
            panel.plot(grid, middle, style, color=f"C{names.index(peer) % 10}", label=peer, linewidth=1.4)
        low = np.median([at(c, 0.1 * own[0]["budget"]) for c in each])
        panel.set(title=f"{name}, {workers} workers", xlabel="share of the budget's seconds", ylim=(0.9 * low, None))
        panel.set_ylabel("hypervolume, energy in decades")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)


def mean_seconds(table: Table) -> float:
    """Of the process, of training a configuration of the space to its end."""
    return float(np.mean([seconds_of(r) for r in table.runs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", default=list(PEERS))
    parser.add_argument("--tables", nargs="*", default=begun(), choices=list(SETS))
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 4, 16])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--trials", type=int, default=64, help="mean trainings that the budget's seconds are enough for"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "search.jsonl", metavar="FILE")
    parser.add_argument("--raw", type=Path, default=DEFAULT_RAW, help="records that are not packed yet")
    parser.add_argument("--python", default=None, help="of the environment that other packages' searches are in")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        print("\n".join([*PEERS, *(f"{name}  (--python)" for name in ELSEWHERE)]))
        return
    if unknown := [p for p in given.peers if p not in PEERS and p not in ELSEWHERE]:
        sys.exit(f"no search {unknown[0]!r}: --list names them")
    if (away := [p for p in given.peers if p in ELSEWHERE]) and given.python is None and not given.report:
        sys.exit(f"{away[0]} is of another package: give --python (tables/peers.py says how to make its environment)")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    if not given.report:
        run(given)
    report([x for x in raw(given.json) if x["table"] in given.tables and x["workers"] in given.workers], given.plot)


KEYS = ("table", "runs", "trials", "workers", "seed", "peer")  # of what is measured once


def run(given: argparse.Namespace) -> None:
    """All that is asked for, was not measured yet and isn't being measured by another process."""
    claims = given.json.with_suffix(".claims")
    claims.mkdir(exist_ok=True)

    def done() -> set[tuple[Any, ...]]:
        return {tuple(x[k] for k in KEYS) for x in raw(given.json)}

    for name in given.tables:
        table = Table.load(name, given.raw)
        total = given.trials * mean_seconds(table)
        for seed, workers, peer in itertools.product(range(given.seeds), given.workers, given.peers):
            job = (name, len(table.runs), given.trials, workers, seed, peer)
            claim = FileLock(claims / re.sub(r"\W+", "-", "-".join(map(str, job))), timeout=0)
            with contextlib.suppress(Timeout), claim:
                if job in done():
                    continue
                search = made(peer, given.python, table, workers, seed)
                try:
                    history = simulate(search, cache_of(table, seed), workers, total / workers)
                finally:
                    getattr(search, "close", lambda: None)()
                history.own_seconds += getattr(search, "seconds", 0.0)
                line = dict(zip(KEYS, job, strict=True)) | vars(history)
                append(given.json, {**line, "budget": total / workers, "worst": table.worst, "epochs": table.epochs})
                print(f"{name}, {workers} workers, seed {seed}: {peer}, {history.own_seconds:.1f} s", flush=True)


def made(peer: str, python: str | None, table: Table, workers: int, seed: int) -> Peer:
    given = (table.space, table.epochs, workers, seed)
    if peer not in PEERS:
        return Elsewhere(*given, name=peer, python=str(python))
    return PEERS[peer](*given, **({"untrained": Composer(table.of.overrides)} if peer.startswith("ours") else {}))


@functools.lru_cache(1)
def cache_of(table: Table, seed: int) -> Callable[[dict[str, Any]], Answer]:
    """Answers of a table, of which equal questions are asked once."""
    known: dict[str, Answer] = {}

    def answers(params: dict[str, Any]) -> Answer:
        key = json.dumps(params, sort_keys=True)
        if key not in known:
            known[key] = table.answer(params, seed)
        return known[key]

    return answers


if __name__ == "__main__":
    main()
