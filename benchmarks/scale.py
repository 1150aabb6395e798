"""How many workers a study's storage carries: leases, reports and turns a second, and 1,000 workers simulated.

    python benchmarks/scale.py          # SQLite, journal file, PostgreSQL, MariaDB, gRPC proxies
    python benchmarks/scale.py journal postgresql [--finished 9000] [--sampler random]
    python benchmarks/scale.py sqlite --samplers
    python benchmarks/scale.py postgresql --evaluations

The study holds 1,000 running trials, as it does while 1,000 workers run, and 9,000 finished ones with all that a
training leaves. First the seconds until a worker that joins has had its first turn. Then 1 and 16 processes do the
three things that a worker does, each for itself and as fast as the storage lets them: *renew* a lease, *report* an
epoch, take a *turn* (look for the dead, count, ask, draw seven parameters, write what came of it and what it took,
tell: all of a worker's turn but the training). Then 1,000 workers, threads of 20 processes, do them at the pace of a
worker: a lease every 10 s, an epoch a minute, a trial of 15 min; a storage that carries them finishes each in time.

``--samplers`` measures the processor's seconds of a turn by itself, with samplers of ``sweeps/search/sampler``, and
with the front pruner's verdict on an epoch. ``--evaluations`` has 16 processes evaluate slices of an elastic training,
which take no time here, told one by one and in batches.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import gc
import json
import math
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from spikefront.start import POOLS

os.environ |= dict.fromkeys(POOLS, "1")  # as a worker's are on two cores

import numpy as np
import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from spikefront.analysis.schema import Directions, EpochPoint
from spikefront.config import compose
from spikefront.sweeping.search import pruning
from spikefront.sweeping.search.space import Space
from spikefront.sweeping.study import accounts, attributes, brought
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.several_internals import Ending
from spikefront.sweeping.study.storage import open_storage
from spikefront.sweeping.study.storage_internals import pace
from spikefront.sweeping.study.tables_internals import Tables
from spikefront.sweeping.worker import telling
from spikefront.sweeping.worker.proposal import propose, sampler

WORKERS, PROCESSES = 1000, 20
SECONDS, SIMULATED = 5.0, 20.0
SAMPLERS = ("random", "tpe", "nsga2", "front")
PACE = {"renew": 10.0, "report": 60.0, "turn": 900.0}  # seconds between one worker's
FORK = multiprocessing.get_context("fork")  # nothing that a fork hurts is open in the first process


SPACE = Space.parse({f"model.p{i}": "interval(0.0,1.0)" for i in range(7)})
OBJECTIVES: Directions = {"accuracy": "maximize", "energy": "minimize"}
STEPS = [{"t": t, "accuracy": 0.2 * t, "energy_joules": 1e-7 * t} for t in range(1, 5)]
CAME: attributes.Outcome = {  # what a training leaves
    "metrics": {"accuracy": 0.8, "energy": 4e-7, "energy_joules": 4e-7, "firing_rate": 0.1, "parameters": 1e5},
    "anytime": STEPS,
    "samples": 1000,
    "test": {"accuracy": 0.8, "energy_joules": 4e-7, "firing_rate": 0.1},
    "firing_rate": 0.1,
    "parameters": 100_000,
    "seconds": 60.0,
    "epochs": 15,
    "convention": "paper",
    "threads": 1,
    "twin_joules": 4e-6,
    "energy_groups": {f"group{i}": 1e-7 for i in range(6)},
    "energy_layers": [{"name": f"stages.0.block.{i}", "joules": 1e-8, "rate": 0.1} for i in range(20)],
    "described": {},
    "seed": 0,
    "front_then": False,
}


def attach(address: str, chosen: str | None = None, pruner: pruning.FrontPruner | None = None) -> Ledger:
    """A worker, with this sampler of ``sweeps/search``, by default the one that is asked for."""
    storage = open_storage(address)
    if GIVEN.stock and isinstance(storage, Tables):
        storage = optuna.storages.get_storage(storage._backend)
    pace(storage, pruning.unread(pruner, attributes.EPOCHS, attributes.UNSEARCHED))
    study = optuna.load_study(study_name="scale", storage=storage)
    study.sampler = sampler(settings(chosen or GIVEN.sampler), OBJECTIVES, SPACE)
    return patient(study, storage)


@functools.cache
def settings(chosen: str) -> Any:
    overrides = [f"search/sampler={chosen}", "search.sampler.seed=0", f"search.excerpt={GIVEN.excerpt or 'null'}"]
    return compose(overrides, root="sweep").search


def patient(study: optuna.Study, storage: BaseStorage) -> Ledger:
    """A worker that gives nobody up for dead and that nobody gives up, though its process ends with the measurement."""
    ledger = Ledger(study, storage, interval=3600)
    ledger._me["host"] = "elsewhere"
    return ledger


def prepare(address: str) -> None:
    """A study with finished trials, and running ones that nobody gives up during the measurement."""
    storage = open_storage(address)
    study = optuna.create_study(study_name="scale", storage=storage, directions=list(OBJECTIVES.values()))
    attributes.RECORD.set(study, {"space": SPACE.to_plain(), "objectives": OBJECTIVES})
    attributes.BUDGET.set(study, 10**6)
    distributions = {p.key: p.distribution for p in SPACE}
    lease: attributes.Holder = {"id": "0", "host": "elsewhere", "pid": 1, "since_boot": 1.0, "beat": 0}
    epochs = {f"epoch:{i}": point(i) for i in range(1, 16)}

    def made(running: bool) -> FrozenTrial:
        values = None if running else [random.random(), 1e-7 * random.random()]
        came = {} if running else {**CAME, "spent": {"seconds": 60.0, "gpu_hours": 0.01, "joules": 0.0}}
        trial = create_trial(
            state=TrialState.RUNNING if running else TrialState.COMPLETE,
            values=values,
            params={key: random.random() for key in distributions},
            distributions=distributions,
            user_attrs={**epochs, **came},
        )
        trial.system_attrs = {"spikefront:lease": lease}
        return trial

    fill(storage, study, [made(i >= GIVEN.finished) for i in range(GIVEN.finished + GIVEN.running)])


def fill(storage: BaseStorage, study: optuna.Study, trials: list[FrozenTrial]) -> None:
    """Put the trials there, into a database a table at a time: one after the other takes minutes."""
    if not isinstance(storage, Tables):
        study.add_trials(trials)
        return
    from optuna.storages._rdb import models

    session = storage._backend.scoped_session()
    rows: dict[Any, list[dict[str, Any]]] = {m: [] for m in (
        models.TrialModel, models.TrialParamModel, models.TrialValueModel, models.TrialUserAttributeModel,
        models.TrialSystemAttributeModel,
    )}  # fmt: skip
    of = iter(rows)
    trial_rows, params, values, users, systems = (rows[next(of)] for _ in range(5))
    for i, t in enumerate(trials):
        own, now = i + 1, datetime.datetime.now()
        done = now if t.state.is_finished() else None
        trial_rows.append(
            {"trial_id": own, "number": i, "study_id": study._study_id, "state": t.state,
             "_datetime_start_utc": now, "_datetime_complete_utc": done}
        )  # fmt: skip
        for key, value in t.params.items():
            text = optuna.distributions.distribution_to_json(t.distributions[key])
            params.append({"trial_id": own, "param_name": key, "param_value": value, "distribution_json": text})
        for j, value in enumerate(t.values or []):
            kind = models.TrialValueModel.TrialValueType.FINITE
            values.append({"trial_id": own, "objective": j, "value": value, "value_type": kind})
        for into, attrs in ((users, t.user_attrs), (systems, t.system_attrs)):
            into += [{"trial_id": own, "key": k, "value_json": json.dumps(v)} for k, v in attrs.items()]
    for model, given in rows.items():
        for at in range(0, len(given), 10_000):
            session.execute(sqlalchemy.insert(model), given[at : at + 10_000])
    if storage._backend.engine.name == "postgresql":  # whose counters don't see ids that are given
        session.execute(sqlalchemy.text(f"SELECT setval('trials_trial_id_seq', {len(trials)})"))
    session.commit()


def renew(ledger: Ledger, trial: int, count: int) -> None:
    ledger.is_mine(trial)
    ledger._renew(trial, count)


def point(epoch: int) -> EpochPoint:
    return {
        "accuracy": 0.5,
        "energy_joules": 1e-6,
        "firing_rate": 0.1,
        "anytime": [(0.1 * t, 1e-6 * t) for t in range(4)],
    }


def report(ledger: Ledger, trial: int, count: int) -> None:
    ledger.storage.set_trial_user_attr(trial, f"epoch:{count}", point(count))


def turn(ledger: Ledger, trial: int, count: int) -> None:
    """A worker's, but the training: see ``Worker._lead`` and ``Worker._run``."""
    ledger.put_back_the_dead()
    taken = ledger.take(accounts.account(ledger.study).budget)
    assert taken is not None
    with ledger.hold(taken):
        propose(taken, ledger.study, SPACE)
        ledger.tell(ending(taken))


