"""An elastic training trains its members, is interrupted like any other, and gives them up as ordinary networks."""

from __future__ import annotations

import json

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import open_dict

import spikefront
from spikefront.config import ROOT, Composer, compose
from spikefront.data import build_data
from spikefront.errors import UserError
from spikefront.nn.checkpoints import network_state, read_checkpoint
from spikefront.nn.elastic import estimate_norms
from spikefront.training import Heirs, evaluate, train
from spikefront.training.inheritance import configuration_of, heir
from spikefront.training.preemption import LAST, Interrupted, Signals, StopBetweenBatches

BASE = [
    "data=digits",
    "model=sdt_2_32",
    "trainer=cpu",
    "logger=none",
    "callbacks.progress=null",
    "neuron.threshold=0.5",
]
BASE += ["model.timesteps=2", "trainer.max_epochs=2", "threads=1", "+trainer.limit_train_batches=4"]
SMALLEST = ["model.depth=1", "model.dim=16", "model.timesteps=1"]
POOL = [["model.depth=1"], ["model.dim=16"], ["model.timesteps=1", "neuron.threshold=0.4"], ["model.mlp_ratio=2"]]


def run(directory, *overrides, base=BASE, **settings):
    cfg = Composer([*base, *overrides])([])
    with open_dict(cfg):
        cfg.output_dir = str(directory)
        cfg.callbacks.best = None
        cfg.elastic = {"base": [*base, *overrides], "largest": [], "smallest": SMALLEST, "pool": POOL, "random": 2}
        cfg.elastic.update({"scalars": {"neuron.threshold": 0.5}, "ranges": {"neuron.threshold": [0.4, 1.0]}})
        cfg.elastic.update({"distillation": 0.5, "warmup_epochs": 0, "norm_batches": 2, **settings})
    return cfg


class Logged(pl.Callback):
    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append({k: float(v) for k, v in trainer.callback_metrics.items()})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory, logged = tmp_path_factory.mktemp("elastic"), Logged()
    result = train(run(directory), [logged])
    return directory / LAST, result, logged


def test_largest_smallest_and_a_member_are_logged(trained):
    checkpoint, result, logged = trained
    assert result.checkpoint == str(checkpoint) and result.validation is not None
    for epoch in logged.epochs:
        for name in ("smallest", "member"):
            assert 0 < epoch[f"val/{name}/accuracy"] < 1 and epoch[f"val/{name}/energy_joules"] > 0
        assert epoch["val/smallest/energy_joules"] != epoch["val/member/energy_joules"]
        assert epoch["train/members_loss"] > 0
    assert logged.epochs[1]["train/members_loss"] != logged.epochs[0]["train/members_loss"]


def test_the_logged_figures_are_those_of_an_ordinary_evaluation(trained, tmp_path):
    checkpoint, _, logged = trained
    heirs = Heirs(checkpoint)
    cfg = Composer(heirs.settings["base"])(SMALLEST)
    with open_dict(cfg):
        cfg.output_dir = str(tmp_path)
    _, validation = heirs.evaluate(cfg)
    content = read_checkpoint(checkpoint)
    model = heir(content, cfg)
    data = build_data(cfg.data, timesteps=1)
    pl.seed_everything(0, verbose=False)
    data.setup()
    batches = [images for images, _ in data.train_dataloader()][:2]
    estimate_norms(model, batches)
    images = torch.stack([image for image, _ in data.val_set])
    labels = torch.tensor([label for _, label in data.val_set])
    with torch.no_grad():
        right = (model.eval()(images).argmax(-1) == labels).float().mean()
    assert validation.accuracy == pytest.approx(float(right), abs=1e-6)
    report = spikefront.measure_energy(model, images)
    assert validation.energy_joules == pytest.approx(report.total_joules, rel=1e-9)
    assert logged.epochs[-1]["val/smallest/energy_joules"] == pytest.approx(report.total_joules, rel=0.3)


@pytest.mark.slow
def test_a_warm_up_is_the_largest_networks_own_training(trained, tmp_path):
    plain = run(tmp_path / "plain")
    plain.elastic = None
    for cfg in (run(tmp_path / "alone", warmup_epochs=5), plain):
        train(cfg)
    paths = (tmp_path / "alone" / LAST, tmp_path / "plain" / LAST, trained[0])
    alone, own, with_members = (network_state(read_checkpoint(path)) for path in paths)
    assert all(torch.equal(alone[key], own[key]) for key in own)
    assert any(not torch.equal(with_members[key], own[key]) for key in own)


