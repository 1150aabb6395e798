"""Smaller networks whose weights are slices of a larger one's (Once-for-All, arXiv 1908.09791; BigNAS, 2003.11142).

A member is an ordinary network: no layer is implemented twice. Each of its tensors is the leading part of the largest
network's tensor of the same name, ``p[:n0, :n1]``, and as a view of it: its gradient is that part's gradient, and a
step of a small member costs what that member costs. Its normalisation is its own: statistics of other widths or
thresholds are not its, so they are estimated anew from a few batches, as BigNAS does (section 3.4). And what a norm
scales and shifts by follows the settings that weights have no part in, as thresholds (``Slopes``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from spikefront.errors import UserError

PASS = 4  # batches of a training in one pass that keeps no activations


class Member:
    """A network without weights of its own, for training; its buffers are its own.

    Args:
        network: becomes an empty shell: its parameters are given up.
        device: of the weights that it will be given.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.buffers = {name: buffer.to(device) for name, buffer in network.named_buffers()}
        self.network = network.to_empty(device="meta")

    def __call__(self, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits after every timestep ``(T, B, classes)`` with the largest network's ``weights`` by name.

        Raises:
            UserError: one of its tensors is no part of the largest network's.
        """
        own = {name: part(name, p, weights) for name, p in self.network.named_parameters()}
        steps: Tensor = functional_call(self.network, {**own, **self.buffers}, (images,), {"per_step": True})
        return steps


class Slopes(nn.Module):
    """How a norm's scale and shift follow settings of a network that leave the shapes of its weights as they are.

    A current that suits a threshold of 1 makes a neuron of 0.4 fire all the time, and shared weights can suit one of
    both only. So ``scale = scale_0 + sum_k slope_k log(setting_k / setting_k0)``, and the shift likewise; both slopes
    are learned and 0 at first. In a member that is given its weights they are part of these: it stays an ordinary
    network.

    Args:
        network: the largest one.
        origin: its own setting by key of the configuration, such as ``neuron.threshold``.
    """

    def __init__(self, network: nn.Module, origin: Mapping[str, float]) -> None:
        super().__init__()
        self.origin = dict(origin)
        norms = [(n, m) for n, m in network.named_modules() if isinstance(m, _BatchNorm) and m.affine]
        own = {f"{name}.{kind}": getattr(norm, kind) for name, norm in norms for kind in ("weight", "bias")}
        self.of = nn.ModuleList(
            nn.ParameterDict({name.replace(".", "/"): torch.zeros_like(p) for name, p in own.items()}) for _ in origin
        )

    def at(self, settings: Mapping[str, float], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The largest network's ``weights`` by name, with its norms as they are at these settings."""
        found = dict(weights)
        for key, slopes in zip(self.origin, self.of, strict=True):
            distance = math.log(settings[key] / self.origin[key])
            for name, slope in slopes.items():  # type: ignore[operator]
                plain = name.replace("/", ".")
                found[plain] = found[plain] + distance * slope
        return found

    def nothing(self) -> Tensor:
        """0, of which every slope is part: in a step that needs none."""
        total: Tensor = sum((p.sum() for p in self.parameters()), torch.zeros(()))
        return 0 * total


def part(name: str, own: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The view of the largest network's tensor of this name that has the shape of ``own``.

    Raises:
        UserError: there is none: no such tensor, too small a one, or another kernel.
    """
    if (why := _strange(name, own, weights)) is not None:
        raise UserError(f"not a part of the largest network: {why}")
    return weights[name][tuple(slice(n) for n in own.shape)]


def strange(network: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """The first tensor of a network that is no part of the largest network's ``weights``, in words; None if all are.

    What counts are names and shapes: all may lie on the meta device.
    """
    told = (_strange(name, own, weights) for name, own in network.items())
    return next((why for why in told if why is not None), None)


def _strange(name: str, own: Tensor, weights: Mapping[str, Tensor]) -> str | None:
    largest = weights.get(name)
    if largest is None:
        return f"it has no {name}"
    fits = len(own.shape) == len(largest.shape) and all(a <= b for a, b in zip(own.shape, largest.shape, strict=True))
    if fits and own.shape[2:] == largest.shape[2:]:  # of a kernel the leading part is a corner
        return None
    return f"{name} is {tuple(own.shape)} here, {tuple(largest.shape)} there"


def inherit(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Give an ordinary network its part of the largest network's ``weights`` and buffers, copied.

    Raises:
        UserError: one of its tensors is no part of them.
    """
    network.load_state_dict({name: part(name, own, weights) for name, own in network.state_dict().items()})
    return network


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate anew, from ``batches`` of training images, what a network knows of its activations.

    These are its norms' means and variances, each the mean over the passes, and DSSA's running rates. A pass takes
    ``PASS`` batches: without gradients that is less memory than one batch takes in training.
    """
    for module in network.modules():
        forget: Any = getattr(module, "forget", None)
        if callable(forget):
            forget()
    update_bn((torch.cat(group) for group in _grouped(batches)), network)


def _grouped(batches: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    left = iter(batches)
    while group := list(itertools.islice(left, PASS)):
        yield group