def ending(trial: optuna.Trial) -> Ending:
    spent = {"seconds": 60.0, "gpu_hours": 0.01, "joules": 0.0}
    return Ending(trial, TrialState.COMPLETE, [random.random(), 1e-7 * random.random()], {**CAME, "spent": spent})


DEEDS: dict[str, Callable[[Ledger, int, int], None]] = {"renew": renew, "report": report, "turn": turn}


def together(job: Callable[..., Any], count: int, *arguments: Any) -> list[Any]:
    """What ``count`` processes return that run ``job(index, start together, *arguments)``."""
    queue, start = FORK.Queue(), FORK.Barrier(count)
    processes = [FORK.Process(target=lambda i=i: queue.put(job(i, start.wait, *arguments))) for i in range(count)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return found


def join(index: int, start: Callable[[], Any], address: str) -> tuple[float, float]:
    """Seconds until a worker that joins has had its first turn, and those of its processor."""
    settings(GIVEN.sampler)  # which a worker has from its command
    optuna.storages.RDBStorage("sqlite://")  # whose imports it has from what it is forked from
    gc.freeze()  # likewise
    began, cpu = time.monotonic(), time.process_time()
    turn(attach(address), 0, 0)
    return time.monotonic() - began, time.process_time() - cpu


def alone(index: int, start: Callable[[], Any], address: str, chosen: str, judged: bool) -> list[float]:
    """The processor's seconds of some turns of one worker."""
    pruner = pruning.FrontPruner() if judged else None
    ledger, seen = attach(address, chosen, pruner), pruning.remembered(brought.seen)
    turn(ledger, 0, 0)
    took = []
    for _ in range(1 + 20):
        began = time.process_time()
        turn(ledger, 0, 0)
        if pruner is not None:
            running = ledger.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))[0]
            where = (ledger.study, ledger.storage, running._trial_id)
            pruning.decide(pruner, *where, attributes.curve, seen, "accuracy", OBJECTIVES)
        took.append(time.process_time() - began)
    return took[1:]


