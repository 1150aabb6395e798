"""Networks as graphs of torch.export and ONNX, beside the networks they are of."""

from __future__ import annotations

import json

import pytest
import torch

from spikefront import create_model
from spikefront.errors import UserError
from spikefront.exporting import onnx_export, torch_export

FAMILIES = (
    *("spikformer_cifar", "spikingformer", "qkformer_cifar", "ms_qkformer", "maxformer_cifar", "metaspikformer"),
    *("statten", "e_spikeformer", "spikingresformer_cifar"),
)
OTHERS = [pytest.param(name, "cifar10", marks=pytest.mark.slow) for name in FAMILIES]


def network(name: str, data: str):
    """A small network that fires, and inputs of more samples than it is traced with."""
    torch.manual_seed(0)
    small = [] if name.startswith("sdt") else ["model.dim=64"]
    made = create_model(name, data=data, timesteps=2, overrides=[*small, "neuron.threshold=0.3"])
    frames = [2] if data == "digits_dvs" else []
    side = 8 if data == "digits" else 32
    images = torch.rand(5, *frames, made.in_channels, side, side)
    made.train()
    with torch.no_grad():
        for _ in range(5):
            made(images)
    return made.eval(), images


def compared(made, images, found) -> None:
    logits, steps, spikes = found
    with torch.no_grad():
        expected = made(images, per_step=True)
    assert expected.any() and spikes.sum() > 0
    assert torch.allclose(steps, expected, atol=1e-4) and torch.allclose(logits, expected.mean(0), atol=1e-4)
    assert steps.shape[:2] == spikes.shape[:2] == (2, 5) and torch.equal(spikes, spikes.round())


@pytest.mark.slow  # a graph as such: test_operators.py
@pytest.mark.parametrize(("name", "data"), [("sdt_1_16", "digits"), ("sdt_1_16", "digits_dvs"), *OTHERS])
def test_torch_export(name, data, tmp_path):
    made, images = network(name, data)
    told = torch_export.write(made, images[:2], tmp_path)
    found = torch.export.load(tmp_path / "network.pt2", extra_files=(extra := {"interface.json": ""}))
    compared(made, images, found.module()(images))  # another batch than that it was traced with
    about = json.loads(extra["interface.json"])
    assert about == told["interface"] and about["timesteps"] == 2 and "block.0" in str(about["neurons"])
    assert told["equal"] == told["of"] == 2


@pytest.mark.parametrize(("name", "data"), [("sdt_1_16", "digits"), ("sdt_1_16", "digits_dvs"), *OTHERS])
def test_onnx(name, data, tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    made, images = network(name, data)
    told = onnx_export.write(made, images[:2], tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    compared(made, images, [torch.from_numpy(a) for a in session.run(None, {"images": images.numpy()})])
    model = onnx.load(tmp_path / "network.onnx")
    assert [o.name for o in model.graph.output] == ["logits", "steps", "spikes"]
    assert (
        model.opset_import[0].version == 23 and model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    )
    assert {p.key: json.loads(p.value) for p in model.metadata_props}["timesteps"] == 2
    assert "T = 2" in model.graph.output[1].doc_string and told["equal"] == told["of"]


def test_onnx_without_its_extra_is_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'spikefront\[onnx\]'"):
        onnx_export.write(torch.nn.Identity(), torch.zeros(1), tmp_path)
    monkeypatch.undo()
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match="opset=9"):
        onnx_export.write(torch.nn.Identity(), torch.zeros(1), tmp_path, opset=9)
