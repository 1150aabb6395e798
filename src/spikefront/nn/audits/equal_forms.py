"""Other forms of a network that are to answer the same: folded, sparse, compiled, exported."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import one_line
from spikefront.nn.audits.finding import Finding, fails, holds, not_tried
from spikefront.nn.audits.independence import RANDOM
from spikefront.nn.audits.subject import Subject
from spikefront.nn.inference import for_inference
from spikefront.nn.kernels.sparse import available
from spikefront.nn.programs import run_onnx, to_onnx

FORMS = ("merged", "folds", "join", "handovers")  # methods of modules that have a faster form


def folded(subject: Subject) -> Finding:
    """Batch norms folded, projections joined."""
    if not _has_forms(subject.driven):
        return not_tried("folded", "no module says what of it folds (merged, folds, join)")
    return _compared(subject, "folded", "for_inference(), all logits compared", for_inference(subject.driven))


def sparse(subject: Subject) -> Finding:
    """Additions where a spike is, from bits."""
    if not any(hasattr(module, "handovers") for module in subject.driven.modules()):
        return not_tried("sparse", "no module hands spikes over as bits (handovers)")
    if not available():
        return not_tried("sparse", "compiled kernels are not there")
    single, x = copy.deepcopy(subject.driven).float(), subject.batch.float()
    expected, answer = (subject.answers(for_inference(single, sparse=choice), x) for choice in (False, True))
    tried = "for_inference(sparse=True) beside for_inference() in single precision, all logits compared"
    n = len(x)
    alike = [subject.equal(*pair) for pair in zip(subject.rows(expected, n), subject.rows(answer, n), strict=True)]
    if all(alike):
        return holds("sparse", tried, "equal up to rounding")
    if any(alike):
        return holds("sparse", tried, f"equal for {sum(alike)} of {n} samples; in the others rounding flips a spike")
    if not subject.equal(subject.run(subject.driven, subject.batch).float(), expected):
        return not_tried(
            "sparse", "rounding alone flips spikes of this network in single precision, so nothing compares"
        )
    return fails("sparse", tried, subject.difference(expected, answer))


def compiled(subject: Subject) -> Finding:
    """As one graph of ``torch.compile``, traced and run without generated code, which would take minutes."""
    if subject.random:
        return not_tried("compiled", RANDOM)
    torch.compiler.reset()
    try:
        model: Any = torch.compile(copy.deepcopy(subject.driven), backend="eager")
        with torch.no_grad():
            answer = model(subject.fed(subject.batch))
    except Exception as error:
        return fails("compiled", "torch.compile", one_line(error))
    finally:
        torch.compiler.reset()
    return _equal(subject, "compiled", "torch.compile's graphs run as they are (no generated code)", answer)


def onnx(subject: Subject) -> Finding:
    """Exported, and run by onnxruntime."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            return not_tried("onnx", f"{package} is not installed")
    if subject.random:
        return not_tried("onnx", RANDOM)
    model, x = copy.deepcopy(subject.driven).float(), subject.fed(subject.batch).float()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.onnx")
        try:
            to_onnx(copy.deepcopy(model), x, path, optimize=False)
            found = run_onnx(path, x)[0]
        except Exception as error:
            return not_tried("onnx", f"the export fails: {one_line(error)}")
    with torch.no_grad():
        expected = model(x)
    tried = "exported, run by onnxruntime in single precision"
    if subject.equal(expected, found):
        return holds("onnx", tried, "equal up to rounding")
    if subject.stateful:
        return not_tried("onnx", "calls leave something behind (see state), and the export has found it")
    return fails("onnx", tried, subject.difference(expected, found))


def _has_forms(model: nn.Module) -> bool:
    return any(hasattr(module, form) for module in model.modules() for form in FORMS)


def _compared(subject: Subject, check: str, tried: str, model: nn.Module) -> Finding:
    expected, answer = subject.run(subject.driven, subject.batch), subject.run(model, subject.batch)
    if subject.equal(expected, answer):
        return holds(check, tried, "equal up to rounding")
    return fails(check, tried, subject.difference(expected, answer))


def _equal(subject: Subject, check: str, tried: str, answer: Tensor) -> Finding:
    with torch.no_grad():
        expected = copy.deepcopy(subject.driven)(subject.fed(subject.batch))
    if subject.equal(expected, answer):
        return holds(check, tried, "equal up to rounding")
    return fails(check, tried, subject.difference(expected, answer))
