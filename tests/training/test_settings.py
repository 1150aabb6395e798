"""A setting that can't be is one line that names its key, in a dry run too."""

from __future__ import annotations

import pytest

from spikefront.config import compose
from spikefront.errors import UserError
from spikefront.training.settings import check


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("trainer.devices=abc", "devices=abc"),
        ("trainer.devices=[0,a]", "devices="),
        ("trainer.accelerator=cuba", "did you mean 'cuda'"),
        ("trainer.num_nodes=abc", "a whole number of at least 1"),
        ("trainer.max_epochs=abc", "a whole number of at least -1, or null"),
        ("trainer.max_epochs=1.5", "a whole number"),
        ("++trainer.max_steps=abc", "a whole number"),
        ("trainer.effective_batch=abc", "of at least 1, or null, or auto"),
        ("trainer.accumulate_grad_batches=0", "of at least 1"),
        ("trainer.gradient_clip_val=abc", "a number"),
        ("data.batch_size=true", "a whole number"),
        ("data.num_workers=abc", "a whole number"),
        ("data.num_workers=-1", "at least 0"),
        ("data.seed=abc", "a whole number"),
        ("data.val_fraction=abc", "a number"),
        ("+data.frames=abc", "a whole number"),
        ("seed=abc", "a whole number"),
        ("optimizer.lr=abc", "a number of at least 0"),
        ("optimizer.lr=-1", "a number of at least 0"),
        ("optimizer.lr=.nan", "a number of at least 0"),
        ("schedule.warmup_epochs=abc", "a number"),
        ("schedule.name=cosin", "constant, cosine"),
        ("loss.energy_weight=abc", "or null"),
        ("callbacks.energy.every=abc", "a whole number"),
        ("latency=fast", "dense"),
    ],
)
def test_what_cannot_be_names_its_key(wrong, says):
    key = wrong.partition("=")[0].lstrip("+")
    with pytest.raises(UserError) as error:
        check(compose([wrong]))
    assert key in str(error.value) and says in str(error.value)


@pytest.mark.parametrize(
    "right", ["trainer=gpu trainer.devices=4", "trainer=gpu trainer.devices=[0,3]", "trainer=ddp", "callbacks=ema"]
)
def test_another_machines_devices_and_what_is_left_out_are_no_mistake(right):
    check(compose([*right.split(), "trainer.max_epochs=-1", "++trainer.max_steps=20"]))


def test_a_dry_run_sees_it_too(script, quick):
    code, out, err = script("train", *quick, "dry_run=true", "trainer.devices=abc")
    assert code == 1 and "trainer.devices=abc" in err and out == ""
