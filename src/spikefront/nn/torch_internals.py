"""What PyTorch keeps to itself and this package needs, in one place; ``test_torch_internals.py`` watches it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode", "has_aliases", "storage_of", "version_of"]


def storage_of(t: Tensor) -> int:
    """The number of a tensor's storage while that lives: equal for views of one, on the meta device too."""
    return t.untyped_storage()._cdata


def version_of(t: Tensor) -> int:
    """How often a tensor was written in place; 0 for those made in inference mode, which don't count."""
    return 0 if t.is_inference() else t._version


def has_aliases(func: Any) -> bool:
    """Whether an operation (``torch.ops.aten.add_.Tensor``) writes an argument, or returns a view of one."""
    return any(a.alias_info for a in func._schema.arguments)
