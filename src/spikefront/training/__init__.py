"""Training: ``train(cfg) -> Result`` is a pure function of its config, and nothing else trains."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from spikefront.training.callbacks import EnergyCallback, Progress
    from spikefront.training.early_exit import EarlyExit
    from spikefront.training.ema import EMA
    from spikefront.training.losses import TET, CrossEntropy
    from spikefront.training.module import SpikingClassifier
    from spikefront.training.penalty import EnergyPenalty
    from spikefront.training.result import Evaluation, Result
    from spikefront.training.run import check_data, evaluate, train

__all__ = [
    "EMA",
    "TET",
    "CrossEntropy",
    "EarlyExit",
    "EnergyCallback",
    "EnergyPenalty",
    "Evaluation",
    "Progress",
    "Result",
    "SpikingClassifier",
    "check_data",
    "evaluate",
    "train",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "callbacks": ["EnergyCallback", "Progress"],
        "early_exit": ["EarlyExit"],
        "ema": ["EMA"],
        "losses": ["TET", "CrossEntropy"],
        "module": ["SpikingClassifier"],
        "penalty": ["EnergyPenalty"],
        "result": ["Evaluation", "Result"],
        "run": ["check_data", "evaluate", "train"],
    },
)
