"""train(cfg) -> Result and evaluate(cfg), through the entry scripts."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import scripts
import torch
import yaml
from examples import few

METRICS = ("accuracy", "energy_joules", "firing_rate", "anytime", "validation", "parameters")
WHOLE = ["trainer.limit_val_batches=null", "trainer.limit_test_batches=null"]


def result(directory):
    return json.loads((directory / "result.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of one training, and what it said."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        assert scripts.run_script(patch, "src/train.py", *scripts.quick(place), *WHOLE) == 0
    return place / "run", said.getvalue()


def test_a_run_leaves_checkpoint_config_and_result(trained):
    directory, out = trained
    made = result(directory)
    assert 0 <= made["accuracy"] <= 1
    assert made["energy_joules"] > 0
    assert 0 < made["firing_rate"] < 1
    assert made["seconds"] > 0
    assert [p["t"] for p in made["anytime"]] == [1, 2, 3, 4]
    energies = [p["energy_joules"] for p in made["anytime"]]
    assert energies == sorted(energies)
    assert made["anytime"][-1]["accuracy"] == made["accuracy"]
    assert energies[-1] == pytest.approx(made["energy_joules"], rel=1e-12)
    assert "accuracy" in out
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config["model"]["num_classes"] == 10  # resolved
    state = torch.load(made["checkpoint"], weights_only=True)["state_dict"]
    assert (
        sum(v.numel() for k, v in state.items() if "running" not in k and "num_batches" not in k) == made["parameters"]
    )


def test_evaluate_reports_what_training_reported(script, trained, tmp_path):
    directory, _ = trained
    checkpoint = directory / "checkpoints/best.ckpt"
    code, _, err = script("evaluate", f"checkpoint={checkpoint}", f"hydra.run.dir={tmp_path}/again")
    assert code == 0, err
    first, evaluated = result(directory), result(tmp_path / "again")
    assert {k: first[k] for k in METRICS} == {k: evaluated[k] for k in METRICS}
    assert evaluated["samples"] == first["samples"] > 0 and evaluated["validation"] == first["validation"]
    code, _, err = script("evaluate", f"checkpoint={checkpoint}", "+overrides.data.timesteps=1")
    assert code == 1 and "overrides.data.timesteps changes nothing: the network has overrides.model.timesteps" in err


@pytest.mark.slow
def test_an_evaluation_of_mixed_training_takes_any_batch(script, quick, tmp_path):
    mixup = "data.mixup={_target_:timm.data.Mixup,mixup_alpha:0.5,num_classes:10}"
    code, _, err = script("train", *quick, f"+{mixup}", "trainer.max_epochs=1")
    assert code == 0, err
    checkpoint = f"checkpoint={tmp_path}/run/checkpoints/best.ckpt"
    code, _, err = script("evaluate", checkpoint, "+overrides.data.batch_size=99", f"hydra.run.dir={tmp_path}/again")
    assert code == 0, err
    assert result(tmp_path / "again")["samples"] == 360


def test_the_same_command_gives_the_same_metrics(script, trained, quick, tmp_path):
    assert script("train", *quick, *WHOLE, f"hydra.run.dir={tmp_path}/b")[0] == 0
    assert script("train", *quick, *WHOLE, f"hydra.run.dir={tmp_path}/c", "seed=1")[0] == 0
    a, b, c = ({k: result(place)[k] for k in METRICS} for place in (trained[0], tmp_path / "b", tmp_path / "c"))
    assert a == b
    assert a != c


@pytest.mark.slow  # in a sweep: sweeping/worker/test_worker.py
def test_latency_of_the_deployed_network(script, quick, tmp_path):
    code, out, err = script("train", *quick, "latency=auto", "trainer.max_epochs=1")
    assert code == 0, err
    assert 0 < result(tmp_path / "run")["latency_seconds"] < 1 and "deployed: " in out
    code, _, err = script("train", *quick, "latency=fast")
    assert code == 1 and "latency=fast: use null, dense, sparse, auto, int8" in err


@pytest.mark.parametrize("data", ["digits", "digits_dvs"])
def test_latency_in_whole_numbers_is_refused_before_a_training(script, quick, data, tmp_path):
    code, out, err = script("train", *quick, f"data={data}", "latency=int8", "attention=softmax")
    assert code == 1 and "whole numbers can't express this network: block.0.attn.op" in err and "epoch" not in out
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow  # each alone: test_recipes_run.py, nn/test_variants.py
def test_tet_and_plif_train(script, quick, tmp_path):
    """The neurons learn their decay, and each loss another."""
    learnt = []
    for loss in ("tet", "cross_entropy"):
        code, _, err = script("train", *quick, f"loss={loss}", "neuron=plif", "trainer.max_epochs=1")
        assert code == 0, err
        state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        learnt.append([float(value) for key, value in state.items() if key.endswith(".w")])
    tet, other = learnt
    assert any(w != 0 for w in tet) and tet != other  # a decay of sigmoid(0) to begin with, tau = 2


@pytest.mark.slow  # csv: test_vitals.py
@pytest.mark.parametrize(
    ("logger", "leaves"),
    few([("csv", "csv/metrics.csv"), ("tensorboard", "tensorboard/events*"), ("wandb", "wandb/offline-run-*/*.wandb")]),
)
def test_loggers(script, quick, tmp_path, logger, leaves):
    code, _, err = script("train", *quick, f"logger={logger}", "trainer.max_epochs=1")
    assert code == 0, err
    assert list((tmp_path / "run").glob(leaves))


def test_a_loss_that_is_not_finite_is_one_line(script, quick):
    code, _, err = script("train", *quick, "optimizer.lr=1e20")
    assert code == 1
    assert "not finite" in err


def test_resume_continues_where_it_stopped(script, quick, tmp_path):
    assert script("train", *quick, "schedule=constant")[0] == 0
    whole = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    half = f"hydra.run.dir={tmp_path}/half"
    assert script("train", *quick, half, "schedule=constant", "trainer.max_epochs=1")[0] == 0
    last = tmp_path / "half/checkpoints/last.ckpt"
    code, _, err = script("train", *quick, f"hydra.run.dir={tmp_path}/rest", "schedule=constant", f"resume={last}")
    assert code == 0, err
    rest = torch.load(tmp_path / "rest/checkpoints/last.ckpt", weights_only=True)
    assert (rest["epoch"], rest["global_step"]) == (whole["epoch"], whole["global_step"])
    assert rest["optimizer_states"][0]["state"][0]["step"] == whole["optimizer_states"][0]["state"][0]["step"]


def test_fine_tuning_begins_with_weights_alone(script, trained, quick, tmp_path):
    """At a rate of nothing it ends where it began: with the weights, and neither epochs nor a schedule of theirs."""
    last = trained[0] / "checkpoints/last.ckpt"
    first, told = torch.load(last, weights_only=True)["state_dict"], f"init={last}"
    frozen = ["optimizer.lr=0", "schedule=constant", "optimizer.weight_decay=0", "trainer.max_epochs=1"]
    settings = [o for o in quick if "hydra.run.dir" not in o and "max_epochs" not in o]
    old = told.replace("init=", "weights=")  # its name in 0.1
    code, out, err = script("train", *settings, old, *frozen, f"hydra.run.dir={tmp_path}/tuned")
    assert code == 0 and "weights=… is called init=… now" in err, err
    assert told in out and "taken" in out
    tuned = torch.load(tmp_path / "tuned/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(tuned[key], first[key]) for key in first if first[key].dim() > 1)
    assert result(tmp_path / "tuned")["epochs"] == 1
    code, _, err = script("train", *quick, told, "model.dim=32")
    assert code == 1 and "is of another network" in err
