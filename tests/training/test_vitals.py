"""What is logged and said of how a training goes."""

import csv
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from spikefront.config import compose
from spikefront.nn.kernels import build
from spikefront.training import train
from spikefront.training.devices import slower_than_float32

SMALL = ["data=digits", "model=sdt_1_16", "model.timesteps=1", "trainer=cpu", "trainer.max_epochs=2", "threads=1"]
SMALL += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
FEW = ["trainer.limit_train_batches=8", "trainer.log_every_n_steps=3"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vitals")
    cfg = compose([*SMALL, *FEW, "logger=csv", "trainer.gradient_clip_val=1e-3", f"output_dir={directory}"])
    train(cfg)
    (file,) = directory.rglob("metrics.csv")
    return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file.open())]


def column(rows, name):
    return [row[name] for row in rows if name in row]


def test_rate_gradients_pace_and_memory_are_logged(logged):
    rates = column(logged, "train/lr")
    assert len(rates) > 2 and len(set(rates)) > 1 and all(0 < rate < 1 for rate in rates)  # it follows the schedule
    assert all(norm > 1e-3 for norm in column(logged, "train/gradient_norm"))  # before it is clipped
    assert len(column(logged, "train/samples_per_second")) == 2
    assert all(pace > 10 for pace in column(logged, "train/samples_per_second"))
    assert all(memory > 50e6 for memory in column(logged, "train/memory_bytes"))  # PyTorch alone is more


def test_what_is_watched_changes_nothing(tmp_path):
    found = []
    for own in ([], ["callbacks.vitals=null"]):
        cfg = compose(
            [*SMALL, *FEW, "trainer.max_epochs=1", "logger=none", *own, f"output_dir={tmp_path / str(len(own))}"]
        )
        train(cfg)
        saved = torch.load(tmp_path / str(len(own)) / "checkpoints" / "last.ckpt", weights_only=True)
        found.append(saved["state_dict"])
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_the_device_the_pace_and_the_time_to_go_are_said(tmp_path, capsys):
    stop = ["trainer.max_epochs=100000", "+trainer.max_steps=26"]
    train(compose([*SMALL, *stop, "logger=none", f"output_dir={tmp_path}"]))
    said = capsys.readouterr().out
    assert "on cpu, 1 thread, float32, batches of 64\n" in said
    line = next(line for line in said.splitlines() if "samples a second" in line)
    assert " GB: about " in line and line.endswith("of training to go, beside evaluations")


@pytest.mark.parametrize(
    ("precision", "flags", "said"),
    [
        ("bf16-mixed", {"avx2", "avx512f"}, True),
        ("bf16-mixed", {"avx512f", "avx512_bf16"}, False),
        ("bf16-mixed", {"asimd", "bf16"}, False),
        ("bf16-mixed", set(), False),  # what has no /proc/cpuinfo
        ("32-true", {"avx2"}, False),
    ],
)
def test_bfloat16_where_it_is_slower_is_said(precision, flags, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "flags", lambda: frozenset(flags))
    if said:  # once, from a whole training
        settings = ["+trainer.max_steps=1", "logger=none", f"trainer.precision={precision}"]
        train(compose([*SMALL, *settings, f"output_dir={tmp_path}"]))
        lines = [line for line in capsys.readouterr().out.splitlines() if "bfloat16 instructions" in line]
        assert len(lines) == 1 and lines[0].startswith("trainer.precision=bf16-mixed: ") and "slower" in lines[0]
    else:
        assert slower_than_float32(pl.Trainer(accelerator="cpu", devices=1, precision=precision, logger=False)) is None


def test_bfloat16_on_a_gpu_is_not_slower(monkeypatch):
    monkeypatch.setattr(build, "flags", lambda: frozenset({"avx2"}))
    on = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")), precision="bf16-mixed")
    assert slower_than_float32(on) is None
