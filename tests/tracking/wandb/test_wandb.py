"""W&B's real client against a stand-in of its server that also refuses, limits, stalls and drops."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import made
import pytest
import wandb
from click.testing import CliRunner
from examples import few
from standin import ENTITY, StandIn
from system import small_disk
from wandb.cli.cli import cli

from spikefront.errors import UserError
from spikefront.tracking.wandb.client import Client, has_account
from spikefront.tracking.wandb.filters import told_apart
from spikefront.tracking.wandb.logger import wandb_logger
from spikefront.tracking.wandb.project import checkpoint_path, differing, project_records
from spikefront.tracking.wandb.study_run import StudyRun

KEY = "k" * 40
LONG = "x" * 100_000  # longer than the blocks of W&B's files
MISBEHAVIOUR = ("refuse", "limit", "forbid", "stall", "drop")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The stand-in, which the client takes for its server, with an account there."""
    with StandIn() as standin:
        monkeypatch.setenv("WANDB_BASE_URL", standin.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setattr("spikefront.tracking.wandb.project.cache_folder", lambda: tmp_path / "own")
        wandb.teardown()
        yield standin
        standin.ended.set()
        wandb.teardown()


def client(directory: Path, name: str, patience: float = 2.0, **init) -> Client:
    return Client({"project": "p", "id": name, "dir": str(directory), "resume": "allow", **init}, True, patience)


def sync(directory: Path) -> None:
    """What the line that W&B's absence leaves says to do."""
    paths = [str(p) for p in sorted(directory.glob("wandb/*run-*"))]
    done = CliRunner().invoke(cli, ["sync", "--include-online", *paths])
    assert done.exit_code == 0, done.output


def test_a_run_says_all_that_people_filter_by_and_leaks_no_key(server, script, quick, tmp_path):
    overrides = [*quick[:-2], "logger.group=g", "trainer.limit_train_batches=2", "trainer.max_epochs=1", quick[-1]]
    overrides += ["trainer.limit_test_batches=null"]  # of which each evaluation makes use
    code, out, err = script("train", *overrides)
    assert code == 0, out + err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    (run,) = server.runs.values()
    assert (run["group"], run["job_type"], run["state"]) == ("g", "train", "finished")
    assert run["tags"] == ["digits", "sdt_1_16", "LIF", "SDSA1", "SPS", "MembraneResidual"]
    config = {k: v["value"] for k, v in run["config"].items()}
    assert config["model"]["name"] == "sdt_1_16" and config["model"]["timesteps"] == 4
    assert config["neuron"] == {**config["neuron"], "name": "LIF", "threshold": 0.1}
    assert config["data"]["name"] == "digits" and config["optimizer"]["name"] == "AdamW"
    assert not {"logger", "callbacks", "output_dir", "config"} & set(config) and "neuron" not in config["model"]
    validation = result["validation"]
    assert run["summary"]["accuracy"] == validation["accuracy"]
    assert run["summary"]["energy"] == validation["energy_joules"]
    assert run["summary"]["firing_rate"] == validation["firing_rate"]
    assert run["summary"]["parameters"] == result["parameters"]
    assert run["summary"]["test/accuracy"] == result["accuracy"]
    assert [p["t"] for p in run["summary"]["anytime"]] == [1, 2, 3, 4]
    assert any("val/energy_joules" in row for row in run["history"])
    (model,) = (a for a in server.artifacts.values() if a["type"] == "model")
    assert set(model["aliases"]) == {"best", "latest"} and model["state"] == "COMMITTED"

    # the artifact is a checkpoint like any other
    code, out, err = script(
        "evaluate",
        f"checkpoint=wandb:{ENTITY}/spikefront/{model['collection']}",
        "accelerator=cpu",
        f"hydra.run.dir={tmp_path}/again",
    )
    assert code == 0, out + err
    assert json.loads((tmp_path / "again" / "result.json").read_text())["accuracy"] == result["accuracy"]
    code, _, err = script("evaluate", f"checkpoint=wandb:{ENTITY}/spikefront/nothing:best")
    assert code == 1 and err.count("\n") == 1 and "nothing:best" in err

    assert KEY not in out + err
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 10 and not [p for p in files if KEY.encode() in p.read_bytes()]


@pytest.mark.parametrize("mode", few(MISBEHAVIOUR))
def test_a_server_that_fails_from_the_start_costs_one_line_and_sync_makes_up_for_it(server, tmp_path, capfd, mode):
    server.mode = mode
    run = client(tmp_path, "r")
    for step in range(3):  # returns while the server has answered nothing
        run.do(lambda r, step=step: r.log({"loss": 1 / (step + 1)}))
    run.close()
    assert server.runs == {} and server.asked
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("spikefront: W&B")]
    assert len(said) == 1 and "the run goes on" in said[0] and "wandb sync" in said[0]
    assert KEY not in said[0]
    server.mode = "well"
    sync(tmp_path)
    assert [row["loss"] for row in server.runs["r"]["history"]] == [1, 1 / 2, 1 / 3]


