"""The claim of spike-driven networks, put to the test: only additions, only where a spike is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.nn.audits.finding import FAILS, HOLDS, Finding, markdown
from spikefront.nn.external import SnnTorch, SpikingJelly
from spikefront.nn.integers import are_counts, norms
from spikefront.nn.neurons import SpikingNeuron
from spikefront.nn.torch_internals import TorchDispatchMode

SYNAPSES = (nn.Conv1d, nn.Conv2d, nn.Linear)
# What may multiply: a neuron's leak, and BN, which folds into the convolution before it.
EXEMPT = (SpikingNeuron, SpikingJelly, SnnTorch, nn.BatchNorm2d)
PRODUCTS = {"mul", "mm", "bmm", "baddbmm", "addmm", "div", "convolution", "exp", "pow", "_softmax"}
PRODUCTS |= {"_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math_for_mps"}
BINARY, INTEGER, REAL, SILENT, IMAGE = "binary", "integer", "real", "silent", "input"
KINDS = (SILENT, BINARY, INTEGER, REAL, IMAGE)


@dataclass
class Audit:
    """What a network computes with.

    Attributes:
        inputs: what enters each convolution and linear layer: ``binary`` spikes, ``integer`` or ``real`` values,
            nothing (``silent``: no proof), or the network's own ``input``, which every published network reads once.
        multiplications: operations between two values of which neither is binary, as ``where: what``. Masks and sums of
            binary values are not among them.
        scales: products with a constant, which fold into the threshold of the neuron that reads them.
        largest: the largest value that entered each of ``inputs``, of integer spikes how many.
        findings: what checks of other claims found, in the order in which they were made.
    """

    inputs: dict[str, str] = field(default_factory=dict)
    multiplications: list[str] = field(default_factory=list)
    scales: list[str] = field(default_factory=list)
    largest: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> list[Finding]:
        """Claims that don't hold."""
        return [finding for finding in self.findings if finding.verdict == FAILS]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        layers = {name: {"reads": kind, "largest": self.largest.get(name)} for name, kind in self.inputs.items()}
        return {
            "spike_driven": self.spike_driven,
            "holds": [finding.check for finding in self.findings if finding.verdict == HOLDS],
            "fails": [finding.check for finding in self.failed],
            "findings": [finding.to_dict() for finding in self.findings],
            "layers": layers,
            "multiplications": self.multiplications,
            "scales": self.scales,
        }

    def to_markdown(self) -> str:
        """A table of the findings, and one of what enters each layer."""
        rows = [f"| {name} | {kind} | {self.largest.get(name, 0):.4g} |" for name, kind in self.inputs.items()]
        return "\n".join([markdown(self.findings), "", "| layer | reads | largest |", "|---|---|--:|", *rows])

    @property
    def spike_driven(self) -> bool:
        """Whether every synapse reads binary spikes and nothing is multiplied elsewhere."""
        return not self.multiplications and set(self.inputs.values()) <= {BINARY, IMAGE}

    def __str__(self) -> str:
        width = max(map(len, self.inputs), default=0)
        lines = [f"{name:<{width}}  {kind}" for name, kind in self.inputs.items()]
        lines += [f"multiplies: {what}" for what in self.multiplications]
        lines += [f"scales by a constant: {what}" for what in self.scales]
        lines += [": ".join(filter(None, finding.cells()[:4])) for finding in self.findings]
        return "\n".join([*lines, "spike-driven" if self.spike_driven else "not spike-driven"])


def audit(model: nn.Module, batch: Tensor) -> Audit:
    """Run ``batch`` through ``model`` and name all that is not a masked addition.

    The answer is about the configuration, not the weights, and a silent network would prove nothing: a copy is driven
    hard (BN on the batch's statistics, its gain 4 and bias 2), so that every path fires.

    Args:
        batch: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            nn.init.constant_(module.weight, 4.0)
            nn.init.constant_(module.bias, 2.0)
    found, inside = Audit(), [""]
    scales = norms(model)
    names = {module: name for name, module in model.named_modules()}
    exempt = [0]

    def enter(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inside.append(names[module])
        if is_synapse(module) and not exempt[0]:
            # the first synapse reads the network's input, on which nothing that fires has worked yet
            name, before = names[module], found.inputs.get(names[module], SILENT)
            kind = IMAGE if not found.inputs or before == IMAGE else _kind(args[0], scales)
            found.inputs[name] = max(before, kind, key=KINDS.index)  # of one that is called at every step
            unit = next((u for u in (1.0, *scales) if kind == INTEGER and are_counts(args[0] * u, ())), 1.0)
            found.largest[name] = max(found.largest.get(name, 0.0), unit * float(args[0].abs().max()))
        exempt[0] += isinstance(module, EXEMPT) or is_synapse(module)

    def leave(module: nn.Module, *_: Any) -> None:
        inside.pop()
        exempt[0] -= isinstance(module, EXEMPT) or is_synapse(module)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            name = func.overloadpacket.__name__.removesuffix("_")  # type: ignore[attr-defined]
            if name in PRODUCTS and not exempt[0]:
                operands = [a for a in args if isinstance(a, Tensor)]
                factors = [a for a in operands if a.numel() > 1]
                what = f"{inside[-1] or 'the network'}: {name}"
                if name in ("mul", "div") and len(factors) < 2:
                    found.scales.append(what)
                elif name in ("exp", "pow", "_softmax", "div") or not any(
                    _kind(a, scales) in (BINARY, SILENT) for a in factors
                ):
                    found.multiplications.append(f"{what} of {' and '.join(_kind(a, scales) for a in factors)} values")
            return func(*args, **(kwargs or {}))

    for module in names:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    with torch.no_grad(), Watch():
        model(batch)
    found.multiplications = list(dict.fromkeys(found.multiplications))
    found.scales = list(dict.fromkeys(found.scales))
    return found


def is_synapse(module: nn.Module) -> bool:
    """Whether it is one linear map, whatever it is learned as."""
    return isinstance(module, SYNAPSES) or hasattr(module, "merged")


def _kind(x: Tensor, norms: tuple[float, ...]) -> str:
    if not x.any():
        return SILENT
    if ((x == 0) | (x == 1)).all():
        return BINARY
    return INTEGER if are_counts(x, norms) else REAL
