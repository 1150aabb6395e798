"""Which layer's potentials are added to which others', and who reads them: found by watching one batch pass through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.nn.neurons import SpikingNeuron
from spikefront.nn.torch_internals import TorchDispatchMode

# Operations that move or choose values and leave what these stand for
MOVES = frozenset(
    """
    view _unsafe_view reshape transpose permute expand clone contiguous slice select split split_with_sizes unbind t
    unsqueeze squeeze alias detach _to_copy max_pool2d_with_indices max_pool2d zeros_like constant_pad_nd lift_fresh
    """.split()  # noqa: SIM905
)


class Stream:
    """Layers whose outputs are added to one another: one unit a channel serves them all.

    ``last``: it leaves the network, as logits.
    """

    def __init__(self, layer: str) -> None:
        self.layers, self.last = [layer], False
        self._into: Stream | None = None

    def whole(self) -> Stream:
        """This, or what it was joined to."""
        return self if self._into is None else self._into.whole()

    def join(self, other: Stream) -> Stream:
        a, b = self.whole(), other.whole()
        if a is not b:
            a.layers += b.layers
            b._into = a
        return a


@dataclass(frozen=True)
class Value:
    """What the numbers in a tensor stand for: ``number * scale``, times its stream's unit of each channel.

    ``stream``: None of counts of spikes. ``parts``: the numbers are whole multiples of it (after a mean, ``1 / N``).
    """

    stream: Stream | None = None
    scale: float = 1.0
    parts: float = 1.0


@dataclass
class Flow:
    """By name what each layer with weights and each neuron reads, in the order in which they run.

    ``images``: which layers read the network's input. ``channel``: of a neuron's input which dimension, from the end.
    """

    synapses: dict[str, Value] = field(default_factory=dict)
    neurons: dict[str, Value] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    channel: dict[str, int] = field(default_factory=dict)


def flow(model: nn.Module, batch: Tensor) -> Flow:
    """Watch ``batch`` pass through a network in evaluation mode whose batch norms are folded.

    Raises:
        UserError: something that whole numbers can't express, by the name of the module that does it.
    """
    watch = _Watch(model)
    try:
        with torch.inference_mode(False), torch.no_grad(), watch:
            images = batch.clone()
            watch.mark(images, Value(watch.input))
            out = model(images, per_step=True)
        value = watch.value(out)
        if value is None or value.stream is None:
            raise UserError(
                "the network's logits are not what a layer with weights gives: whole numbers can't say them"
            )
        value.stream.whole().last = True
    finally:
        for handle in watch.handles:
            handle.remove()
    found = watch.found
    found.images = [n for n, v in found.synapses.items() if v.stream is not None and v.stream.whole() is watch.input]
    return found


class _Watch(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.found, self.input = Flow(), Stream("")
        self.depth, self.inside = 0, [""]
        self.known: dict[int, tuple[Tensor, Value]] = {}  # holds the tensors: a number is not given twice
        self.handles: list[Any] = []
        for name, module in model.named_modules():
            leaf = isinstance(module, nn.Conv2d | nn.Linear | SpikingNeuron)
            self.handles.append(module.register_forward_pre_hook(self._enter(name, leaf)))
            self.handles.append(module.register_forward_hook(self._leave(name, leaf)))

    def mark(self, tensor: Tensor, value: Value) -> None:
        self.known[id(tensor)] = tensor, value

    def value(self, tensor: Any) -> Value | None:
        found = self.known.get(id(tensor))
        return found[1] if found else None

    def _enter(self, name: str, leaf: bool) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.inside.append(name)
            if leaf and not self.depth:
                value = self.value(args[0])
                if value is None:
                    self._refuse("reads values of no layer")
                    return
                if isinstance(module, SpikingNeuron):
                    self.found.neurons[name] = value
                    self.found.channel[name] = 1 if args[0].dim() == 3 else 3
                else:
                    if name in self.found.synapses:
                        self._refuse("runs several times a pass")
                    self.found.synapses[name] = value
            self.depth += leaf

        return hook

    def _leave(self, name: str, leaf: bool) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            self.inside.pop()
            self.depth -= leaf
            if leaf and not self.depth:
                if isinstance(module, SpikingNeuron):
                    self.mark(out, Value(scale=1 / float(getattr(module, "norm", 1.0))))
                else:
                    self.found.streams[name] = Stream(name)
                    self.mark(out, Value(self.found.streams[name]))

        return hook

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.depth:
            return out
        flat = [b for a in args for b in (a if isinstance(a, list | tuple) else [a])]
        tensors = [a for a in flat if isinstance(a, Tensor)]
        values = [v for v in map(self.value, tensors) if v is not None]
        if values:
            found = self._follow(func.overloadpacket.__name__.removesuffix("_"), flat, tensors, values, out)
            for each in out if isinstance(out, list | tuple) else [out]:
                if isinstance(each, Tensor):
                    self.mark(each, found)
        return out

    def _follow(self, name: str, args: list[Any], tensors: list[Tensor], values: list[Value], out: Any) -> Value:
        first = values[0]
        numbers = [float(a) for a in args if isinstance(a, int | float) and not isinstance(a, bool)]
        if name in MOVES:
            return first
        if name == "copy":
            return values[-1]
        if name == "mean":
            return replace(first, parts=first.parts * out.numel() / tensors[0].numel())
        if name == "sum":
            return first
        if name in ("add", "sub", "cat", "stack") and len(values) == len(tensors) > 1:
            for other in values[1:]:
                first = self._joined(first, other)
            return first
        if name in ("mul", "div") and len(tensors) == 1 and numbers:
            return replace(first, parts=first.parts * (numbers[0] if name == "mul" else 1 / numbers[0]))
        if name in ("mul", "bmm", "mm", "matmul") and len(values) == 2:
            streams = [v.stream for v in values if v.stream is not None]
            if not streams or (name == "mul" and len(streams) == 1):
                return Value(streams[0] if streams else None, *_products(values))
        self._refuse(f"does {name} of {' and '.join(_kind(v) for v in values)}")
        return first

    def _joined(self, a: Value, b: Value) -> Value:
        if (a.scale, a.parts) != (b.scale, b.parts) or (a.stream is None) != (b.stream is None):
            self._refuse(f"adds {_kind(a)} to {_kind(b)} of another scale")
        return a if a.stream is None or b.stream is None else replace(a, stream=a.stream.join(b.stream))

    def _refuse(self, what: str) -> None:
        raise UserError(f"whole numbers can't express this network: {self.inside[-1] or 'the network'} {what}")


def _products(values: list[Value]) -> tuple[float, float]:
    a, b = values
    return a.scale * b.scale, a.parts * b.parts


def _kind(value: Value) -> str:
    return "spikes" if value.stream is None else "potentials"
