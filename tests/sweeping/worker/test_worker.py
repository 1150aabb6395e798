"""What a worker tells of a real training, and how it follows the study."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hydra.utils import instantiate
from optuna.trial import TrialState
from pretended import Sweep, lock
from waiting import until

from spikefront.analysis.confidence import interval
from spikefront.config import ROOT, compose
from spikefront.errors import UserError
from spikefront.sweeping.study import accounts, attributes, brought, storage
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.records import records
from spikefront.sweeping.worker import processes
from spikefront.sweeping.worker.worker import Worker
from spikefront.training import train

TINY = ("model=sdt_1_16", "model.timesteps=2", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=4")


def real(tmp_path, *overrides, space=("neuron.threshold=interval(0.5,2)",)):
    """A sweep of real trainings, its one worker in this process."""
    search = Sweep(tmp_path, *TINY, "callbacks=quiet", "search/sampler=random", *overrides, space=space, train=train)
    search.run_here()
    return search


def test_latency_memory_and_several_seeds(tmp_path):
    options = ("search.objectives=[accuracy,energy,latency,memory]", "search.seeds=2", "search.n_trials=1")
    search = real(tmp_path, *options)
    study = records(search.study())
    trial = study["trials"][0]
    assert 1e-6 < trial["values"]["latency"] < 1 and 1e5 < trial["values"]["memory"] < 1e10
    first, second = trial["seeds"]
    assert (first["seed"], second["seed"]) == (0, 1) and first["val/loss"] != second["val/loss"]
    for name in ("accuracy", "energy", "val/loss"):
        assert trial["metrics"][name] == pytest.approx((first[name] + second[name]) / 2)
        assert trial["spread"][name] == pytest.approx(statistics.stdev([first[name], second[name]]))
    assert trial["anytime"][-1]["accuracy"] == pytest.approx(trial["values"]["accuracy"])
    own = [first["accuracy"], second["accuracy"]]
    assert trial["anytime"][-1]["accuracies"] == own and study["points"][-1]["interval"] == interval(
        statistics.mean(own), 1, own
    )
    assert trial["command"].startswith("python src/train.py -m ") and trial["command"].endswith(" seed=0,1")
    assert len(trial["curve"]) == 2 and trial["epochs"] == 4 and trial["spent"]["seconds"] > 0
    with pytest.raises(UserError, match="seeds a configuration were 2, now 1"):
        real(tmp_path, *options[::2], "search.seeds=1")


def test_an_objective_that_is_never_logged_ends_the_sweep_before_the_training_does(tmp_path):
    options = (
        "search.objectives={accuracy: maximize, val/los: minimize}",
        "trainer.max_epochs=50",
        "search.n_trials=3",
    )
    with pytest.raises(UserError, match=r"'val/los' was never logged; did you mean 'val/loss'"):
        real(tmp_path, *options)
    (trial,) = records(Sweep(tmp_path, *options).study())["trials"]
    assert trial["state"] == "waiting" and trial["epochs"] == 2


def test_missing_data_is_said_before_any_trial(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        real(tmp_path, "data=imagenet", "data.root=/nowhere", "search.n_trials=3")
    assert [t["state"] for t in records(Sweep(tmp_path).study())["trials"]] == ["waiting"]


def test_a_worker_started_by_hand_searches_as_the_sweep_does(make_sweep):
    search = make_sweep("search.n_trials=1", "search.workers=1", "search/pruner=median", "search.max_failures=3")
    search.run_here()
    own = [f"search.dir={search.cfg().search.dir}", "search.study=s", "search.worker=true", "search.heartbeat=7"]
    worker = Worker(compose(own, root="sweep"), own)
    assert type(worker.study.sampler.sampler.sampler).__name__ == "RandomSampler"
    assert type(worker.pruner).__name__ == "MedianPruner"
    assert worker.search.max_failures == 3 and worker.search.heartbeat == 7


def test_a_clock_that_jumps_ends_no_trial(make_sweep, monkeypatch):
    search = make_sweep("search.n_trials=1", "search.workers=1")
    search.run_here()
    opened = search.study()
    ledger = Ledger(opened, opened._storage, interval=5)
    trial = opened.ask()
    elsewhere = {"id": "x", "host": "elsewhere", "pid": 1, "since_boot": 1.0, "beat": 7}
    attributes.set_lease(opened._storage, trial._trial_id, elsewhere)
    assert ledger.put_back_the_dead() == []
    for jump in (1e9, -1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        assert ledger.put_back_the_dead() == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 16)  # silence for three intervals
    assert ledger.put_back_the_dead() == [trial.number]


def test_a_locked_database_is_said_and_the_study_untouched(make_sweep, tmp_path, monkeypatch):
    search = make_sweep("search.n_trials=1", "search.workers=1")
    search.run_here()
    monkeypatch.setattr(storage, "LOCK_PATIENCE", 0.2)
    with lock(tmp_path / "s" / "study.db"), pytest.raises(UserError, match="database is locked; another program"):
        make_sweep("search.n_trials=2", "search.workers=1").run_here()
    assert len(search.study().trials) == 1 and attributes.BUDGET.get(search.study()) == 1


def test_each_worker_has_its_share_of_cores_and_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_cores", lambda: [0, 1, 2, 3, 8, 9])
    assert [processes._share(i, 3) for i in range(3)] == [[0, 1], [2, 3], [8, 9]]
    assert [processes._share(i, 4) for i in range(4)] == [[0], [1, 2], [3], [8, 9]]
    assert [processes._share(i, 8)[0] for i in range(8)] == [0, 1, 2, 3, 8, 9, 0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    for trainer, workers, gpus in [
        ({"accelerator": "gpu", "devices": 1}, 4, 1),
        ({"accelerator": "auto", "devices": "auto"}, 4, 1),
        ({"accelerator": "gpu", "devices": 2}, 2, 2),
        ({"accelerator": "gpu", "devices": "0,1"}, 2, 2),
        ({"accelerator": "gpu", "devices": -1}, 1, 4),
        ({"accelerator": "gpu", "devices": 8}, 1, 8),
        ({"accelerator": "cpu", "devices": 1}, 6, 0),  # GPUs are left to others
        ({"accelerator": "cpu", "devices": 2}, 3, 0),  # a core for each process
    ]:
        assert processes.default_workers(trainer) == workers, trainer
        assert processes.gpus_of(trainer) == gpus, trainer
    assert processes._environment(0, 2, 0).get("CUDA_VISIBLE_DEVICES") is None
    assert [processes._environment(i, 2, 2)["CUDA_VISIBLE_DEVICES"] for i in range(2)] == ["4,5", "6,7"]
    assert [processes._environment(i, 6, 1)["CUDA_VISIBLE_DEVICES"] for i in range(6)] == list("456745")
    monkeypatch.undo()
    core = processes._cores()[-1]
    monkeypatch.setattr(processes, "_share", lambda *_: [core])
    said = "import os; print(os.environ['OMP_NUM_THREADS'], os.sched_getaffinity(0))"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processes.Processes([[sys.executable, "-c", f"import time; time.sleep(0.2); {said}"]], tmp_path).run()
    assert (tmp_path / "worker_0.log").read_text().split(maxsplit=1) == ["1", f"{{{core}}}\n"]


def test_what_ends_one_worker_for_good_ends_all_and_starts_none_again(tmp_path, capfd):
    """Also those that are still starting, which a SIGINT kills."""
    starting = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(60)"
    failing = "import sys, time; time.sleep(0.5); print('spikefront: no such thing'); sys.exit(1)"
    commands = [[sys.executable, "-c", program] for program in (starting, failing, starting)]
    with pytest.raises(UserError, match=r"^no such thing \(log: .*worker_1.log\)$"):
        processes.Processes(commands, tmp_path).run()
    assert "starting another" not in capfd.readouterr().err


def test_the_closing_of_the_terminal_is_an_interrupt(tmp_path):
    asked = "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); print(1, flush=True)"
    group = processes.Processes([[sys.executable, "-c", f"{asked}; time.sleep(99)"]], tmp_path)

    def close():
        log = tmp_path / "worker_0.log"
        while not (log.exists() and log.read_text().strip()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=close).start()
    with pytest.raises(KeyboardInterrupt):
        group.run()
    assert group.interrupts == 1


def test_workers_stop_with_the_process_that_started_them(tmp_path):
    worker = (
        "import pathlib, sys, time; from spikefront.sweeping.worker.processes import stop_with_parent\n"
        "stop_with_parent()\n"
        "try:\n  print(1, flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n  pathlib.Path(sys.argv[1]).write_text('stopped')"
    )
    sweep = (
        "import pathlib, sys; from spikefront.sweeping.worker.processes import Processes\n"
        "Processes([[sys.executable, '-c', sys.argv[1], sys.argv[2] + '/said']], pathlib.Path(sys.argv[2])).run()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-c", sweep, worker, str(tmp_path)], env=environment)
    log, said = tmp_path / "worker_0.log", tmp_path / "said"
    until(lambda: log.exists() and log.read_text().startswith("1"))
    process.kill()
    process.wait()
    until(said.exists)


def test_a_worker_that_is_killed_again_and_again_is_started_after_longer_pauses(tmp_path):
    times = tmp_path / "times"
    worker = (
        f"import os, time; file = open({str(times)!r}, 'a'); print(time.monotonic(), file=file, flush=True)\n"
        f"len(open({str(times)!r}).readlines()) < 3 and os.kill(os.getpid(), 9)"
    )
    processes.Processes([[sys.executable, "-c", worker]], tmp_path).run()
    first, second, third = map(float, times.read_text().split())
    assert second - first >= 1 and third - second >= 2


def test_the_second_interrupt_ends_what_the_workers_started_too(tmp_path):
    """Such as the other processes of a training over several, which would wait for a dead one."""
    below = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '99']).pid, flush=True)"
    deaf = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {below}; time.sleep(99)"
    group = processes.Processes([[sys.executable, "-c", deaf]], tmp_path)

    def interrupt_twice():
        log = tmp_path / "worker_0.log"
        while not (log.exists() and log.read_text().strip()):
            time.sleep(0.05)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    threading.Thread(target=interrupt_twice).start()
    with pytest.raises(KeyboardInterrupt):
        group.run()
    child = int((tmp_path / "worker_0.log").read_text())
    psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=5)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_failed_trial_keeps_its_cause_in_the_study_and_on_the_screen(make_sweep, capfd):
    """In the words of train.py, whatever Hydra wraps it in."""

    def build(cfg, callbacks):
        instantiate(cfg.model)

    search = make_sweep(
        "search/sampler=grid", "search.n_trials=null", space=("model.num_heads=choice(7,9)",), train=build
    )
    with contextlib.suppress(UserError):  # that nothing could be trained
        search.run_here()
    said = capfd.readouterr().out
    reasons = [attributes.REASON.get(t) for t in search.study().get_trials(states=(TrialState.FAIL,))]
    assert len(reasons) == 2
    for reason in reasons:
        assert reason.startswith("model.dim is 64") and "model.num_heads=" in reason
        assert f"failed: {reason}" in said


def test_a_sampler_that_fails_ends_the_sweep_and_no_trial(make_sweep):
    search = make_sweep(
        "search.n_trials=4", "search.workers=1", "search/sampler=tpe", "search.sampler.n_startup_trials=x"
    )
    with pytest.raises(UserError, match=r"search\.sampler: TPESampler can't propose a point: TypeError"):
        search.run_here()
    assert {t.state.name for t in search.study().trials} == {"COMPLETE", "WAITING"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["search/sampler=cmaes"], "one objective"),
        (["+search.sampler.bogus=3"], "bogus"),
        (["search/pruner=front", "search.pruner.tolerance=2"], "tolerance is 2"),
        (["search/pruner=front", "search.objectives=[accuracy,latency]"], "needs the objectives"),
        (["search/pruner=asha", "search.prune_on=latency"], "prune_on"),
    ],
)
def test_a_sampler_or_pruner_that_cannot_be_is_said_before_a_study_is_made(make_sweep, tmp_path, overrides, says):
    with pytest.raises(UserError, match=says):
        make_sweep("search.n_trials=4", *overrides).run_here()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("stopping", [True, False])
def test_what_fires_nothing_and_guesses_half_way_is_stopped_and_shown_as_the_worst(tmp_path, stopping):
    options = ("trainer.max_epochs=6", "trainer.limit_train_batches=8", f"search.stop_silent={str(stopping).lower()}")
    search = real(tmp_path, *options, "search.n_trials=2", space=("neuron.threshold=choice(1.0,1000.0)",))
    trials = {t["params"]["neuron.threshold"]: t for t in records(search.study())["trials"]}
    loud, quiet = trials[1.0], trials[1000.0]
    assert loud["state"] == "complete" and quiet["state"] == ("pruned" if stopping else "complete")
    assert len(quiet["curve"]) == (5 if stopping else 6) and quiet["curve"][-1]["firing_rate"] == 0
    if not stopping:
        return
    assert quiet["reason"].startswith("after epoch 5 of 6 no neuron fires and the accuracy, 0.")
    study = records(search.study())
    assert {p["number"] for p in study["points"]} == {loud["number"]}
    whole = search.study()
    frozen = whole.trials[quiet["number"]]
    assert accounts.bad(whole) == [frozen]
    seen = brought.seen(frozen, {"accuracy": "maximize", "energy": "minimize"})
    assert seen.stopped and [list(p) for p in seen.final] == [list(p) for p in quiet["curve"][-1]["anytime"]]
