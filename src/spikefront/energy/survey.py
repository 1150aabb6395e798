"""What a network consists of, found once by watching one sample pass through it."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from spikefront.energy.layer import POOLS, SYNAPSES, Layer, dimensions, is_synapse
from spikefront.energy.quanta import Units
from spikefront.energy.values import is_whole
from spikefront.errors import UserError
from spikefront.nn.torch_internals import TorchDispatchMode, storage_of, version_of

# Arithmetic that is neither an addition nor a comparison: outside neurons, operators and BN it must not pass unnoticed.
RESETS = ("reset", "reset_mem")  # of modules that keep a state between calls, as SpikingJelly's and snnTorch's neurons
ARITHMETIC = frozenset(
    """
    mul mul_ div div_ addcmul addcdiv prod cumprod exp exp_ log pow sqrt rsqrt reciprocal sigmoid tanh erf sin cos gelu
    silu softplus _softmax _log_softmax native_layer_norm native_group_norm avg_pool2d _adaptive_avg_pool2d
    upsample_bilinear2d _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    """.split()  # noqa: SIM905
)


@dataclass
class Survey:
    """The layers in the order they run, and in ``notes`` what could not be classified, a line each."""

    layers: dict[str, Layer] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Watch(TorchDispatchMode):
    """Multiply-accumulates and other arithmetic of every module, by the innermost one running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.stack = [""]
        self.macs: dict[str, float] = defaultdict(float)
        self.arithmetic: dict[str, set[str]] = defaultdict(set)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet, where = func.overloadpacket, self.stack[-1]
        if packet in flop_registry:
            self.macs[where] += flop_registry[packet](*args, **(kwargs or {}), out_val=out) / 2
        elif packet.__name__ in ARITHMETIC:
            self.arithmetic[where].add(packet.__name__.strip("_"))
        return out


_looking = False


