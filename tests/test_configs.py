"""Every YAML composes; every model config builds."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from own import given
from sharing import OWN

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
FAMILIES = {  # counted in the authors' code, less what is never used there
    "model=spikformer_8_384": 16_816_024,
    "model=spikformer_8_512": 29_689_384,
    "model=spikformer_10_512": 36_005_416,
    "model=spikformer_6_512": 23_373_352,
    "model=spikformer_8_768": 66_338_632,
    "model=spikingformer_8_384": 16_816_024,
    "model=spikingformer_8_512": 29_689_384,
    "model=spikingformer_8_768": 66_338_632,
    "model=metaspikformer_8_256": 15_112_208,
    "model=metaspikformer_8_384": 31_333_864,
    "model=metaspikformer_8_512": 55_350_248,
    "model=metaspikformer_8_512 model.second_head=spikes": 55_991_248,
    "model=e_spikeformer_5m": 5_105_608,
    "model=e_spikeformer_10m": 10_023_112,
    "model=e_spikeformer_19m": 18_987_504,
    "model=e_spikeformer_83m": 82_502_952,
    "model=e_spikeformer_83m model.second_head=spikes": 83_015_952,
    "model=e_spikeformer_171m": 170_971_714,
    "model=e_spikeformer_171m model.second_head=spikes": 171_740_714,
    "model=qkformer_10_384": 16_473_688,
    "model=qkformer_10_512": 29_079_336,
    "model=qkformer_10_768": 64_962_760,
    "model=spikingresformer_ti": 11_180_992,
    "model=spikingresformer_s": 17_813_824,
    "model=spikingresformer_m": 35_601_472,
    "model=spikingresformer_l": 60_375_680,
    "model=maxformer_10_384": 16_237_240,
    "model=maxformer_10_512": 28_653_480,
    "model=maxformer_10_768": 63_992_200,
    "model=ms_qkformer_10_384": 16_473_688,
    "model=ms_qkformer_10_768": 64_962_760,
    "model=statten_8_768": 66_339_144,
    "model=spikformer_4_384 data=cifar10": 9_324_730,
    "model=spikformer_2_256 data=cifar10_dvs": 2_566_666,
    "model=qkformer_4_384 data=cifar10": 6_706_234,
    "model=qkformer_4_384 data=cifar100": 6_740_884,
    "model=qkformer_2_256 data=cifar10_dvs": 1_504_138,
    "model=qkformer_2_256 data=dvs128_gesture model.stages.s1.mlp_ratio=4 model.stages.s2.mlp_ratio=4": 1_999_371,
    "model=maxformer_4_384 data=cifar10": 6_568_282,
    "model=maxformer_4_384 data=cifar100": 6_602_932,
    "model=maxformer_2_256 data=cifar10_dvs": 1_455_626,
    "model=spikingresformer_cifar data=cifar10": 10_793_152,
    "model=spikingresformer_gesture data=dvs128_gesture model.in_channels=3 neuron=plif": 2_709_830,
}


def test_what_the_tests_share_is_what_hydra_composes(monkeypatch):
    asked = (
        ("train", ["model=sdt_1_16", "data=digits_dvs", "logger=none", "+loss.x=1", "~callbacks.progress"]),
        ("train", ["model=sdt_2_32", "neuron=plif", "experiment=cifar10_2_512_tet"]),
        ("sweep", ["hparams_search=timesteps", "search/sampler=nsga2", "hydra/launcher=slurm_cpu", "seed=3"]),
    )
    shared = [[OmegaConf.to_yaml(compose(o, root=r, with_hydra=True)) for _ in range(2)] for r, o in asked]
    for holder, name, method in OWN:
        monkeypatch.setattr(holder, name, method)
    for (root, overrides), (first, second) in zip(asked, shared, strict=True):
        assert first == second == OmegaConf.to_yaml(compose(overrides, root=root, with_hydra=True))


@pytest.mark.parametrize("root", ROOTS)
def test_root_composes(root):
    OmegaConf.to_container(compose(root=root), resolve=False)


def elsewhere(group: str, option: str) -> bool:
    """Whether another test composes it too: recipes theirs, published families below, parts of networks their own."""
    parts = ("experiment", "neuron", "attention", "embedding", "residual", "mlp", "surrogate")
    return group in parts or (group == "model" and any(c.isdigit() for c in option))


@pytest.mark.parametrize(
    ("group", "option"),
    [pytest.param(*o, marks=pytest.mark.slow if elsewhere(*o) else []) for o in OPTIONS],
)
def test_option_composes(group, option, tmp_path):
    cfg = compose([f"{group}={option}", "output_dir=x", *given(option, tmp_path)])
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


SHORT = ("_10_384", "_ti", "_5m", "_2_256")  # of each kind of family one or two


@pytest.mark.parametrize(
    ("command", "parameters"),
    [pytest.param(*f, marks=[] if f[0].split()[0].endswith(SHORT) else pytest.mark.slow) for f in FAMILIES.items()],
)
def test_published_families_build(command, parameters):
    with torch.device("meta"):
        model = instantiate(compose(["data=imagenet", *command.split()]).model)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_any_depth_and_width_is_a_model():
    cfg = compose(["model=sdt_3_96", "data=digits"])
    assert (cfg.model.depth, cfg.model.dim, cfg.model.num_classes) == (3, 96, 10)
