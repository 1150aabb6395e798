"""Sweeps without a shared disk: machines that have a study's storage and an address in common, and nothing else."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from examples import few
from optuna.trial import TrialState
from pretend_s3 import KEY, SECRET
from pretended import SPACE, pretend

from spikefront.cluster import mirror as mirrors
from spikefront.cluster import stores
from spikefront.cluster.stores import Away
from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.sources import checkpoint_of, open_study
from spikefront.sweeping.study.study import load
from spikefront.sweeping.worker.worker import Worker
from spikefront.tracking.wandb.parts import parts, read
from spikefront.training import run as training

TRAINING = ("model=sdt_1_16", "data=digits", "trainer=cpu", "trainer.limit_train_batches=2", "callbacks=default",
            "neuron.threshold=0.1", "~callbacks.progress")  # fmt: skip


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``machine("a")``: be that machine from here on, with a cache of its own."""

    def be(name):
        monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / f"machine_{name}"))
        return tmp_path / f"machine_{name}"

    be("a")
    return be


@pytest.fixture
def apart(make_sweep, tmp_path, machine):
    """A pretended sweep whose trials lie at an address."""

    def made(*overrides, train=pretend, kind="file"):
        place = [f"search.dir={kind}://{tmp_path}/there", f"search.storage=sqlite:///{tmp_path}/s.db"]
        return make_sweep(*place, "search.workers=1", *overrides, train=train)

    return made


@pytest.mark.parametrize("kind", few(["file", "memory"]))
def test_what_a_machine_found_another_reads(apart, machine, tmp_path, kind):
    search = apart("search.n_trials=2", kind=kind)
    search.run_here()
    address = f"{kind}://{tmp_path}/there/s"
    shutil.rmtree(machine("a"))
    here = machine("b")
    assert open_study(address, storage=None).study_name == "s"
    found = checkpoint_of(f"trial:{address}/0")
    assert found.is_relative_to(here) and found.read_text() == "4"
    assert json.loads((found.parents[1] / "trial.json").read_text())["parameters"] == 1000
    search.changed("search.n_trials=3").run_here()  # goes on from there
    states = [t.state for t in search.study().get_trials()]
    assert states.count(TrialState.COMPLETE) == 3


def test_a_trial_that_was_stopped_goes_on_elsewhere_and_one_that_ended_is_only_told(apart, machine, monkeypatch):
    def stopped(cfg, callbacks=()):
        pretend(cfg, callbacks)
        raise training.Interrupted

    search = apart("search.n_trials=1", train=stopped)
    with pytest.raises(UserError), monkeypatch.context() as patch:
        patch.setattr("spikefront.sweeping.worker.worker.Worker._lead", _one_trial)
        search.run_here()
    resumed = []
    machine("b")
    search.train = lambda cfg, callbacks: resumed.append(cfg.resume) or pretend(cfg, callbacks)
    search.run_here()
    assert len(resumed) == 1 and resumed[0].endswith("trials/00000/checkpoints/last.ckpt")
    assert (Path(resumed[0]).parents[1] / "steps").read_text().count("\n") == 4  # all by the first


def _one_trial(self):
    from spikefront.sweeping.study import accounts

    self.attempts.run(self.engine.take(accounts.account(self.study)))
    raise UserError("the machine is gone")


def test_an_address_needs_a_storage_and_one_node(make_sweep, tmp_path, machine):
    address = f"search.dir=file://{tmp_path}/there"
    with pytest.raises(UserError, match="keeps files, no database"):
        make_sweep(address).run_here()
    with pytest.raises(UserError, match="a directory that all nodes see"):
        make_sweep(address, "trainer.num_nodes=2").run_here()
    with pytest.raises(UserError, match="holds a password") as refused:
        make_sweep("search.dir='ftp://me:hunter2@host/x'").run_here()
    assert "hunter2" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_worker_sends_nothing_to_an_address_that_it_was_not_given(apart, tmp_path):
    search = apart("search.n_trials=1")
    search.run_here()
    own = [o for o in search.overrides if not o.startswith("search.dir")] + [f"search.dir=file://{tmp_path}/mine"]
    with pytest.raises(UserError, match=r"give search.dir=file://\S+/there if you mean it"):
        Worker(compose(own, root="sweep"), own)


