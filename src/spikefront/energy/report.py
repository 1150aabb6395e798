"""What a measurement says: a row for every layer, totals, baselines, and the energy after each timestep."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2
from typing import Any

import numpy as np

from spikefront.energy.costs import CostModel
from spikefront.energy.counts import LayerCount
from spikefront.energy.tables import markdown


class EnergyReport:
    """Counts and a cost model, read as rows, totals, baselines and curves. Energies are joules a sample.

    ``activity``: what one sample makes fire (``spikefront.energy.firing``), where figures are wanted.
    """

    activity: dict[str, Any] | None = None

    def __init__(self, layers: Sequence[LayerCount], cost: CostModel, samples: int, notes: Sequence[str] = ()) -> None:
        if cost.rate is not None:
            layers = [layer.at_rate(cost.rate) for layer in layers]
        self.layers, self.cost, self.samples, self.notes = list(layers), cost, samples, list(notes)
        self._joules = [cost.joules(layer) for layer in self.layers]
        if any(x.kind == "spikes" for x in self.layers) and not self.firing_rate:
            self.notes.append(
                "every neuron is silent: the energy is that of a network that computes nothing; lower"
                " neuron.threshold or check the weights and the input"
            )

    @property
    def convention(self) -> str:
        return self.cost.convention

    @property
    def timesteps(self) -> int:
        return self.layers[0].timesteps

    @property
    def total_joules(self) -> float:
        return float(sum(j.sum() for j in self._joules))

    @property
    def firing_rate(self) -> float:
        """Mean firing rate of what enters the layers that read spikes, weighted by their operations (0-1)."""
        return self._rate(self.layers)

    @property
    def anytime_joules(self) -> list[float]:
        """Energy of stopping after t = 1 … T timesteps; an attention over several has them all."""
        spent, chunk = np.sum(self._joules, axis=0).cumsum(), max(x.chunk for x in self.layers)
        return [float(spent[min(t + chunk - 1 - t % chunk, len(spent) - 1)]) for t in range(len(spent))]

    @property
    def groups(self) -> dict[str, float]:
        """Joules of each group of layers, in the order they run."""
        totals: dict[str, float] = {}
        for layer, joules in zip(self.layers, self._joules, strict=True):
            totals[layer.group] = totals.get(layer.group, 0.0) + float(joules.sum())
        return totals

    @property
    def firing_rates(self) -> dict[str, float]:
        """``firing_rate`` of each group of layers that has layers that read spikes."""
        groups = dict.fromkeys(x.group for x in self.layers if x.kind == "spikes")
        return {g: self._rate([x for x in self.layers if x.group == g]) for g in groups}

    @staticmethod
    def _rate(layers: Sequence[LayerCount]) -> float:
        spiking = [x for x in layers if x.kind == "spikes"]
        potential = sum(x.potential * x.timesteps for x in spiking)
        return float(sum(x.additions.sum() for x in spiking) / potential) if potential else 0.0

    @property
    def dead(self) -> float:
        """Share of the channels feeding spiking layers that never fired."""
        return self._channels("dead")

    @property
    def saturated(self) -> float:
        """Share of the channels feeding spiking layers that fired everywhere at every timestep."""
        return self._channels("saturated")

    def _channels(self, what: str) -> float:
        spiking = [x for x in self.layers if x.kind == "spikes"]
        return float(np.mean([getattr(x, what) for x in spiking])) if spiking else 0.0

    def rows(self) -> list[dict[str, Any]]:
        total = self.total_joules or 1.0
        return [
            {
                "name": x.name,
                "group": x.group,
                "kind": x.kind,
                "input_shape": list(x.input_shape),
                "operations": x.potential,
                "firing_rate": None if x.kind == "analog" else x.rate,
                "firing_rate_per_timestep": None if x.kind == "analog" else x.rates.tolist(),
                "additions": 0.0 if x.kind == "analog" else float(x.additions.sum()),
                "multiply_accumulates": x.potential * x.timesteps if x.kind in ("analog", "unclassified") else 0.0,
                "dead": x.dead,
                "saturated": x.saturated,
                "joules": float(joules.sum()),
                "share": float(joules.sum()) / total,
            }
            for x, joules in zip(self.layers, self._joules, strict=True)
            if x.kind != "neuron" or joules.any()
        ]

    def baseline(self, bits: int | None = None) -> dict[str, Any]:
        """The same-shape network without spikes, run once, with softmax attention (2 N² D multiply-accumulates).

        Args:
            bits: width of its activations; None for full precision.

        ``*_ratio``: its energy over the spiking one's; above 1 the spiking network is cheaper.
        """
        joules = {"attention operator": 0.0, "rest": 0.0}
        spiking = dict(joules)
        for layer, own in zip(self.layers, self._joules, strict=True):
            where = "attention operator" if layer.tokens else "rest"
            operations = 2.0 * layer.tokens**2 * layer.width if layer.tokens else None
            joules[where] += self.cost.dense(layer, bits, operations)
            spiking[where] += float(own.sum())
        total, ours = sum(joules.values()), sum(spiking.values())
        operator, our_operator = joules["attention operator"], spiking["attention operator"]
        return {
            "bits": bits,
            "total_joules": total,
            "attention_operator_joules": operator,
            "network_ratio": total / ours if ours else None,
            "attention_operator_ratio": operator / our_operator if our_operator else None,
        }

    def baselines(self) -> dict[str, Any]:
        """``ann``: full precision. ``quantised``: activations of ``ceil(log2(T D + 1))`` bits (arXiv 2409.08290).

        D: how many spikes a neuron fires at once.

        ``break_even_rate``: the firing rate of all layers below which the spiking network costs less than that one;
        above 1 if it always does, None if it never does or no layer reads spikes.
        """
        levels = max(layer.levels for layer in self.layers)
        ann, quantised = self.baseline(), self.baseline(ceil(log2(self.timesteps * levels + 1)))
        for baseline in (ann, quantised):
            baseline["break_even_rate"] = self._break_even(baseline["total_joules"])
        return {"ann": ann, "quantised": quantised}

    def _break_even(self, target: float) -> float | None:
        def total(rate: float) -> float:
            return float(sum(self.cost.joules(x.at_rate(rate)).sum() for x in self.layers))

        silent, busy = total(0.0), total(1.0)
        return (target - silent) / (busy - silent) if target > silent and busy > silent else None

    @property
    def attention(self) -> dict[str, Any] | None:
        """N, D, T and the operator's summed rate beside its ratio to softmax attention (arXiv 2307.01694, table 1)."""
        operators = [x for x in self.layers if x.kind == "attention"]
        if not operators:
            return None
        first = operators[0]
        done = float(np.mean([x.additions.sum() for x in operators]))
        tokens, width, steps = first.tokens, first.width, first.timesteps
        return {
            "tokens": tokens,
            "width": width,
            "timesteps": steps,
            "summed_rate": done / (steps * tokens * width) if tokens * width else 0.0,
            "ratio": self.baseline()["attention_operator_ratio"],
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "total_joules": self.total_joules,
            "firing_rate": self.firing_rate,
            "convention": self.convention,
            "samples": self.samples,
            "timesteps": self.timesteps,
            "groups": self.groups,
            "anytime_joules": self.anytime_joules,
            "dead": self.dead,
            "saturated": self.saturated,
            "attention": self.attention,
            "baseline": self.baselines(),
            "rows": self.rows(),
            "notes": self.notes,
        }

    def to_markdown(self) -> str:
        return markdown(self.to_dict())
