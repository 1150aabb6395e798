"""What a network does before it has learnt anything: how much it fires, and what a sample costs at that rate."""

from __future__ import annotations

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from spikefront.energy import EnergyMeter, EnergyReport
from spikefront.training.setup import sample_shape

SAMPLES = 4


def untrained(cfg: DictConfig) -> EnergyReport:
    """Energy and firing of a configuration's network as it is made, fed with noise, its norms by the batch.

    Nothing is read: norms make of noise what they make of samples, so that a network fires alike (digits: rates rank
    as those of the first batch of a training do, Spearman's 0.997, event digits 0.999: benchmarks/tables/proxies.py).
    Random numbers of the process are left as they were.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = instantiate(cfg.model).train()
        meter = EnergyMeter(model)
        with meter.recording():
            model(torch.randn(SAMPLES, *sample_shape(cfg)))
    return meter.report(instantiate(cfg.energy))
