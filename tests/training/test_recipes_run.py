"""Each kind of recipe trains, in small, on files in the set's own layout."""

from __future__ import annotations

import json
import shlex

import pytest
from examples import few
from layouts import cifar, cifar10_dvs, gesture, image_folders
from omegaconf import OmegaConf
from torchvision.datasets import CIFAR10

from spikefront.config import CONF

SMALL = [
    *("model=sdt_1_16", "trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=2", "neuron.threshold=0.1"),
    *("data.num_workers=0", "data.batch_size=4", "trainer.effective_batch=8", "schedule.lr_batch=8", "logger=none"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "schedule.cooldown_epochs=1"),
]


@pytest.mark.parametrize("name", few(["cifar10_2_512_tet", "cifar10_dvs_published", "dvs128_gesture_t10"]))
def test_a_recipe_trains(script, tmp_path, monkeypatch, name):
    """In the precision of the recipe, as a CPU has it."""
    made = {"cifar10_2": lambda at: cifar(at, CIFAR10, monkeypatch), "cifar10_d": cifar10_dvs, "dvs128_ge": gesture}
    made[name[:9]](tmp_path)
    events = not name.startswith("cifar10_2")
    more = [f"data.cache={tmp_path}/cache", "data.image_size=32", "trainer.precision=bf16-mixed"] * events
    settings = [f"experiment={name}", f"data.root={tmp_path}", "data.download=false", f"hydra.run.dir={tmp_path}/run"]
    code, _, err = script("train", *settings, *SMALL, *more)
    assert code == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_the_largest_imagenet_network_trains_and_is_evaluated_as_its_file_says(script, tmp_path):
    root = image_folders(tmp_path / "in1k", train=8)
    settings = ["experiment=imagenet_8_768", f"data.root={root}", "data.num_classes=2", "data.image_size=32"]
    code, _, err = script("train", *settings, *SMALL, "trainer.precision=bf16-mixed", f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    (line,) = (x for x in (CONF / "experiment/imagenet_8_768.yaml").read_text().splitlines() if "evaluate.py" in x)
    _, _, _, checkpoint, overrides = shlex.split(line)
    last = f"{tmp_path}/run/checkpoints/last.ckpt"
    code, _, err = script(
        "evaluate", checkpoint.replace("…", last), overrides, "accelerator=cpu", f"hydra.run.dir={tmp_path}/evaluated"
    )
    assert code == 0, err
    large, small = (json.loads((tmp_path / d / "result.json").read_text()) for d in ("evaluated", "run"))
    assert large["energy_joules"] > 20 * small["energy_joules"]  # of 288x288 in place of 32x32: 81 times the pixels


def test_as_written_trains(script, tmp_path):
    """Each sample comes three times in a row."""
    root = image_folders(tmp_path / "in1k", train=8)
    settings = ["experiment=imagenet_8_384", "recipe=written", f"data.root={root}", "data.num_classes=2"]
    settings += ["data.image_size=32", "trainer.precision=bf16-mixed"]
    code, _, err = script("train", *settings, *SMALL, f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    assert OmegaConf.load(tmp_path / "run/config.yaml").data.repeats == 3