def looking() -> bool:
    """Whether the pass that runs now is a survey's own, which nobody counts."""
    return _looking


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context in which a network is in evaluation mode; afterwards every module is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def survey(model: nn.Module, example: Tensor, timesteps: int, whole: Callable[[Tensor], bool] = is_whole) -> Survey:
    """Pass one sample of ``example`` through ``model`` in evaluation mode and find every layer that costs energy.

    Args:
        whole: tells tensors of whole numbers from others; tensors without data need one of their own.

    Raises:
        UserError: a layer whose input has neither ``timesteps * batch`` nor ``batch`` frames, or that is called for one
            timestep after the other.
    """
    if any(callable(getattr(module, name, None)) for module in model.modules() for name in RESETS):
        model = copy.deepcopy(model)  # what a pass leaves behind is not to meet the first batch
    found, watch, units = Survey(), _Watch(), Units(model, whole)
    frames_batch = example[:1].shape[0]
    spiking: dict[str, Layer] = {}
    fired: set[type] = set()
    handles = []
    read: list[Any] = [None]  # last, by a layer with weights or a pool

    def enter(name: str) -> Any:
        return lambda module, args: watch.stack.append(name)

    def leave(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            watch.stack.pop()
            with _paused(watch):
                layer = _layer(name, module, args, out, timesteps, frames_batch, not found.layers, units, fired)
            if layer is None:
                return
            if layer.kind in ("neuron", "pool"):
                units.follow(module, args[0], out)
            if layer.static and name in found.layers and layer.kind == "synapse":
                raise UserError(
                    f"{name} is called once a timestep: the energy meter counts layers that see all timesteps in one"
                    " call, (T*B, ...) or (T, B, ...)"
                )
            for inner in [n for n in found.layers if n.startswith(name + ".")] if layer.kind == "synapse" else []:
                del found.layers[inner]  # a part of one linear map
            if layer.kind in ("synapse", "pool"):
                x = args[0]
                before, read[0] = read[0], (x, version_of(x))
                layer = replace(layer, shares=before is not None and _same(before[0], x) and before[1] == version_of(x))
            if layer.kind != "neuron":
                found.layers[name] = layer
            elif not any(other.startswith(name + ".") for other in (*spiking, *found.layers)):
                spiking[name] = found.layers[name] = layer

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # free, and a hook would keep it from being fused
            continue
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
    global _looking
    _looking = True
    try:
        # inference mode hides from a dispatch mode what a composite operation does
        with evaluating(model), torch.inference_mode(False), torch.no_grad(), watch:
            model(example[:1].clone())
    finally:
        _looking = False
        for handle in handles:
            handle.remove()
    _report_unclassified(model, found, watch, timesteps)
    return found


@contextmanager
def _paused(watch: AbstractContextManager[Any]) -> Iterator[None]:
    """Look at tensors without the look being counted."""
    watch.__exit__(None, None, None)
    try:
        yield
    finally:
        watch.__enter__()


def _layer(
    name: str,
    module: nn.Module,
    args: tuple[Any, ...],
    out: Any,
    timesteps: int,
    batch: int,
    first: bool,
    units: Units,
    fired: set[type],
) -> Layer | None:
    if not args or not isinstance(args[0], Tensor) or not isinstance(out, Tensor):
        return None
    x = args[0]
    if is_synapse(module) or isinstance(module, POOLS):
        linear = isinstance(module, nn.Linear)
        lead, static = _time(name, x, timesteps, batch, dimensions(module))
        frames = batch * (1 if static else timesteps)
        if isinstance(module, SYNAPSES):
            kind, fan_in = "synapse", prod(module.weight.shape[1:])
        elif isinstance(module, POOLS):
            size, spatial = module.kernel_size, x.dim() - lead - 1
            kind, fan_in = "pool", prod(size) if isinstance(size, tuple) else int(size) ** spatial
        else:
            kind, fan_in = "synapse", cast(Any, module).fan_in
        return Layer(
            name,
            kind,
            tuple(x.shape[lead:]),
            potential=out.numel() / frames * fan_in,
            inputs=x.numel() / frames,
            outputs=out.numel() / frames,
            parameters=sum(p.numel() for p in module.parameters()),
            lead=lead,
            static=static,
            channels_last=linear,
            first=first and kind == "synapse",
            unit=units.of(x),
        )
    frames = batch * timesteps
    if hasattr(module, "operations"):
        _, potential = cast(Any, module).operations(*args)
        return Layer(
            name,
            "attention",
            tuple(x.shape[2:]),
            float(potential),
            inputs=x.numel() / frames,
            outputs=out.numel() / frames,
            analog=bool(getattr(module, "analog", False)),
            chunk=int(cast(Any, getattr(module, "chunk", 1))),
            tokens=prod(x.shape[3:]),
            width=x.shape[2],
            unit=units.of(x),
        )
    if _fires(module, x, out, units.whole, fired):
        elements = out.numel() / frames
        levels = int(cast(Any, getattr(module, "levels", 1)))
        return Layer(name, "neuron", tuple(x.shape[2:]), elements, elements, elements, levels=levels)
    return None


def _time(name: str, x: Tensor, timesteps: int, batch: int, usual: int | None) -> tuple[int, bool]:
    """How many leading dimensions are time and batch, and whether there is no time among them."""
    if usual is not None and x.dim() > usual and x.shape[0] == timesteps and x.shape[1] == batch:
        return 2, False
    if x.shape[0] == timesteps * batch:
        return 1, False
    if x.shape[0] == batch:
        return 1, True
    raise UserError(
        f"the energy meter can't tell time from space in the input of {name or 'the network'}, shape"
        f" {tuple(x.shape)}: give it (T*B, ...) or (T, B, ...) with T = {timesteps}"
    )


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same memory, read alike."""
    return storage_of(a) == storage_of(b) and (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())


def _fires(module: nn.Module, x: Tensor, out: Tensor, whole: Callable[[Tensor], bool], fired: set[type]) -> bool:
    """Whether a module behaves as a spiking neuron: same shape out as in, whole numbers, and not what came in, or of a
    class that did so before (a silent neuron gives the zeros that came in)."""
    from spikefront.nn.neurons import SpikingNeuron

    if isinstance(module, SpikingNeuron):  # shows a single frame T times, so its shapes may differ
        return True
    if x.shape != out.shape or any(isinstance(m, (*SYNAPSES, *POOLS)) for m in module.modules()):
        return False
    if whole(out) and not (x is out or (x.device.type != "meta" and torch.equal(x, out))):
        fired.add(type(module))
    return whole(out) and type(module) in fired


def _report_unclassified(model: nn.Module, found: Survey, watch: _Watch, timesteps: int) -> None:
    modules = dict(model.named_modules())
    known = [n for n, layer in found.layers.items() if layer.kind in ("synapse", "attention", "neuron")]

    def inside(name: str, owners: list[str]) -> bool:
        return any(name == owner or name.startswith(owner + ".") for owner in owners)

    for name, macs in watch.macs.items():
        if inside(name, known):
            continue
        what = f"{name or 'the network'} ({type(modules[name]).__name__})"
        found.layers[name or "(root)"] = Layer(name or "(root)", "unclassified", (), macs / timesteps, 0.0, 0.0)
        found.notes.append(
            f"{what} does {macs:.3g} multiply-accumulates a sample outside any layer the meter knows: counted as such"
        )
    alike: dict[tuple[str, str], list[str]] = {}
    for name, operations in watch.arithmetic.items():
        if not inside(name, known) and not getattr(modules[name], "folds_away", False):
            alike.setdefault((type(modules[name]).__name__, ", ".join(sorted(operations))), []).append(name)
    for (kind, done), (name, *others) in alike.items():
        more = f" and {len(others)} more like it" if others else ""
        what = f"{name or 'the network'} ({kind}){more} does {done}"
        found.notes.append(f"{what}, which no convention here charges: the total is a lower bound")
