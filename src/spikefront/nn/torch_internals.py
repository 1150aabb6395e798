"""What PyTorch keeps to itself and this package needs, in one place; ``test_torch_internals.py`` watches it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.modules import module as _hooks
from torch.overrides import _get_current_function_mode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "FakeTensor",
    "TorchDispatchMode",
    "base_of",
    "convolve_without_bias",
    "copies",
    "function_mode",
    "has_aliases",
    "is_redirected",
    "storage_of",
    "version_of",
    "watched",
    "watched_backward",
]
_modes = torch._C._len_torch_dispatch_stack  # that it is gone in some version shows at import


def storage_of(t: Tensor) -> int:
    """The number of a tensor's storage while that lives: equal for views of one, on the meta device too."""
    return t.untyped_storage()._cdata


def base_of(t: Tensor) -> Tensor:
    """The tensor that ``t`` is a view of, or ``t``."""
    return t if t._base is None else t._base


def version_of(t: Tensor) -> int:
    """How often a tensor was written in place; 0 for those made in inference mode, which don't count."""
    return 0 if t.is_inference() else t._version


def has_aliases(func: Any) -> bool:
    """Whether an operation (``torch.ops.aten.add_.Tensor``) writes an argument, or returns a view of one."""
    return any(a.alias_info for a in func._schema.arguments)


def watched(module: nn.Module) -> bool:
    """Whether a hook looks at what enters or leaves a module, or at what does of every module."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or _hooks._global_forward_pre_hooks
        or _hooks._global_forward_hooks
    )


def watched_backward(module: nn.Module) -> bool:
    """Whether a hook looks at a module's gradients."""
    return bool(module._backward_hooks)


def is_redirected(t: Tensor) -> bool:
    """Whether an operation on a tensor does something else than to compute it: it is a stand-in, or a mode listens."""
    return _modes() > 0 or type(t) is FakeTensor


def function_mode() -> AbstractContextManager[Any]:
    """The ``TorchFunctionMode`` that calls pass through now, to be entered again by what runs them once more."""
    return _get_current_function_mode() or nullcontext()


def convolve_without_bias(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of any kind with its own padding, its bias left out."""
    return conv._conv_forward(x, conv.weight, None)  # type: ignore[operator]


def copies(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Copies of many tensors, on a GPU by a few kernels for all."""
    return torch._foreach_mul(list(tensors), 1.0)


def without_our_hooks(model: nn.Module) -> None:
    """Take off a copy what a meter or a penalty hung on the network it was made of."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [k for k, h in hooks.items() if str(getattr(h, "func", h).__module__).startswith("spikefront.")]:
                del hooks[key]
