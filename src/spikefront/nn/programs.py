"""A network as one graph of operations, for runtimes that know nothing of this package: torch.export and ONNX."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.inference import for_inference
from spikefront.nn.neurons import SpikingNeuron

OUTPUTS = ("logits", "steps", "spikes")


class Deployed(nn.Module):
    """The network as it is deployed, with time and spikes among what it gives.

    ``forward``: images ``(B, C, H, W)`` or events ``(B, T, C, H, W)`` -> ``logits (B, classes)``, the mean over time;
    ``steps (T, B, classes)``, the logits of each timestep alone; ``spikes (T, B, neurons)``, how many spikes each
    layer of neurons fired, in the order of ``neurons``, their names. Stopping after t timesteps is the mean of the
    first t of ``steps``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = for_inference(network)
        self.neurons: list[str] = []
        self._fired: dict[str, Tensor] = {}
        for name, module in self.network.named_modules():
            if isinstance(module, SpikingNeuron):
                module.register_forward_hook(self._counting(name))

    def _counting(self, name: str) -> Any:
        def hook(neuron: Any, args: Any, out: Tensor) -> None:
            self._fired[name] = out * getattr(neuron, "norm", 1.0)

        return hook

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self._fired = {}
        steps = self.network(images, per_step=True)
        T, B = steps.shape[:2]
        self.neurons = list(self._fired)
        spikes = torch.stack([fired.reshape(T, B, -1).sum(-1) for fired in self._fired.values()], -1)
        self._fired = {}
        return steps.mean(0), steps, spikes


def traced(model: nn.Module, sample: Tensor) -> torch.export.ExportedProgram:
    """The graph of ``model`` for any batch of inputs as ``sample``, of which there must be at least two."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spikes that are kept to be counted
        return torch.export.export(model, (sample,), dynamic_shapes=({0: batch},), strict=False)


def to_onnx(model: nn.Module | torch.export.ExportedProgram, sample: Tensor, path: str | Path, **options: Any) -> None:
    """Write an ONNX file without a word; ``options`` are those of ``torch.onnx.export``."""
    for name in ("onnx_ir", "onnxscript", "torch.onnx"):  # which tell of each pass
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, (sample,), str(path), dynamo=True, **options)


def run_onnx(path: str | Path, images: Tensor) -> list[Tensor]:
    """All outputs of an ONNX file's graph, computed by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return [torch.from_numpy(output) for output in found]
