"""How a compiled kernel is called: directly where that will do, else as an operator that PyTorch knows.

A direct call through ctypes is what plain tensors get: an operator's way through PyTorch's dispatcher costs some 100 µs
there and back, which a small network's training step, with dozens of them, would spend on nothing. Where something
follows operators (``torch.compile``, tensors without data, dispatch modes), the same function is called as
``torch.ops.spikefront.<name>``, with the shapes it gives and its gradient registered.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikefront.nn.kernels.build import library
from spikefront.nn.torch_internals import FakeTensor, is_redirected

KNOWN = (Tensor, nn.Parameter, FakeTensor)  # other subclasses know PyTorch's own operators alone
_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # before PyTorch 2.7
_on = True


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Without kernels in this context, or with them again: plain PyTorch gives the same spikes."""
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def built() -> bool:
    """Whether the kernels are there; if not, says why, once."""
    return library("neuron") is not None


def usable(x: Tensor) -> bool:
    """Whether ``x`` is a float32 or bfloat16 tensor on the CPU of a machine with compiled kernels, or without data.

    Not while a network is exported: other programs know none of our operators.
    """
    return (
        _on
        and type(x) in KNOWN
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and not (_exporting() or torch.jit.is_tracing())
        and (x.is_meta or (x.is_cpu and built()))
    )


def followed(x: Tensor) -> bool:
    """Whether something must see an operator where ``x`` goes into a kernel."""
    return torch.compiler.is_compiling() or x.is_meta or is_redirected(x)


class Operator:
    """A kernel as the function ``run``, called directly, and as ``torch.ops.spikefront.<name>`` where that must be.

    Args:
        schema: its arguments and results, as ``torch.library`` writes them; the first is a tensor.
        fake: what it gives for tensors without data.
    """

    def __init__(self, run: Callable[..., Any], schema: str, fake: Callable[..., Any]) -> None:
        name = f"spikefront::{run.__name__}"
        self._definition = torch.library.custom_op(name, run, mutates_args=(), device_types="cpu", schema=schema)
        self._definition.register_fake(fake)
        self.overload = getattr(torch.ops.spikefront, run.__name__).default
        self.run = self._direct = run
        DIRECT[self.overload] = run

    def __call__(self, x: Tensor, *more: Any) -> Any:
        if followed(x):
            return self.overload(x, *more)
        return (self._direct if torch.is_grad_enabled() else self.run)(x, *more)

    def differentiate(self, gradient: Callable[..., Any], keep: Callable[..., None]) -> None:
        """Give it a gradient: ``keep(ctx, inputs, output)`` in the forward pass, then ``gradient(ctx, *grads)``."""
        self._definition.register_autograd(gradient, setup_context=keep)
        run = self.run

        class Direct(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                output = run(*inputs)
                keep(ctx, inputs, output)
                return output

            backward = staticmethod(once_differentiable(gradient))  # type: ignore[assignment]

        self._direct = Direct.apply


DIRECT: dict[Any, Callable[..., Any]] = {}  # what each operator runs


class Constants(ctypes.Structure):
    """``Neuron`` in neuron.cpp."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("gain", "leak", "threshold")),
        ("soft", ctypes.c_int32),
        ("detach", ctypes.c_int32),
        ("a", ctypes.c_float),
        ("b", ctypes.c_float),
    ]


def call(name: str, *arguments: Any, like: Tensor | None = None) -> Any:
    """Run the compiled kernel for the dtype of ``like``, by default of the first argument."""
    kernels = library("neuron")
    assert kernels is not None
    dtype = (arguments[0] if like is None else like).dtype
    return getattr(kernels, f"{name}_{str(dtype).removeprefix('torch.')}")(*map(_c, arguments))


def _c(argument: Any) -> Any:
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
