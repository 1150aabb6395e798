"""Sizes other than the network was trained with: more timesteps, another resolution."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from spikefront.errors import one_line
from spikefront.nn.audits.finding import Finding, fails, holds, not_tried
from spikefront.nn.audits.independence import RANDOM
from spikefront.nn.audits.subject import Subject


def resolution(subject: Subject) -> Finding:
    """Samples enlarged to one and a half times and to twice their height and width."""
    x = subject.batch
    if x.dim() not in (4, 5):
        return not_tried("resolution", "the samples are no images")
    height, width = x.shape[-2:]
    sizes = [(height * 2, width * 2), (height * 3 // 2, width * 3 // 2)]
    tried = f"samples of {height}×{width} enlarged to " + " and ".join(f"{h}×{w}" for h, w in sizes)
    for size in sizes:
        larger = F.interpolate(x.flatten(0, -4), size=size).unflatten(0, x.shape[:-3])
        try:
            answer = subject.run(subject.driven, larger)
        except Exception as error:
            return fails("resolution", tried, f"at {size[0]}×{size[1]}: {one_line(error)}")
        if not bool(torch.isfinite(answer).all()):
            return fails("resolution", tried, f"at {size[0]}×{size[1]}: logits that are no numbers")
    return holds("resolution", tried, "runs, and all logits are finite")


def timesteps(subject: Subject) -> Finding:
    """Twice the timesteps: the first T must say what they said."""
    if not isinstance(getattr(subject.driven, "timesteps", None), int):
        return not_tried("timesteps", "the network has no attribute timesteps to change")
    if subject.random:
        return not_tried("timesteps", RANDOM)
    model, steps, n = copy.deepcopy(subject.driven), subject.timesteps, len(subject.batch)
    model.timesteps = 2 * steps  # type: ignore[assignment]
    x = torch.cat([subject.batch] * 2, 1) if subject.events else subject.batch
    tried = f"T = {2 * steps} in place of {steps}, the first {steps} steps compared"
    before = subject.steps(subject.run(subject.driven, subject.batch), n)
    try:
        after = subject.run(model, x)
    except Exception as error:
        return fails("timesteps", tried, one_line(error))
    if before is None or after.shape[:2] != (2 * steps, n):
        return holds("timesteps", tried, "runs; it gives no logits of single steps to compare")
    if subject.equal(before, after[:steps]):
        return holds("timesteps", tried, "the first steps say the same, so fewer and more steps are one network")
    return fails("timesteps", tried, f"the first steps: {subject.difference(before, after[:steps])}")
