"""State and chance: a call must leave nothing behind, and say the same whatever the random numbers are."""

from __future__ import annotations

import copy

from spikefront.errors import one_line
from spikefront.nn.audits.finding import Finding, fails, holds, not_tried
from spikefront.nn.audits.subject import Subject
from spikefront.nn.audits.trace import whole


def state(subject: Subject) -> Finding:
    """Two calls in a row, from equal random numbers."""
    tried = "two calls in a row of one copy, the same samples and random numbers"
    model = copy.deepcopy(subject.driven)
    if not subject.stateful:
        return holds("state", tried, "the second call says what the first does")
    first = subject.traced(model, subject.batch, whole, fresh=False)
    try:
        again = subject.traced(model, subject.batch, whole, fresh=False)
    except Exception as error:
        return fails("state", tried, f"the second call fails: {one_line(error)}")
    places = subject.first_different(first, again)
    return fails("state", tried, "a call finds what the one before left: reset the network between calls", places)


def determinism(subject: Subject) -> Finding:
    """The same samples again with equal and with other random numbers."""
    tried = "evaluation with the same and with other random numbers; what every module gives"
    first, same, other = (subject.traced(subject.driven, subject.batch, whole, seed) for seed in (0, 0, 1))
    if place := subject.first_different(first, same):
        return fails("determinism", tried, "two equal runs differ", place)
    if place := subject.first_different(first, other):
        return fails("determinism", tried, "random numbers are drawn in evaluation", place)
    return holds("determinism", tried, "what every module gives is equal")


def additions(subject: Subject) -> Finding:
    """Whether every synapse reads binary spikes and nothing is multiplied elsewhere."""
    tried = "every operation watched in a copy in which all paths fire"
    found = subject.adds
    reads = {name: kind for name, kind in found.inputs.items() if kind not in ("binary", "input")}
    if not found.inputs:
        return not_tried("additions", "no convolution and no linear layer was met")
    if found.spike_driven:
        return holds("additions", tried, f"{len(found.inputs) - 1} layers read binary spikes, the first the input")
    where = [*reads, *(what.partition(": ")[0] for what in found.multiplications)]
    kinds = [f"{sum(k == kind for k in reads.values())} read {kind} values" for kind in dict.fromkeys(reads.values())]
    products = [f"multiplies {what.partition(': ')[2]}" for what in found.multiplications[:2]]
    return fails("additions", tried, "; ".join([*kinds, *products]), where)