class StopAt(pl.Callback):
    def __init__(self, signals, batch):
        self.signals, self.left = signals, batch

    def on_train_batch_end(self, *_):
        self.left -= 1
        if not self.left:
            self.signals.received = 15


@pytest.mark.slow
def test_an_interrupted_one_ends_as_if_it_had_not_been(tmp_path):
    whole = run(tmp_path / "whole", "model.drop_path=0.2")  # which draws random numbers in every pass
    train(whole)
    checkpoint, tmp_path = tmp_path / "whole" / LAST, tmp_path / "stopped"
    cfg, signals = run(tmp_path, "model.drop_path=0.2"), Signals()
    with pytest.raises(Interrupted):
        train(cfg, [StopAt(signals, 6), StopBetweenBatches(tmp_path / LAST, signals=signals)])
    cfg.resume = str(tmp_path / LAST)
    train(cfg)
    whole, again = (network_state(read_checkpoint(path)) for path in (checkpoint, tmp_path / LAST))
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize("key", ["model.compile", "model.checkpoint_blocks"])
def test_what_it_cannot_have_is_refused(tmp_path, key):
    with pytest.raises(UserError, match=f"{key}=True of an elastic training"):
        train(run(tmp_path, f"{key}=true"))
    with pytest.raises(UserError, match=r"loss.energy_weight=0.1 of an elastic training"):
        train(run(tmp_path, "loss.energy_weight=0.1"))


def test_a_member_is_evaluated_and_extracted_as_an_ordinary_network(trained, tmp_path):
    checkpoint, _, _ = trained
    member = {"model.depth": 1, "model": {"dim": 16}}
    cfg = compose([f"checkpoint={checkpoint}"], root="evaluate")
    cfg.output_dir, cfg.member = str(tmp_path), member
    result = evaluate(cfg)
    assert json.loads((tmp_path / "result.json").read_text())["accuracy"] == result.accuracy
    model = spikefront.extract(checkpoint, member)
    assert (model.depth, model.dim, model.timesteps, model.training) == (1, 16, 2, False)
    assert result.parameters == sum(p.numel() for p in model.parameters())
    data = build_data(compose(BASE).data, timesteps=2)
    data.setup()
    images = torch.stack([image for image, _ in data.test_set])
    labels = torch.tensor([label for _, label in data.test_set])
    with torch.no_grad():
        steps = model(images, per_step=True)
        assert float((steps.mean(0).argmax(-1) == labels).double().mean()) == pytest.approx(result.accuracy, abs=0.01)
        assert torch.allclose(model.for_inference()(images[:8]), steps.mean(0)[:8], atol=1e-4)
    whole = spikefront.extract(checkpoint, {})
    assert (whole.depth, whole.dim) == (2, 32)
    cfg.member = None  # the largest, with the norms that it was trained with
    assert evaluate(cfg).accuracy == pytest.approx(trained[1].accuracy, abs=1e-6)
    cfg.member = {}
    assert evaluate(cfg).parameters == sum(p.numel() for p in whole.parameters())


@pytest.mark.slow  # from any weights: test_finetuning.py
def test_a_member_is_trained_on(trained, tmp_path):
    checkpoint, _, _ = trained
    cfg = Composer([*BASE, "schedule=constant", "optimizer.lr=0", "optimizer.weight_decay=0", f"weights={checkpoint}"])(
        ["model.dim=16"]
    )
    with open_dict(cfg):
        cfg.output_dir = str(tmp_path)
    train(cfg)
    whole, own = network_state(read_checkpoint(checkpoint)), network_state(read_checkpoint(tmp_path / LAST))
    for key, value in own.items():
        if "running" not in key and "num_batches" not in key:  # its threshold is the largest network's
            assert torch.equal(value, whole[key][tuple(map(slice, value.shape))]), key


