"""A training that is stopped after its first epoch and goes on, beside one that is not."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from spikefront.config import compose
from spikefront.nn.checkpoints import read_checkpoint
from spikefront.training import train


class Stop(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            raise RuntimeError("stopped")


def assert_goes_on_alike(common, tmp_path):
    """That both end with the same weights; ``common`` are a run's overrides."""
    whole, parts = ([*common, "resume=auto", f"output_dir={tmp_path}/{d}"] for d in ("whole", "parts"))
    train(compose(whole))
    with pytest.raises(RuntimeError, match="stopped"):
        train(compose(parts), [Stop()])
    train(compose(parts))
    a, b = (read_checkpoint(tmp_path / d / "checkpoints/last.ckpt")["state_dict"] for d in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
