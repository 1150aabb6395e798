"""Latency of a network as it would be deployed: what a sweep minimises when seconds count beside joules."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from spikefront.errors import UserError

WAYS: dict[str, bool | str] = {"dense": False, "sparse": True, "auto": "auto"}


def latency(model: nn.Module, images: Tensor, way: str = "auto", rounds: int = 5) -> float:
    """Seconds a sample of ``model.for_inference(...)`` on one batch, the fastest of ``rounds`` after a first.

    Args:
        images: ``(B, C, H, W)`` images or ``(B, T, C, H, W)`` events.
        way: ``dense``, ``sparse`` (adds only where a spike is, on the CPU) or ``auto`` (a layer whichever is faster).

    Raises:
        UserError: another ``way``.
    """
    if way not in WAYS:
        raise UserError(f"latency={way}: use null, {', '.join(WAYS)}")
    deployed = model.for_inference(sparse=WAYS[way])  # type: ignore[operator]
    times = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            started = time.perf_counter()
            deployed(images)
            if images.is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return min(times[1:]) / len(images)
