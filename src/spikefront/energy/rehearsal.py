"""A training step rehearsed on tensors without data: what it keeps in memory and what it computes, in milliseconds."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikefront.energy.survey import POOLS, SYNAPSES
from spikefront.nn import kernels

META = torch.device("meta")
LAST = torch.channels_last
# Operations on spikes that give spikes again, and those on whole numbers that give whole numbers.
SPIKES = frozenset(("mul", "rsub", "stack", "cat", "clone", "amax", "_to_copy", "max_pool2d_with_indices"))
WHOLE = SPIKES | {"add", "sub", "neg", "sum", "clamp", "clamp_min", "clamp_max", "mm", "bmm"}
COMPARISONS = frozenset(("ge", "gt", "le", "lt", "eq"))
ROUNDS = frozenset(("floor", "ceil", "round", "sign"))


@dataclass(frozen=True)
class Rehearsal:
    """What one training step of a batch does.

    Attributes:
        forward_peak, peak: bytes alive at once in the forward pass and in the step, gradients included, beyond
            parameters and optimizer state.
        work: bytes that plain operations move, elements that go through each kernel, and how many calls there are.
        products: ``(c_in, c_out, kernel, pixels, passes)`` of every convolution and matrix product, counted.
        real: names of the layers whose input is not made of whole numbers.
    """

    forward_peak: float
    peak: float
    work: Mapping[str, float]
    products: Mapping[tuple[int, ...], int]
    real: set[str]


class _Stage(TorchDispatchMode):
    """Follows every storage from birth to death, and which hold whole numbers."""

    def __init__(self, with_kernels: bool) -> None:
        super().__init__()
        self.with_kernels = with_kernels
        self.live = self.peak = 0
        self.work: Counter[str] = Counter()
        self.products: Counter[tuple[int, ...]] = Counter()
        self.known: set[int] = set()
        self.whole: dict[int, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        read = _tensors((*args, *kwargs.values()))
        if not read:  # makes a tensor from nothing
            kwargs["device"] = META
        out = _run(func, args, kwargs)
        name = func._overloadpacket.__name__
        made = _tensors((out,))
        fresh = [t for t in made if self.follow(t)]
        if name in COMPARISONS:
            self.mark(made[0])
        elif name in ROUNDS or (name in WHOLE and fresh and all(self.is_whole(t) for t in read)):
            spikes = name in SPIKES and all(self.is_spikes(t) for t in read)
            self.mark(made[0], spikes or (name in ("clamp", "clamp_max") and args[-1] == 1))
        self._work(name, args, made, fresh, read)
        return out

    def follow(self, t: Tensor) -> bool:
        """Whether this tensor's storage is new; counts it until it dies."""
        storage = t.untyped_storage()
        key = storage._cdata
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
        self.whole.pop(key, None)
        self.live -= size

    def own(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that exist anyway and are counted elsewhere."""
        self.known.update(t.untyped_storage()._cdata for t in tensors)

    def is_whole(self, t: Tensor) -> bool:
        return t.untyped_storage()._cdata in self.whole

    def is_spikes(self, t: Tensor) -> bool:
        """Whether it holds only zeros and ones, which are kept as bits."""
        return self.whole.get(t.untyped_storage()._cdata, False)

    def mark(self, t: Tensor, spikes: bool = True) -> None:
        self.whole[t.untyped_storage()._cdata] = spikes

    def _work(self, name: str, args: tuple, made: list[Tensor], fresh: list[Tensor], read: list[Tensor]) -> None:
        if name == "convolution":
            x, w = args[:2]
            self._reordered(x, max(x.numel(), made[0].numel()))
            self._product(w.shape[1], w.shape[0], prod(w.shape[2:]), made[0].numel() // w.shape[0], 1)
        elif name == "convolution_backward":
            grad, x, w = args[:3]
            self._reordered(x, x.numel() + grad.numel())
            mask = args[-1]
            self._product(w.shape[1], w.shape[0], prod(w.shape[2:]), grad.numel() // w.shape[0], 2 + sum(mask[:2]))
        elif name in ("mm", "addmm", "bmm", "baddbmm"):
            a, b = args[-2:]
            self._product(a.shape[-1], b.shape[-1], 1, a.numel() // a.shape[-1], 1)
        elif fresh or name.endswith("_"):
            self.work["calls"] += 1
            self.work["bytes"] += sum(t.numel() * t.element_size() for t in (*made, *read))

    def _reordered(self, x: Tensor, elements: int) -> None:
        """On a CPU a convolution works on reordered copies of what isn't channels-last."""
        if self.with_kernels and not _is_last(x):
            self.peak = max(self.peak, self.live + elements * x.element_size())

    def _product(self, c_in: int, c_out: int, kernel: int, pixels: int, passes: int) -> None:
        self.work["calls"] += 1
        self.products[c_in, c_out, kernel, pixels, passes] += 1

    def kernel(self, name: str, *arguments: Any, **_: Any) -> Any:
        """Stands in for a compiled kernel: computes nothing, remembers how much it would have."""
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if name in ("pool_forward", "pool_planes_forward") and self.is_whole(arguments[0]):
            self.mark(arguments[1], self.is_spikes(arguments[0]))
        elif name == "pack" and not self.is_spikes(arguments[0]):
            return 0
        self.work["calls"] += 1
        self.work[name] += max(t.numel() for t in tensors)
        return 1


_outputs: dict[Any, Any] = {}
_VIEW = object()


def _run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """``func`` on the meta device; the shapes of what it makes are remembered, for working them out takes the time."""
    if any(a.alias_info for a in func._schema.arguments):
        return func(*args, **kwargs)
    try:
        key = (func, *map(_look, args), *((k, _look(v)) for k, v in kwargs.items()))
        known = _outputs.get(key)
    except TypeError:
        return func(*args, **kwargs)
    if known is not None and known is not _VIEW:
        return _made(known)
    out = func(*args, **kwargs)
    if func._overloadpacket.__name__.startswith("convolution") and _is_last(args[0]):
        out = _channels_last(out)  # as real ones are, and meta's are not
    if known is None:
        storages = {t.untyped_storage()._cdata for t in _tensors((*args, *kwargs.values()))}
        own = all(t.untyped_storage()._cdata not in storages for t in _tensors((out,)))
        _outputs[key] = _look(out) if own else _VIEW
    return out


def _is_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=LAST) and not x.is_contiguous()


