"""`debug=fdr|limit|overfit|profiler`: ways to try a training, none of which logs anything."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
from examples import few

from spikefront.config import compose
from spikefront.training import train

TINY = ("model=sdt_1_16", "model.timesteps=1", "data=digits", "callbacks=quiet")


class Seen(pl.Callback):
    """The batches that training was given, by epoch, and how many of the other parts."""

    def __init__(self):
        self.batches, self.validated, self.tested = [], 0, 0

    def on_train_epoch_start(self, *_):
        self.batches.append([])

    def on_train_batch_end(self, trainer, module, outputs, batch, i):
        self.batches[-1].append(float(batch[0].sum()))

    def on_validation_batch_end(self, trainer, *_):
        self.validated += trainer.state.fn == "fit"

    def on_test_batch_end(self, *_):
        self.tested += 1


def run(tmp_path, *overrides):
    seen = Seen()
    result = train(compose([*TINY, f"output_dir={tmp_path}", *overrides]), [seen])
    return seen, result


def test_fdr_is_one_batch_of_each_part(tmp_path):
    seen, result = run(tmp_path, "debug=fdr", "callbacks=default", "~callbacks.progress")
    assert [len(epoch) for epoch in seen.batches] == [1] and (seen.validated, seen.tested) == (1, 1)
    assert result.checkpoint is None and not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_limit_is_a_whole_run_on_a_few_batches(tmp_path):
    seen, result = run(tmp_path, "debug=limit", "callbacks=default", "~callbacks.progress")
    assert [len(epoch) for epoch in seen.batches] == [4, 4, 4] and (seen.validated, seen.tested) == (6, 2)
    assert result.checkpoint and (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_overfit_shows_the_same_batches_in_every_epoch(tmp_path):
    seen, _ = run(tmp_path, "debug=overfit", "trainer.max_epochs=3", "data.shift=2")
    first, *others = seen.batches
    assert len(first) == 3 and others == [first, first]


def test_profiler_says_where_the_time_goes(tmp_path):
    seen, _ = run(tmp_path, "debug=profiler", "trainer.limit_train_batches=2")
    assert len(seen.batches) == 1
    assert "run_training_epoch" in (tmp_path / "fit-profile.txt").read_text()


@pytest.mark.parametrize("way", few(["fdr", "limit", "overfit", "profiler"]))
def test_no_way_logs_or_needs_a_gpu_and_experiments_can_be_tried_so(way):
    cfg = compose([f"debug={way}", "experiment=cifar"])
    assert not cfg.logger and (cfg.trainer.accelerator, cfg.trainer.devices) == ("cpu", 1)
    assert cfg.trainer.precision == "32-true" and cfg.model.depth == 2 and cfg.optimizer.lr == 3e-4
    assert cfg.trainer.max_epochs < 300
    assert compose([f"debug={way}", "logger=csv"]).logger  # what the command line says stands
    assert compose([f"debug={way}"], root="sweep").trainer.max_epochs == cfg.trainer.max_epochs
