"""Networks that fire nothing and guess half way through their training: hardly one of them comes to anything."""

from __future__ import annotations

from spikefront.analysis.schema import EpochPoint

FIRST = 5  # epochs: what is silent earlier may begin to fire
QUIET = 1e-6  # spikes a neuron and timestep
GUESSED = 1.5  # times chance


def hopeless(epoch: int, epochs: int, point: EpochPoint, classes: int) -> str | None:
    """Why to end a training after this epoch; None while there is hope.

    It is ended once half of its epochs, and no less than ``FIRST``, are over, if then no neuron fires on the
    validation part and no more than ``GUESSED`` times as many answers are right as would be by chance. The thresholds
    are those of recorded trainings: docs/search-bench.md, *Silent networks*, has the false alarms.

    Args:
        epochs: that the training shall have; it is never ended after the last.
    """
    if not max(FIRST, epochs / 2) <= epoch < epochs:
        return None
    if point["firing_rate"] > QUIET or point["accuracy"] > GUESSED / classes:
        return None
    return (
        f"after epoch {epoch} of {epochs} no neuron fires and the accuracy, {point['accuracy']:.3f}, is chance"
        " (search.stop_silent=false trains on)"
    )
