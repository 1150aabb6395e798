"""Every published family equals its authors' code: logits, rates, loss, gradient norms and buffers in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact import CASES, GOLDEN, build, inputs, layout, load, published, record
from examples import few

import spikefront
from spikefront.errors import UserError


def prepared(case):
    """A case's network with the published weights, and what its parts are called there."""
    model = build(case)
    return model, load(case, model)


def theirs(layout, name):
    return name.replace("talking_heads_lif", "attn_lif") if layout is None else layout.theirs(name)


ONE_EACH = [
    c
    for c in CASES
    if c.endswith("imagenet") or c in ("statten_event", "sdt_v2_tiny", "sdt_v3_event", "sdt_v3_large_tiny_kd")
]
ONE = pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c in ONE_EACH else pytest.mark.slow) for c in CASES])


@ONE
def test_evaluation_matches(case):
    (model, names), r = prepared(case), record(case)
    unused = sum(int(np.prod(r["state_dict"][n])) for n in r["unused"] if "talking_heads" not in n)
    assert sum(p.numel() for p in model.parameters()) == r["parameters"] - unused
    rates, means = {}, {}
    counts = case == "sdt_v3_event"  # divided after its neurons

    def scale(neuron):
        return neuron.norm if counts else 1

    def keep(name):
        def hook(module, args, out):
            rates[name] = (out != 0).double().mean().item()
            means[name] = out.mean().item() * scale(module)

        return hook

    for name, module in model.eval().named_modules():
        fires = not isinstance(module, torch.nn.Identity)
        if fires and (other := theirs(names, name)) in r["rates"]:
            module.register_forward_hook(keep(other))
    with torch.inference_mode():
        logits = model(inputs(case), per_step=case.startswith("spikingresformer"))
    np.testing.assert_allclose(logits.numpy(), np.load(GOLDEN / f"{case}.logits.npy"), rtol=1e-9, atol=1e-12)
    twice = {"patch_embed1.embed2.embed_lif"} if case == "maxformer_cifar" else set()  # two neurons on one input
    unread = {"lif"} if r["config"].get("kd") is False else set()
    assert rates.keys() == set(r["rates"]) - twice - unread
    for name in rates:
        assert rates[name] == pytest.approx(r["rates"][name], rel=1e-9), name
        if name in r.get("means", {}):
            assert means[name] == pytest.approx(r["means"][name], rel=1e-9), name


@ONE
def test_training_matches(case):
    (model, names), r = prepared(case), record(case)
    x = inputs(case)
    target = torch.arange(len(x)) % r["config"]["k"]
    model.train()
    logits = model.heads(x).mean(1) if r["config"].get("kd") else model(x)[None]
    loss = sum(F.cross_entropy(head, target) for head in logits) / len(logits)
    assert loss.item() == pytest.approx(r["train"]["loss"], rel=1e-9)
    loss.backward()
    norms = {theirs(names, n): p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
    assert norms == pytest.approx(r["train"]["grad_norm"], rel=1e-9, abs=1e-12)
    buffers = {theirs(names, n): b.flatten().tolist() for n, b in model.named_buffers()}
    for name, values in r["train"].get("buffers_after", {}).items():
        assert buffers[name] == pytest.approx(values, rel=1e-9), name


@pytest.mark.parametrize("case", few(CASES, 9))
def test_deployed_matches(case):
    model, _ = prepared(case)
    with torch.inference_mode():
        deployed = model.for_inference()(inputs(case), per_step=case.startswith("spikingresformer"))
    np.testing.assert_allclose(deployed.numpy(), np.load(GOLDEN / f"{case}.logits.npy"), rtol=1e-9, atol=1e-12)


WRAPPINGS = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
    "ema": lambda state: {"state_dict": {k: v * 0 for k, v in state.items()}, "state_dict_ema": state},
    "plain": dict,
}


@pytest.mark.parametrize(("case", "wrapping"), few([(c, list(WRAPPINGS)[i % 4]) for i, c in enumerate(CASES)], 9))
def test_published_files_load_strictly(case, wrapping, tmp_path):
    state = published(case)
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "file.pth.tar")
    model = build(case)
    spikefront.load_checkpoint(model, tmp_path / "file.pth.tar")
    expected = prepared(case)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    lost = next(k for k in state if k.endswith(("conv.weight", "W.weight")))
    torch.save(WRAPPINGS[wrapping]({k: v for k, v in state.items() if k != lost}), tmp_path / "less.pth")
    with pytest.raises(UserError, match="of another model"):
        spikefront.load_checkpoint(model, tmp_path / "less.pth")
    torch.save(WRAPPINGS[wrapping]({**state, "block.9.more.weight": torch.ones(1)}), tmp_path / "more.pth")
    with pytest.raises(UserError, match="of another model"):
        spikefront.load_checkpoint(model, tmp_path / "more.pth")


@pytest.mark.slow
def test_each_file_is_of_one_family_alone():
    for case in CASES:
        if not case.startswith("statten"):
            layout(case, build(case))


def test_qkformers_samples_meet_as_published_and_not_without_that_shortcut():
    case = "qkformer_cifar"
    x = inputs(case)
    for more, meet in (([], True), (["model.stages.s3.mixer_residual=null"], False)):
        model = build(case, *more).eval()
        load(case, model)
        with torch.inference_mode():
            alone, together = torch.cat([model(x[:1]), model(x[1:])]), model(x)
        assert (not torch.allclose(alone, together, rtol=1e-9)) == meet
    deployed = build(case).eval().for_inference()
    assert isinstance(deployed.stages[2].block[0].residual, spikefront.nn.AcrossBatchResidual)
