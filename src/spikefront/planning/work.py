"""What an operation's time grows with: kinds of work, and how much of each an operation is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, channels_last

from spikefront.nn.torch_internals import storage_of

CONVOLUTION = ("calls", "multiply-accumulates", "values", "weights", "values reordered")
PRODUCT = ("calls", "multiply-accumulates", "values")
NEURON = ("neuron", "neuron_backward")  # with a batch norm, whose statistics are float64, or without
SIMPLE = ("calls", "size")
NARROW = 8  # channels that a vector register holds: fewer cost as many
SLOW = frozenset("exp log pow sqrt rsqrt sigmoid tanh gelu _softmax _log_softmax".split())  # noqa: SIM905


class Work:
    """Amounts of work by kind, ``{kind: [amount of each of its measures]}``; an operation's time is linear in them."""

    def __init__(self) -> None:
        self.amounts: dict[str, list[float]] = defaultdict(list)

    def add(self, kind: str, amounts: Sequence[float], times: float = 1) -> None:
        known = self.amounts[kind]
        known[:] = [a + times * b for a, b in zip(known or [0.0] * len(amounts), amounts, strict=True)]

    @property
    def calls(self) -> float:
        """How many operations it is."""
        return sum(amounts[0] for amounts in self.amounts.values())


def operation(func: Any, args: tuple, made: Sequence[Tensor], read: Sequence[Tensor]) -> tuple[str, Sequence[float]]:
    """Kind and amounts of one operation: PyTorch's, or a compiled kernel of ours."""
    name = func.overloadpacket.__name__
    if func.namespace == "spikefront":
        kind = f"{name} normalised" if name in NEURON and any(t.dtype == torch.float64 for t in read) else name
        return kind, (1, sum(t.numel() for t in (*made, *read)))
    if name == "convolution":
        return convolution("forward", args[0], args[1], made[0], 1)
    if name == "convolution_backward":
        return convolution("backward", args[1], args[2], args[0], sum(args[-1][:2]))
    if name in ("mm", "addmm", "bmm", "baddbmm"):
        a, b = args[-2:]
        return "product", (1, a.numel() * b.shape[-1], a.numel() + b.numel() + made[0].numel())
    if name.startswith(("native_batch_norm", "max_pool", "avg_pool")):
        return name, (1, max(t.numel() for t in (*made, *read)))
    if "empty" in name or (not name.endswith("_") and all(_shares(t, read) for t in made)):
        return "view", (1, 0)
    kind = "slow" if name.removesuffix("_").removesuffix("_backward") in SLOW else "plain"
    return kind, (1, sum(t.numel() * t.element_size() for t in (*made, *read)))


def convolution(direction: str, x: Tensor, weight: Tensor, y: Tensor, passes: int) -> tuple[str, Sequence[float]]:
    """One of ``passes`` products over each pixel that a convolution makes of ``x``, or ``y`` goes back from."""
    c_out, c_in, *kernel = weight.shape
    kind = "thin" if min(c_in, c_out) < NARROW else "pointwise" if prod(kernel) == 1 else "spatial"
    macs = passes * y.numel() * max(c_in, NARROW) * prod(kernel) * max(1.0, NARROW / c_out)
    values = x.numel() + y.numel()
    return f"{kind} {direction}", (1, macs, values, weight.numel(), 0 if is_last(x) else values)


def tensors(values: Sequence[Any]) -> list[Tensor]:
    flat = [t for v in values for t in (v if type(v) in (list, tuple) else (v,))]
    return [t for t in flat if isinstance(t, Tensor)]


def is_last(x: Tensor) -> bool:
    """Whether channels, of which there are several, lie side by side."""
    return x.is_contiguous(memory_format=channels_last) and not x.is_contiguous()


def _shares(t: Tensor, read: Sequence[Tensor]) -> bool:
    storage = storage_of(t)
    return any(storage == storage_of(r) for r in read)
