"""What untrained networks tell a search: where along the front they lie, and which hardly fire."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy.stats.qmc import Halton

AWAKE = 0.0055  # spikes a neuron and timestep in the first batch; of those with fewer most come to nothing

Params = Mapping[str, Any]
Look = Callable[[Params], tuple[float, float] | None]
"""What a network does untrained: its firing rate and joules a sample; nothing where that can't be known."""


def opening(pool: Sequence[Params], look: Look, number: int) -> Params:
    """Of a few configurations the one that trial ``number`` of a search shall try, while nothing is known.

    They are ordered by the joules that they take untrained, those left out that hardly fire. Trial n takes van der
    Corput's n-th place among them: any first n of its places are even, whoever else begins at the same moment. Of
    recorded trainings (``benchmarks/tables/proxies.py``) such joules rank accuracy by 0.85 and 0.75.

    Returns:
        nothing where no network could be looked at.
    """
    seen = [(found, i) for i, params in enumerate(pool) if (found := look(params)) is not None]
    if not seen:
        return {}
    firing = sorted((joules, i) for (rate, joules), i in seen if rate > AWAKE)
    if not firing:
        return pool[max(seen)[1]]
    place = Halton(1, scramble=False).fast_forward(number).random()[0, 0]
    return pool[firing[int(place * len(firing))][1]]


def awake(best: Sequence[Params], look: Look) -> Params:
    """The first of several configurations whose network fires untrained, or of which that isn't known; the first at all
    where none does."""
    return next((p for p in best if (seen := look(p)) is None or seen[0] > AWAKE), best[0])