def test_unknown_members_and_other_checkpoints_are_refused(trained, tmp_path):
    checkpoint, _, _ = trained
    content = read_checkpoint(checkpoint)
    with pytest.raises(UserError, match=r"member=3: give the member's keys"):
        configuration_of(content, checkpoint, 3)
    for wrong, why in (
        ({"model.timesteps": 3}, "member.model.timesteps is 3: it was trained with 1 to 2"),
        ({"neuron.threshold": 1.5}, "member.neuron.threshold is 1.5: it was trained with 0.4 to 1"),
        ({"neuron.threshold": -1.0}, "member.neuron.threshold is -1.0: give a number above 0"),
        ({"optimizer.lr": 8}, "member.optimizer.lr changes nothing"),
        ({"modle.dim": 8}, "no configuration key 'modle"),
        ({"model.dim": 12}, "member: model.dim is 12: not divisible by model.num_heads=8"),
    ):
        with pytest.raises(UserError, match=why):
            spikefront.extract(checkpoint, wrong)
    with pytest.raises(UserError, match=r"not a part of the largest network: patch_embed.*\(8, "):
        spikefront.extract(checkpoint, {"model.dim": 64})
    cfg = run(tmp_path, "trainer.max_epochs=1", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1")
    cfg.elastic = None
    train(cfg)
    with pytest.raises(UserError, match="is not of an elastic training"):
        spikefront.extract(tmp_path / LAST, {})


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("neuron._target_=os.system", "would run os.system"),
        ("hydra.searchpath=[/tmp/theirs]", "takes configuration from"),
        ("data.root=${oc.env:HOME}", "reads what is here"),
    ],
)
def test_a_foreign_checkpoint_runs_and_reads_nothing(trained, tmp_path, base, why):
    content = torch.load(trained[0], weights_only=True)
    content["hyper_parameters"]["config"]["elastic"]["base"].append(base)
    torch.save(content, tmp_path / "theirs.ckpt")
    with pytest.raises(UserError, match=rf"theirs.ckpt .*{why}"):
        spikefront.extract(tmp_path / "theirs.ckpt", {"model.depth": 1})


def test_a_strange_class_in_a_member_needs_trust(trained):
    checkpoint, _, _ = trained
    with pytest.raises(UserError, match=r"os.system"):
        spikefront.extract(checkpoint, {"neuron._target_": "os.system"})


class TestEvents:
    """Frames of a recording are added up for members with fewer timesteps."""

    @pytest.fixture(scope="class")
    def data(self):
        frames = ("data=digits_dvs", "data.augmentation=null")

        def of(timesteps, *more):
            data = build_data(compose([*frames, *more]).data, timesteps=timesteps)
            data.setup()
            return data

        return of

    def test_sums_are_the_frames_of_a_coarser_binning(self, data):
        fine, coarse = data(6), data(3)
        images = torch.stack([fine.train_set[i][0] for i in range(8)])
        expected = torch.stack([coarse.train_set[i][0] for i in range(8)])
        given = fine.fewer(images, 3)
        assert given.shape == expected.shape and torch.equal(given.sum((1, 2)), expected.sum((1, 2)))
        assert (given != expected).float().mean() < 0.01  # an event on an edge of a time bin may lie on its other side
        assert torch.equal(fine.fewer(images, 6), images)

    def test_the_first_ones_where_a_network_sees_the_beginning(self, data):
        fine = data(3, "data.frames=6")
        images = torch.rand(2, 3, 2, 4, 4)
        assert torch.equal(fine.fewer(images, 2), images[:, :2])

    def test_what_cannot_be_added_up_is_refused(self, data):
        images = torch.rand(2, 6, 2, 4, 4)
        with pytest.raises(UserError, match=r"model.timesteps=4 beside 6"):
            data(6).fewer(images, 4)
        with pytest.raises(UserError, match=r"no counts"):
            data(6, "+data.binning.log=true").fewer(images, 3)

    @pytest.mark.slow
    def test_a_training_on_them(self, tmp_path):
        base = [o for o in BASE if not o.startswith(("data=", "model.timesteps"))]
        base += ["data=digits_dvs", "data.timesteps=2", "data.pooling='0111'", "+trainer.limit_val_batches=1"]
        result = train(run(tmp_path, base=base))
        assert 0 < result.accuracy < 1 and (tmp_path / LAST).is_file()


def test_the_root_holds_the_engines(tmp_path):
    assert {p.stem for p in (ROOT / "sweeps" / "search" / "engine").glob("*.yaml")} == {"elastic", "trials"}