def evaluate(index: int, start: Callable[[], Any], address: str, batched: bool) -> int:
    """How many evaluations one process gets through in ``SECONDS``."""
    ledger = attach(address)
    turn(ledger, 0, 0)
    batch = telling.Batch(ledger.study, ledger) if batched else None
    start()
    count, until = 0, time.monotonic() + GIVEN.seconds
    with contextlib.redirect_stdout(None):
        while time.monotonic() < until:
            budget = accounts.account(ledger.study).budget
            trial = ledger.take(budget) if batch is None else batch.next() or batch.take(budget, 10**6)
            assert trial is not None
            with ledger.hold(trial), contextlib.nullcontext() if batch is None else batch.timed():
                propose(trial, ledger.study, SPACE)
            if batch is None:
                ledger.tell(ending(trial))
            else:
                batch.tell(ending(trial))
            count += 1
        if batch is not None:
            batch.close()
    return count


def hammer(index: int, start: Callable[[], Any], address: str, deed: str) -> list[float]:
    """The seconds that each took, one after the other for ``SECONDS``."""
    ledger = attach(address)
    trial = ledger.study.get_trials(deepcopy=False)[GIVEN.finished + index]._trial_id
    DEEDS[deed](ledger, trial, 0)  # what a worker that joins does once
    start()
    took, count, begin = [], 0, time.monotonic()
    while (now := time.monotonic()) < begin + GIVEN.seconds:
        DEEDS[deed](ledger, trial, count % 100)
        took.append(time.monotonic() - now)
        count += 1
    return took


