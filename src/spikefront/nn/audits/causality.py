"""Causality and memory: what flows between timesteps, and which way."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from torch import Tensor, nn

from spikefront.nn.audits.finding import Finding, fails, holds, not_tried
from spikefront.nn.audits.independence import RANDOM
from spikefront.nn.audits.subject import Subject
from spikefront.nn.audits.trace import watching

NO_TIME = "one timestep, or the network takes no frames: there is no time to look ahead in"


def causality(subject: Subject) -> Finding:
    """Frames from each step on are replaced: nothing before may change."""
    if (frames := subject.frames()) is None:
        return not_tried("causality", NO_TIME)
    if subject.random:
        return not_tried("causality", RANDOM)
    n, steps, model = len(frames), subject.timesteps, subject.driven
    memory, ahead = _mixing(subject, frames)
    tried = f"for t = 1 … {steps - 1} other frames from step t on, results before t compared"
    mixes = f"time is mixed by {_counted(memory)}" if memory else "nothing mixes time"
    mixes += f"; looks ahead: {_counted(ahead)}" if ahead else ""
    looking = [name for name, _ in ahead]
    for step in range(1, steps):
        other = frames.clone()
        other[:, step:] = other[:, step:].flip(0) * 1.5 + 0.25
        keep = subject.of_steps(step, n)
        before, after = subject.traced(model, frames, keep), subject.traced(model, other, keep)
        a, b = (subject.steps(subject.run(model, x), n) for x in (frames, other))
        if (a is None or b is None) and not before:
            return not_tried("causality", "neither the logits nor any module's output has timesteps in front")
        place = subject.first_different(before, after)
        apart = a is not None and b is not None and not subject.equal(a[:step], b[:step])
        if apart and a is not None and b is not None:
            why = f"before step {step} {subject.difference(a[:step], b[:step])}; {mixes}"
            return fails("causality", tried, why, [*place, *looking])
        if place:
            why = f"what this gives before step {step} depends on later frames; {mixes}"
            return fails("causality", tried, why, [*place, *looking])
    if looking:
        return fails("causality", tried, f"no logits changed with these weights, but {mixes}", looking)
    return holds("causality", tried, mixes)


def memory(subject: Subject) -> Finding:
    """Frames in another order: a network that sees events must notice."""
    if not subject.events:
        return not_tried("memory", "images have no order of frames")
    if subject.timesteps < 2:
        return not_tried("memory", "one frame has no order")
    if subject.random:
        return not_tried("memory", RANDOM)
    frames, model, n = subject.batch, subject.driven, len(subject.batch)
    said = [_mean(subject, x, n) for x in (frames, frames.flip(1), frames.roll(1, 1))]
    tried = "frames reversed, and rotated by one; the mean of all logits compared"
    places = _mixing(subject, frames)[0]
    same = all(subject.equal(said[0], other) for other in said[1:])
    if same and not places:
        return fails("memory", tried, f"no memory: the order of frames changes nothing in {type(model).__name__}")
    by = f"time is mixed by {_counted(places) or 'more than one module'}"
    return holds(
        "memory", tried, f"{'these logits are the same, but' if same else 'the order of frames matters;'} {by}"
    )


def _mean(subject: Subject, x: Tensor, samples: int) -> Tensor:
    answer = subject.run(subject.driven, x)
    steps = subject.steps(answer, samples)
    return answer if steps is None else steps.mean(0)


Mixers = list[tuple[str, str]]


def _mixing(subject: Subject, frames: Tensor) -> tuple[Mixers, Mixers]:
    """Names and classes of modules of which an output depends on the input of an earlier step, and of a later one.

    Every operator, and every module without a module inside that sees time too, is run once more, as it was before any
    call, with one step of its input replaced.
    """
    n, steps = len(frames), subject.timesteps
    backward: Mixers = []
    forward: Mixers = []
    model, uncalled = copy.deepcopy(subject.driven), dict(subject.driven.named_modules())
    inner: list[str] = []  # modules that saw time, as they ended

    def in_time(x: Any) -> Tensor | None:
        if not isinstance(x, Tensor) or not x.dim():
            return None
        if x.dim() > 1 and x.shape[:2] == (steps, n):
            return x
        return x.unflatten(0, (steps, n)) if x.shape[0] == steps * n else None

    def look(name: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        here, x = in_time(out), in_time(args[0]) if args else None
        if here is None or x is None:
            return
        innermost = not any(other.startswith(f"{name}." if name else "") for other in inner)
        inner.append(name)
        if not (hasattr(module, "operations") or innermost):
            return
        for at, found, part in ((0, backward, slice(1, None)), (steps - 1, forward, slice(0, -1))):
            again = tuple(_replaced(a, at, in_time) for a in args)
            other = in_time(copy.deepcopy(uncalled[name]).forward(*again))
            if other is not None and not subject.equal(here[part], other[part]):
                found.append((name, type(module).__name__))

    with watching(model, look):
        subject.answers(model, frames)
    return backward, forward


def _replaced(value: Any, step: int, in_time: Any) -> Any:
    """An argument with one step of it replaced, if it has steps."""
    shaped = in_time(value)
    if shaped is None:
        return value
    changed = shaped.clone()
    changed[step] = 1 - changed[step]
    return changed.reshape(value.shape)


def _counted(mixers: Mixers) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in Counter(kind for _, kind in mixers).items())
