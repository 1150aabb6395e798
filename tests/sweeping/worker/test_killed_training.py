"""Real trainings whose workers are killed: exact counts, and every result as if nothing had happened."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from optuna.trial import TrialState

from spikefront.config import ROOT
from spikefront.sweeping.study import attributes
from spikefront.sweeping.study.study import load

TRIALS, KILLS = 12, 8
LIVES = f"search.max_lives={KILLS + 1}"  # one trial may be hit again and again
TRAINING = ("model=sdt_1_16", "data=digits", "trainer=cpu", "trainer.max_epochs=3", "logger=none", "callbacks=quiet")
SPACE = ("model.timesteps=choice(1,2)", "neuron.threshold=interval(0.4,1)", "optimizer.lr=interval(2e-3,1e-2)")


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_killed_trainings_end_as_undisturbed_ones(tmp_path, storage):
    address = {"sqlite": f"sqlite:///{tmp_path}/a.db", "journal": f"journal://{tmp_path}/a.log"}[storage]
    common = [f"search.dir={tmp_path}", f"search.n_trials={TRIALS}", "search.heartbeat=2", *TRAINING, *SPACE]
    disturbed = _sweep(*common, "search.study=a", f"search.storage={address}", "search.workers=4", LIVES)
    kills = _kill_now_and_then(disturbed, {"dir": str(tmp_path), "study": "a", "storage": address})
    assert disturbed.wait() == 0
    study, _ = load({"dir": str(tmp_path), "study": "a", "storage": address})
    states = Counter(t.state for t in study.trials)
    assert kills == KILLS
    assert states.pop(TrialState.COMPLETE) == TRIALS
    assert set(states) <= {TrialState.WAITING}, states  # a number asked for at the very end and returned
    found = _results(study)
    assert len(found) == TRIALS  # none twice

    with (tmp_path / "params.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(study.trials[0].params)
        rows.writerows(found)
    calm = _sweep(
        *common,
        "search.study=b",
        "search.workers=2",
        "search.default_first=false",
        f"search.warm_start={tmp_path}/params.csv",
    )
    assert calm.wait() == 0
    assert _results(load({"dir": str(tmp_path), "study": "b"})[0]) == found


def _sweep(*arguments):
    command = [sys.executable, str(ROOT / "src" / "sweep.py"), "-m", *arguments]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def _kill_now_and_then(sweep, search):
    """SIGKILL a worker that trains, at random moments; how many."""
    draw, kills, study = random.Random(0), 0, None
    while sweep.poll() is None and kills < KILLS:
        time.sleep(draw.uniform(0.5, 3))
        if study is None:
            with contextlib.suppress(Exception):  # it isn't there yet
                study = load(search)[0]
            continue
        running = [attributes.lease(t) or {} for t in study.get_trials(states=(TrialState.RUNNING,))]
        if pids := [lease["pid"] for lease in running if "pid" in lease]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(pids), signal.SIGKILL)
                kills += 1
    return kills


def _results(study):
    """By parameters: accuracy, energy and anytime points, of the validation and the test part."""
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return {tuple(t.params.values()): (t.values, t.user_attrs["anytime"], t.user_attrs["test"]) for t in done}
