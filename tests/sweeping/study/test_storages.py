"""Every storage that a sweep can use, and what else reads it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import optuna
import pytest
from examples import few
from optuna.trial import TrialState
from postgresql import free_port

from spikefront.config import ROOT
from spikefront.errors import UserError
from spikefront.sweeping.study.filesystems import JournalLock
from spikefront.sweeping.study.proxy_internals import make_server
from spikefront.sweeping.study.storage import open_storage, serve, storage_errors


def test_a_killed_workers_lock_is_seen_at_once(tmp_path):
    hold = "import sys, time; from spikefront.sweeping.study.filesystems import JournalLock; from pathlib import Path\n"
    hold += f"lock = JournalLock(Path({str(tmp_path / 'log')!r})); lock.acquire(); print('held', flush=True)\n"
    hold += "time.sleep(1000)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    other = JournalLock(tmp_path / "log", patience=1e6)  # so that only its being gone can free the lock
    waiter = threading.Thread(target=other.acquire, daemon=True)
    waiter.start()
    waiter.join(0.5)
    assert waiter.is_alive()
    holder.kill()
    holder.wait()
    waiter.join(60)
    assert not waiter.is_alive()


def test_another_machines_lock_is_broken_after_its_patience(tmp_path):
    (tmp_path / "log.lock").write_text("1\nelsewhere\n5\n")
    lock = JournalLock(tmp_path / "log", patience=0.2)
    assert lock.acquire()
    lock.release()
    assert not (tmp_path / "log.lock").exists()


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_killed_workers_lose_nothing_on_a_server(make_sweep, tmp_path, database, kind):
    from test_accounting import check_exact

    options = ("search.n_trials=60", "search.workers=4", "search.heartbeat=1", f"search.storage={database(kind)}")
    search = make_sweep(*options)
    search.run(kills=12)
    check_exact(search, tmp_path, 60, 12)


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["journal", "sqlite"])
def test_workers_share_a_study_through_grpc(make_sweep, tmp_path, behind):
    port = free_port()
    address = {"journal": f"journal://{tmp_path}/log", "sqlite": f"sqlite:///{tmp_path}/s.db"}[behind]
    code = f"from spikefront.sweeping.study.storage import serve; serve({address!r}, port={port})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    server = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        search = make_sweep("search.n_trials=6", "search.workers=2", f"search.storage=grpc://localhost:{port}")
        search.run()
        assert Counter(t.state for t in search.study().trials)[TrialState.COMPLETE] == 6
    finally:
        server.kill()


def test_a_second_proxy_on_a_port_is_refused(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    server = make_server(storage, "127.0.0.1", port := free_port())
    try:
        with pytest.raises(UserError, match=rf"^the proxy can't listen on 127\.0\.0\.1:{port}: .* another port$"):
            make_server(storage, "127.0.0.1", port)
    finally:
        server.stop(None).wait()


def test_a_proxy_that_cannot_be_ends_with_a_line():
    with pytest.raises(SystemExit, match=r"^spikefront: search\.storage is 'sqlite://'"):
        serve("sqlite://")


@pytest.mark.parametrize("storage", few(["sqlite", "journal"]))
def test_optuna_dashboard_serves_the_study(make_sweep, tmp_path, storage):
    places = {"sqlite": tmp_path / "s" / "study.db", "journal": tmp_path / "study.log"}
    address = {"sqlite": f"sqlite:///{places['sqlite']}", "journal": f"journal://{places['journal']}"}[storage]
    make_sweep("search.n_trials=2", "search.workers=1", f"search.storage={address}").run_here()
    argument = address if storage == "sqlite" else str(places["journal"])
    port = free_port()
    command = [Path(sys.executable).with_name("optuna-dashboard"), argument, "--port", str(port), "--host", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)

        def get(path):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
                return reply.read().decode()

        (study,) = json.loads(get("/api/studies"))["study_summaries"]
        assert study["study_name"] == "s" and study["directions"] == ["maximize", "minimize"]
        shown = json.loads(get(f"/api/studies/{study['study_id']}"))
        assert [t["state"] for t in shown["trials"]] == ["Complete", "Complete"]
        assert "accuracy,energy" in get(f"/csv/{study['study_id']}").splitlines()[0]
        assert {p["name"] for p in shown["trials"][0]["params"]} == {"model.timesteps", "neuron.threshold"}
    finally:
        server.kill()


def _wait_for(port):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


def test_only_a_storages_errors_are_told_as_its(tmp_path):
    address = f"journal://{tmp_path}/log"
    for error in (OSError("no such camera"), ValueError("no such width"), RuntimeError("no such luck")):
        with pytest.raises(type(error), match="no such"), storage_errors(address):
            raise error
    study = optuna.create_study(storage=open_storage(address))
    (tmp_path / "log").write_text("{half a line\n" * 3)
    said = f"the study's storage {address} can't be used: it is no journal"
    with pytest.raises(UserError, match=said), storage_errors(address):
        optuna.load_study(study_name=study.study_name, storage=open_storage(address))
