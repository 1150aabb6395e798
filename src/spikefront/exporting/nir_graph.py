"""A network as a graph of the Neuromorphic Intermediate Representation (Pedersen et al. 2024, arXiv 2311.14641).

What NIR has no node for is made of those it has, as spikes are 0 or 1 (docs/deploy.md): ``k v`` is ``k + v > 1.5``, the
maximum of a window ``sum > 0.5``, the sum over all tokens a ``SumPool2d`` so large that it sees all from everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn import SpikeDrivenTransformer, blocks, embeddings, mixers, residuals
from spikefront.nn.attentions import SelfAttention
from spikefront.nn.inference import for_inference
from spikefront.nn.kernels import MaxPool
from spikefront.nn.neurons import IF, LIF, PLIF
from spikefront.nn.operators import QKTAOp, SDSA1Op, SDSA2Op

FILE = "network.nir"
DT = 1e-4  # seconds a timestep: what readers of NIR take where nobody tells them


def write(model: nn.Module, sample: Tensor, directory: Path, dt: float = DT) -> dict[str, Any]:
    """Write ``network.nir``, batch norms folded: input of one timestep ``(C, H, W)`` -> logits of that step.

    Logits of the network are their mean over its timesteps; a static image is shown at each.

    Args:
        sample: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events, for their shape.
        dt: seconds a timestep, which time constants are multiples of.

    Returns:
        ``dt``, ``timesteps``, how many ``nodes`` of each kind, and ``custom``: the names of those that only a reader
        that knows this package's metadata can run.

    Raises:
        UserError: a part that NIR has no node for; the package ``nir`` is not there.
    """
    graph = graph_of(model, tuple(sample.shape[-3:]), dt)
    facts = {"spikefront": type(model).__name__, "timesteps": int(model.timesteps), "dt": dt}  # type: ignore[arg-type]
    directory.mkdir(parents=True, exist_ok=True)
    graph.nir.write(directory / FILE, graph.closed({**facts, "readout": "mean of the output over timesteps"}))
    kinds = ", ".join(f"{count} {kind}" for kind, count in graph.kinds.items())
    lines = [f"{kinds}; a timestep is {dt:g} s, logits are the mean of the output over {facts['timesteps']}"]
    if graph.custom:
        lines.append(f"only a reader that knows this package's metadata runs {', '.join(graph.custom)}")
    return {**facts, "nodes": graph.kinds, "custom": graph.custom, "lines": lines}


def graph_of(model: nn.Module, shape: tuple[int, ...], dt: float = DT) -> Graph:
    """The graph of a network whose input at a timestep is of ``shape``. Raises as ``write``."""
    graph = Graph(dt)
    graph.nodes["input"] = graph.nir.Input(input_type=np.array(shape))
    logits = network(graph, for_inference(model), Signal(("input",), shape))
    graph.put("output", graph.nir.Output(output_type=np.array(logits.shape)), logits, logits.shape)
    return graph


@dataclass(frozen=True)
class Signal:
    """What the nodes ``names`` give together, their sum: that of ``shape`` at every timestep; ``binary``: 0 or 1."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    binary: bool = False

    def __add__(self, other: Signal) -> Signal:
        return Signal((*self.names, *other.names), self.shape)


