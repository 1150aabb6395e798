"""``python src/energy.py``: the table from the command line, and from its function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from examples import few
from hydra.utils import instantiate
from omegaconf import OmegaConf

from spikefront.api import create_model
from spikefront.commands.energy import measure
from spikefront.config import compose
from spikefront.energy import measure_energy
from spikefront.energy.tables import render, table
from spikefront.errors import UserError

TINY = ["logger=none", "model.depth=1", "model.dim=16", "samples=8"]


def config(*overrides):
    return compose([*TINY, *overrides], root="measure")


def test_command_line(script, tmp_path):
    arguments = [*TINY, "format=json", f"hydra.run.dir={tmp_path}"]
    code, out, err = script("energy", *arguments)
    assert code == 0, err
    record = json.loads(out)
    assert record["samples"] == 8 and record["total_joules"] > 0
    assert record["rows"][0]["kind"] == "analog" and record["baseline"]["quantised"]["bits"] == 3
    assert "random weights" in record["notes"][0] and "random weights" in err
    code, _, err = script("energy", *arguments, "energy=papr")
    assert code == 1 and "did you mean 'paper'" in err and "Traceback" not in err


def test_assumed_rate_needs_no_data():
    report = measure(config("data=imagenet", "data.image_size=32", "energy.rate=0.25", "data.root=/nowhere"))
    assert report.firing_rate == pytest.approx(0.25)
    assert any("assumed" in note for note in report.notes)


def test_missing_data_is_noise_without_a_checkpoint_and_an_error_with_one(tmp_path):
    there = ["data=imagenet", "data.image_size=32", "data.root=/nowhere"]
    assert any("noise" in note for note in measure(config(*there)).notes)
    path = Path(tmp_path) / "weights.pth.tar"
    cfg = config(*there, f"checkpoint={path}")
    model = create_model("sdt_1_16", overrides=["data.image_size=32"])
    torch.save({"state_dict": model.state_dict()}, path)
    with pytest.raises(UserError, match=r"/nowhere.*input=noise"):
        measure(cfg)
    assert measure(config(*there, f"checkpoint={path}", "input=noise")).samples == 8


@pytest.mark.parametrize(("data", "shape"), [("dvs128_gesture", (3, 2, 32, 32)), ("digits", (1, 32, 32))])
def test_noise_is_of_the_data_s_shape_whatever_the_attention_does_with_frames(monkeypatch, data, shape):
    seen, made = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: seen.append(a) or made(*a, **k))
    measure(config(f"data={data}", "data.image_size=32", "model.timesteps=3", "samples=2", "input=noise"))
    assert seen[0] == (2, *shape)


def test_a_checkpoint_may_be_of_another_family_than_the_default(tmp_path):
    run = compose(["model=maxformer_cifar", "model.dim=32", "data=digits", "output_dir=x"])
    state = {f"model.{name}": value for name, value in instantiate(run.model).state_dict().items()}
    config_of_it = OmegaConf.to_container(run, resolve=True)
    torch.save({"state_dict": state, "hyper_parameters": {"config": config_of_it}}, tmp_path / "last.ckpt")
    report = measure(compose(["logger=none", "samples=8", f"checkpoint={tmp_path}/last.ckpt"], root="measure"))
    assert any(layer.name == "stages.2.block.1.attn.op" for layer in report.layers)


def test_a_checkpoints_network_and_data_are_changed_or_what_changes_nothing_is_named(script, quick, tmp_path):
    assert script("train", *quick, "trainer.max_epochs=1", "trainer.limit_val_batches=1")[0] == 0
    checkpoint = f"checkpoint={tmp_path}/run/checkpoints/last.ckpt"
    how = ["format=json", "samples=4", f"hydra.run.dir={tmp_path}"]

    def energy(*arguments):
        code, out, err = script("energy", checkpoint, *how, *arguments)
        assert code == 0, err
        return json.loads(out)

    whole, once = energy(), energy("model.timesteps=1", "data.batch_size=2")
    assert len(whole["anytime_joules"]) == 4 and len(once["anytime_joules"]) == 1
    idle = energy("neuron=plif", "data.timesteps=1", "model=sdt_2_32", "energy.first_layer=per_timestep")
    assert idle["total_joules"] == whole["total_joules"]
    assert idle["notes"] == [
        *whole["notes"],
        "the checkpoint brings its own network and data, so this changes nothing: neuron=plif, data.timesteps=1,"
        " model=sdt_2_32",
    ]


def test_published_first_layer_conventions_differ_by_its_repeats():
    every = measure(config("energy.rate=0.1"))
    once = measure(config("energy.rate=0.1", "energy.first_layer=once"))
    first = next(x for x in every.layers if x.kind == "analog")
    assert every.total_joules - once.total_joules == pytest.approx(3 * 4.6e-12 * first.potential)


@pytest.mark.parametrize("mistake", ["samples=0", "samples=abc", "samples=1.5", "input=niose"])
def test_no_samples(mistake):
    with pytest.raises(UserError, match=f"{mistake}: "):
        measure(config(mistake))


@pytest.mark.parametrize("convention", ["paper", "neuromorphic", "chip_8bit"])
def test_every_convention_measures(convention):
    report = measure(config(f"energy={convention}"))
    assert report.total_joules > 0 and convention in report.convention


@pytest.mark.parametrize("width", [80, 100, 150])
def test_the_table_fits_the_terminal(width):
    model = create_model("sdt_2_64", data="digits")
    lines = table(measure_energy(model, torch.rand(2, 1, 8, 8)).to_dict(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert all(any(line.startswith(f"block.{i}.attn.q_conv") for line in lines) for i in (0, 1))


@pytest.mark.parametrize("attention", few(["softmax", "none", "sdsa1"]))
@pytest.mark.parametrize("neuron", ["relu", "gelu"])
def test_the_network_without_spikes_is_measured_too(neuron, attention):
    """Which docs recommend as a baseline: where no layer reads spikes, no firing rate breaks even."""
    chosen = [f"neuron={neuron}", f"attention={attention}", "embedding=conv_stem", "data.timesteps=1"]
    report = measure(config("model=sdt_1_16", *chosen))
    figures = report.to_dict()
    assert figures["total_joules"] > 0
    for form in ("table", "json", "csv", "markdown", "latex"):
        assert render(figures, form)
    if all(row["kind"] != "spikes" for row in figures["rows"]):
        even = figures["baseline"]["ann"]["break_even_rate"]
        assert even is None or even > 1
        assert "ours is cheaper" not in render(figures, "markdown")


def published(*overrides):
    own = ["logger=none", "model.depth=1", "model.dim=16", "data.image_size=32", "input=noise", "samples=2"]
    return [*own, "published=all", "threads=1", *overrides]


def test_the_papers_table_stands_beside_what_its_files_give(script, tmp_path):
    model = create_model("sdt_1_16", overrides=["data.image_size=32"])
    for name in ("8_384.pth.tar", "best-8-768-T4.pth"):
        torch.save({"state_dict": model.state_dict()}, tmp_path / name)
    code, out, err = script("energy", *published(f"checkpoints={tmp_path}", "format=json"))
    assert code == 0, err
    record = json.loads(out)
    small, large = record["models"]
    assert (small["model"], large["model"]) == ("8_384", "8_768")
    assert (small["published_joules"], large["published_joules"]) == (3.90e-3, 6.09e-3)
    once, every = small["joules_once"], small["joules_per_timestep"]
    first = measure(config("data=imagenet", "data.image_size=32", "data.root=/nowhere")).layers[0]
    assert every - once == pytest.approx(3 * 4.6e-12 * first.potential)
    assert set(record["rates"]) == {"8_384", "8_768"} and "block.0.mlp.fc1_conv" in record["rates"]["8_384"]
    assert any("6_512, 8_512, 10_512" in note for note in record["notes"])
    code, out, _ = script("energy", *published(f"checkpoints={tmp_path}", "published=[8_384]"))
    assert code == 0 and "3.9 mJ" in out and "| block.0.attn.q_conv |" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["checkpoints=null"], "is no directory"),
        (["checkpoints={}"], "no checkpoint of 8_384"),
        (["published=sdt_8_383", "checkpoints={}"], "did you mean '8_384'"),
        (["format=latex", "checkpoints={}"], "does not exist"),
        (["published=null", "checkpoints={}"], "published=all too"),
    ],
)
def test_the_papers_table_needs_its_files(script, tmp_path, given, said):
    code, _, err = script("energy", *published(*(g.format(tmp_path) for g in given)))
    assert code == 1 and said in err and len(err.strip().splitlines()) == 1, err
