"""What a sweep says and chooses on clusters, without one: tests/slurm has a real one."""

from __future__ import annotations

import errno
import sys
import time

import psutil
import pytest

from spikefront.cluster import queue as slurm
from spikefront.cluster.submission import refusal
from spikefront.errors import UserError
from spikefront.sweeping.study import attributes, filesystems
from spikefront.sweeping.study import storage as storages
from spikefront.sweeping.study.filesystems import full, shared

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/export/home /home nfs4 rw,relatime,vers=4.2 0 0
tmpfs /home/local tmpfs rw 0 0
mds@tcp:/scratch /scratch\\040space lustre rw 0 0
server:/old /twice nfs rw 0 0
/dev/vdb /twice xfs rw 0 0
sshfs#host: /a\\134b fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/someone/study.db", "nfs4"),
        ("/home", "nfs4"),
        ("/home/local/study.db", None),
        ("/homes/study.db", None),
        ("/scratch space/x", "lustre"),
        ("/twice/x", None),  # the later mount covers the earlier
        ("/a\\b/x", "fuse.sshfs"),
    ],
)
def test_shared_file_systems_are_known_by_their_mount(tmp_path, monkeypatch, path, kind):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert shared(path) == kind


def test_a_machine_that_shows_no_mounts_has_no_shared_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert shared(tmp_path) is None


def test_sqlite_on_nfs_is_refused_with_the_advice_and_not_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystems, "shared", lambda path: "nfs4")
    search = {"dir": str(tmp_path), "study": "s", "storage": None}
    assert storages.url(search) == f"journal://{tmp_path}/s/study.log"
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.db").touch()  # of a sweep from before the move to NFS
    with pytest.raises(UserError, match=r"locks don't hold on nfs4.*search.storage=journal://.*/s/study.log"):
        storages.open_storage(storages.url(search))


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("sbatch: error: invalid partition specified: x", "hydra.launcher.partition"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "hydra.launcher.qos"),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates"
            " accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "search.workers",
        ),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "mem_gb"),
        ("sbatch: error: Batch job submission failed: Something new", "Something new; see"),
    ],
)
def test_a_refused_job_is_one_line_with_what_to_do(said, hint):
    line = str(refusal(said, {"partition": "x"}))
    assert line.startswith("SLURM refuses the job: ") and hint in line and "\n" not in line


def test_without_sbatch_nothing_starts(script, monkeypatch, tmp_path):
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    code, _, err = script("sweep", "-m", "hparams_search=timesteps", "hydra/launcher=slurm", f"search.dir={tmp_path}")
    assert code == 1 and err.startswith("spikefront: no sbatch on this machine") and err.count("\n") == 1
    assert not list(tmp_path.glob("*/study.*"))


def test_dry_run_prints_the_batch_script_and_makes_no_study(script, tmp_path):
    command = ["-m", "hparams_search=architecture", "hydra/launcher=slurm", f"search.dir={tmp_path}", "dry_run=true"]
    code, out, err = script("sweep", *command)
    assert code == 0, err
    assert "#SBATCH --array=0-7%8" in out and "#SBATCH --gpus-per-node=1" in out and "#SBATCH --signal=USR2@120" in out
    assert not list(tmp_path.glob("*/study.*"))


def test_a_full_disk_is_known_behind_other_errors():
    try:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("writing failed") from error
    except RuntimeError as error:
        assert full(error)
    assert not full(OSError(errno.ENOENT, "no such file"))


def test_workers_that_a_budget_ended_are_no_failure(make_sweep, tmp_path, monkeypatch):
    from hydra_plugins.spikefront_slurm import SlurmArray

    options = ("search.n_trials=1", "search.workers=1", "search.max_hours=1")
    make_sweep(*options).run_here()
    study = make_sweep(*options).study()
    attributes.BUDGET.set(study, 5)
    monkeypatch.setattr(slurm, "workers", lambda *_: {})
    monkeypatch.setattr(sys.modules[SlurmArray.__module__], "POLL", 0.1)
    array = object.__new__(SlurmArray)
    array.config = make_sweep(*options).cfg()
    with pytest.raises(UserError, match="all workers have ended"):
        array._watch(["1_0"], "s", str(tmp_path / "s"))
    attributes.BEGAN.set(study, time.time() - 3601)
    array._watch(["1_0"], "s", str(tmp_path / "s"))  # the sweep says which limit
