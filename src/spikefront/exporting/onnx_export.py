"""A network as ONNX, for onnxruntime and what else reads that."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.exporting.interface import interface, told
from spikefront.nn.programs import OUTPUTS, Deployed, run_onnx, to_onnx, traced

FILE = "network.onnx"
OPSET = 23  # of ONNX 1.18: the last that onnxruntime runs and PyTorch writes without converting


def write(
    model: nn.Module, sample: Tensor, directory: Path, *, origin: Any = None, opset: int = OPSET
) -> dict[str, Any]:
    """``network.onnx``: inputs, outputs and their meaning stand in its metadata, and in what is told.

    Args:
        opset: of ONNX's operators, 18 or later.

    Raises:
        UserError: the extra ``onnx`` is not installed, an opset that can't be written, a network that can't be traced.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"format=onnx needs {package}, which is not installed: pip install 'spikefront[onnx]'")
    import onnx

    if not isinstance(opset, int) or not 18 <= opset <= onnx.defs.onnx_opset_version():
        raise UserError(f"options.opset={opset}: give a whole number from 18 to {onnx.defs.onnx_opset_version()}")
    deployed = Deployed(model.float()).eval()
    sample = sample.float()
    expected = deployed(sample)
    path = directory / FILE
    names = {"input_names": ["images"], "output_names": list(OUTPUTS)}
    axes = {"dynamic_shapes": ({0: "batch"},)}
    to_onnx(traced(deployed, sample), sample, path, opset_version=opset, external_data=False, **names, **axes)
    about = interface(deployed, sample, origin)
    stored = onnx.load(path)
    stored.doc_string = about["outputs"]["steps"]
    for value in (*stored.graph.input, *stored.graph.output):
        value.doc_string = {**about["inputs"], **about["outputs"]}[value.name]
    onnx.helper.set_model_props(stored, {key: json.dumps(value) for key, value in about.items()})
    onnx.checker.check_model(stored)
    onnx.save(stored, path)
    return told({**about, "opset": opset}, expected, run_onnx(path, sample), "onnxruntime")
