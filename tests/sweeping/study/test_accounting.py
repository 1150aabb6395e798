"""Exact counts whatever is killed: no trial lost, none counted twice, each continued from where it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from examples import few
from optuna.trial import TrialState
from pretended import pretend

from spikefront.commands.study import inspect
from spikefront.sweeping.study import accounts, attributes, ledger, presence
from spikefront.sweeping.study.ledger import Ledger
from spikefront.sweeping.study.records import records

STORAGES = {"sqlite": "search.storage=null", "journal": "search.storage=journal:///{}/study.log"}


@pytest.mark.parametrize(
    ("trials", "workers", "kills"),
    [(10, 2, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((24, 4, 5), (60, 4, 12)))],
)
@pytest.mark.parametrize("storage", few(STORAGES))
def test_killed_workers_lose_nothing(make_sweep, tmp_path, storage, trials, workers, kills):
    search = make_sweep(
        f"search.n_trials={trials}",
        f"search.workers={workers}",
        "search.heartbeat=2",
        STORAGES[storage].format(tmp_path),
    )
    search.run(kills=kills)
    check_exact(search, tmp_path, trials, kills)


def check_exact(search, tmp_path, finished, kills):
    """Exactly so many trials of four steps finished, none twice, none lost, no step but the last of a life repeated."""
    assert search.kills == kills
    trials = search.study().get_trials()
    assert not [attributes.REASON.get(t) for t in trials if t.state == TrialState.FAIL]
    states = Counter(t.state for t in trials)
    assert states.pop(TrialState.COMPLETE) == finished
    assert set(states) <= {TrialState.WAITING}, states  # a number asked for at the very end and returned
    assert [t.number for t in trials] == list(range(len(trials)))
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    assert all(len(t.values) == 2 and set(t.params) == {"model.timesteps", "neuron.threshold"} for t in complete)
    assert (
        len({tuple(t.params.values()) for t in complete}) == finished
    )  # continuous: a repeat would be a trial run twice
    for t in complete:
        directory = tmp_path / "s" / "trials" / f"{t.number:05d}"
        lines = [line.split() for line in (directory / "steps").read_text().splitlines()]
        steps = [int(step) for step, _ in lines]
        assert set(steps) == {1, 2, 3, 4}
        assert len(steps) < 4 + len({pid for _, pid in lines})  # each further process redid at most one step


def test_the_same_command_continues_and_more_can_be_asked_for(make_sweep):
    for budget in (3, 3, 5):
        search = make_sweep(f"search.n_trials={budget}", "search.workers=1")
        search.run_here()
        assert Counter(t.state for t in search.study().trials)[TrialState.COMPLETE] == budget


def test_a_stuck_worker_is_seen_by_its_silence(make_sweep):
    """Another machine's lease that nobody renews ends after its grace, by the observer's own clock."""
    search = make_sweep("search.n_trials=3", "search.workers=1", "search.heartbeat=0.2")
    search.run_here()
    study = search.study()
    trial = study.ask()
    lease = {"id": "x", "host": "elsewhere", "pid": 1, "since_boot": 1.0, "beat": 7}
    study._storage.set_trial_system_attr(trial._trial_id, "spikefront:lease", lease)
    more = make_sweep("search.n_trials=4", "search.workers=1", "search.heartbeat=0.2")
    more.run_here()
    trials = more.study().trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
    assert trials[3].number == trial.number


def bereft(make_sweep):
    """A study, a trial of it that runs under a dead worker's lease, and the ledgers of two that live."""
    search = make_sweep("search.n_trials=1", "search.workers=1")
    search.run_here()
    study = search.study()
    trial = study.ask()
    one, other = (Ledger(study, study._storage) for _ in range(2))
    attributes.set_lease(study._storage, trial._trial_id, {**one._me, "id": "x", "since_boot": 1.0, "beat": 7})
    return study, trial, one, other


def test_a_dead_workers_trial_is_put_back_once(make_sweep, monkeypatch):
    """Between a worker's taking of a returned trial and its first renewal, the dead one's lease does not count."""
    study, trial, one, other = bereft(make_sweep)
    assert one.put_back_the_dead() == [trial.number]
    ask = study.ask

    def ask_and_be_looked_at():
        taken = ask()
        assert taken.number == trial.number
        assert other.put_back_the_dead() == []
        return taken

    monkeypatch.setattr(study, "ask", ask_and_be_looked_at)
    assert one.take(2).number == trial.number
    assert one.is_mine(trial._trial_id) and other.put_back_the_dead() == []