def live(index: int, start: Callable[[], Any], address: str) -> tuple[list[float], int, int]:
    """One process's share of the simulated workers: seconds behind the schedule, how many were due, how many failed."""
    share = GIVEN.running // min(PROCESSES, GIVEN.running)
    first = attach(address)
    turn(first, 0, 0)
    place = GIVEN.finished + index * share
    trials = [t._trial_id for t in first.study.get_trials(deepcopy=False)[place : place + share]]
    start()
    begin = time.monotonic()
    late: list[float] = []
    counts = [0, 0]  # due, failed

    def work(trial: int) -> None:
        ledger = patient(first.study, first.storage)
        due = sorted(
            (begin + random.uniform(0, every) + i * every, deed) for deed, every in PACE.items() for i in range(4)
        )
        for at, deed in due:
            if at > begin + SIMULATED:
                return
            time.sleep(max(0.0, at - time.monotonic()))
            counts[0] += 1
            if time.monotonic() > begin + 2 * SIMULATED:
                return  # hopeless
            try:
                DEEDS[deed](ledger, trial, int(at) % 100)
                late.append(time.monotonic() - at)
            except Exception:
                counts[1] += 1

    threads = [threading.Thread(target=work, args=(trial,)) for trial in trials]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return late, counts[0], counts[1]


def measure(name: str, address: str, behind: str) -> None:
    started = time.monotonic()
    together(lambda *_: prepare(behind), 1)
    filled = time.monotonic() - started
    say(name, f"{GIVEN.finished:,} finished and {GIVEN.running:,} running trials, put there in {filled:.0f} s")
    wall, cpu = together(join, 1, address)[0]
    say(name, f"a worker that joins has had its first turn after {wall:.1f} s, {cpu:.1f} s of its processor")
    if GIVEN.samplers:
        turns_alone(name, address)
    elif GIVEN.evaluations:
        for batched in (False, True):
            done = sum(together(evaluate, GIVEN.processes, address, batched)) / GIVEN.seconds
            how = "in batches" if batched else "one by one"
            say(name, f"{GIVEN.processes:>3} clients  evaluations told {how}: {done:.1f}/s")
    else:
        contend(name, address)
        simulate(name, address)


def say(name: str, line: str) -> None:
    print(f"{name:<20} {line}", flush=True)


def turns_alone(name: str, address: str) -> None:
    first = math.nan
    for chosen, judged in (("random", False), ("tpe", False), ("random", True), ("tpe", True), ("front", False)):
        took = float(np.median(together(alone, 1, address, chosen, judged)[0]))
        first = took if math.isnan(first) else first
        how = f"{chosen} and an epoch before the front pruner" if judged else chosen
        say(name, f"a turn with {how}: {1000 * took:.0f} ms of the worker's processor, {took / first:.1f} x random's")


def contend(name: str, address: str) -> None:
    rates: dict[tuple[str, int], float] = {}
    for clients in (1, GIVEN.processes):
        for deed in DEEDS:
            took = [t for ts in together(hammer, clients, address, deed) for t in ts]
            rates[deed, clients] = len(took) / GIVEN.seconds
            p95 = 1000 * float(np.percentile(took, 95)) if took else float("nan")
            say(name, f"{clients:>3} clients  {deed:<7} {rates[deed, clients]:9.1f}/s   p95 {p95:8.1f} ms")
    share = sum(1 / every / max(rates[deed, GIVEN.processes], 1e-9) for deed, every in PACE.items())
    say(name, f"at full use carries {1 / share:,.0f} workers")