@dataclass
class Graph:
    """Nodes and edges as they are found; ``part`` makes one within."""

    dt: float
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    custom: list[str] = field(default_factory=list)

    @property
    def nir(self) -> Any:
        try:
            import nir
        except ImportError as error:
            raise UserError("format=nir: nir is not installed; pip install 'spikefront[nir]'") from error
        return nir

    def put(self, name: str, node: Any, x: Signal, shape: tuple[int, ...], binary: bool = False) -> Signal:
        """Add a node that reads ``x``."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in x.names]
        self.kinds[type(node).__name__] = self.kinds.get(type(node).__name__, 0) + 1
        return Signal((name,), shape, binary)

    def closed(self, metadata: dict[str, Any]) -> Any:
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=metadata)

    def part(self, name: str, x: Signal, inside: Callable[[Graph, Signal], Signal], **metadata: Any) -> Signal:
        """One node that is a graph of its own, made by ``inside``."""
        inner = Graph(self.dt, kinds=self.kinds, custom=self.custom)
        inner.nodes["input"] = self.nir.Input(input_type=np.array(x.shape))
        out = inside(inner, Signal(("input",), x.shape, x.binary))
        inner.put("output", self.nir.Output(output_type=np.array(out.shape)), out, out.shape)
        return self.put(name, inner.closed(metadata), x, out.shape, out.binary)

    def conv(self, name: str, conv: nn.Module, x: Signal) -> Signal:
        if not isinstance(conv, nn.Conv2d) or conv.groups > 1 or isinstance(conv.padding, str):
            raise missing(name, conv)
        return self.convolve(name, x, conv.weight, conv.bias, conv.stride, conv.padding)

    def convolve(
        self, name: str, x: Signal, weight: Tensor, bias: Tensor | None, stride: Any = (1, 1), padding: Any = (0, 0)
    ) -> Signal:
        bias = torch.zeros(len(weight), dtype=weight.dtype) if bias is None else bias
        size = tuple(np.array(pair) for pair in (stride, padding))
        sizes = zip(x.shape[1:], weight.shape[2:], stride, padding, strict=True)
        high, wide = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        node = self.nir.Conv2d(x.shape[1:], array(weight), *size, np.array((1, 1)), 1, array(bias))
        return self.put(name, node, x, (len(weight), high, wide))

    def fire(self, name: str, neuron: nn.Module, x: Signal) -> Signal:
        """Euler's steps of NIR's equation, ``v += dt / tau (r x - v)``, are ours if ``tau`` is as many ``dt``."""
        if isinstance(neuron, nn.Identity):
            return x
        if not isinstance(neuron, LIF | IF | PLIF):
            raise missing(name, neuron)
        if neuron.reset != "hard":
            raise UserError(
                f"format=nir: {name} subtracts its threshold and NIR's neurons reset: use neuron.reset=hard"
            )
        gain, _ = neuron.gain_and_leak()
        below = float(np.nextafter(np.float32(neuron.threshold), np.float32(0)))  # NIR's fire above it, ours at it

        def every(value: float) -> np.ndarray:
            return np.full(x.shape, value)  # float64: a tau of 2e-4 is no float32

        if isinstance(neuron, IF):
            node = self.nir.IF(every(1 / self.dt), every(below), every(0))
        else:
            node = self.nir.LIF(every(self.dt / float(gain)), every(1), every(0), every(below), every(0))
        return self.put(name, node, x, x.shape, binary=True)

    def above(self, name: str, x: Signal, threshold: float) -> Signal:
        return self.put(name, self.nir.Threshold(np.full(x.shape, threshold, np.float32)), x, x.shape, binary=True)

    def both(self, name: str, a: Signal, b: Signal) -> Signal:
        """The product of spikes."""
        return self.above(name, a + b, 1.5)

    def over_all_tokens(self, name: str, x: Signal) -> Signal:
        """The sum over the image, at each of its places."""
        high, wide = x.shape[1:]
        kernel, padding = np.array((2 * high - 1, 2 * wide - 1)), np.array((high - 1, wide - 1))
        return self.put(name, self.nir.SumPool2d(kernel, np.array((1, 1)), padding), x, x.shape)

    def max_pool(self, name: str, pool: nn.Module, x: Signal) -> Signal:
        if isinstance(pool, nn.Identity):
            return x
        if not isinstance(pool, MaxPool):
            raise missing(name, pool)
        kernel: Any = (pool.kernel_size, pool.stride, pool.padding)
        k, s, p = (int(n) for n in kernel)
        high, wide = ((n + 2 * p - k) // s + 1 for n in x.shape[1:])
        shape = (x.shape[0], high, wide)
        summed = self.nir.SumPool2d(*(np.array((n, n)) for n in (k, s, p)))
        if x.binary:
            return self.above(name, self.put(f"{name}.sum", summed, x, shape), 0.5)
        self.custom.append(name)

        def unknown(graph: Graph, x: Signal) -> Signal:
            """Potentials have no such way: of the right shape, and NaN to whoever doesn't know what it stands for."""
            y = graph.put("sum", summed, x, shape)
            return graph.put("unknown", self.nir.Scale(np.full(shape, np.nan, np.float32)), y, shape)

        return self.part(name, x, unknown, spikefront="max_pool", kernel_size=k, stride=s, padding=p)


def network(graph: Graph, model: Any, x: Signal) -> Signal:
    for stem, layers in getattr(model, "sections", tuple)():
        place = place_of(model, stem)
        if not isinstance(stem, embeddings.SPS):
            raise missing(place, stem)
        x = embedding(graph, place, stem, x)
        for layer in layers:
            x = block(graph, place_of(model, layer), layer, x)
    if not isinstance(model, SpikeDrivenTransformer):
        raise missing("the network", model)
    size = np.array(x.shape[1:])
    x = graph.put("mean", graph.nir.AvgPool2d(size, size, np.array((0, 0))), x, (x.shape[0], 1, 1))
    x = graph.put("flatten", graph.nir.Flatten(np.array(x.shape), 0, -1), x, x.shape[:1])
    x = graph.fire("head_lif", model.head_lif, x)
    return graph.put(
        "head", graph.nir.Affine(array(model.head.weight), array(model.head.bias)), x, (model.num_classes,)
    )


def embedding(graph: Graph, place: str, module: Any, x: Signal) -> Signal:
    """Four stages of convolution, neuron and pool, the last of which pools potentials; then the position embedding."""
    for i in ("", "1", "2", "3"):
        conv, lif, pool = (f"{kind}{i}" for kind in ("proj_conv", "proj_lif", "maxpool"))
        x = graph.conv(f"{place}.{conv}", module.get_submodule(conv), x)
        for name, apply in ((lif, graph.fire), (pool, graph.max_pool)) if i != "3" else ((pool, graph.max_pool),):
            x = apply(f"{place}.{name}", module.get_submodule(name), x)
    spikes = graph.fire(f"{place}.proj_lif3", module.proj_lif3, x)
    stream = x if module.residual.potentials else spikes
    branch = graph.conv(f"{place}.rpe_conv", module.rpe_conv, spikes)
    return shortcut(graph, f"{place}.residual", module.residual, stream, branch)


