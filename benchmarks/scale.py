"""How many workers a study's storage carries: leases, reports, asks and tells a second, and 1,000 workers simulated.

    python benchmarks/scale.py          # SQLite, journal file, PostgreSQL (Debian's), Optuna's gRPC proxy before both
    python benchmarks/scale.py journal postgresql

The study holds 1,000 running trials, as it does while 1,000 workers run. First 1 and 16 processes do the three things
that a worker does, each for itself and as fast as the storage lets them: *renew* a lease, *report* an epoch, take a
*turn* (ask, draw seven parameters, tell with a trial's attributes). Then 1,000 workers, threads of 20 processes, do
them at the pace of a worker: a lease every 10 s, an epoch a minute, a trial of 15 min; a storage that carries them
finishes each in time.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.storage import open_storage

WORKERS, PROCESSES = 1000, 20
SECONDS, SIMULATED = 3.0, 20.0
PACE = {"renew": 10.0, "report": 60.0, "turn": 900.0}  # seconds between one worker's
FORK = multiprocessing.get_context("fork")  # nothing that a fork hurts is open in the first process


def attach(address: str) -> Ledger:
    storage = open_storage(address)
    sampler = optuna.samplers.RandomSampler()
    study = optuna.load_study(study_name="scale", storage=storage, sampler=sampler)
    return patient(study, storage)


def patient(study: optuna.Study, storage: BaseStorage) -> Ledger:
    """A worker that gives nobody up for dead and that nobody gives up, though its process ends with the measurement."""
    ledger = Ledger(study, storage, interval=3600)
    ledger._me["host"] = "elsewhere"
    return ledger


def prepare(address: str) -> None:
    """A study with so many running trials that nobody gives up during the measurement."""
    study = optuna.create_study(study_name="scale", storage=open_storage(address), directions=["maximize", "minimize"])
    study.add_trials([create_trial(state=TrialState.RUNNING) for _ in range(WORKERS)])
    for trial in study.get_trials(deepcopy=False):
        lease: attributes.Holder = {"id": "0", "host": "elsewhere", "pid": 1, "since_boot": 1.0, "beat": 0}
        attributes.set_lease(study._storage, trial._trial_id, lease)


def renew(ledger: Ledger, trial: int, count: int) -> None:
    ledger.is_mine(trial)
    ledger._renew(trial, count)


def report(ledger: Ledger, trial: int, count: int) -> None:
    anytime = [[0.1 * t, 1e-6 * t] for t in range(4)]
    point = {"accuracy": 0.5, "energy_joules": 1e-6, "firing_rate": 0.1, "anytime": anytime}
    ledger.storage.set_trial_user_attr(trial, f"epoch:{count}", point)


def turn(ledger: Ledger, trial: int, count: int) -> None:
    taken = ledger.take(10**9)
    assert taken is not None
    for i in range(7):
        taken.suggest_float(f"parameter{i}", 0, 1)
    for i in range(12):
        taken.set_user_attr(f"attribute{i}", {"value": [0.5] * 4})
    ledger.study.tell(taken, [random.random(), random.random()])


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


def hammer(index: int, start: Callable[[], Any], address: str, deed: str) -> list[float]:
    """The seconds that each took, one after the other for ``SECONDS``."""
    ledger = attach(address)
    trial = ledger.study.get_trials(deepcopy=False)[index]._trial_id
    start()
    took, count, begin = [], 0, time.monotonic()
    while (now := time.monotonic()) < begin + SECONDS:
        DEEDS[deed](ledger, trial, count % 100)
        took.append(time.monotonic() - now)
        count += 1
    return took


def live(index: int, start: Callable[[], Any], address: str) -> tuple[list[float], int, int]:
    """One process's share of the simulated workers: seconds behind the schedule, how many were due, how many failed."""
    share = WORKERS // PROCESSES
    first = attach(address)
    trials = [t._trial_id for t in first.study.get_trials(deepcopy=False)[index * share : (index + 1) * share]]
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


def measure(name: str, address: str) -> None:
    started = time.monotonic()
    together(lambda *_: prepare(address), 1)
    filled = time.monotonic() - started
    rates: dict[tuple[str, int], float] = {}
    for clients in (1, 16):
        for deed in DEEDS:
            took = [t for ts in together(hammer, clients, address, deed) for t in ts]
            rates[deed, clients] = len(took) / SECONDS
            p95 = 1000 * float(np.percentile(took, 95)) if took else float("nan")
            print(
                f"{name:<20} {clients:>3} clients  {deed:<7} {rates[deed, clients]:9.1f}/s   p95 {p95:8.1f} ms",
                flush=True,
            )
    share = sum(1 / every / max(rates[deed, 16], 1e-9) for deed, every in PACE.items())
    print(f"{name:<20} at full use carries {1 / share:,.0f} workers   (filled in {filled:.0f} s)", flush=True)
    found = together(live, PROCESSES, address)
    late = [t for part, _, _ in found for t in part] or [float("nan")]
    due, failed = (sum(f[i] for f in found) for i in (1, 2))
    print(
        f"{name:<20} {WORKERS:,} workers: {due / SIMULATED:.0f} due a second, {len(late) / max(due, 1):.0%} done,"
        f" {failed} failed; behind by {np.median(late):.2f} s in the median, p95 {np.percentile(late, 95):.2f} s",
        flush=True,
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
def proxy(address: str) -> Iterator[str]:
    """Optuna's gRPC proxy before another storage."""
    port = free_port()
    code = (
        "from optuna.storages import run_grpc_proxy_server\n"
        "from spikefront.sweeping.study.storage import open_storage\n"
        f"run_grpc_proxy_server(open_storage({address!r}), host='127.0.0.1', port={port}, thread_pool_size=32)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    server = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        at = Path(scratch)

        def place(name: str) -> str:
            if name.startswith("grpc+"):
                return stack.enter_context(proxy(place(name.removeprefix("grpc+"))))
            if name == "postgresql":
                return stack.enter_context(postgresql(at / f"pg{len(list(at.iterdir()))}"))
            number = len(list(at.iterdir()))
            return f"sqlite:///{at}/{number}.db" if name == "sqlite" else f"journal://{at}/{number}.log"

        for name in wanted or ["sqlite", "journal", "postgresql", "grpc+sqlite", "grpc+postgresql"]:
            try:
                measure(name, place(name))
            except (IndexError, ImportError) as error:
                print(f"{name:<20} not here: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