def test_a_store_that_is_away_at_the_end_gives_the_trial_back(apart, tmp_path, machine, monkeypatch):
    monkeypatch.setattr(mirrors, "PATIENCE", 0.1)
    monkeypatch.setattr(mirrors.Mirror.settle, "__defaults__", (0.1,))
    place = tmp_path / "there/s/trials"

    def loses(cfg, callbacks=()):
        place.write_text("where a folder should be")
        return pretend(cfg, callbacks)

    search = apart("search.n_trials=1", train=loses)
    with pytest.raises(UserError, match=r"trial 0 is back in the queue") as said:
        search.run_here()
    assert "\n" not in str(said.value)
    (trial,) = search.study().get_trials()
    assert trial.state == TrialState.WAITING
    place.unlink()
    search.train = pretend
    search.run_here()
    assert search.study().get_trials()[0].state == TrialState.COMPLETE
    assert isinstance(said.value.__cause__, Away)


@pytest.mark.slow
def test_a_dead_machines_trial_goes_on_elsewhere_from_its_last_checkpoint(pretend_s3, machine, tmp_path):
    """A training on S3, its machine gone with its disk: an undisturbed one's figures, one W&B run, no credentials."""
    address, storage = "s3://bucket/sweep", f"search.storage=sqlite:///{tmp_path}/s.db"
    more = [storage, "search/sampler=random", "search.n_trials=1", "search.workers=1", "trainer.max_epochs=6"]
    common = [*TRAINING, *more, "logger=wandb", "logger.mode=offline", "search.heartbeat=1"]
    at = [f"search.dir={address}", "search.study=s"]
    pretend_s3.faults += [(lambda asked: "last.ckpt" in asked, fault) for fault in (0.5, (503, "SlowDown"), "drop")]
    command = [sys.executable, str(ROOT / "src/sweep.py"), "-m", *common, *at, *SPACE]
    log = (tmp_path / "log").open("w")
    sweep = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    search = {"study": "s", "dir": address, "storage": f"sqlite:///{tmp_path}/s.db"}
    try:
        study = _when(lambda: load(search)[0], 300)
        manifest = f"{address}/s/trials/00000/manifest.json"
        _when(lambda: "checkpoints/best.ckpt" in json.loads(stores.read(manifest) or "{}")["files"], 600)
        epochs = len(attributes.curve(study.get_trials()[0]))
    finally:
        machine_a = psutil.Process(sweep.pid)
        for process in (*machine_a.children(recursive=True), machine_a):  # workers have sessions of their own
            process.kill()
        sweep.wait()
    assert study.get_trials()[0].state == TrialState.RUNNING
    (tmp_path / "machine_a").rename(tmp_path / "of_a")  # gone; kept to be looked through for credentials
    here = machine("b")
    begun = []

    def spy(cfg, callbacks):
        begun.append(cfg.resume)
        return training.train(cfg, callbacks)

    own = [*common, *at, "search.worker=true"]
    Worker(compose(own, root="sweep"), own, train=spy).run()
    (trial,) = study.get_trials()
    assert trial.state == TrialState.COMPLETE and epochs >= 1
    assert begun == [str(here / "sweeps/s3/bucket/sweep/s/trials/00000/checkpoints/last.ckpt")]

    calm = [*common, f"search.dir={tmp_path}/calm", "search.study=c", f"search.storage=sqlite:///{tmp_path}/c.db"]
    subprocess.run([*command[:3], *calm, *SPACE], stdout=log, stderr=log, check=True)
    undisturbed = load({"study": "c", "dir": f"{tmp_path}/calm", "storage": f"sqlite:///{tmp_path}/c.db"})[0]
    assert attributes.outcome(trial)["anytime"] == attributes.outcome(undisturbed.get_trials()[0])["anytime"]
    assert trial.values == undisturbed.get_trials()[0].values

    folder = here / "sweeps/s3/bucket/sweep/s/trials/00000/wandb"
    (joined,) = parts(folder, _run_of(folder))
    rows = [r for r in read(joined) if r.WhichOneof("record_type") == "history"]
    logged = [i for r in rows for i in r.history.item if "val/accuracy" in (i.key, *i.nested_key)]
    # Each epoch once, whoever trained it; W&B's own process may not have written the last one when its machine died.
    assert len(logged) in (5, 6)
    for secret in (SECRET, KEY):
        assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
        files, root = stores.opened(address)
        assert not [p for p in files.find(root) if secret.encode() in files.cat_file(p)]


def _run_of(folder):
    return next(folder.glob("offline-run-*/*.wandb")).stem.removeprefix("run-")


def _when(look, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            if found := look():
                return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")