@pytest.mark.parametrize(
    "mode", ["refuse", "stall", *(pytest.param(m, marks=pytest.mark.slow) for m in ("limit", "drop"))]
)
def test_a_server_that_fails_in_mid_run_costs_one_line_and_sync_makes_up_for_it(server, tmp_path, capfd, mode):
    run = client(tmp_path, "r")
    begun = threading.Event()
    run.do(lambda _: begun.set())
    assert begun.wait(30)
    server.mode = mode
    for step in range(3):
        run.do(lambda r, step=step: r.log({"loss": 1 / (step + 1)}))
    run.close()
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("spikefront: W&B")]
    assert len(said) == 1 and "wandb sync" in said[0]
    server.mode = "well"
    sync(tmp_path)
    assert [row["loss"] for row in server.runs["r"]["history"]] == [1, 1 / 2, 1 / 3]


@pytest.mark.system
def test_a_full_disk_in_mid_run_costs_one_line(tmp_path, capfd):
    with small_disk(tmp_path / "small", "1m") as small:
        try:
            run = Client({"project": "p", "id": "r", "dir": str(small)}, False, 2.0)
            begun = threading.Event()
            run.do(lambda _: begun.set())
            assert begun.wait(30)
            with (small / "filler").open("wb") as filler, pytest.raises(OSError, match="No space"):
                while filler.write(os.urandom(1 << 16)):
                    filler.flush()
            for step in range(200):
                run.do(lambda r, step=step: r.log({"loss": step, "text": "x" * 1000}))
            run.close()
            said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("spikefront: W&B")]
            assert len(said) == 1 and "the run goes on" in said[0]
        finally:
            wandb.teardown()


@pytest.mark.parametrize("online", few([True, False]))
def test_wandbs_own_process_may_be_killed(server, tmp_path, online):
    """As by SLURM, which signals every process of a job: what follows is in another part, the exit is quiet."""
    script = """
import os, signal, subprocess, sys, time
from spikefront.tracking.wandb.client import Client

def client(name):
    return Client({"project": "p", "id": name, "dir": sys.argv[1]}, sys.argv[2] == "True", 20)

def kill(run):
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)
    time.sleep(0.5)

run = client("amid")
run.do(lambda r: r.config.update({"neuron": "lif"}), in_each_part=True)
run.do(kill)
for i in range(3):
    run.do(lambda r, i=i: r.log({"x": i}))
run.do(lambda r: r.summary.update({"accuracy": 0.5}), in_each_part=True)
run.close()
run = client("at the end")
run.do(lambda r: r.summary.update({"accuracy": 0.75}), in_each_part=True)
run.do(kill)
run.close()
run = client("next")
run.do(lambda r: r.log({"x": 1}))
run.close()
"""
    given = [sys.executable, "-c", script, str(tmp_path), str(online)]
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == ""
    said = done.stderr.splitlines()
    assert len(said) == 2 and all("had not written by then is lost" in line for line in said), done.stderr
    for part in re.findall(r"wandb sync ('[^']+'|[^;\n]+)", done.stderr):  # the first of the two is cut off
        CliRunner().invoke(cli, ["sync", "--include-online", *shlex.split(part)])
    assert len(list(tmp_path.glob("wandb/*run-*-amid"))) == (2 if online else 1)
    amid, end = server.runs["amid"], server.runs["at the end"]
    assert [row["x"] for row in amid["history"]] == [0, 1, 2] and amid["config"]["neuron"]["value"] == "lif"
    assert (amid["summary"]["accuracy"], end["summary"]["accuracy"]) == (0.5, 0.75)
    assert amid["state"] == end["state"] == "finished"
    assert ("next" in server.runs) == online


