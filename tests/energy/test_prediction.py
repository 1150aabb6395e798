"""What is predicted of a configuration equals what is then found."""

from __future__ import annotations

import gc

import pytest
from hydra.utils import instantiate
from torch.profiler import ProfilerActivity, profile

from spikefront import predict_cost
from spikefront.config import compose
from spikefront.energy.calibration import trainer
from spikefront.training.measure import measure

NETWORKS = [
    "model=sdt_2_32",
    "model=sdt_1_64 data=digits_dvs model.timesteps=3",
    "model=sdt_1_64 data=imagenet data.image_size=32 attention=sdsa3 residual=pre_spike neuron=plif",
    "model=sdt_1_32 neuron=alif attention=ssa loss=tet",
    "model=sdt_1_32 neuron=relu attention=softmax model.timesteps=1",
    "model=sdt_1_32 embedding=conv_stem",
]


@pytest.mark.parametrize("overrides", NETWORKS)
def test_parameters_and_energy_are_those_of_the_real_network(overrides):
    cfg = compose([*overrides.split(), "energy.rate=0.3", "+samples=1", "+checkpoint=null", "+input=noise"], "train")
    cost, report = predict_cost(cfg, time=False), measure(cfg)
    assert cost.parameters == sum(p.numel() for p in instantiate(cfg.model).parameters())
    assert cost.energy == pytest.approx(report.total_joules, rel=1e-9)
    assert cost.convention == report.convention and "0.3 assumed" in cost.convention


def test_operations_are_the_published_ones():
    """Multiply-accumulates of a timestep at 224x224, times 4 (arXiv 2307.01694, table 3's models)."""
    for name, giga in {"sdt_8_384": 4.66, "sdt_6_512": 7.02, "sdt_8_768": 18.51}.items():
        cost = predict_cost(compose([f"model={name}", "data=imagenet"]), time=False)
        assert cost.operations / 4e9 == pytest.approx(giga, abs=0.01), name
    assert cost.parameters == 66_339_144
    assert cost.firing_rate == pytest.approx(0.2) and "0.2 assumed" in cost.convention


def allocated(cfg):
    """Bytes alive at once while two training steps run, by the allocator's own account."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        step = trainer(cfg)
        step()
        step()
    events = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("overrides", [*NETWORKS, "model=sdt_2_64 optimizer=lamb data.batch_size=256"])
def test_memory_is_what_the_allocator_gives(overrides):
    cfg = compose(overrides.split())
    assert predict_cost(cfg, time=False).memory == pytest.approx(allocated(cfg), rel=0.15)


def test_dry_run_trains_nothing(script, tmp_path):
    code, out, err = script("train", "dry_run=true", "model=sdt_8_512", "data=imagenet", f"hydra.run.dir={tmp_path}")
    assert code == 0, err
    assert "29,689,896" in out and "assumed" in out and "MiB" in out
    assert not (tmp_path / "config.yaml").exists() and not (tmp_path / "checkpoints").exists()
