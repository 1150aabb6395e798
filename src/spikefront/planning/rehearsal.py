"""A training step rehearsed on tensors without data: what it keeps in memory and what it computes, in milliseconds."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.energy.layer import POOLS, SYNAPSES
from spikefront.nn import kernels
from spikefront.nn.torch_internals import TorchDispatchMode, has_aliases, storage_of
from spikefront.planning.work import Work, is_last, operation, tensors

META = torch.device("meta")
LAST = torch.channels_last
# Operations on spikes that give spikes again, and those on whole numbers that give whole numbers.
SPIKES = frozenset(("mul", "rsub", "stack", "cat", "clone", "amax", "_to_copy", "max_pool2d_with_indices", "max_pool"))
WHOLE = SPIKES | {"add", "sub", "neg", "sum", "clamp", "clamp_min", "clamp_max", "mm", "bmm"}
NEURONS = frozenset(("neuron", "neuron_pooled", "unpack"))  # of our own kernels
COMPARISONS = frozenset(("ge", "gt", "le", "lt", "eq"))
ROUNDS = frozenset(("floor", "ceil", "round", "sign"))


@dataclass(frozen=True)
class Rehearsal:
    """What one training step of a batch does.

    Attributes:
        forward_peak, peak: bytes alive at once in the forward pass and in the step, gradients included, beyond
            parameters and optimizer state.
        states: values that the optimizer keeps for a parameter.
        work: what its time grows with.
        real: names of the layers whose input is not made of whole numbers.
    """

    forward_peak: float
    peak: float
    states: float
    work: Work
    real: set[str]


class _Stage(TorchDispatchMode):
    """Follows every storage from birth to death, and which hold whole numbers."""

    def __init__(self, with_kernels: bool) -> None:
        super().__init__()
        self.with_kernels = with_kernels
        self.live = self.peak = 0
        self.work = Work()
        self.known: set[int] = set()
        self.whole: dict[int, bool] = {}
        self.blank: set[int] = set()  # nothing has been stored there

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        read = tensors((*args, *kwargs.values()))
        if not read:  # makes a tensor from nothing
            kwargs["device"] = META
        out = _run(func, args, kwargs)
        name = func.overloadpacket.__name__
        if name == "pack" and not self.is_spikes(args[0]):
            return torch.empty(0, dtype=torch.uint8, device=META)  # what isn't spikes isn't packed
        made = tensors((out,))
        fresh = [t for t in made if self.follow(t)]
        if name.startswith(("empty", "new_empty")):
            self.blank.update(map(storage_of, made))
        elif name == "copy_":
            self._stored(args[0], args[1])
        elif name in COMPARISONS or name in NEURONS:
            self.mark(made[0])
        elif name.removesuffix("_") in ROUNDS or (name in WHOLE and fresh and all(self.is_whole(t) for t in read)):
            spikes = name in SPIKES and all(self.is_spikes(t) for t in read)
            self.mark(made[0], spikes or (name in ("clamp", "clamp_max") and args[-1] == 1))
        if name.startswith("convolution"):
            self._reordered(name, args, made)
        self.work.add(*operation(func, args, made, read))
        return out

    def follow(self, t: Tensor) -> bool:
        """Whether this tensor's storage is new; counts it until it dies."""
        storage = t.untyped_storage()
        key = storage_of(t)
        if key in self.known:
            return False
        size = storage.nbytes()
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size).atexit = False
        return True

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.blank.discard(key)
        self.whole.pop(key, None)
        self.live -= size

    def own(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that exist anyway and are counted elsewhere."""
        self.known.update(storage_of(t) for t in tensors)

    def is_whole(self, t: Tensor) -> bool:
        return storage_of(t) in self.whole

    def is_spikes(self, t: Tensor) -> bool:
        """Whether it holds only zeros and ones, which are kept as bits."""
        return self.whole.get(storage_of(t), False)

    def mark(self, t: Tensor, spikes: bool = True) -> None:
        self.whole[storage_of(t)] = spikes

    def _stored(self, there: Tensor, t: Tensor) -> None:
        """What a storage holds once ``t`` is written to a part of it, and to parts before."""
        key = storage_of(there)
        if self.is_whole(t) and (key in self.blank or key in self.whole):
            self.whole[key] = self.is_spikes(t) and self.whole.get(key, True)
        else:
            self.whole.pop(key, None)
        self.blank.discard(key)

    def _reordered(self, name: str, args: tuple, made: list[Tensor]) -> None:
        """On a CPU a convolution works on reordered copies of what isn't channels-last."""
        forward = name == "convolution"
        x, y = (args[0], made[0]) if forward else (args[1], args[0])
        if self.with_kernels and not is_last(x):
            elements = max(x.numel(), y.numel()) if forward else x.numel() + y.numel()
            self.peak = max(self.peak, self.live + elements * x.element_size())


_outputs: dict[Any, Any] = {}
_VIEW = object()


def _run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``func`` on the meta device; the shapes of what it makes are remembered, for working them out takes the time."""
    if has_aliases(func):
        return func(*args, **kwargs)
    try:
        key = (func, *map(_look, args), *((k, _look(v)) for k, v in kwargs.items()))
        known = _outputs.get(key)
    except TypeError:
        return func(*args, **kwargs)
    if known is not None and known is not _VIEW:
        return _made(known)
    out = func(*args, **kwargs)
    if func.overloadpacket.__name__.startswith("convolution") and is_last(args[0]):
        out = _channels_last(out)  # as real ones are, and meta's are not
    if known is None:
        storages = {storage_of(t) for t in tensors((*args, *kwargs.values()))}
        own = all(storage_of(t) not in storages for t in tensors((out,)))
        _outputs[key] = _look(out) if own else _VIEW
    return out


def _channels_last(out: Any) -> Any:
    if isinstance(out, Tensor):
        return out.contiguous(memory_format=LAST) if out.dim() == 4 else out
    return tuple(map(_channels_last, out)) if isinstance(out, tuple) else out


def _look(value: Any) -> Any:
    """Something hashable that two values share if they are alike: a tensor's shape, strides and dtype."""
    if isinstance(value, Tensor):
        return Tensor, tuple(value.shape), value.stride(), value.dtype
    if type(value) in (list, tuple):
        return tuple, *map(_look, value)
    return None, value, type(value)


def _made(look: tuple) -> Any:
    kind, *rest = look
    if kind is Tensor:
        shape, stride, dtype = rest
        return torch.empty_strided(shape, stride, dtype=dtype, device=META)
    return tuple(map(_made, rest)) if kind is tuple else rest[0]


@contextmanager
def rehearsing(with_kernels: bool) -> Iterator[_Stage]:
    """Follow what runs on the meta device in this context; with the kernels a CPU has, which then compute nothing."""
    stage = _Stage(with_kernels)
    with kernels.switched(with_kernels), stage:
        yield stage


def rehearse(
    model: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    *,
    with_kernels: bool,
    precision: AbstractContextManager[Any] | None = None,
) -> Rehearsal:
    """Run one training step of a model on the meta device.

    Args:
        images: a batch on the meta device.
        loss: from per-timestep logits ``(T, B, classes)``.
        optimizer: of a list of parameters.
        with_kernels: whether it will run with the compiled CPU kernels.
        precision: what the forward pass runs in.
    """
    real: set[str] = set()

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if not stage.is_whole(args[0]):
                real.add(name)

        return hook

    watched = {n: m for n, m in model.named_modules() if isinstance(m, (*SYNAPSES, *POOLS))}
    handles = [m.register_forward_pre_hook(watch(name)) for name, m in watched.items()]
    try:
        with rehearsing(with_kernels) as stage:
            stage.own([*model.parameters(), *model.buffers(), images])
            with precision or nullcontext():
                value = loss(model.train()(images, per_step=True))
            forward_peak = stage.peak
            value.backward()
        trained = [p for p in model.parameters() if p.grad is not None]
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    calls, moved, states = one_step(optimizer)
    stage.work.add("optimizer", (calls * len(trained), moved * sum(p.numel() for p in trained)))
    return Rehearsal(forward_peak, stage.peak, states, stage.work, real)


def one_step(optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> tuple[int, float, float]:
    """Operations a parameter tensor, bytes moved and values kept a parameter: of a step on a small one."""
    p = nn.Parameter(torch.zeros(64))
    chosen = optimizer([p])
    p.grad = torch.ones(64)
    chosen.step()
    with _Count() as counted:
        chosen.step()
    kept = [v for v in chosen.state[p].values() if isinstance(v, Tensor) and v.shape == p.shape]
    return counted.calls, counted.bytes / p.numel(), float(len(kept))


class _Count(TorchDispatchMode):
    """Counts operations and the bytes that they move."""

    calls, bytes = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        calls, moved = operation(func, args, tensors((out,)), tensors(args))[1]
        self.calls += int(calls)
        self.bytes += moved
        return out
