"""Neurons of other installed libraries, worn as ours: ``(T, ...) -> (T, ...)``, silent at the start of every call."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError, near_matches
from spikefront.nn.neurons import Step
from spikefront.nn.surrogates import Sigmoid, Surrogate


class SpikingJelly(nn.Module):
    """Any multi-step neuron of ``spikingjelly.activation_based.neuron`` by class name (arXiv 2310.16620).

    Args:
        node: such as ``LIFNode``. ``threshold`` becomes its ``v_threshold``; other keywords go to it as they are.
        surrogate: ours, in the place of the library's.
    """

    def __init__(
        self, node: str = "LIFNode", threshold: float = 1.0, surrogate: Surrogate | None = None, **kwargs: Any
    ) -> None:
        super().__init__()
        cls = _find("spikingjelly", "spikingjelly.activation_based.neuron", node)
        self.node = cls(v_threshold=threshold, surrogate_function=_Fire(surrogate), step_mode="m", **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        self.node.reset()
        spikes = self.node(x)
        self.node.reset()  # or its last membrane potential would keep the graph alive
        return spikes


class SnnTorch(nn.Module):
    """Any neuron of ``snntorch`` by class name, stepped through time (arXiv 2109.12894).

    Args:
        node: such as ``Leaky``; keywords other than ``threshold`` and ``surrogate`` go to it as they are.
    """

    def __init__(
        self, node: str = "Leaky", threshold: float = 1.0, surrogate: Surrogate | None = None, **kwargs: Any
    ) -> None:
        super().__init__()
        cls = _find("snntorch", "snntorch", node)
        self.node = cls(threshold=threshold, spike_grad=_Fire(surrogate), init_hidden=True, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        self.node.reset_mem()
        spikes = torch.stack([self.node(current) for current in x])
        self.node.reset_mem()
        return spikes


class _Fire:
    """Our exact step and surrogate gradient in the form those libraries call: potential minus threshold -> spikes."""

    def __init__(self, surrogate: Surrogate | None) -> None:
        self.surrogate: Surrogate = surrogate if surrogate is not None else Sigmoid()

    def __call__(self, u: Tensor) -> Tensor:
        return Step.apply(u, self.surrogate)


def _find(package: str, module: str, name: str) -> Any:
    try:
        library = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"neuron {module}.{name}: {package} is not installed; pip install {package}") from error
    if not hasattr(library, name):
        classes = [n for n, c in vars(library).items() if isinstance(c, type) and issubclass(c, nn.Module)]
        raise UserError(f"{module} has no {name!r}: {near_matches(name, classes)}")
    return getattr(library, name)
