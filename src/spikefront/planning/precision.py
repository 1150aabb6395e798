"""What ``trainer.precision`` makes of a training step, on tensors without data: autocast knows real devices only."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spikefront.errors import UserError, near_matches

HALF, BF16 = torch.float16, torch.bfloat16
# Lightning's names: the dtype of weights, and that of products where it is another
PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    **dict.fromkeys(("32-true", "32", "None"), (torch.float32, None)),
    **dict.fromkeys(("64-true", "64"), (torch.float64, None)),
    **dict.fromkeys(("16-mixed", "16"), (torch.float32, HALF)),
    **dict.fromkeys(("bf16-mixed", "bf16"), (torch.float32, BF16)),
    "16-true": (HALF, None),
    "bf16-true": (BF16, None),
}
# As autocast has it: what works in the lower precision, and what a GPU does in float32 all the same
LOWER = {
    *(torch.conv1d, torch.conv2d, torch.conv3d, F.linear, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm, F.scaled_dot_product_attention),
}
FULL = {torch.softmax, Tensor.softmax, F.softmax, F.cross_entropy, torch.exp, Tensor.exp, torch.pow, Tensor.pow}


def dtypes(precision: Any, device: str) -> tuple[torch.dtype, torch.dtype | None]:
    """Of weights, and of products where it is another one, under ``trainer.precision``.

    Raises:
        UserError: no such precision.
    """
    name = str(precision)
    if name not in PRECISIONS:
        raise UserError(f"trainer.precision={name}: {near_matches(name, set(PRECISIONS) - {'None'})}")
    weights, products = PRECISIONS[name]
    return weights, BF16 if products is HALF and device == "cpu" else products  # Lightning's choice on a CPU


def autocast(products: torch.dtype | None, device: str) -> AbstractContextManager[Any]:
    """Context in which tensors without data are multiplied in this precision; none: as they are."""
    return nullcontext() if products is None else _Autocast(products, FULL if device == "cuda" else {F.cross_entropy})


class _Autocast(TorchFunctionMode):
    def __init__(self, lower: torch.dtype, full: set[Any]) -> None:
        super().__init__()
        self.lower, self.full = lower, full
        self.weights: dict[Tensor, Tensor] = {}  # cast once a pass

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        to = self.lower if func in LOWER else torch.float32 if func in self.full else None
        if to is not None:
            args = tuple(self._cast(a, to) for a in args)
            kwargs = {k: self._cast(v, to) for k, v in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))

    def _cast(self, value: Any, to: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype in (to, torch.float64):
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(to)
        if value not in self.weights:
            self.weights[value] = value.to(to)
        return self.weights[value]
