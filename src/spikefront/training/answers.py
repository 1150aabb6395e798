"""What a trained network says of one file: a picture, or a recording as it goes on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from spikefront.data import build_data
from spikefront.energy import EnergyMeter, EnergyReport
from spikefront.errors import UserError
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.training.devices import threads
from spikefront.training.evaluation import configured, load
from spikefront.training.setup import build_model, quiet
from spikefront.units import joules, si


@dataclass(frozen=True)
class Decision:
    """One answer.

    Attributes:
        when: of the recording, such as ``0-1.5 s``; empty of a picture.
        label: the class by name, or its number where no name is known.
        probability: of that class, 0-1: the softmax of the logits' mean over time.
        energy_joules: of this sample.
        seconds: that the network took here.
        others: the next classes and their probabilities.
    """

    when: str
    label: str
    probability: float
    energy_joules: float
    seconds: float
    others: dict[str, float]

    def __str__(self) -> str:
        others = "".join(f", {name} {p:.2f}" for name, p in self.others.items())
        at = f"{self.when}: " if self.when else ""
        return (
            f"{at}{self.label} {self.probability:.2f}{others}   {joules(self.energy_joules)}   {si(self.seconds, 's')}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def answers(cfg: DictConfig) -> list[Decision]:
    """What ``cfg.checkpoint`` says of ``cfg.input``, a decision for each window of a recording.

    Raises:
        UserError: a file that can't be used, or of another kind than the network was trained on; as ``evaluate``.
    """
    quiet()
    run = configured(cfg)
    path = Path(str(cfg.input)).expanduser()
    if not path.is_file():
        what = "is a folder: give one file of it" if path.is_dir() else "there is no such file"
        raise UserError(f"input={cfg.input}: {what}")
    with threads(run.get("threads")):
        model = build_model(run)
        load(model, cfg, run)
        model.eval()
        data = build_data(run.data, timesteps=run.model.timesteps)
        known = data.kept_in(read_checkpoint(cfg.checkpoint))
        names = known.get("classes") or [str(i) for i in range(data.num_classes)]
        cost, found = instantiate(run.energy), []
        for when, sample in data.shown(path, known):
            meter = EnergyMeter(model)
            try:
                with torch.inference_mode(), meter.recording():
                    began = time.perf_counter()
                    steps = model(sample.to(next(model.parameters()).dtype), per_step=True)
                    took = time.perf_counter() - began
            finally:
                meter.remove()
            likely = steps.mean(0)[0].softmax(-1).sort(descending=True)
            ranked = [(names[i], p) for i, p in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)]
            spent = EnergyReport(meter.counts(), cost, meter.samples).total_joules
            found.append(Decision(when, *ranked[0], spent, took, dict(ranked[1:3])))
    return found
