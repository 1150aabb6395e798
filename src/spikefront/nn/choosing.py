"""Which layer holds which weights, and whether it adds or multiplies: what is fastest and changes logits little enough.

The first inputs decide: every way is timed on what each layer reads of them, and the logits are compared. What was
chosen is remembered in the user's cache for the processor, the number of threads, the shape of the inputs, the bound
and the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikefront.errors import UserError
from spikefront.files import cache_folder, write_atomically
from spikefront.nn.inference import for_inference
from spikefront.nn.kernels import build
from spikefront.nn.sparse_conv import SparseConv2d, seconds

Model = TypeVar("Model", bound=nn.Module)

FORMAT = 1  # of what is remembered


@dataclass(frozen=True)
class Way:
    """How a layer computes: what its weights are, and whether it adds them where a spike is or multiplies."""

    weights: str = "float32"
    sparse: bool = False

    def give(self, layer: SparseConv2d, exact: Tensor) -> None:
        """Have ``layer``, whose weights were ``exact``, compute so."""
        layer.weight.data = exact.clone()
        layer.hold(self.weights)
        layer.sparse, layer.in_bfloat16 = self.sparse, self.weights == "bfloat16" and not self.sparse


EXACT = Way()


def ways() -> list[Way]:
    """All that this processor can; bfloat16 is multiplied only where it has instructions for that.

    Weights of 8 bits are only added: that was faster than multiplying them up to firing rates that no layer has.
    """
    half = [Way("bfloat16")] if build.multiplies_bfloat16() else []
    return [EXACT, Way("float32", True), *half, Way("bfloat16", True), Way("int8", True)]


@torch.no_grad()
def chosen(model: Model, images: Tensor, within: float) -> Model:
    """A deployed copy of ``model`` each of whose layers of spikes computes in the fastest way.

    Args:
        images: what it is timed on.
        within: by how much logits may differ from those with float32 weights, each layer adding or multiplying: the
            norm of the difference over theirs, of all samples.

    Raises:
        UserError: a bound that is none.
    """
    if not isinstance(within, int | float) or not within >= 0:
        raise UserError(f"for_inference(within={within!r}): give a number of at least 0, of the logits' size")
    deployed = for_inference(model, sparse=True)
    layers = {name: m for name, m in deployed.named_modules() if isinstance(m, SparseConv2d)}
    exact = {name: layer.weight.data.clone() for name, layer in layers.items()}

    def take(choice: dict[str, Way]) -> None:
        for name, way in choice.items():
            way.give(layers[name], exact[name])

    place = _place(model, images, within)
    known = _remembered(place, layers)
    if known is None:
        known = _choose(deployed, layers, exact, take, images, within)
        _remember(place, known)
    take(known)
    return deployed


def _choose(
    deployed: nn.Module,
    layers: dict[str, SparseConv2d],
    exact: dict[str, Tensor],
    take: Callable[[dict[str, Way]], None],
    images: Tensor,
    within: float,
) -> dict[str, Way]:
    times = _timed(deployed, layers, exact, images)
    best = {name: min(own, key=own.__getitem__) for name, own in times.items()}
    plain = {name: min((w for w in own if w.weights == "float32"), key=own.__getitem__) for name, own in times.items()}

    def changed(choice: dict[str, Way]) -> float:
        take(choice)
        return float((deployed(images) - expected).norm() / expected.norm().clamp_min(1e-30))

    take(plain)
    expected = deployed(images)
    if changed(best) <= within:
        return best
    choice = dict(plain)
    saved = {name: times[name][plain[name]] - times[name][best[name]] for name in layers}
    for name in sorted(saved, key=saved.__getitem__, reverse=True):
        for way in sorted(times[name], key=times[name].__getitem__):
            if way == plain[name] or changed({**choice, name: way}) <= within:
                choice[name] = way
                break
    return choice


def _timed(
    deployed: nn.Module, layers: dict[str, SparseConv2d], exact: dict[str, Tensor], images: Tensor
) -> dict[str, dict[Way, float]]:
    """Seconds of each way of each layer on what it reads; multiplying in float32 alone of real values."""
    found: dict[str, dict[Way, float]] = {name: {EXACT: 0.0} for name in layers}

    def hook(name: str) -> Any:
        def time(layer: SparseConv2d, args: tuple[Tensor, ...]) -> None:
            for way in ways() if layer.reads(args[0]) is not None else []:
                way.give(layer, exact[name])
                found[name][way] = _seconds(layer, args[0])
            EXACT.give(layer, exact[name])

        return time

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        deployed(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _seconds(layer: SparseConv2d, x: Tensor) -> float:
    found = layer.reads(x) if layer.sparse else None
    return seconds(lambda: layer.multiplied(x) if found is None else layer.added(found))


def _place(model: nn.Module, images: Tensor, within: float) -> Path:
    said = FORMAT, build.processor(), torch.get_num_threads(), tuple(images.shape), within
    about = hashlib.sha256(repr(said).encode())
    for name, value in model.state_dict().items():
        about.update(name.encode())
        about.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return cache_folder() / "choices" / f"{about.hexdigest()[:32]}.json"


def _remembered(place: Path, layers: dict[str, SparseConv2d]) -> dict[str, Way] | None:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        known = {name: Way(*way) for name, way in json.loads(place.read_text(encoding="utf-8")).items()}
        if set(known) == set(layers) and set(known.values()) <= set(ways()):
            return known
    return None


def _remember(place: Path, choice: dict[str, Way]) -> None:
    with suppress(OSError):  # a cache that can't be written to
        write_atomically(place, json.dumps({name: [way.weights, way.sparse] for name, way in choice.items()}))
