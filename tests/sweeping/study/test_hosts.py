"""Machines on which trials die of what they don't die of elsewhere get no more."""

from __future__ import annotations

import platform
from datetime import datetime

import pytest
from examples import few
from optuna.trial import TrialState

from spikefront.analysis import fleet
from spikefront.errors import UserError
from spikefront.sweeping.study import attributes, hosts
from spikefront.sweeping.study.accounts import account
from spikefront.sweeping.study.records import records

BROKEN = "RuntimeError: CUDA error 802: system not yet initialized"


@pytest.fixture
def study(make_sweep):
    search = make_sweep("search.n_trials=2", "search.workers=1")
    search.run_here()
    return search.study()


def end(study, host, reason=None, job=None):
    """A trial that a host's worker has ended."""
    trial = study.ask()
    lease = {"id": "x", "host": f"{host}|boot|pid", "pid": 1, **({"job": job} if job else {})}
    attributes.set_lease(trial.storage, trial._trial_id, lease)
    if reason:
        attributes.REASON.set(trial, reason)
    study.tell(trial, None if reason else [0.5, 1e-6], state=TrialState.FAIL if reason else TrialState.COMPLETE)


def test_three_failures_of_what_nobody_else_has_bench_a_host_once_they_are_three(study):
    end(study, "good")
    for code in (801, 802):
        end(study, "bad", BROKEN.replace("802", str(code)))
        hosts.check(study, account(study), "bad")
    end(study, "bad", BROKEN)
    with pytest.raises(
        UserError, match=r"^bad gets no more trials: .*CUDA error 802.*search.bench_hosts=false"
    ) as said:
        hosts.check(study, account(study), "bad")
    assert "\n" not in str(said.value)
    hosts.check(study, account(study), "good")
    assert f"bad gets no more trials: {attributes.BENCHED.get(study)['bad']}" in fleet.lines(records(study))


@pytest.mark.parametrize("case", few(["the same elsewhere", "nobody else finishes", "not in a row", "forgiven"], 4))
def test_what_is_not_the_hosts_fault_benches_none(study, case):
    here = platform.node() if case == "nobody else finishes" else "bad"  # whose the study's first trials are
    if case == "the same elsewhere":
        end(study, "good", BROKEN.replace("802", "7"))
    for i in range(3):
        if case == "not in a row" and i == 2:
            end(study, here)
        end(study, here, BROKEN)
    if case == "forgiven":
        attributes.FORGIVEN.set(study, [t.number for t in study.trials if t.state == TrialState.FAIL])
    hosts.check(study, account(study), here)
    assert not attributes.BENCHED.get(study)


def test_workers_pace_hours_and_failures_are_said_by_host_and_engine():
    def trial(number, state, host, engine="Ray", hours=0.5, finished=None):
        times = {"started": "2026-01-01T10:00:00+00:00", "finished": finished}
        return {"number": number, "state": state, "host": host, "engine": engine, "known": False, **times} | {
            "threads": None,
            "spent": {"gpu_hours": hours},
        }

    trials = [trial(i, "complete", "a", finished=f"2026-01-01T11:{10 * i:02}:00+00:00") for i in range(4)]
    trials += [trial(4 + i, "running", "ab"[i % 2], hours=0) for i in range(3)]
    trials += [trial(7, "running", "n1", "SLURM", hours=0), trial(8, "failed", "b", hours=0.25)]
    noon = datetime.fromisoformat("2026-01-01T11:30:00+00:00").timestamp()
    assert fleet.lines({"trials": trials, "budget": 10, "benched": {}}, noon) == [
        "workers: 3 Ray (a 2, b 1), 1 SLURM (n1 1)",
        "4 trials an hour",
        "2.25 GPU hours spent, about 3 to go",
        "failures by host: b 1",
    ]
    assert fleet.lines({"trials": [], "budget": 10}, noon) == []
