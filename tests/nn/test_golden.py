"""The network equals the published one: logits, firing rates, training loss and gradient norms in float64."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from examples import few

from spikefront.nn import LIF, PLIF, SpikeDrivenTransformer

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
assert spec and spec.loader
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)

INPUTS = {
    "tiny_static": ("images", 0, 2, 3, 32, 32),
    "tiny_dvs": ("events", 0, 2, 5, 2, 32, 32),
    "tiny_dvs_tet": ("events", 3, 2, 3, 2, 32, 32),
    "tiny_plif": ("images", 4, 2, 3, 32, 32),
    "tiny_mlp1": ("images", 5, 2, 3, 32, 32),
    "cifar_2_256": ("images", 1, 1, 3, 32, 32),
    "cifar10dvs_2_256": ("events", 1, 1, 10, 2, 64, 64),
}
CASES = sorted(INPUTS)
TRAINED = [c for c in CASES if c.startswith("tiny")]


def build(case: str) -> tuple[SpikeDrivenTransformer, torch.Tensor, dict]:
    record = json.loads((GOLDEN / f"{case}.json").read_text())
    c = record["config"]
    model = SpikeDrivenTransformer(
        depth=c["L"],
        dim=c["D"],
        num_heads=c["h"],
        mlp_ratio=c.get("mlp", 4),
        timesteps=c["T"],
        in_channels=c["c"],
        num_classes=c["k"],
        image_size=c["img"],
        pooling=c["pool"],
        event_mode=c["dvs"],
        neuron=PLIF if c.get("mode") == "plif" else LIF,
    )
    model = model.double()
    model.load_state_dict(golden.fill(model.state_dict()))
    kind, *args = INPUTS[case]
    return model, getattr(golden, kind)(*args), record


def spiking_tensors(model: SpikeDrivenTransformer) -> dict[str, dict]:
    """Hook every spiking tensor that the golden files name; values are filled in by a forward pass."""
    rates: dict[str, float] = {}

    def keep(name, tensor):
        rates[name] = (tensor != 0).double().mean().item()

    def on(module, name, of_input=False):
        module.register_forward_hook(lambda m, i, o: keep(name, i[0] if of_input else o))

    embed = model.patch_embed
    for suffix in ("", "1", "2", "3"):
        on(getattr(embed, f"proj_lif{suffix}"), f"MS_SPS_lif{suffix}")
    for i, block in enumerate(model.block):
        attn, ssa, mlp = block.attn, f"MS_SSA_Conv{i}", f"MS_MLP_Conv{i}"
        on(attn.shortcut_lif, f"{ssa}_first_lif")
        attn.op.register_forward_pre_hook(
            lambda m, a, ssa=ssa: (
                [
                    keep(f"{ssa}_{n}", t)
                    for n, t in zip(("q_lif", "k_lif", "v_lif", "kv_before"), (*a[:3], a[1] * a[2]), strict=True)
                ]
                and None
            )
        )
        on(attn.talking_heads_lif, f"{ssa}_kv")
        on(attn.proj_conv, f"{ssa}_x_after_qkv", of_input=True)
        on(block.mlp.fc1_lif, f"{mlp}_fc1_lif")
        on(block.mlp.fc2_lif, f"{mlp}_fc2_lif")
    on(model.head_lif, "head_lif")
    return rates


@pytest.mark.parametrize("case", CASES)
def test_evaluation_matches(case):
    model, x, record = build(case)
    if "state_dict" in record:
        assert {k: list(v.shape) for k, v in model.state_dict().items()} == record["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    rates = spiking_tensors(model.eval())
    with torch.inference_mode():
        logits = model(x, per_step=record["config"].get("tet", False))
    np.testing.assert_allclose(logits.numpy(), np.load(GOLDEN / f"{case}.logits.npy"), rtol=1e-9, atol=1e-12)
    assert rates.keys() == record["rates"].keys()
    for name, rate in record["rates"].items():
        assert rates[name] == pytest.approx(rate, rel=1e-9), name


@pytest.mark.parametrize("case", few(CASES))
def test_sparse_execution_matches(case):
    model, x, record = build(case)
    fast = model.float().for_inference(sparse=True)
    with torch.inference_mode():
        logits = fast(x.float(), per_step=record["config"].get("tet", False))
    np.testing.assert_allclose(logits.numpy(), np.load(GOLDEN / f"{case}.logits.npy"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", few(TRAINED, 2))
def test_training_matches(case):
    model, x, record = build(case)
    model.train()
    target = torch.arange(len(x)) % record["config"]["k"]
    loss = F.cross_entropy(model(x), target)
    assert loss.item() == pytest.approx(record["train"]["loss"], rel=1e-9)
    loss.backward()
    norms = {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
    expected = record["train"]["grad_norm"]
    assert norms.keys() == expected.keys()
    for name in expected:
        assert norms[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


PUBLISHED = {
    (8, 384): 16_816_536,
    (6, 512): 23_373_736,
    (8, 512): 29_689_896,
    (10, 512): 36_006_056,
    (8, 768): 66_339_144,
}


@pytest.mark.parametrize(("shape", "parameters"), PUBLISHED.items())
def test_published_parameter_counts(shape, parameters):
    with torch.device("meta"):
        model = SpikeDrivenTransformer(*shape)
    assert sum(p.numel() for p in model.parameters()) == parameters
