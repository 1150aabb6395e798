"""Trained networks in which nothing fires: cheap, and no results."""

from __future__ import annotations

from spikefront.analysis.schema import TrialRecord


def silent(trial: TrialRecord) -> bool:
    """Whether not one spike entered any of a trained network's layers, on the whole validation part.

    Its energy is that of a network that computes nothing, which no network that works can be below. Not known of what
    has no firing rate, and never true of a network whose layers read no spikes.
    """
    rates = [layer["firing_rate"] for layer in trial["energy_layers"]]
    return trial["firing_rate"] == 0 and not (rates and all(rate is None for rate in rates))


def unfed(trial: TrialRecord) -> list[str]:
    """Layers that read spikes and got none, of a network whose other layers did."""
    if silent(trial):
        return []
    return [layer["name"] for layer in trial["energy_layers"] if layer["firing_rate"] == 0]
