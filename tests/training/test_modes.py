"""However a network is executed, it learns the same: accuracy on digits within the noise of seeds."""

from __future__ import annotations

import statistics

import pytest

from spikefront.config import compose
from spikefront.nn import kernels
from spikefront.training import train

SEEDS = (0, 1, 2)
MODES = {
    "plain PyTorch": [],
    "kernels": [],
    "sparse": ["model.sparse=true"],
    "bfloat16": ["trainer.precision=bf16-mixed"],
}


@pytest.mark.slow
def test_every_mode_is_as_accurate(tmp_path):
    accuracies: dict[str, list[float]] = {}
    for mode, overrides in MODES.items():
        with kernels.switched(mode != "plain PyTorch"):
            accuracies[mode] = []
            for seed in SEEDS:
                settings = ["model=sdt_1_32", "data=digits", "trainer=cpu", "trainer.max_epochs=6", "logger=none"]
                settings += [f"seed={seed}", "callbacks=quiet", f"output_dir={tmp_path}/{mode.split()[0]}-{seed}"]
                accuracies[mode].append(train(compose([*settings, *overrides])).accuracy)
    print(accuracies)
    means = {mode: statistics.mean(values) for mode, values in accuracies.items()}
    noise = max(statistics.stdev(values) for values in accuracies.values())
    assert min(means.values()) > 0.5, accuracies
    for mode, mean in means.items():
        assert abs(mean - means["plain PyTorch"]) < 2 * noise + 0.01, (mode, accuracies)
