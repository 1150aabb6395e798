"""Each experiment=… of a family composes to its column; those of STAtten to another recipe's but for what differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from columns import BASES, FAMILIES, STATTEN
from examples import few
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from timm.optim import Lamb

from spikefront.config import compose, flat
from spikefront.data import build_data
from spikefront.training.batch import scaled, share

NAMED = {  # what a recipe's model is called, where the recipe isn't called so or <model>_<data>
    "maxformer_10_512_t1": "maxformer_10_512",
    "maxformer_10_768_t1": "maxformer_10_768",
    "ms_qkformer_10_768_t1": "ms_qkformer_10_768",
    "metaspikformer_8_512_t4": "metaspikformer_8_512",
    "spikingresformer_cifar10": "spikingresformer_cifar",
    "spikingresformer_cifar100": "spikingresformer_cifar",
    "spikingresformer_cifar10_dvs": "spikingresformer_cifar",
    **{
        f"spikingresformer_{n}_transfer": "spikingresformer_s"
        for n in ("cifar10", "cifar100", "cifar10_dvs", "gesture")
    },
    "statten_2_256_cifar10_dvs_t10": "statten_2_256",
}
SETS = ("_cifar10_dvs", "_cifar100", "_cifar10", "_gesture")


def composed(name: str) -> Any:
    cfg = compose([f"experiment={name}", "output_dir=x"])
    made = instantiate(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    lr = scaled(cfg.optimizer.lr, cfg.schedule.lr_rule, cfg.schedule.lr_batch, cfg.trainer.effective_batch)
    told = {"lr": pytest.approx(lr), "optimizer": type(made).__name__}
    return cfg, lambda key: told[key] if key in told else OmegaConf.select(cfg, key)


@pytest.mark.parametrize("name", few([*FAMILIES, *BASES], 17))
def test_a_familys_recipe_is_what_was_run(name):
    column = FAMILIES[BASES.get(name, name)]
    cfg, get = composed(name)
    assert {key: get(key) for key in column} == column
    data = build_data(cfg.data, timesteps=cfg.model.timesteps)
    assert (data.mixup is None) == (cfg.data.mixup is None)


@pytest.mark.parametrize("name", few(["qkformer_10_384", "qkformer_10_768", "metaspikformer_8_512_t4"]))
def test_on_its_processes_a_batch_is_accumulated_as_published(name):
    cfg, _ = composed(name)
    passes = {"qkformer_10_384": 2, "qkformer_10_768": 3}.get(name, 1)
    assert share(cfg.trainer.effective_batch, cfg.data.batch_size, 8) == (cfg.data.batch_size, passes)


@pytest.mark.parametrize("name", few(STATTEN))
def test_stattens_recipes_are_another_files_but_for_what_differs(name):
    base, differs = STATTEN[name]
    (own, get), (other, _) = composed(name), composed(base)
    assert {key: get(key) for key in differs} == differs
    settings = [flat(OmegaConf.to_container(cfg, resolve=True)) for cfg in (own, other)]
    changed = {key for key in settings[0] | settings[1] if settings[0].get(key) != settings[1].get(key)}
    expected = {"optimizer.lr" if key == "lr" else key for key in differs} | {"schedule.lr_batch", "data.timesteps"}
    attention = {key for key in changed if "attention" in key and "neurons" not in key}
    assert attention and changed - attention <= expected


@pytest.mark.parametrize("name", few([*FAMILIES, *STATTEN], 17))
def test_a_recipe_is_of_the_model_that_it_is_named_after(name):
    ends = next((name.removesuffix(end) for end in SETS if name.endswith(end)), name)
    model = NAMED.get(name, ends if name != "spikingresformer_gesture" else name)
    cfg, _ = composed(name)
    neuron = ["neuron=plif"] if model == "spikingresformer_gesture" else []
    told = (
        ["model.stages.s1.mlp_ratio=4.0", "model.stages.s2.mlp_ratio=4.0"] if name == "qkformer_2_256_gesture" else []
    )
    settings = {"channels": "channels", "num_classes": "classes", "image_size": "size"}
    given = [f"data.{key}={cfg.data[key]}" for key in settings]
    given += [f"model.pooling='{cfg.model.pooling}'", f"model.timesteps={cfg.model.timesteps}"]
    given += [f"model.event_mode={cfg.model.event_mode}"]
    alone = compose([f"model={model}", f"data={cfg.data.name}", *neuron, *told, *given])
    first, second = (OmegaConf.to_container(c.model, resolve=True) for c in (cfg, alone))
    assert first == second


WRITTEN = {  # what recipe=written changes
    **{
        f"{family}_4_384_cifar10": {"data.mixup_off_epoch": 200}
        for family in ("spikformer", "spikingformer", "maxformer")
    },
    **{
        f"{name}_cifar{n}": {"data.mixup_off_epoch": 200}
        for name in ("qkformer_4_384", "statten_2_512")
        for n in (10, 100)
    },
    "spikingformer_4_384_cifar100": {"data.mixup_off_epoch": 200},
    **{f"statten_8_{dim}": {"data.repeats": 3} for dim in (512, 768)},
    **{
        f"statten_2_256_cifar10_dvs{t}": {"data.augmentation.flip": 0.5, "data.augmentation.roll": 5}
        for t in ("", "_t10")
    },
}


@pytest.mark.parametrize("name", few([*FAMILIES, *STATTEN], 17))
def test_as_written_is_one_word_away(name):
    """Where their files ask for what can be had here; nothing else changes."""
    in_force, written = (
        flat(OmegaConf.to_container(compose([f"experiment={name}", f"recipe={which}", "output_dir=x"]), resolve=True))
        for which in ("in_force", "written")
    )
    changed = {key: value for key, value in written.items() if in_force[key] != value and not key.startswith("recipe.")}
    assert changed == WRITTEN.get(name, {})


@pytest.mark.parametrize(("name", "left"), [("spikformer_8_512", 0), ("spikingformer_8_512", 90)])
def test_images_are_squeezed_whole_or_cut_to_the_centre_square(name, left):
    cfg, _ = composed(name)
    crop, *_ = build_data(cfg.data, timesteps=4).transforms()[0].transforms
    pixels = np.zeros((300, 400 + (left > 0) * 80, 3), np.uint8)  # within 4 to 3, or beyond
    pixels[:, left : pixels.shape[1] - left] = 255
    seen = np.asarray(crop(Image.fromarray(pixels)))
    assert seen.shape == (224, 224, 3) and (seen == 255).all()


def test_the_trust_ratio_is_clipped():
    for name in ("metaspikformer_8_512", "e_spikeformer_10m"):
        cfg, _ = composed(name)
        weight = torch.nn.Parameter(torch.full((4, 4), 100.0))
        optimizer = instantiate(cfg.optimizer)([weight], lr=1e-3)
        assert isinstance(optimizer, Lamb)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert (100 - weight).max() < 0.01  # else a step is as long as the weights are
