"""Two processes with batches of 8 train what one process with batches of 16 trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from spikefront.config import ROOT

# SGD: Adam divides by the gradient's size, and biases in front of a BN have none but rounding errors
PLAIN_SGD = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=0.05", "schedule=constant"]


def train(directory, *overrides: str) -> dict:
    command = [
        sys.executable,
        str(ROOT / "src/train.py"),
        "model=sdt_1_16",
        "data=digits",
        "neuron.threshold=0.1",
        "trainer.max_epochs=2",
        "trainer.precision=64-true",  # else rounding decides about spikes
        "trainer.limit_train_batches=6",
        "data.val_fraction=0.1002",  # 145 samples: the processes' shares differ
        "logger=none",
        *PLAIN_SGD,
        f"hydra.run.dir={directory}",
        *overrides,
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("parameters") == 1  # of several processes one speaks
    return json.loads((directory / "result.json").read_text())


def test_two_processes_train_what_one_trains(tmp_path):
    one = train(tmp_path / "one", "trainer=cpu", "data.batch_size=16")
    two = train(tmp_path / "two", "trainer=ddp_cpu", "data.batch_size=16")
    a, b = (torch.load(tmp_path / d / "checkpoints/last.ckpt", weights_only=True) for d in ("one", "two"))
    assert a["global_step"] == b["global_step"] == 12
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for key, expected in a["state_dict"].items():
        torch.testing.assert_close(b["state_dict"][key], expected, rtol=1e-9, atol=1e-10, msg=key)
    assert two["accuracy"] == one["accuracy"]
    assert two["validation"]["accuracy"] == one["validation"]["accuracy"]
    for key in ("energy_joules", "firing_rate"):
        assert two[key] == pytest.approx(one[key], rel=1e-9), key
        assert two["validation"][key] == pytest.approx(one["validation"][key], rel=1e-9), key
    assert two["samples"] == one["samples"] == 360
