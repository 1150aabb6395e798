"""What lies between the neurons of a NIR graph: linear maps, as matrices from neurons to neurons."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefront.exporting.nir_graph import DT

Reads = dict[str, list[str]]


def flat(nir: Any, nodes: dict[str, Any], edges: list[tuple[str, str]]) -> tuple[Any, dict[str, Any], Reads]:
    """A graph without graphs in it: the package, nodes, and which each of them reads."""
    every: dict[str, Any] = {}
    reads: Reads = {}

    def take(nodes: dict[str, Any], edges: list[tuple[str, str]], place: str) -> None:
        inner = {name for name, node in nodes.items() if isinstance(node, nir.NIRGraph)}
        for name, node in nodes.items():
            if name in inner:
                take(node.nodes, node.edges, f"{place}{name}.")
            else:
                every[place + name] = node
        for a, b in edges:
            source = f"{place}{a}.output" if a in inner else place + a
            reads.setdefault(f"{place}{b}.input" if b in inner else place + b, []).append(source)

    take(nodes, edges, "")
    return nir, every, reads


class Linear:
    """Matrices between those nodes that fire.

    Args:
        nir: the package.
        nodes, reads: as ``flat`` gives them.
    """

    def __init__(self, nir: Any, nodes: dict[str, Any], reads: Reads) -> None:
        self.nir, self.nodes, self.reads = nir, nodes, reads
        order = TopologicalSorter({name: reads.get(name, []) for name in nodes}).static_order()
        kinds = (nir.LIF, nir.IF, nir.Threshold)
        self.firing = [name for name in order if isinstance(nodes[name], kinds) or name == "output"]
        self._shape = {n: tuple(self._limit(n).shape) for n in self.firing if n != "output"}
        self._shape["input"] = tuple(int(n) for n in nodes["input"].input_type["input"])

    @property
    def sizes(self) -> list[int]:
        return [int(np.prod(shape)) for shape in self._shape.values()]

    def leaks(self, name: str) -> bool:
        return isinstance(self.nodes[name], self.nir.LIF)

    def kept(self, name: str) -> float:
        """How much of its potential a neuron without a time constant keeps: an integrator all, a threshold nothing."""
        return 1.0 if isinstance(self.nodes[name], self.nir.IF) else 0.0

    def gain(self, name: str) -> float:
        """Of ``v += gain (x - v)``; 1 without a time constant."""
        return float(DT / self.nodes[name].tau.flat[0]) if self.leaks(name) else 1.0

    def threshold(self, name: str, never: float) -> float:
        return never if name == "output" else float(self._limit(name).flat[0])

    def _limit(self, name: str) -> np.ndarray:
        node = self.nodes[name]
        return node.threshold if isinstance(node, self.nir.Threshold) else node.v_threshold

    def sources(self, name: str) -> list[str]:
        """Which neurons a node reads, through whatever is linear."""
        found: dict[str, None] = {}
        for source in self.reads.get(name, []):
            if source in self._shape:
                found.update({source: None} if source != "input" else {})
            else:
                found.update(dict.fromkeys(self.sources(source)))
        return list(found)

    def between(self, source: str, target: str) -> np.ndarray:
        """``(neurons of source, neurons of target)``."""
        shape = self._shape[source]
        ones = torch.eye(int(np.prod(shape)), dtype=torch.float64).view(-1, *shape)
        return self._given(target, {source: ones}, len(ones), False).flatten(1).numpy()

    def currents(self, target: str, image: Tensor) -> np.ndarray:
        """What biases, and the image, give each neuron of ``target`` at every timestep."""
        return self._given(target, {"input": image.double()[None]}, 1, True).flatten().numpy()

    def _given(self, target: str, known: dict[str, Tensor], batch: int, biased: bool) -> Tensor:
        """What enters ``target`` where neurons ``known`` give these values and all others 0."""
        values = dict(known)

        def value(name: str) -> Tensor:
            if name not in values:
                if name in self._shape:
                    values[name] = torch.zeros(batch, *self._shape[name], dtype=torch.float64)
                else:
                    values[name] = self._apply(self.nodes[name], entering(name), biased)
            return values[name]

        def entering(name: str) -> Tensor:
            return torch.stack([value(source) for source in self.reads[name]]).sum(0)

        return entering(target)

    def _apply(self, node: Any, x: Tensor, biased: bool) -> Tensor:
        nir = self.nir
        if isinstance(node, nir.Conv2d | nir.Affine):
            weight, bias = (torch.as_tensor(a, dtype=x.dtype) for a in (node.weight, node.bias))
            if isinstance(node, nir.Affine):
                return F.linear(x, weight, bias if biased else None)
            return F.conv2d(x, weight, bias if biased else None, tuple(node.stride), tuple(node.padding))
        if isinstance(node, nir.AvgPool2d | nir.SumPool2d):
            kernel, stride, padding = ([int(n) for n in pair] for pair in (node.kernel_size, node.stride, node.padding))
            whole = 1 if isinstance(node, nir.SumPool2d) else None
            return F.avg_pool2d(x, kernel, stride, padding, divisor_override=whole)
        return x.flatten(1) if isinstance(node, nir.Flatten) else x
