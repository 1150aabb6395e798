"""What a sweep says and asks for on Ray, and a short one on a cluster of one node; test_ray.py has the long ones."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
import yaml

from spikefront.cluster import actors, jobs, nodes
from spikefront.config import ROOT
from spikefront.console import last_words
from spikefront.sweeping.study import deaths

SWEEP = ("sweep", "-m", "hparams_search=timesteps", "data=digits", "model=sdt_1_16", "hydra/launcher=ray")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'spikefront[ray]'"
)


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)


def test_without_ray_a_line_names_the_extra(script, tmp_path, without_ray):
    code, _, err = script(*SWEEP, f"search.dir={tmp_path}")
    assert code == 1 and "pip install 'spikefront[ray]'" in err and len(err.strip().splitlines()) == 1


def test_what_would_be_started_is_shown_without_ray(script, tmp_path, without_ray):
    code, out, err = script(*SWEEP, f"search.dir={tmp_path}", "search.workers=2", "dry_run=true")
    assert code == 0, err
    assert len(re.findall(r"sweep.py .*search.worker=true", out)) == 2 and not (tmp_path / "timesteps-digits").exists()


@pytest.mark.parametrize("how", [["trainer.num_nodes=2"], ["trainer.num_nodes=1,2"]])
def test_a_trial_over_nodes_is_refused(script, tmp_path, without_ray, how):
    verb = SWEEP if how == ["trainer.num_nodes=2"] else ("train", "-m", "data=digits", "hydra/launcher=ray_cpu")
    more = ["dry_run=true"] if verb is SWEEP else [f"hydra.sweep.dir={tmp_path}", "dry_run=true"]
    code, _, err = script(*verb, *how, f"{'search' if verb is SWEEP else 'hydra.sweep'}.dir={tmp_path}", *more)
    assert code == 1 and "trains each trial on one node, and trainer.num_nodes is 2" in err.strip().splitlines()[-1]


def test_resources_are_rays_own_and_spelled():
    asked = {"CPU": 4, "GPU": 0.5, "fast": 1, "none": 0}
    assert actors.options(asked) == {"num_cpus": 4, "num_gpus": 0.5, "resources": {"fast": 1}}
    assert actors.spelled(asked) == "CPU=4 GPU=0.5 fast=1"


def test_a_rays_worker_is_no_slurm_job_of_its_head(monkeypatch):
    environment = {"SPIKEFRONT_RAY_NODE": "ab12", "SLURM_JOB_ID": "7"}
    assert jobs.job_of(environment) == "ray:ab12"
    monkeypatch.setattr(jobs.shutil, "which", lambda _: "/usr/bin/scontrol")
    monkeypatch.setattr(jobs.subprocess, "run", lambda *_, **__: pytest.fail("asked SLURM"))
    assert not jobs.requeue(environment) and not jobs.is_preempted(environment)


@pytest.mark.parametrize(
    ("state", "lost"), [("NODE_FAIL", True), ("PREEMPTED", True), ("FAILED", False), (None, False)]
)
def test_slurm_says_whether_a_machine_was_lost(monkeypatch, state, lost):
    monkeypatch.setattr(nodes, "state_of", lambda job: state)
    assert nodes.lost("12_3") == lost


def test_lost_machines_are_forgiven_and_only_they():
    kept: deaths.Deaths = {}
    for job in ("ray:a", "ray:b", "ray:a"):
        kept = deaths.one_more(kept, {"job": job}, epochs=0, starved=False)
    assert kept["times"] == 3
    left = deaths.forgiven(kept, lambda job: job == "ray:a")
    assert left == {"times": 1, "epochs": 0, "starved": False, "jobs": ["ray:b"]}
    assert deaths.one_more(left, {"job": "ray:c"}, epochs=1, starved=False)["times"] == 1  # it had come further
    assert (
        deaths.forgiven({"times": 2, "epochs": 0, "starved": True}, lambda job: True)["times"] == 2
    )  # an older version's


def test_the_last_words_of_a_process_are_its_own(tmp_path):
    log = tmp_path / "ray.log"
    assert last_words(log) == f"no output (log: {log})"
    log.write_text("a\nspikefront: no such data\nb\n")
    assert last_words(log) == f"no such data (log: {log})"


@needs_ray
def test_no_cluster_is_a_line(script, tmp_path):
    code, _, err = script(*SWEEP, f"search.dir={tmp_path}", "hydra.launcher.address=127.0.0.1:1")
    assert code == 1 and "no Ray cluster answers at 127.0.0.1:1" in err.strip().splitlines()[-1]


@needs_ray
def test_ray_speaks_where_it_is_hushed(monkeypatch):
    from ray._private import worker

    from spikefront.cluster.ray_internals import hush

    said = worker.print_to_stdstream
    monkeypatch.setattr(worker, "print_to_stdstream", said)  # put back in the end
    hush()
    assert worker.print_to_stdstream is not said


@needs_ray
def test_rays_own_reader_and_schema_take_the_manifest():
    """What KubeRay's autoscaler makes of it, by Ray's ray-schema.json; the CRD itself is not in Ray's wheel."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as read

    manifest = yaml.safe_load((ROOT / "slurm" / "raycluster.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    found = read(manifest)
    head, worker = (found["available_node_types"][name] for name in (found["head_node_type"], "spot"))
    assert head["resources"]["CPU"] == 0 and found["max_workers"] == 16
    launcher = yaml.safe_load((ROOT / "slurm/hydra/launcher/ray.yaml").read_text())
    assert (worker["resources"]["CPU"], worker["resources"]["GPU"]) == (launcher["num_cpus"], launcher["num_gpus"])
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for group in (manifest["spec"]["headGroupSpec"], *manifest["spec"]["workerGroupSpecs"])
        for volume in group["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == ["studies", "studies"]
    with pytest.raises(KeyError):
        read({**manifest, "spec": {**manifest["spec"], "workerGroupSpecs": [{"groupName": "spot"}]}})


@needs_ray
def test_a_sweep_on_a_node_of_ones_own(tmp_path):
    from raycluster import Nodes, Sweep

    with Nodes(1) as cluster:
        sweep = Sweep(cluster, tmp_path, "callbacks.slow.seconds=0", "trainer.max_epochs=1")
        said = sweep.end()
        assert "Ray: 1 worker, each CPU=1" in said and "1/1  trial 0" in said
        (trial,) = sweep.records()["trials"]
        assert (trial["state"], trial["engine"]) == ("complete", "Ray")
