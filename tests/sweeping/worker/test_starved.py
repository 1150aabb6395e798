"""What Linux and SLURM tell of a worker that the out-of-memory killer has ended."""

from __future__ import annotations

import os
import platform

import pytest

from spikefront.sweeping.worker import starved as module
from spikefront.sweeping.worker.starved import oom_kills, starved

V2 = ("0::/job/step", "job/step/memory.events", "low 0\noom 3\noom_kill {}\noom_group_kill 0\n")
V1 = ("5:cpu:/x\n4:memory:/job/step", "memory/job/step/memory.oom_control", "oom_kill_disable 0\noom_kill {}\n")
CONTAINER = ("0::/../../host/path", "memory.events", "oom_kill {}\n")  # its own group is the root of what it sees


@pytest.mark.parametrize(("membership", "file", "text"), [V2, V1, CONTAINER])
def test_a_worker_whose_group_was_struck_meanwhile_was_starved(tmp_path, monkeypatch, membership, file, text):
    (tmp_path / "cgroup").write_text(f"{membership}\n")
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "fs")
    assert oom_kills() is None
    events = tmp_path / "fs" / file
    events.parent.mkdir(parents=True)
    events.write_text(text.format(2))
    lease = {"host": f"{platform.node()}|boot", "oom_kills": oom_kills()}
    assert lease["oom_kills"] == 2 and not starved(lease)
    events.write_text(text.format(3))
    assert starved(lease)
    assert not starved({**lease, "host": "elsewhere|boot"}) and not starved({"host": lease["host"]})


def test_slurm_is_asked_of_a_workers_job(tmp_path, monkeypatch):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        '#!/bin/sh\necho "JobId=7 JobName=x JobState=$([ $3 = 7_1 ] && echo OUT_OF_MEMORY || echo FAILED)"\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert starved({"host": "node|boot", "job": "7_1"}) and not starved({"host": "node|boot", "job": "7_2"})