def block(graph: Graph, place: str, module: Any, x: Signal) -> Signal:
    if not isinstance(module, blocks.Block) or module.local is not None:
        raise missing(place, module)
    name = f"{place}.attn"
    if not isinstance(module.attn, mixers.NoAttention):
        x = shortcut(graph, f"{place}.residual", module.residual, x, attention(graph, name, module.attn, x))
    mlp, name = module.mlp, f"{place}.mlp"
    if not isinstance(mlp, blocks.MLP):
        raise missing(name, mlp)
    hidden = graph.conv(f"{name}.fc1_conv", mlp.fc1_conv, graph.fire(f"{name}.fc1_lif", mlp.fc1_lif, x))
    if mlp.inner_residual:
        x = hidden = shortcut(graph, f"{name}.residual", mlp.residual, x, hidden)
    out = graph.conv(f"{name}.fc2_conv", mlp.fc2_conv, graph.fire(f"{name}.fc2_lif", mlp.fc2_lif, hidden))
    return shortcut(graph, f"{name}.residual", mlp.residual, x, out)


def shortcut(graph: Graph, name: str, residual: nn.Module, x: Signal, branch: Signal) -> Signal:
    """Edges into one node add up, so a sum needs no node of its own."""
    if isinstance(residual, residuals.MembraneResidual):
        return x + branch
    if type(residual) is residuals.PreSpikeResidual:
        return x + graph.fire(f"{name}.lif", residual.lif, branch)
    if isinstance(residual, residuals.VanillaResidual):
        return graph.fire(f"{name}.lif", residual.lif, x + branch)
    raise missing(name, residual)


def attention(graph: Graph, place: str, module: Any, x: Signal) -> Signal:
    """The mask, from the stream's spikes to the masked ones, as a graph of its own, then the projection."""
    op = getattr(module, "op", None)
    masks: dict[Any, Callable[..., Signal]] = {SDSA1Op: sdsa_1, SDSA2Op: sdsa_2, QKTAOp: qkta}
    if not isinstance(module, SelfAttention) or module.qkv_conv is None or type(op) not in masks:
        raise missing(f"{place}.op" if op is not None else place, op or module)
    if getattr(op, "event_mode", False) or getattr(module, "event_mode", False):
        raise UserError(
            f"format=nir: {place}.op pools over tokens and channels (model.event_mode), which no NIR node does"
        )
    mixed: Any = module.qkv_conv
    weights, biases = (t.split(module.widths) for t in (mixed.weight, mixed.bias))

    def inside(part: Graph, s: Signal) -> Signal:
        streams = []
        for name, weight, bias in zip(module.streams, weights, biases, strict=True):
            y = part.convolve(f"{name}_conv", s, weight, bias, padding=mixed.padding)
            streams.append(part.fire(f"{name}_lif", getattr(module, f"{name}_lif"), y))
        return masks[type(op)](part, op, module.talking_heads_lif, *streams)

    spikes = graph.fire(f"{place}.shortcut_lif", module.shortcut_lif, x)
    kind = type(op).__name__.removesuffix("Op").lower()
    masked = graph.part(f"{place}.{kind}", spikes, inside, spikefront=kind, heads=int(getattr(op, "num_heads", 1)))
    return graph.conv(f"{place}.proj_conv", module.proj_conv, masked)


def sdsa_1(graph: Graph, op: Any, gate: nn.Module, q: Signal, k: Signal, v: Signal) -> Signal:
    total = graph.over_all_tokens("tokens", graph.both("kv", k, v))
    return graph.both("masked", q, graph.fire("gate", gate, total))


def sdsa_2(graph: Graph, op: Any, gate: nn.Module, q: Signal, v: Signal) -> Signal:
    return graph.both("masked", v, graph.fire("gate", gate, graph.over_all_tokens("tokens", q)))


def qkta(graph: Graph, op: Any, gate: nn.Module, q: Signal, k: Signal) -> Signal:
    """The sum over a head's channels, at each of them, is a 1x1 convolution of ones."""
    width = q.shape[0] // op.num_heads
    ones = torch.block_diag(*[torch.ones(width, width)] * op.num_heads)[:, :, None, None]
    return graph.both("masked", k, graph.fire("gate", gate, graph.convolve("head", q, ones, None)))


def place_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


def missing(name: str, module: object) -> UserError:
    return UserError(
        f"format=nir: {name} ({type(module).__name__}) has no node in NIR; model=sdt has them, with"
        " attention=sdsa1, sdsa2, qkta or none, neuron=lif, plif or if, mlp=mlp"
    )
