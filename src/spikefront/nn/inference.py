"""The network as it is deployed: batch norms folded, q, k and v one convolution, channels-last weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikefront.errors import UserError
from spikefront.nn.attentions import SDSA1, SelfAttention
from spikefront.nn.embeddings import SPS
from spikefront.nn.families.sdt import MLP
from spikefront.nn.kernels.sparse import available
from spikefront.nn.neurons import IF, LIF, SpikingNeuron
from spikefront.nn.sparse_conv import SparseConv2d, add_sparsely

Model = TypeVar("Model", bound=nn.Module)


def for_inference(model: Model, sparse: bool | str = False) -> Model:
    """A copy of ``model`` in evaluation mode with equal outputs, for inference only; ``model`` stays as it was.

    Every batch norm is folded into the convolution before it (in real arithmetic nothing changes; in float32 a spike at
    the very threshold may flip). Projections that read the same spikes become one real ``nn.Conv2d`` named
    ``qkv_conv``, so that whatever hooks convolutions still counts every operation.

    Args:
        sparse: ``True`` runs convolutions of spikes as additions of the weight rows that spiked (CPU, float32),
            ``"auto"`` those for which that is faster on the first batch, on which both ways are timed. Outputs are
            equal up to rounding.

    Raises:
        UserError: another value of ``sparse``.
    """
    if sparse not in (True, False, "auto"):
        raise UserError(f"for_inference(sparse={sparse!r}): use True, False or 'auto'")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        for conv_name, bn_name in _pairs(module):
            conv, bn = module.get_submodule(conv_name), module.get_submodule(bn_name)
            assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
            _replace(module, conv_name, fuse_conv_bn_eval(conv, bn))
            _replace(module, bn_name, nn.Identity())
    for module in model.modules():
        if isinstance(module, SparseConv2d):  # of a network that trained sparsely
            module.sparse = False
        if isinstance(module, SelfAttention):
            _join(module)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if sparse:
        execute_sparsely(model, True if sparse is True else None)
    return model


def execute_sparsely(model: nn.Module, choice: bool | None) -> None:
    """Give ``model``, from ``for_inference``, sparse layers, and neurons that hand them bits.

    ``choice``: sparse True, or None to let every layer decide at its first input. Without compiled kernels, of which a
    warning tells, nothing changes.
    """
    if not available():
        return
    add_sparsely(model, choice)
    for module in model.modules():
        if isinstance(module, MLP):
            _hand(module.fc1_lif, module.fc1_conv)
            _hand(module.fc2_lif, module.fc2_conv)
        elif isinstance(module, SPS):
            for here, after in (("", "1"), ("1", "2"), ("2", "3")):
                lif, pool, conv = (
                    module.get_submodule(n) for n in (f"proj_lif{here}", f"maxpool{here}", f"proj_conv{after}")
                )
                _hand(lif, conv, *([] if isinstance(pool, nn.Identity) else [pool]))
            if module.residual.potentials:
                _hand(module.get_submodule("proj_lif3"), module.rpe_conv)
        elif isinstance(module, SelfAttention):
            if module.qkv_conv is not None and isinstance(module.shortcut_lif, SpikingNeuron):
                _hand(module.shortcut_lif, module.qkv_conv)
            if isinstance(module, SDSA1) and module.joint_lif is not None and module.proj_conv.in_channels % 64 == 0:
                _hand(module.joint_lif, module.op)  # on whole words of bits


def _hand(neuron: nn.Module, *readers: nn.Module) -> None:
    if isinstance(neuron, SpikingNeuron):
        neuron.readers = readers


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Convolutions and the batch norms that follow them, by the names that ``conv_bn`` joins."""
    names = dict(module.named_children())
    pairs = []
    for name, child in names.items():
        if not isinstance(child, nn.BatchNorm2d):
            continue
        for conv in (name.replace("bn", "conv"), name.replace("bn", "pwconv")):
            if isinstance(names.get(conv), nn.Conv2d):
                pairs.append((conv, name))
                break
    if isinstance(names.get("downsample"), nn.ModuleList) and isinstance(names.get("bn"), nn.ModuleList):
        pairs += [(f"downsample.{i}", f"bn.{i}") for i in range(len(names["bn"]))]  # type: ignore[arg-type]
    return pairs


def _join(attention: SelfAttention) -> None:
    convs = [attention.get_submodule(f"{name}_conv") for name in attention.streams]
    weight = torch.cat([_parameter(c.weight) for c in convs])
    joined = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device=weight.device, dtype=weight.dtype)
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([_parameter(c.bias) for c in convs]), requires_grad=False)
    attention.qkv_conv = joined
    first, *others = (attention.get_submodule(f"{name}_lif") for name in attention.streams)
    if type(first) in (LIF, IF) and all(type(n) is type(first) and _settings(n) == _settings(first) for n in others):
        attention.joint_lif = copy.deepcopy(first)
    for name in attention.streams:
        _replace(attention, f"{name}_conv", nn.Identity())


def _settings(neuron: nn.Module) -> tuple[object, ...]:
    return tuple(getattr(neuron, name, None) for name in ("tau", "threshold", "reset"))


def _parameter(tensor: object) -> Tensor:
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _replace(module: nn.Module, path: str, child: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, child)