def _channels_last(out: Any) -> Any:
    if isinstance(out, Tensor):
        return out.contiguous(memory_format=LAST) if out.dim() == 4 else out
    return tuple(map(_channels_last, out)) if isinstance(out, tuple) else out


def _tensors(values: tuple) -> list[Tensor]:
    flat = [t for v in values for t in (v if type(v) in (list, tuple) else (v,))]
    return [t for t in flat if isinstance(t, Tensor)]


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


class _Fire(torch.autograd.Function):
    """Takes the memory of ``kernels.fire``, which keeps what entered it and recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, stage: _Stage, x: Tensor, weight: Tensor | None, timesteps: int | None) -> Tensor:
        ctx.stage, ctx.weight = stage, weight
        ctx.save_for_backward(x)
        frame = x.numel() // x.shape[0]
        spikes = x.new_empty_strided((timesteps or x.shape[0], *x.shape[1:]), (frame, *x.stride()[1:]))
        stage.mark(spikes)
        stage.work["neuron_forward"] += spikes.numel()
        stage.work["norm_forward"] += x.numel() if weight is not None else 0
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        work, (grad,) = ctx.stage.work, grads
        if grad.stride()[1:] != x.stride()[1:]:
            grad = torch.empty_like(grad)
            work["bytes"] += 8 * grad.numel()
        work["neuron_backward"] += grad.numel()
        work["norm_backward"] += x.numel() if ctx.weight is not None else 0
        return None, torch.empty_like(x), None if ctx.weight is None else torch.empty_like(ctx.weight), None


@contextmanager
def rehearsing(with_kernels: bool) -> Iterator[_Stage]:
    """Follow what runs on the meta device in this context; with the kernels a CPU has, which then compute nothing."""
    stage = _Stage(with_kernels)

    def fire(x: Tensor, *constants: Any) -> Tensor:
        *_, norm, timesteps = constants
        return _Fire.apply(stage, x, getattr(norm, "weight", None), timesteps)

    with ExitStack() as stack:
        if with_kernels:
            usable = lambda x: x.numel() > 0
            for name, stand_in in (("usable", usable), ("fire", fire), ("_call", stage.kernel)):
                stack.enter_context(mock.patch.object(kernels, name, stand_in))
        yield stack.enter_context(stage)


def rehearse(model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor], *, with_kernels: bool) -> Rehearsal:
    """Run one training step of a model on the meta device.

    Args:
        images: a batch on the meta device.
        loss: from per-timestep logits ``(T, B, classes)``.
        with_kernels: whether it will run with the compiled CPU kernels.
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
            value = loss(model.train()(images, per_step=True))
            forward_peak = stage.peak
            value.backward()
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    return Rehearsal(forward_peak, stage.peak, stage.work, stage.products, real)
