"""What a spike is worth where it is read: 1, or one by the ``norm`` of the integer neuron that fired it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from torch import Tensor, nn

from spikefront.energy.layer import POOLS
from spikefront.nn.integers import norms
from spikefront.nn.torch_internals import storage_of


class Units:
    """Follows spikes from the neurons that fire them, for a silent layer tells nothing.

    Args:
        whole: tells tensors of whole numbers from others.
    """

    def __init__(self, model: nn.Module, whole: Callable[[Tensor], bool]) -> None:
        self.whole, self._norms = whole, norms(model)
        self._known: dict[int, float] = {}

    def follow(self, module: nn.Module, x: Tensor, out: Tensor) -> None:
        """A neuron or a pool gave ``out`` of ``x``."""
        known = self.of(x) if isinstance(module, POOLS) else getattr(module, "norm", None)
        storage, key = out.untyped_storage(), storage_of(out)
        if key not in self._known:
            weakref.finalize(storage, self._known.pop, key, None).atexit = False
        self._known[key] = float(known) if isinstance(known, int | float) else 1.0

    def of(self, x: Tensor) -> float:
        """What ``x`` is multiplied by to be whole spikes, if it is made of any."""
        if not self._norms:
            return 1.0
        if (known := self._known.get(storage_of(x))) is not None:
            return known
        return next((n for n in self._norms if self.whole(x * n)), 1.0)  # a sum of spikes