def simulate(name: str, address: str) -> None:
    found = together(live, min(PROCESSES, GIVEN.running), address)
    late = [t for part, _, _ in found for t in part] or [float("nan")]
    due, failed = (sum(f[i] for f in found) for i in (1, 2))
    say(
        name,
        f"{GIVEN.running:,} workers: {due / SIMULATED:.0f} due a second, {len(late) / max(due, 1):.0%} done,"
        f" {failed} failed; behind by {np.median(late):.2f} s in the median, p95 {np.percentile(late, 95):.2f} s",
    )


@contextlib.contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """Debian's server on a directory of its own, with its default durability."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    port = free_port()
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    directory.mkdir()
    if as_user:
        directory.parent.chmod(0o755)
        shutil.chown(directory, "postgres", "postgres")

    def run(program: str, *arguments: Any) -> None:
        command = [*as_user, str(binaries / program), "-D", str(directory / "data"), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory)

    run("initdb", "-U", "sweep", "-A", "trust")
    options = f"-p {port} -k {directory} -c listen_addresses=127.0.0.1 -c max_connections=1200"
    run("pg_ctl", "-l", directory / "log", "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://sweep@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")


@contextlib.contextmanager
def mariadb(directory: Path) -> Iterator[str]:
    """The same of MariaDB."""
    if shutil.which("mariadbd") is None:
        raise ImportError("Debian's package mariadb-server")
    import pymysql

    port = free_port()
    directory.mkdir()
    user = ["--user=mysql"] if os.geteuid() == 0 else []
    if user:
        directory.parent.chmod(0o755)
        shutil.chown(directory, "mysql", "mysql")
    (directory / "init.sql").write_text("CREATE DATABASE sweeps CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n")
    own = ["--no-defaults", f"--datadir={directory}/data", f"--tmpdir={directory}", *user]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["mariadb-install-db", *own, "--auth-root-authentication-method=normal"], check=True, **quiet)
    own += [f"--port={port}", "--bind-address=127.0.0.1", "--max-connections=1200", f"--init-file={directory}/init.sql"]
    server = subprocess.Popen(["mariadbd", *own, f"--socket={directory}/s", f"--pid-file={directory}/pid"], **quiet)
    try:
        for _ in range(300):
            with contextlib.suppress(pymysql.err.OperationalError):
                pymysql.connect(host="127.0.0.1", port=port, user="root", database="sweeps").close()
                break
            time.sleep(0.2)
        yield f"mysql+pymysql://root@127.0.0.1:{port}/sweeps"
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def proxy(address: str) -> Iterator[str]:
    """Optuna's gRPC proxy before another storage."""
    port = free_port()
    code = f"from spikefront.sweeping.study.storage import serve; serve({address!r}, '127.0.0.1', {port})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    server = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


SERVERS = {"postgresql": postgresql, "mariadb": mariadb}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        at = Path(scratch)

        def place(name: str) -> str:
            number = len(list(at.iterdir()))
            if name in SERVERS:
                return stack.enter_context(SERVERS[name](at / f"server{number}"))
            return f"sqlite:///{at}/{number}.db" if name == "sqlite" else f"journal://{at}/{number}.log"

        for name in wanted or ["sqlite", "journal", "postgresql", "mariadb", "grpc+sqlite", "grpc+postgresql"]:
            try:
                behind = place(name.removeprefix("grpc+"))
                address = stack.enter_context(proxy(behind)) if name.startswith("grpc+") else behind
                measure(name, address, behind)
            except (IndexError, ImportError) as error:
                print(f"{name:<20} not here: {error}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storages", nargs="*")
    parser.add_argument("--finished", type=int, default=9000)
    parser.add_argument("--running", type=int, default=WORKERS, help="and so many are simulated")
    parser.add_argument("--processes", type=int, default=16, help="that contend")
    parser.add_argument("--excerpt", type=int, help="trials that TPE is shown")
    parser.add_argument("--samplers", action="store_true", help="a turn of one worker, by sampler and pruner")
    parser.add_argument("--evaluations", action="store_true", help="of an elastic training, one by one and in batches")
    parser.add_argument("--sampler", choices=SAMPLERS, default="random")
    parser.add_argument("--stock", action="store_true", help="read by Optuna's own storage")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    GIVEN = parser.parse_args()
    warnings.simplefilter("ignore", ExperimentalWarning)
    main(GIVEN.storages)
