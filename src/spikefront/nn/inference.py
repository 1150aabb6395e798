"""The network as it is deployed: batch norms folded, projections joined, channels-last weights, spikes as bits.

Every module says by itself what it has for that, in methods of which it may leave out any; so a new block, embedding,
attention or whole family needs no edit here:

- ``merged()``: the one convolution that you are, with equal outputs; it takes your place before all else.
- ``folds()``: pairs of names ``(convolution, batch norm)``, in each of which the second works on what the first gives
  and nothing else does. An ``nn.Identity`` takes the batch norm's place.
- ``join()``: rearrange yourself, in place, once the batch norms are folded; outputs must stay equal.
- ``handovers()``: pairs ``(neuron, readers)``: which modules read the spikes of a neuron, all of them. It may then hand
  bits to those that have ``reads_bits`` (see ``sparse_conv``); neurons without ``readers`` of their own never do.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikefront.errors import UserError
from spikefront.nn.image_conv import ImageConv2d
from spikefront.nn.kernels.pool import MaxPool
from spikefront.nn.kernels.sparse import available
from spikefront.nn.sparse_conv import WEIGHTS, SparseConv2d, add_sparsely

Model = TypeVar("Model", bound=nn.Module)


def for_inference(model: Model, sparse: bool | str = False, weights: str = "float32") -> Model:
    """A copy of ``model`` in evaluation mode with equal outputs, for inference only; ``model`` stays as it was.

    Every batch norm is folded into the convolution before it (in real arithmetic nothing changes; in float32 a spike at
    the very threshold may flip). Projections that read the same spikes become one real ``nn.Conv2d`` named
    ``qkv_conv``, so that whatever hooks convolutions still counts every operation.

    Args:
        sparse: ``True`` runs convolutions of spikes as additions of the weight rows that spiked (CPU, float32),
            ``"auto"`` those for which that is faster on the first batch, on which both ways are timed. Outputs are
            equal up to rounding.
        weights: what the layers hold that ``sparse`` is for, added or multiplied: ``"float32"``, or ``"bfloat16"``,
            half of the bytes, each weight rounded to the nearest. Sums and everything else stay in float32.

    Raises:
        UserError: another value of ``sparse`` or ``weights``, or such weights without sparse layers.
    """
    checked(sparse)
    if weights not in WEIGHTS:
        raise UserError(f"for_inference(weights={weights!r}): use {', '.join(map(repr, WEIGHTS))}, 'int8' or 'auto'")
    if weights != "float32" and not sparse:
        raise UserError(f"for_inference(weights={weights!r}): only sparse layers hold those, add sparse='auto' or True")
    model = folded(model)
    for module in list(model.modules()):
        if isinstance(module, SparseConv2d):  # of a network that trained sparsely
            module.sparse = False
        getattr(module, "join", lambda: None)()
    for module in model.modules():
        for neuron, readers in getattr(module, "handovers", tuple)():
            _hand_over_counts(neuron, readers)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if sparse:
        execute_sparsely(model, True if sparse is True else None, weights)
    return model


def checked(sparse: bool | str) -> bool | str:
    """``sparse`` as it is. Raises UserError for another value than ``for_inference`` takes."""
    if sparse not in (True, False, "auto"):
        raise UserError(f"for_inference(sparse={sparse!r}): use True, False or 'auto'")
    return sparse


def folded(model: Model) -> Model:
    """A copy in evaluation mode with equal outputs: one layer for what is one map, batch norms in the weights."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if (merged := getattr(child, "merged", None)) is not None:
                setattr(module, name, merged())
    for module in model.modules():
        for names in getattr(module, "folds", tuple)():
            _fold(module, *names)
    return model


def execute_sparsely(model: nn.Module, choice: bool | None, weights: str = "float32") -> None:
    """Give ``model``, from ``for_inference``, sparse layers, and neurons that hand them bits.

    ``choice``: sparse True, or None to let every layer decide at its first input; ``weights`` as above. Without
    compiled kernels, of which a warning tells, nothing changes.
    """
    if not available():
        return
    first = add_sparsely(model, choice, weights)
    if first is not None and ImageConv2d.replaces(model.get_submodule(first)):
        replace(model, first, ImageConv2d(model.get_submodule(first)))  # type: ignore[arg-type]
    for module in model.modules():
        for neuron, readers in getattr(module, "handovers", tuple)():
            if hasattr(neuron, "readers"):
                neuron.readers = tuple(readers)


def _fold(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
    if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        replace(module, conv_name, fuse_conv_bn_eval(conv, norm))
        replace(module, norm_name, nn.Identity())


def _hand_over_counts(neuron: Any, readers: list[nn.Module]) -> None:
    """An integer neuron's norm goes into the weights that read it, which then read whole numbers."""
    convs = [r for r in readers if isinstance(r, nn.Conv2d)]
    norm = getattr(neuron, "norm", 1.0)
    if isinstance(norm, float) and norm != 1 and convs and all(isinstance(r, nn.Conv2d | MaxPool) for r in readers):
        for conv in convs:
            conv.weight.div_(norm)
        neuron.norm = 1.0


def replace(module: nn.Module, path: str, child: nn.Module) -> None:
    """Put ``child`` in the place of a module's part."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, child)
