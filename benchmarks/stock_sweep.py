"""What benchmarks/sweep.py compares with: the same training under Hydra's stock Optuna sweeper, told what it asks for.

Runs in an environment of its own, which holds hydra-optuna-sweeper and the Optuna 2.10 that it needs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="train")
def main(cfg: DictConfig) -> tuple[float, float]:
    from spikefront.training import train

    cfg.output_dir = os.getcwd() if cfg.output_dir is None else cfg.output_dir
    validation = train(cfg).validation
    assert validation is not None
    line = {"time": time.time(), "accuracy": validation.accuracy, "energy": validation.energy_joules}
    with open(os.environ["TRIALS"], "a") as file:
        file.write(json.dumps(line) + "\n")
    return validation.accuracy, validation.energy_joules


if __name__ == "__main__":
    main()
