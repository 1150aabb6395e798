"""Every YAML composes; every model config builds."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from spikefront.config import CONF, ROOT, compose

ROOTS = sorted(p.stem for p in CONF.glob("*.yaml"))
OPTIONS = sorted(
    (group.name, p.relative_to(group).with_suffix("").as_posix())
    for group in CONF.iterdir()
    for p in group.glob("**/*.yaml")
    if p.stem != "default"
)
TRAIN_GROUPS = {p.name for p in CONF.iterdir() if p.is_dir()}
PUBLISHED = {
    "sdt_8_384": 16_816_536,
    "sdt_6_512": 23_373_736,
    "sdt_8_512": 29_689_896,
    "sdt_10_512": 36_006_056,
    "sdt_8_768": 66_339_144,
}


@pytest.mark.parametrize("root", ROOTS)
def test_root_composes(root):
    OmegaConf.to_container(compose(root=root), resolve=False)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes(group, option):
    cfg = compose([f"{group}={option}", "output_dir=x"])
    OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*/*.yaml")), ids=lambda p: p.stem)
def test_search_composes(path):
    cfg = compose([f"hparams_search={path.stem}"], root="sweep")
    assert cfg.search.space


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("hydra/launcher/*.yaml")), ids=lambda p: p.stem)
def test_launcher_composes(path):
    cfg = compose([f"hydra/launcher={path.stem}"], root="sweep", with_hydra=True)
    assert cfg.hydra.launcher._target_


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_published_models_build(name, parameters):
    with torch.device("meta"):
        model = instantiate(compose([f"model={name}", "data=imagenet"]).model)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_any_depth_and_width_is_a_model():
    cfg = compose(["model=sdt_3_96", "data=digits"])
    assert (cfg.model.depth, cfg.model.dim, cfg.model.num_classes) == (3, 96, 10)
