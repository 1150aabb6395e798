"""Batch invariance: what a network says of a sample must not depend on the samples beside it."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikefront.nn.audits.finding import Finding, fails, holds, not_tried
from spikefront.nn.audits.subject import Subject

RANDOM = "random numbers are drawn in evaluation (see determinism), so no two runs compare"


def batch(subject: Subject) -> Finding:
    """In evaluation: alone, in other orders, beside padding, beside samples of another scale."""
    if subject.random:
        return not_tried("batch", RANDOM)
    tried = "evaluation: each sample alone, reversed, rotated, padded with zeros, beside itself and ten times itself"
    return _compared(subject, subject.driven, "batch", tried)


def batch_training(subject: Subject) -> Finding:
    """In training, with everything in evaluation that may look at the batch then."""
    model = copy.deepcopy(subject.driven)
    before = {name: value.clone() for name, value in model.named_buffers()}
    statistics = {
        name.rpartition(".")[0] for name, value in _after_training(subject, model) if _moved(before, name, value)
    }
    model = copy.deepcopy(subject.driven).train()
    for name, module in model.named_modules():
        if name in statistics or isinstance(module, nn.modules.batchnorm._BatchNorm) or "Drop" in type(module).__name__:
            module.eval()
    kept = f", {len(statistics)} modules with running statistics, and dropout, in evaluation"
    first, other = (subject.answers(model, subject.batch, seed, fresh=True) for seed in (0, 1))
    if not torch.equal(first, other):
        return not_tried(
            "batch_training", "random numbers are drawn in training outside dropout, so no two runs compare"
        )
    return _compared(subject, model, "batch_training", f"training{kept}: the same as in evaluation")


def _compared(subject: Subject, model: nn.Module, check: str, tried: str) -> Finding:
    x = subject.batch
    n, fresh = len(x), model.training or subject.stateful
    answers = subject.rows(subject.answers(model, x, fresh=fresh), n)
    traces = [subject.traced(model, x, subject.of_sample(i, n), fresh=fresh) for i in range(n)]
    for how, beside, places in _arrangements(x):
        answer = subject.rows(subject.answers(model, beside, fresh=fresh), len(beside))
        for sample, place in places[: 1 if how != "alone" else None]:
            trace = subject.traced(model, beside, subject.of_sample(place, len(beside)), fresh=fresh)
            where = subject.first_different(traces[sample], trace)
            if not where and subject.equal(answers[sample], answer[place]):
                continue
            why = f"sample {sample} {how}: {subject.difference(answers[sample], answer[place])}"
            return fails(check, tried, why, where)
    return holds(check, tried, "logits and what every module gives are equal up to rounding")


def _arrangements(x: Tensor) -> Iterator[tuple[str, Tensor, list[tuple[int, int]]]]:
    """In words, samples, and pairs of (which one, where it is)."""
    n = len(x)
    every = [(i, i) for i in range(n)]
    for i in range(n):
        yield "alone", x[i : i + 1], [(i, 0)]
    yield "in reverse order", x.flip(0), [(i, n - 1 - i) for i in range(n)]
    yield "in another order", x.roll(1, 0), [(i, (i + 1) % n) for i in range(n)]
    yield "before padding", torch.cat([x, torch.zeros_like(x)]), every
    yield "behind padding", torch.cat([torch.zeros_like(x), x]), [(i, n + i) for i in range(n)]
    yield "beside copies", torch.cat([x, x]), every
    yield "behind ten times itself", torch.cat([10 * x, x]), [(i, n + i) for i in range(n)]


def _after_training(subject: Subject, model: nn.Module) -> list[tuple[str, Tensor]]:
    subject.answers(model.train(), subject.batch)
    return list(model.named_buffers())


def _moved(before: dict[str, Tensor], name: str, value: Tensor) -> bool:
    return name in before and not torch.equal(before[name], value)