def test_the_command_line_is_kept_without_its_password(tmp_path, monkeypatch):
    given = [
        "sweep.py",
        "search.storage=postgresql://me:hush/hush@host/db",
        "neuron=lif",
        "search.storage='x://h?passwd=hushed'",
    ]
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = Client({"project": "p", "id": "a", "dir": str(tmp_path)}, False)
    run.close()
    wandb.teardown()  # writes what is left
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    kept = file.read_bytes()
    assert b"neuron=lif" in kept and b"postgresql://me:***@host/db" in kept and b"hush" not in kept
    assert sys.argv == given


def test_a_continued_run_is_one_run(server, tmp_path):
    for part in range(2):
        logger = wandb_logger(str(tmp_path), id="trial-7", name="t")
        logger.log_metrics({"loss": 1.0 - part / 2}, step=part)
        logger.close("interrupted" if part == 0 else "success")
    assert list(server.runs) == ["trial-7"]
    assert [row["loss"] for row in server.runs["trial-7"]["history"]] == [1.0, 0.5]
    assert server.runs["trial-7"]["state"] == "finished"


def apart(directory: Path) -> None:
    """``wandb sync`` of what is there, newest first, each in a command of its own: the worst order."""
    for path in sorted(directory.glob("wandb/*run-*"), reverse=True):
        wandb.teardown()
        CliRunner().invoke(cli, ["sync", str(path)])  # a part that is cut off ends in an error