def test_a_process_is_known_by_its_number_and_when_it_started(make_sweep, monkeypatch):
    """A clock that is set meanwhile changes nothing; a later process of that number is another; a zombie is gone."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lease = {"id": "x", **presence.identity(child.pid)}
    assert not presence.gone(lease)
    assert presence.gone({**lease, "since_boot": lease["since_boot"] - 60})
    assert not presence.gone({**lease, "since_boot": lease["since_boot"] - 60, "host": "elsewhere"})
    boot, started = psutil.boot_time(), psutil.Process(child.pid).create_time()
    for jump in (1e6, -1e6, 1):
        monkeypatch.setattr(psutil, "boot_time", lambda jump=jump: boot + jump)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self, jump=jump: started + jump)
        assert not presence.gone(lease)
    monkeypatch.undo()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and its parent hasn't asked yet
    assert presence.gone(lease)
    child.communicate()
    assert presence.gone(lease)


def test_a_process_that_the_system_hides_is_not_gone(monkeypatch):
    lease = {"id": "x", **presence.identity(os.getpid())}

    def hidden(self):
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "create_time", hidden)
    assert not presence.gone(lease)


def test_a_lease_of_an_earlier_version_is_judged_by_its_silence_alone(make_sweep, monkeypatch):
    """It says when its process started in the kernel's ticks; ours must not seem to say so to such a version."""
    search = make_sweep("search.n_trials=1", "search.workers=1")
    search.run_here()
    study = search.study()
    trial = study.ask()
    looks = Ledger(study, study._storage, interval=5)
    assert "started" not in looks._me
    for started in ("1", ""):  # of another process with this number; of a system without /proc
        lease = {"id": "x", "host": presence.host(), "pid": os.getpid(), "started": started, "beat": 7}
        attributes.set_lease(study._storage, trial._trial_id, lease)
        assert looks.put_back_the_dead() == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 16)
    assert looks.put_back_the_dead() == [trial.number]


def test_a_trial_returned_twice_is_trained_once(make_sweep, monkeypatch):
    """Two workers see a dead one; the slower returns the trial when the faster has taken it already."""
    _, trial, faster, slower = bereft(make_sweep)
    assert faster.put_back_the_dead() == [trial.number]
    taken = []

    def meanwhile(seconds):
        assert seconds == ledger.SETTLE
        if not taken:
            taken.append(None)
            slower._set_waiting(trial._trial_id, {})
            taken[0] = slower.take(2)

    monkeypatch.setattr(ledger.time, "sleep", meanwhile)
    assert faster.take(2) is None
    assert taken[0].number == trial.number and slower.is_mine(trial._trial_id)


@pytest.mark.parametrize(("trials", "workers"), [(3, 3), pytest.param(7, 6, marks=pytest.mark.slow)])
def test_workers_that_ask_at_the_same_moment_do_not_exceed_the_budget(make_sweep, trials, workers):
    search = make_sweep(f"search.n_trials={trials}", f"search.workers={workers}")
    search.run()
    states = Counter(t.state for t in search.study().trials)
    assert states[TrialState.COMPLETE] == trials
    assert not states[TrialState.RUNNING] and not states[TrialState.FAIL]


def test_hours_end_the_sweep_with_running_trials_checkpointed(make_sweep):
    """Beside the others that fork, as what they fork from takes longest to start."""
    begun = time.monotonic()
    search = make_sweep("search.n_trials=500", "search.workers=2", f"search.max_hours={1.5 / 3600}")
    search.run()
    assert time.monotonic() - begun < 60
    states = Counter(t.state for t in search.study().trials)
    assert states[TrialState.COMPLETE] < 500 and not states[TrialState.RUNNING] and not states[TrialState.FAIL]


def test_a_place_that_was_given_back_is_no_trial_that_waits(make_sweep):
    search = make_sweep("search.n_trials=2", "search.workers=1")
    search.run_here()
    study = search.study()
    surplus = study.ask()._trial_id  # of two workers that asked at one moment
    study._storage.set_trial_state_values(surplus, TrialState.WAITING)
    study.enqueue_trial({"model.timesteps": 2, "neuron.threshold": 0.7})
    states = Counter(t["state"] for t in records(study)["trials"])
    assert states == {"complete": 2, "waiting": 1}


def test_trial_zero_is_the_default_configuration(make_sweep):
    search = make_sweep("search.n_trials=2", "search.workers=1")
    search.run_here()
    first = search.study().trials[0]
    assert first.params == {"model.timesteps": 4, "neuron.threshold": 1.0}
    found = records(search.study())
    assert found["trials"][0]["origin"] == "default configuration"
    assert "model.timesteps=4" in found["trials"][0]["command"]


GRID = ("model.timesteps=choice(1,2,4,8)", "neuron.threshold=choice(1,2)")


def trained(search):
    return [t.params for t in accounts.account(search.study()).finished]


@pytest.mark.parametrize("wanted", few(["null", 3, 5]))
def test_a_grid_under_a_constraint_trains_as_many_as_are_asked_for_and_there(make_sweep, wanted):
    """Four of eight points are feasible: what is refused takes no place of what was asked for."""
    bound = "+search.constraints={neuron.threshold: '< 1.5'}"
    search = make_sweep("search/sampler=grid", f"search.n_trials={wanted}", "search.workers=1", bound, space=GRID)
    search.run_here()
    points = trained(search)
    assert len(points) == len({str(p) for p in points}) == (3 if wanted == 3 else 4)
    assert all(p["neuron.threshold"] == 1 for p in points)


def test_a_failed_point_of_a_grid_is_trained_once_it_is_retried(make_sweep):
    broken = {"now": True}

    def train(cfg, callbacks=()):
        if broken["now"] and cfg.model.timesteps == 4 and cfg.neuron.threshold == 1:
            raise RuntimeError("no such luck")
        return pretend(cfg, callbacks)

    options = ("search/sampler=grid", "search.n_trials=null", "search.workers=1")
    search = make_sweep(*options, space=GRID, train=train)
    search.run_here()
    assert len(trained(search)) == 7
    broken["now"] = False
    search.run_here()
    assert len(trained(search)) == 7  # not by itself
    at = {"study": "s", "dir": search.cfg().search.dir, "storage": None, "output": None, "trial": None, "t": None}
    inspect({**at, "action": "retry"})
    search.run_here()
    points = trained(search)
    assert len(points) == len({str(p) for p in points}) == 8
