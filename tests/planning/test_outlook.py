"""How long a training will take is said before it begins, by the dry run and by the training alike."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from examples import few

from spikefront import predict_cost
from spikefront.config import compose
from spikefront.planning import calibration, outlook
from spikefront.planning.outline import workload
from spikefront.training.devices import threads
from spikefront.units import duration

RATES = {  # of a machine that is made up
    "plain": [2e-5, 1e-10],
    "product": [2e-5, 1e-10, 0.0],
    "spatial forward": [5e-5, 1e-10, 1e-9, 0.0, 0.0],
}
SMALL = ["model=sdt_1_16", "trainer=cpu", "threads=1"]
PREDICTION = re.compile(r"about .+ of training on cpu, \d+ threads?, beside evaluations")


@pytest.fixture(autouse=True)
def calibrated(monkeypatch, tmp_path):
    """Devices that were calibrated, each time that one was."""
    devices = []
    monkeypatch.setenv("SPIKEFRONT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "calibrate", lambda device: devices.append(device) or RATES)
    calibration.machine.cache_clear()
    yield devices
    calibration.machine.cache_clear()


@pytest.mark.parametrize(
    "settings",
    few(
        [
            ["trainer.max_epochs=7"],
            ["trainer.max_epochs=7", "+trainer.max_steps=30", "trainer.accumulate_grad_batches=2"],
            ["data.batch_size=96", "trainer.effective_batch=120", "trainer.limit_train_batches=5"],
        ],
        3,
    ),
)
def test_it_is_the_predicted_step_times_the_batches(settings):
    cfg = compose([*SMALL, *settings])
    processes, cfg.data.batch_size, batches = workload(cfg)
    assert processes == 1
    with threads(1):
        step = predict_cost(cfg).step_time
    assert step > 0 and f"about {duration(batches * step)} of training on cpu, 1 thread," in outlook(
        compose([*SMALL, *settings])
    )


def test_a_step_whose_cost_is_known_isnt_rehearsed_again(monkeypatch):
    cfg = compose([*SMALL, "trainer.max_epochs=7"])
    with threads(1):
        cost = predict_cost(cfg)
    alone = outlook(cfg)
    monkeypatch.setattr(sys.modules[outlook.__module__], "rehearsed", None)
    assert alone is not None and outlook(cfg, cost=cost) == alone
    with pytest.raises(TypeError):
        outlook(compose([*SMALL, "trainer.max_epochs=7", "data.batch_size=8"]), cost=cost)


def test_a_training_says_what_its_dry_run_did_and_what_it_takes_the_place_of(script, quick, calibrated, tmp_path):
    asked = [*quick, "threads=1", "trainer.max_epochs=2"]
    code, out, err = script("train", *asked, "dry_run=true")
    assert code == 0, err
    (foreseen,) = [line.removeprefix("in all").strip() for line in out.splitlines() if line.startswith("in all ")]
    assert PREDICTION.fullmatch(foreseen) and calibrated == ["cpu"]
    code, out, err = script("train", *asked)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[lines.index(f"predicted: {foreseen}") - 1].startswith("on cpu, 1 thread, float32") and calibrated == [
        "cpu"
    ]
    anew = f"begins anew in place of the training that lies in {tmp_path}/run: resume=auto goes on with that"
    assert anew not in lines and anew in script("train", *asked)[1].splitlines()
    assert anew not in script("train", *asked, "resume=auto", "trainer.max_epochs=3")[1]


def test_a_short_training_does_not_wait_for_a_calibration_and_a_long_one_does(calibrated):
    short, long = compose(SMALL), compose([*SMALL, "trainer.max_epochs=10000000"])
    assert outlook(short, patient=False) is None and not calibrated
    assert "days" in outlook(long, patient=False) and calibrated == ["cpu"]
    assert outlook(short, patient=False) is not None  # it is known now


@pytest.mark.parametrize(
    "settings",
    [
        ["trainer.max_epochs=-1"],
        ["data=n_caltech101"],  # says no number of samples
        ["trainer.fast_dev_run=true"],
        ["trainer.devices=2"],
        ["trainer=gpu"],
        ["model.sparse=true"],
        ["model.compile=true"],
        ["finetune.freeze=[embedding]"],
        ["teacher=timm", "teacher.model=resnet18"],
        ["+elastic.smallest={}", "+elastic.base=[]"],
    ],
)
def test_where_it_is_no_prediction_nothing_is_said(settings, monkeypatch, calibrated):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert outlook(compose([*SMALL, *settings])) is None and not calibrated


def test_what_cannot_be_rehearsed_trains_without_it(script, quick, monkeypatch):
    def fail(*_):
        raise NotImplementedError("no kernel for tensors without data")

    monkeypatch.setitem(outlook.__globals__, "rehearsed", fail)
    code, out, err = script("train", *quick)
    assert code == 0 and "of training on" not in out, err
