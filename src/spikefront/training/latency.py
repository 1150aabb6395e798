"""Latency of a network as it would be deployed: what a sweep minimises when seconds count beside joules."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from spikefront.errors import UserError

WAYS: dict[str, dict[str, Any]] = {
    "dense": {},
    "sparse": {"sparse": True},
    "auto": {"sparse": "auto"},
    "int8": {"sparse": "auto", "weights": "int8"},
}


def latency(model: nn.Module, images: Tensor, way: str = "auto", rounds: int = 5) -> float:
    """Seconds a sample of ``model.for_inference(...)`` on one batch, the fastest of ``rounds`` after a first.

    Args:
        images: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events.
        way: ``dense``, ``sparse`` (adds only where a spike is, on the CPU), ``auto`` (a layer whichever is faster), or
            ``int8``, ``auto`` of the network in whole numbers.

    Raises:
        UserError: another ``way``, or a network that whole numbers can't express.
    """
    if way not in WAYS:
        raise UserError(f"latency={way}: use null, {', '.join(WAYS)}")
    deployed = model.for_inference(**WAYS[way])  # type: ignore[operator]
    times = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            started = time.perf_counter()
            deployed(images)
            if images.is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return min(times[1:]) / len(images)
