"""Neurons of other installed libraries, worn as ours: ``(T, ...) -> (T, ...)``, silent at the start of every call."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError, near_matches
from spikefront.nn.neurons import Step
from spikefront.nn.surrogates import Sigmoid, Surrogate


class SpikingJelly(nn.Module):
    """Any multi-step neuron of ``spikingjelly.activation_based.neuron`` by class name (arXiv 2310.16620).

    Args:
        node: such as ``LIFNode``. ``threshold`` becomes its ``v_threshold``, if it has one as most do; other keywords
            go to it as they are.
        surrogate: ours, in the place of the library's.

    Raises:
        UserError: the library or the class is not there, or the class does not take these arguments.
    """

    def __init__(
        self, node: str = "LIFNode", threshold: float = 1.0, surrogate: Surrogate | None = None, **kwargs: Any
    ) -> None:
        super().__init__()
        ours = {"v_threshold": threshold, "surrogate_function": _Fire(surrogate), "step_mode": "m"}
        self.node = _make("spikingjelly", "spikingjelly.activation_based.neuron", node, ours, kwargs)

    def forward(self, x: Tensor) -> Tensor:
        reset = getattr(self.node, "reset", lambda: None)  # parallel neurons have nothing to reset
        reset()
        spikes = self.node(x)
        reset()  # or its last membrane potential would keep the graph alive
        return spikes


class SnnTorch(nn.Module):
    """Any neuron of ``snntorch`` by class name, stepped through time (arXiv 2109.12894).

    Args:
        node: such as ``Leaky``; keywords other than ``threshold`` and ``surrogate`` go to it as they are.

    Raises:
        UserError: as ``SpikingJelly``.
    """

    def __init__(
        self, node: str = "Leaky", threshold: float = 1.0, surrogate: Surrogate | None = None, **kwargs: Any
    ) -> None:
        super().__init__()
        ours = {"threshold": threshold, "spike_grad": _Fire(surrogate), "init_hidden": True}
        self.node = _make("snntorch", "snntorch", node, ours, kwargs)

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


def _make(package: str, module: str, name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Any:
    """The neuron, given of ``ours`` what it knows and all of ``theirs``."""
    try:
        library = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"neuron {module}.{name}: {package} is not installed; pip install {package}") from error
    classes = {n: c for n, c in vars(library).items() if isinstance(c, type) and issubclass(c, nn.Module)}
    if name not in classes:
        raise UserError(f"{module} has no {name!r}: {near_matches(name, classes)}")
    cls = classes[name]
    known = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        ours = {k: v for k, v in ours.items() if k in known}
    try:
        return cls(**ours, **theirs)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"{module}.{name} can't be made with {', '.join((*ours, *theirs))}: {error}; add what it lacks with"
            " +neuron.<name>=…, leave out what it doesn't know with ~neuron.<name>, or use another class"
        ) from error