def test_a_run_continued_offline_is_one_run_in_whatever_order_it_is_synced(server, tmp_path, monkeypatch):
    """The second of three parts is cut off, as where its process was killed; one record is longer than W&B's blocks."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for part in range(3):
        logger = wandb_logger(str(tmp_path), id="trial-7", name="t", extra={"long": LONG})
        logger.log_hyperparams({"seed": 1})
        logger.log_metrics({"loss": 1.0 - part / 4, "epoch": part, f"only/{part}": part}, step=part)
        logger.client.do(lambda run, part=part: run.summary.update({"accuracy": part / 2}))
        logger.close("success" if part == 2 else "interrupted")
        if part == 1:
            (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
            file.write_bytes(file.read_bytes()[:-30])  # within the record that ends it
    assert server.asked == []
    monkeypatch.setenv("WANDB_MODE", "online")
    apart(tmp_path)
    run = server.runs["trial-7"]
    assert [(row["loss"], row["_step"]) for row in run["history"]] == [(1.0, 0), (0.75, 1), (0.5, 2)]
    known = {"accuracy": 1.0, "loss": 0.5, "epoch": 2, "only/0": 0, "only/1": 1, "only/2": 2}
    assert {k: run["summary"].get(k) for k in known} == known and run["state"] == "finished"
    assert run["config"]["long"]["value"] == LONG and run["config"]["seed"]["value"] == 1


def test_parts_of_which_the_server_has_the_first_are_neither_doubled_nor_lost(server, tmp_path, monkeypatch):
    for part in range(2):
        monkeypatch.setenv("WANDB_MODE", "offline")
        logger = wandb_logger(str(tmp_path), id="trial-7", name="t")
        logger.log_metrics({"loss": 1.0 - part / 2, f"only/{part}": part}, step=part)
        logger.close("interrupted" if part == 0 else "success")
        monkeypatch.setenv("WANDB_MODE", "online")
        wandb.teardown()
        sync(tmp_path)  # the second time W&B leaves the first part out
    run = server.runs["trial-7"]
    assert [row["loss"] for row in run["history"]] == [1.0, 0.5]
    assert {"loss": 0.5, "only/0": 0, "only/1": 1}.items() <= run["summary"].items()


@pytest.mark.parametrize("synced", few([True, False]))
def test_a_mark_added_later_leaves_the_rest_of_a_run_as_it_is(server, tmp_path, monkeypatch, synced):
    """A trial that others dominate by now, logged offline; each command of the sweep may mark it once more."""
    study = made.study("s", 30, importance=False)
    fallen = next(t for t in study["trials"] if t["state"] == "complete" and not t["on_front"])
    fallen["front_then"] = True
    monkeypatch.setenv("WANDB_MODE", "offline")
    trial, id = tmp_path / "trials" / f"{fallen['number']:05d}", f"s-ab-{fallen['number']}"
    logger = wandb_logger(str(trial), id=id, name="t", group="s", project="p")
    logger.log_metrics({"loss": 0.25}, step=7)
    result = {**fallen, "energy_joules": 1.0, "accuracy": 0.5, "on_front": True, "validation": None}
    logger.conclude(result, None)
    logger.close("success")
    if synced:
        sync(trial)
        assert server.runs[id]["summary"]["on_front"] is True
    for _ in range(3):
        wandb.teardown()
        settings = {"_target_": "wandb_logger", "project": "p", "mode": "offline"}
        StudyRun.of(settings, "s", "s-ab-", tmp_path).close(study)
    assert len(list(tmp_path.glob(f"**/*run-*-{id}"))) == 1 + synced
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    sync(trial)
    run = server.runs[id]
    assert {"on_front": False, "accuracy": 0.5, "loss": 0.25}.items() <= run["summary"].items()
    assert [row["loss"] for row in run["history"] if "loss" in row] == [0.25] and run["state"] == "finished"


def test_a_study_shows_its_front_and_sets_the_trials_right(server, tmp_path, monkeypatch):
    study = made.study("s", 30)
    known, never_logged, fallen = [t for t in study["trials"] if t["state"] == "complete" and not t["on_front"]][:3]
    known["front_then"] = never_logged["front_then"] = fallen["front_then"] = True
    known["known"] = True
    asked, answer = [], server.on_Run
    monkeypatch.setattr(server, "on_Run", lambda v: (asked.append(v["name"]), answer(v))[1], raising=False)
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    logger = wandb_logger(str(tmp_path), id=f"s-ab-{fallen['number']}", name="t", group="s", project="p")
    result = {**fallen, "energy_joules": 1.0, "accuracy": 0.5, "on_front": True}
    logger.conclude({**result, "validation": None}, str(checkpoint))
    logger.close("success")
    trial = server.runs[f"s-ab-{fallen['number']}"]
    (model,) = (a for a in server.artifacts.values() if a["type"] == "model")
    assert trial["summary"]["on_front"] is True and set(model["aliases"]) == {"best", "front", "latest"}

    settings = {
        "_target_": "spikefront.tracking.wandb.logger.wandb_logger",
        "project": "p",
        "entity": None,
        "mode": "auto",
    }
    run = StudyRun.of(settings, "s", "s-ab-", tmp_path / "study")
    assert run.due(study)
    run.update(study)
    assert not run.due(study)
    run.close(study)
    whole = server.runs["s-ab-study"]
    assert (whole["group"], whole["job_type"], whole["state"]) == ("s", "study", "finished")
    assert whole["history"][0]["hypervolume"] == pytest.approx(study["hypervolume"])
    assert whole["history"][0]["hypervolume/decades"] == pytest.approx(study["decades"])
    assert whole["summary"]["front/points"] == len(study["front"])
    assert {"front_table", "front/chart", "anytime", "importance", "parallel coordinates"} <= set(whole["summary"])
    chart = whole["config"]["_wandb"]["value"]["visualize"]["front"]["panel_config"]
    assert chart["panelDefId"] == f"{ENTITY}/spikefront-front" and chart["fieldSettings"]["x"] == "energy"
    assert server.charts["spikefront-front"]["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    table = next(json.loads(v) for k, v in whole["files"].items() if "front_table" in k)
    assert len(table["data"]) == len(study["front"]) and table["columns"][:4] == ["trial", "t", "accuracy", "energy"]
    assert trial["summary"]["on_front"] is False and "front" not in model["aliases"] and "best" in model["aliases"]
    assert {f"s-ab-{t['number']}" for t in (never_logged, fallen)} == set(asked)
    assert "taken" not in whole["summary"]

    point = study["front"][0]
    values = {"accuracy": [0.5, 0.7], "energy": [1e-6, 3e-6]}
    taken = {
        "number": point["number"],
        "t": 1,
        "study": "s-trial-0",
        "seeds": [1, 2],
        "trials": [0, 1],
        "values": values,
        "tested": [],
    }
    asked.clear()
    StudyRun.of(settings, "s", "s-ab-", tmp_path / "study").tell({**study, "taken": [taken]})
    whole = server.runs["s-ab-study"]
    table = next(json.loads(v) for k, v in whole["files"].items() if "/taken_" in k)
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (row["trial"], row["t"], row["seeds"], row["study"]) == (point["number"], 1, 2, "s-trial-0")
    assert (row["accuracy"], row["accuracy deviation"], row["energy"]) == pytest.approx((0.6, 0.02**0.5, 2e-6))
    assert (row["test accuracy"], asked, whole["summary"]["front/points"]) == (None, [], len(study["front"]))
    drawn = [json.loads(v) for k, v in whole["files"].items() if "front/chart" in k.replace("\\", "/")][-1]
    assert any("trained again" in trace.get("name", "") for trace in drawn["data"])


def test_a_checkpoint_is_the_artifacts_own_file_in_the_users_own_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "shared"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "spikefront").write_text("another's")
    with wandb.init(project="p", dir=str(tmp_path), settings=wandb.Settings(silent=True, console="off")) as run:
        artifact = wandb.Artifact("m", "model")
        for name, content in (("model.ckpt", b"weights"), ("notes.txt", b"text")):
            with artifact.new_file(name, "wb") as file:
                file.write(content)
        run.log_artifact(artifact, aliases=["best"])
    path = Path(checkpoint_path(f"wandb:{ENTITY}/p/m"))
    assert path.read_bytes() == b"weights" and path.is_relative_to(tmp_path / "own")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_bytes(b"changed")
    (path.parent / "a.ckpt").write_bytes(b"another's")
    assert Path(checkpoint_path(f"wandb:{ENTITY}/p/m")).read_bytes() == b"weights"


def test_a_project_comes_back_as_studies(server, tmp_path):
    study = made.study("s", 8)
    for t in study["trials"][:8]:
        extra = {"trial": {"number": t["number"], "params": t["params"]}, "overrides": ["data=digits"]}
        logger = wandb_logger(str(tmp_path), id=f"s-{t['number']}", group="s", project="p", extra=extra)
        logger.log_hyperparams({"data": {"name": "digits"}, "seed": 0})
        shown = {"accuracy": t["values"]["accuracy"], "energy_joules": t["values"]["energy"]}
        logger.conclude({**t, **shown}, None)
        logger.close("success")
    (found,) = project_records(f"{ENTITY}/p/s")
    assert found["study"] == "s" and found["data"] == "digits"
    assert {t["number"]: (t["params"], t["values"]) for t in found["trials"]} == {
        t["number"]: (t["params"], t["values"]) for t in study["trials"][:8]
    }
    assert {(p["number"], p["t"]) for p in found["front"]} == {(p["number"], p["t"]) for p in study["front"]}
    assert found["trials"][0]["command"] == "python src/train.py data=digits"
    assert found["importance"] == {"accuracy": {}, "energy": {}}  # of eight trials nobody can say
    with pytest.raises(UserError, match=r"holds no runs|can't be read"):
        project_records(f"{ENTITY}/elsewhere")
    with pytest.raises(UserError, match="<entity>/<project>"):
        project_records("p")


def test_runs_without_a_sweep_differ_in_what_is_their_own():
    a, b = ({"model": {"dim": d, "depth": 2}, "neuron": {"name": n}} for d, n in ((32, "LIF"), (64, "LIF")))
    assert differing([a, b]) == [{"model.dim": 32}, {"model.dim": 64}]


def test_configurations_are_logged_as_people_filter_them():
    neuron = {"_target_": "spikefront.nn.PLIF", "_partial_": True, "tau": 2.0, "surrogate": {"_target_": "a.Atan"}}
    model = {"_target_": "spikefront.nn.X", "depth": 2, "dim": 64, "neuron": neuron}
    config = told_apart({"model": model, "neuron": neuron, "output_dir": "/home/me", "seed": 1})
    assert config == {
        "model": {"name": "sdt_2_64", "depth": 2, "dim": 64},
        "neuron": {"name": "PLIF", "tau": 2.0, "surrogate": {"name": "Atan"}},
        "seed": 1,
    }


@pytest.mark.parametrize("way", few(["variable", "setting"]))
def test_where_it_is_disabled_nothing_is_written(server, script, quick, tmp_path, monkeypatch, way):
    if way == "variable":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    given = [o for o in quick if o != "logger=none"] + ["logger.mode=disabled"] * (way == "setting")
    code, out, err = script("train", *given, "trainer.max_epochs=1", "trainer.limit_val_batches=1")
    assert code == 0, out + err
    assert (tmp_path / "run" / "result.json").is_file() and not list(tmp_path.rglob("*wandb*"))
    logger = {"_target_": "spikefront.tracking.wandb.logger.wandb_logger", "project": "p"}
    logger |= {"mode": "disabled"} if way == "setting" else {}
    assert StudyRun.of(logger, "s", "s-ab-", tmp_path / "study") is None and not (tmp_path / "study").exists()
    assert server.asked == []


def test_settings_that_are_wrong_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"logger\.mode is 'perhaps': use online, offline or disabled"):
        wandb_logger(str(tmp_path), mode="perhaps")
    monkeypatch.setenv("WANDB_MODE", "never")
    with pytest.raises(UserError, match="WANDB_MODE is 'never'"):
        wandb_logger(str(tmp_path))
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(UserError, match="use none, front, all"):
        wandb_logger(str(tmp_path), checkpoints="some")
    assert checkpoint_path("outputs/best.ckpt") == "outputs/best.ckpt"


def test_no_account_is_offline_and_asks_nobody(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert not has_account()
    assert not wandb_logger(str(tmp_path))._online


def test_the_workspace_is_saved_with_its_panels(server, tmp_path):
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed: pip install -e '.[workspace]'")
    from spikefront.commands.workspace import view as make_view

    for study in ("a", "b"):
        params = {"model.dim": 32, "neuron": "lif"}
        logger = wandb_logger(str(tmp_path), id=study, group=study, project="p", extra={"trial": {"params": params}})
        logger.log_hyperparams({"data": {"name": "digits"}})
        logger.close("success")
    assert f"{ENTITY}/p" in make_view([f"{ENTITY}/p", "a", "b"])
    (view,) = server.views
    panels = {p["viewType"]: p["config"] for s in view["section"]["panelBankConfig"]["sections"] for p in s["panels"]}
    scatter = panels["Scatter Plot"]
    assert (scatter["xAxis"], scatter["yAxis"], scatter["xAxisLogScale"]) == (
        "summary:energy",
        "summary:accuracy",
        True,
    )
    shown = json.dumps(panels["Parallel Coordinates Plot"])
    assert "model.value.dim" in shown or "model.dim" in shown
    assert "neuron" in shown and "Parameter Importance" in panels
    with pytest.raises(UserError, match="usage:"):
        make_view(["p"])
