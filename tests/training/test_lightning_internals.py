"""What `training/lightning_internals.py` reads of Lightning's loops. If one fails, mend that module alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from spikefront.errors import UserError
from spikefront.training import lightning_internals as internals

TRAINING, VALIDATION = 5, 3


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, i):
        return self.layer(batch).sum()

    def validation_step(self, batch, i):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Notes(pl.Callback):
    """What the adapter says at the end of every batch, and what Lightning's own arguments do."""

    def __init__(self, directory):
        self.training, self.validation, self.checkpoint = [], [], directory / "within.ckpt"

    def on_train_batch_end(self, trainer, module, outputs, batch, i):
        self.training.append((i, internals.batches_begun(trainer), internals.within_epoch(trainer)))

    def on_validation_batch_end(self, trainer, module, outputs, batch, i, *_):
        self.validation.append((i, internals.validation_batches_begun(trainer)))
        if i == 1 and trainer.current_epoch == 1 and not self.checkpoint.exists():
            trainer.save_checkpoint(self.checkpoint)


def fit(tmp_path, **more):
    notes = Notes(tmp_path)
    loaders = [DataLoader(torch.ones(n, 1), batch_size=1) for n in (TRAINING, VALIDATION)]
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, callbacks=[notes], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Line(), *loaders, **more)
    return notes


def test_the_counters_are_where_they_were(tmp_path):
    notes = fit(tmp_path)
    assert notes.training == [(i, i + 1, i + 1 < TRAINING) for _ in range(2) for i in range(TRAINING)]
    assert notes.validation == [(i, i + 1) for _ in range(2) for i in range(VALIDATION)]


def test_a_validation_that_begins_again_is_run_whole_by_whoever_goes_on(tmp_path):
    fit(tmp_path)
    checkpoint = torch.load(tmp_path / "within.ckpt", weights_only=False)
    before = checkpoint["loops"]["fit_loop"][internals.VALIDATION]["current"]
    assert before["ready"] == 2
    internals.begin_validation_again(checkpoint)
    torch.save(checkpoint, tmp_path / "mended.ckpt")
    notes = fit(tmp_path, ckpt_path=tmp_path / "mended.ckpt")
    assert notes.training == []  # both epochs' batches were given before
    assert [i for i, _ in notes.validation] == list(range(VALIDATION))


NOWHERE = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()))
OTHER = {"loops": {"fit_loop": {internals.VALIDATION: {"current": {"seen": 1}, "total": {"seen": 1}}}}}


@pytest.mark.parametrize(
    ("ask", "of"),
    [
        (internals.within_epoch, NOWHERE),
        (internals.batches_begun, NOWHERE),
        (internals.validation_batches_begun, NOWHERE),
        (internals.begin_validation_again, {"loops": {}}),
        (internals.begin_validation_again, OTHER),
    ],
)
def test_a_lightning_that_keeps_them_elsewhere_is_named(ask, of):
    with pytest.raises(UserError, match=f"pytorch-lightning {pl.__version__} does not tell .*constraints.txt"):
        ask(of)
