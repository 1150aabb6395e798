"""Each base of the families' recipes trains a step, in small, on files in the set's own layout."""

from __future__ import annotations

import json

import pytest
import torch
from layouts import cifar, cifar10_dvs, gesture, image_folders
from torchvision.datasets import CIFAR10

import spikefront

SMALL = [
    *("trainer=cpu", "trainer.precision=bf16-mixed", "trainer.max_epochs=2", "trainer.limit_train_batches=2"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "trainer.effective_batch=8", "logger=none"),
    *("data.num_workers=0", "data.batch_size=4", "data.image_size=32", "schedule.warmup_epochs=1"),
    "schedule.cooldown_epochs=0",
]
FIRES = "neuron.threshold=0.1"
RUNS = {  # by recipe: the network made small
    "timm_imagenet": ["model.dim=64", "model.stages.s1.depth=1", FIRES],
    "timm_cifar": ["model.dim=48", "model.stages.s1.depth=1", FIRES],
    "timm_events": ["model.dim=32", "model.timesteps=2", FIRES],
    "maxformer_2_256_cifar10_dvs": ["model.dim=32", "model.timesteps=2", FIRES],
    "mae_imagenet": ["model.dim=64", "model.stages.s3.depth=1", FIRES],
    "maxformer_10_384": ["model.dim=64", "model.stages.s3.depth=1", FIRES],
    "metaspikformer_8_512": ["model=metaspikformer", "model.dim=64", FIRES],
    "e_spikeformer_5m": ["model=e_spikeformer", "model.dim=64"],
    "spikingresformer_ti": ["model.dim=128", FIRES],
    "spikingresformer_cifar10": ["model.dim=128", FIRES],
    "spikingresformer_cifar10_dvs": ["model.dim=128", "model.timesteps=2", FIRES],
    "spikingresformer_cifar10_transfer": ["model.dim=128", FIRES],
    "spikingresformer_cifar10_dvs_transfer": ["model.dim=128", "model.timesteps=2", FIRES],
    "statten_2_256_cifar10_dvs": ["model.dim=32", "model.depth=1", "model.timesteps=2", FIRES],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_familys_recipe_trains(script, tmp_path, monkeypatch, name):
    settings = [f"experiment={name}", f"data.root={tmp_path}", f"hydra.run.dir={tmp_path}/run"]
    if "cifar10_dvs" in name or "events" in name:
        (cifar10_dvs if "cifar10" in name else gesture)(tmp_path)
        settings += [f"data.cache={tmp_path}/cache", "data.download=false"]
    elif "cifar" in name:
        cifar(tmp_path, CIFAR10, monkeypatch)
        settings += ["data.download=false"]
    else:
        image_folders(tmp_path, train=8)
        settings += ["data.num_classes=2"]
    if name.endswith("_transfer"):
        images = spikefront.create_model("spikingresformer_s", dim=128, num_classes=7)
        torch.save({"model": images.state_dict()}, tmp_path / "s.pth")
        settings += [f"init={tmp_path}/s.pth"]
    code, _, err = script("train", *settings, *SMALL, *RUNS[name])
    assert code == 0, err
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["epochs"] == 2 and result["firing_rate"] > 0 and result["selected_on"] == "test"
