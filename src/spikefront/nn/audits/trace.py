"""What every module of a network gave in one pass, as a few sums that tell it from another pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Trace = list[tuple[str, Tensor]]


@contextmanager
def watching(model: nn.Module, see: Callable[[str, nn.Module, tuple[Any, ...], Tensor], None]) -> Iterator[None]:
    """Context in which ``see(name, module, args, output)`` is called for every module of which a tensor comes."""

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if isinstance(out, Tensor):
                see(name, module, args, out)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def whole(out: Tensor) -> Tensor:
    """All of a module's output, for a trace."""
    return out


def fingerprint(x: Tensor) -> Tensor:
    """Three sums, of which one changes with whatever changes in ``x``; the last is that of magnitudes."""
    flat = torch.nan_to_num(x.detach().flatten().double())
    weights = torch.arange(len(flat), dtype=flat.dtype, device=flat.device).cos()
    return torch.stack([flat.sum(), flat.dot(weights), flat.abs().sum()])


def first_different(a: Trace, b: Trace, tolerance: float) -> tuple[str, ...]:
    """The module that ends first of those whose fingerprints differ by more than ``tolerance`` of the magnitudes."""
    other: dict[str, list[Tensor]] = {}
    for name, sums in b:
        other.setdefault(name, []).append(sums)
    for name, sums in a:
        if not other.get(name):
            continue
        there = other[name].pop(0)
        scale = float(torch.maximum(sums[-1], there[-1])) + 1e-300
        if float((sums - there).abs().max()) > tolerance * scale:
            return (name,)
    return ()
