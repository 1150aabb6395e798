"""Where the time of a step goes, by kind, on which processor: for the benchmarks' ``--profile``.

PyTorch's profiler tells its operations apart, this module the compiled kernels and the parts of a network that PyTorch
does not know. A kind is that of the innermost operation or part which has one. Wall time of the process, so for a
machine that nobody else uses; the shares say more than the milliseconds.
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from spikefront.nn import kernels, operators
from spikefront.nn.kernels import build

KERNEL, PART = "kernel ", "part "  # what is recorded of our own
CONVOLVES, GRADIENTS = "convolutions, linear layers", "aten::convolution_backward"
OTHER = "Python and everything else"
# the first pattern that the start of a name matches
KINDS: dict[str, str] = {
    f"{KERNEL}(masked_gradient|neuron_near|pool_places|count_places_asked)": "input gradients",
    f"{KERNEL}(neuron_backward|norm_combine|norm_pool_backward|levels_(norm_)?backward)": "norms and neurons, backward",
    f"{KERNEL}fire_images": "first convolution and its neuron",
    f"{KERNEL}(neuron|norm|fire_bits|levels)": "norms and neurons",
    f"{KERNEL}(pool_backward|pool_planes_backward)": "pools, backward",
    f"{KERNEL}(fire_)?pool": "pools",
    f"{KERNEL}(pack|unpack)": "spikes as bits, for the backward pass",
    f"{KERNEL}(gather_gradient|count_places|list_places)": "weight gradients",
    f"{KERNEL}(encode|decode|count_|list_)": "spikes to bits, bits to lists",
    f"{KERNEL}convolve": "additions where spikes are",
    f"{KERNEL}sdsa": "attention",
    f"{KERNEL}": "other kernels",
    "aten::(convolution|_slow_conv2d)_backward": GRADIENTS,  # divided afterwards
    "(AddmmBackward0|_AddBackward|MmBackward0)": "input gradients",
    "aten::(conv|linear|addmm|mkldnn_conv|_slow_conv)": CONVOLVES,
    "(autograd::engine::evaluate_function: )?(Add|Mean|Div)Backward0": "shortcuts",
    "(autograd::engine::evaluate_function: )?(Mul|Sum|Expand)Backward0": "attention, backward",
    "(DirectBackward|IntegrateAndFireBackward|StepBackward)": "norms and neurons, backward",
    f"{PART}attention": "attention",
    "(Direct|aten::(lerp_|rsqrt))": "norms and neurons",
    "aten::(to|_to_copy|copy_|contiguous|clone)$": "conversions of dtype and layout",
    f"{PART}norms": "norms and neurons",
    "aten::add": "shortcuts",
}


class _Recorded:
    """A library whose functions the profiler sees."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _recorded(getattr(self.library, name), f"{KERNEL}{name}")


def _recorded(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        with record_function(label):
            return function(*arguments, **named)

    return run


@contextmanager
def _labelled() -> Iterator[None]:
    """The profiler sees kernels, what is done around them, and attentions."""

    compiled = build.library

    @functools.cache
    def library(name: str) -> _Recorded | None:
        found = compiled(name)
        return _Recorded(found) if found is not None else None

    instead: dict[Any, Any] = {compiled: library}
    ours = kernels.fire, kernels.fire_levels, kernels.fire_pooled, kernels.normalise, kernels.normalise_pooled
    for function in ours:
        instead[function] = _recorded(function, f"{PART}norms")
    owners: list[Any] = [m for name, m in sys.modules.items() if name.startswith("spikefront.nn")]
    places = [(o, n, instead[v]) for o in owners for n, v in vars(o).items() if callable(v) and _of(instead, v)]
    for kind in vars(operators).values():
        if isinstance(kind, type) and issubclass(kind, nn.Module) and "forward" in vars(kind):
            places.append((kind, "forward", _recorded(kind.forward, f"{PART}attention")))
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for owner, name, value in places:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _of(table: dict[Any, Any], value: Any) -> bool:
    try:
        return value in table
    except TypeError:  # no hash
        return False


def time_line(run: Callable[[], None], rounds: int = 3) -> dict[str, float]:
    """Milliseconds of each kind in the fastest of ``rounds``; gradients of convolutions apart by timing them alone."""
    for _ in range(2):  # memory that is kept grows for more than a step
        run()
    fastest, line = float("inf"), dict[str, float]()
    for _ in range(rounds):
        with _labelled(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
            started = time.perf_counter()
            run()
            took = (time.perf_counter() - started) * 1e3
        if took > fastest:
            continue
        fastest, events, found = took, record.events(), defaultdict[str, float](float)
        for event in events:
            found[_kind(event)] += event.self_cpu_time_total / 1e3
        found[OTHER] += took - sum(e.self_cpu_time_total for e in events) / 1e3
        line = dict(found)
    if GRADIENTS in line:
        both, share = line.pop(GRADIENTS), _share_of_inputs([e for e in events if e.name == GRADIENTS])
        for kind, part in (("input gradients", share), ("weight gradients", 1 - share)):
            line[kind] = line.get(kind, 0) + both * part
    return dict(sorted(line.items(), key=lambda item: -item[1]))


def _kind(event: Any) -> str:
    while event is not None:
        for pattern, kind in KINDS.items():
            if re.match(pattern, event.name):
                return kind
        event = event.cpu_parent
    return OTHER


def _share_of_inputs(events: list[Any]) -> float:
    """Of the time of convolutions' gradients that of their inputs', each computed alone."""
    half = torch.is_autocast_enabled("cpu")
    seconds, known = [0.0, 0.0], {}
    for event in events:
        shapes, settings = event.input_shapes[:3], event.concrete_inputs[3:]
        key = str((shapes, settings))
        if key not in known:
            grad, x, weight = (torch.rand(s, dtype=torch.bfloat16 if half else torch.float32) for s in shapes)
            grad, x = (t.contiguous(memory_format=torch.channels_last) for t in (grad, x))
            known[key] = [
                min(_seconds(lambda m=mask: _gradient(grad, x, weight, *settings[:-1], m)) for _ in range(3))  # noqa: B023
                for mask in ([True, False, False], [False, True, False])
            ]
        for i in range(2):
            seconds[i] += known[key][i] if settings[-1][i] else 0
    return seconds[0] / sum(seconds)


_gradient = torch.ops.aten.convolution_backward


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def processor() -> str:
    """Its name and those of its vector instructions that speed hangs on."""
    flags = build.flags()
    known = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if f in flags]
    known += [f for f in ("asimd", "sve", "bf16", "i8mm") if f in flags]
    lacks = [f for f in ("avx512f", "avx512_bf16", "amx_bf16") if f not in flags]
    return f"{build.name()}: {', '.join(known)}" + (
        f"; no {', '.join(lacks)}" if lacks and "asimd" not in flags else ""
    )


def show(what: str, columns: dict[str, dict[str, float]]) -> None:
    """A table of time lines, one a column, with the processor in its head."""
    print(f"\n{what}; {processor()}; {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n| ms (share) | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
    totals = {name: sum(line.values()) for name, line in columns.items()}
    for kind in dict.fromkeys(kind for line in columns.values() for kind in line):
        cells = [
            f"{line[kind]:,.0f} ({line[kind] / totals[name]:.0%})" if kind in line else "–"
            for name, line in columns.items()
        ]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print("| all | " + " | ".join(f"{total:,.0f}" for total in totals.values()) + " |", flush=True)
