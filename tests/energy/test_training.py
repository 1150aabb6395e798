"""Energy while training: the callback, the penalty, early stopping, two processes."""

from __future__ import annotations

import copy
import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from networks import network
from torch.utils.data import DataLoader, TensorDataset

from spikefront import audit
from spikefront.config import compose
from spikefront.energy import EnergyMeter, LayerCount, Paper, measure_energy
from spikefront.errors import UserError
from spikefront.training import CrossEntropy, EarlyExit, EnergyCallback, EnergyPenalty, SpikingClassifier, train
from spikefront.training.ddp import SynchronisedBatchNorm
from spikefront.training.evaluation import evaluate
from spikefront.training.run import _close, _conclude, _logger


def loader(samples, batch):
    torch.manual_seed(1)
    return DataLoader(TensorDataset(torch.rand(samples, 1, 8, 8), torch.arange(samples) % 10), batch)


def fit(model, callback, **trainer):
    module = SpikingClassifier(model, CrossEntropy(), torch.optim.SGD, {"name": "constant"}, {})
    module._optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[callback], **trainer,
    )  # fmt: skip
    trainer.fit(module, loader(20, 8), loader(13, 5))
    return trainer


@pytest.mark.parametrize("accumulate", [1, 3])
def test_callback_logs_what_a_plain_measurement_finds(accumulate):
    model, callback = network(), EnergyCallback(Paper(), every=1)
    for module in model.modules():  # frozen statistics: training and evaluation passes then fire alike
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    metrics = fit(model, callback, accumulate_grad_batches=accumulate).callback_metrics
    whole = measure_energy(model, torch.cat([x for x, _ in loader(13, 5)]))
    assert float(metrics["val/energy_joules"]) == pytest.approx(whole.total_joules, rel=1e-6)
    assert float(metrics["val/firing_rate"]) == pytest.approx(whole.firing_rate, rel=1e-6)
    assert float(metrics["val/energy/mlp"]) == pytest.approx(whole.groups["mlp"], rel=1e-6)
    mlp = [x for x in whole.layers if x.group == "mlp" and x.kind == "spikes"]
    rate = sum(x.additions.sum() for x in mlp) / sum(x.potential * x.timesteps for x in mlp)
    assert float(metrics["val/firing_rate/mlp"]) == pytest.approx(rate, rel=1e-6)
    assert callback.report.samples == 13
    assert {"train/energy_joules", "train/firing_rate", "train/dead", "val/saturated"} <= metrics.keys()


def test_callback_counts_one_of_k_training_passes():
    seen = []

    class Spy(EnergyCallback):
        def on_train_epoch_end(self, trainer, module):
            seen.append(self.meters["train"].samples)
            super().on_train_epoch_end(trainer, module)

    fit(network(), Spy(every=2))
    assert seen == [8 + 4]  # the first and the third of 8, 8, 4
    with pytest.raises(UserError, match="every"):
        EnergyCallback(every=-1)


def _count(rank, path, part):
    dist.init_process_group("gloo", init_method=f"file://{path}/rendezvous", rank=rank, world_size=2)
    meter = EnergyMeter(network())
    with torch.inference_mode(), meter.recording():
        for batch in part[rank]:
            meter.model(batch)
    meter.gather()
    record = {layer.name: layer.spikes.tolist() for layer in meter.counts()}
    with open(f"{path}/{rank}.json", "w") as file:
        json.dump({"samples": meter.samples, "layers": record}, file)
    dist.destroy_process_group()


@pytest.mark.slow  # tests/training/test_ddp.py has two processes' energy
@pytest.mark.parametrize("parts", [((5, 3), (1,)), ((4,), ())])
def test_two_processes_sum_their_counts(tmp_path, parts):
    torch.manual_seed(2)
    batches = [[torch.rand(n, 1, 8, 8) for n in part] for part in parts]
    mp.spawn(_count, (str(tmp_path), batches), nprocs=2)
    everything = torch.cat([b for part in batches for b in part])
    alone = {x.name: x.spikes.tolist() for x in measure_energy(network(), everything).layers}
    for rank in range(2):
        record = json.loads((tmp_path / f"{rank}.json").read_text())
        assert record["samples"] == len(everything)
        assert record["layers"].keys() == alone.keys()
        for name, spikes in record["layers"].items():
            assert spikes == pytest.approx(alone[name], rel=1e-12), name


def test_penalty_is_the_energy_of_the_pass_and_has_its_gradient():
    model, batch = network().train(), torch.rand(6, 1, 8, 8)
    penalty, meter = EnergyPenalty(model, Paper(), 1.0), EnergyMeter(model)
    meter.survey(batch)
    with meter.recording():
        model(batch)
    report = meter.report()
    assert penalty.energy().item() == pytest.approx(report.total_joules, rel=1e-5)
    value = penalty()
    assert 0 < value.item() < 1
    value.backward()
    conv = model.block[0].mlp.fc1_conv
    assert conv.weight.grad is not None and conv.weight.grad.abs().sum() > 0
    # a step against the gradient saves energy
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 0.5 * p.grad / (p.grad.norm() + 1e-12)
    model(batch)
    assert penalty().item() < value.item()


@pytest.mark.parametrize("asked", [False, True], ids=["in mid-step", "after the step"])
def test_a_copy_of_a_penalised_network_is_one_and_leaves_it_alone(asked):
    """As for_inference, audit and a moving average make it."""
    model, batch = network().train(), torch.rand(4, 1, 8, 8)
    penalty = EnergyPenalty(model, Paper(), 1.0)
    model(batch)
    if asked:
        penalty().backward()
    before = penalty.energy().item()
    twin = copy.deepcopy(model)
    twin(torch.zeros_like(batch))
    assert penalty.energy().item() == before
    assert audit(model, batch, "additions").spike_driven
    penalty.remove()
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_recomputed_block_keeps_no_graph():
    model, batch = network().train(), torch.rand(4, 1, 8, 8)
    penalty = EnergyPenalty(model, Paper(), 1.0)
    model(batch)
    penalty().backward()
    model.block[0](torch.randn(4, 4, 32, 4, 4))  # as activation checkpointing does
    assert not any(rate.requires_grad for rate in penalty._rates.values())


def test_spikes_of_both_signs_cost_what_they_are_counted():
    class Signed(torch.nn.Module):
        timesteps = 1

        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.second(self.first(x.flatten(1)).sign())

    model, batch = Signed().train(), torch.rand(4, 1, 2, 2)
    model.first.weight.data = torch.tensor([1.0, -1.0, 1.0, -1.0]).diag()
    model.first.bias.data.zero_()
    penalty = EnergyPenalty(model, Paper(), 1.0)
    model(batch)
    assert penalty.energy().item() == pytest.approx(measure_energy(model, batch).total_joules)


def test_a_penalised_network_is_deployed(tmp_path):
    common = ["callbacks=quiet", "logger=none", "trainer=cpu", "trainer.max_epochs=1", "model=sdt_1_16"]
    limits = [f"trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    more = ["loss.energy_weight=1", "latency=auto", "model.checkpoint_blocks=true", f"output_dir={tmp_path}"]
    assert train(compose([*common, *limits, *more])).latency_seconds > 0


def test_budget():
    model, batch = network().train(), torch.rand(6, 1, 8, 8)
    roomy, tight = EnergyPenalty(model, Paper(), 1.0, budget=1.0), EnergyPenalty(model, Paper(), 2.0, budget=1e-8)
    model(batch)
    assert roomy().item() == 0
    assert tight().item() == pytest.approx(2 * (tight.energy().item() / 1e-8 - 1))
    for wrong in ({"weight": -1.0}, {"weight": 1.0, "budget": 0.0}):
        with pytest.raises(UserError, match="energy_"):
            EnergyPenalty(model, Paper(), **wrong)


def _penalise(rank, path, halves, budget):
    dist.init_process_group("gloo", init_method=f"file://{path}/rendezvous", rank=rank, world_size=2)
    model = SynchronisedBatchNorm().apply(network()).double().train()
    penalty = EnergyPenalty(model, Paper(), 1.0, budget)
    model(halves[rank])
    energy, term = penalty.energy().item(), penalty()
    term.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]  # the head's outputs fire nothing
    for gradient in gradients:
        dist.all_reduce(gradient)
    found = {"energy": energy, "term": term.item(), "gradients": [g / 2 for g in gradients]}
    torch.save(found, f"{path}/{rank}.pt")
    dist.destroy_process_group()


def test_a_budget_is_of_the_batch_of_all_processes(tmp_path):
    """One process is below it and one above."""
    torch.manual_seed(3)
    halves = [scale * torch.rand(4, 1, 8, 8, dtype=torch.float64) for scale in (0.2, 1.0)]
    model = network().double().train()
    penalty = EnergyPenalty(model, Paper(), 1.0, 1.0)
    model(torch.cat(halves))
    penalty.budget = 0.99 * penalty.energy().item()
    term = penalty()
    term.backward()
    mp.spawn(_penalise, (str(tmp_path), halves, penalty.budget), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    energies = sorted(f["energy"] for f in found)
    assert energies[0] < penalty.budget < energies[1]
    for f in found:
        assert f["term"] == pytest.approx(term.item(), rel=1e-9) and term.item() > 0
        whole = [p.grad for p in model.parameters() if p.grad is not None]
        for ours, alone in zip(f["gradients"], whole, strict=True):
            assert torch.allclose(ours, alone, rtol=1e-6, atol=1e-12)


def test_penalty_costs_nothing_in_evaluation():
    model = network()
    EnergyPenalty(model, Paper(), 1.0)
    model(torch.rand(2, 1, 8, 8))
    assert not any(m._forward_pre_hooks for n, m in model.named_modules() if n)


@pytest.mark.slow
def test_training_with_the_penalty_fires_less(tmp_path):
    def run(*extra):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        common = [
            "callbacks=quiet",
            "logger=none",
            "trainer=cpu",
            "trainer.max_epochs=2",
            "trainer.limit_test_batches=2",
        ]
        return train(compose([*common, "model.depth=1", "model.dim=32", f"output_dir={out}", *extra]))

    assert run("loss.energy_weight=20").firing_rate < 0.5 * run().firing_rate


def test_early_exit_by_hand():
    early = EarlyExit([0.6, 0.999])
    # sample 0 is sure at once and right, sample 1 is sure (and right) only at the second step, sample 2 never
    steps = torch.tensor([[[5.0, 0.0], [0.0, 0.1], [0.1, 0.0]], [[5.0, 0.0], [0.0, 9.0], [0.0, 0.1]]])
    early.on_test_epoch_start()
    early.on_test_batch_end(None, None, {"steps": steps, "target": torch.tensor([0, 1, 1])}, None, 0)
    spikes = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    layer = LayerCount("x", "mlp", "spikes", (4,), 4.0, 4.0, spikes, 4.0, 4.0)
    low, high = early.curve([layer], Paper(e_ac=1e-12))
    assert low["timesteps"] == pytest.approx((1 + 2 + 2) / 3)
    assert low["energy_joules"] == pytest.approx((1 + 22 + 33) / 3 * 1e-12)
    assert low["accuracy"] == pytest.approx(2 / 3)
    assert high["timesteps"] == 2
    assert high["energy_joules"] == pytest.approx(66 / 3 * 1e-12)
    both, _ = early.curve([replace(layer, chunk=2)], Paper(e_ac=1e-12))  # of an attention over two steps at once
    assert both["timesteps"] == 2 and both["energy_joules"] == pytest.approx(66 / 3 * 1e-12)
    assert both["accuracy"] == low["accuracy"]  # the first step decides as it did
    with pytest.raises(UserError, match="confidence"):
        EarlyExit([1.5])


def test_sample_counts_add_up_to_the_whole():
    model = network()
    meter = EnergyMeter(model, per_sample=True)
    with torch.inference_mode(), meter.recording():
        for n in (4, 3):
            model(torch.rand(n, 1, 8, 8))
    joules = sum(Paper().joules(layer).sum(0) for layer in meter.sample_counts())
    assert joules.shape == (7,) and joules.std() > 0
    assert joules.mean() == pytest.approx(meter.report().total_joules, rel=1e-12)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short training, its CSV log and checkpoints beside it."""
    directory = tmp_path_factory.mktemp("run")
    common = ["callbacks=default", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    return train(compose([*common, "model=sdt_1_16", "logger=csv", f"output_dir={directory}"])), directory


def test_evaluate_reports_the_curve_of_early_exit(run, tmp_path):
    """A confidence that every class has stops at once; one that none has, at T: the ends of the anytime curve."""
    result, _ = run
    asked = [f"checkpoint='{result.checkpoint}'", "confidence=[1.0,0.01,0.2]", f"output_dir={tmp_path}"]
    found = evaluate(compose(asked, root="evaluate"))
    at_once, between, never = found.early_exit
    assert [p["confidence"] for p in found.early_exit] == [0.01, 0.2, 1.0]
    assert (at_once["timesteps"], never["timesteps"]) == (1, 4) and 1 <= between["timesteps"] <= 4
    for point, end in ((at_once, found.anytime[0]), (never, found.anytime[-1])):
        assert point["accuracy"] == pytest.approx(end["accuracy"])
        assert point["energy_joules"] == pytest.approx(end["energy_joules"])
    assert json.loads((tmp_path / "result.json").read_text())["early_exit"] == found.early_exit


def conclude(result, logger, directory):
    """As a run with this logger ends."""
    logger = _logger(compose([f"logger={logger}", f"output_dir={directory}"]), None)
    _conclude(logger, result.to_dict(), None)
    _close(logger, "success")


def test_the_anytime_curve_is_a_table_in_csv(run):
    result, directory = run
    with open(next(directory.glob("csv/metrics.csv"))) as file:
        rows = [r for r in csv.DictReader(file) if r["anytime/t"]]
    assert [int(r["anytime/t"]) for r in rows] == [1, 2, 3, 4]
    for row, point in zip(rows, result.anytime, strict=True):
        assert float(row["anytime/accuracy"]) == pytest.approx(point["accuracy"])
        assert float(row["anytime/energy_joules"]) == pytest.approx(point["energy_joules"])


def test_the_anytime_curve_is_a_plot_and_a_table_in_tensorboard(run, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result, _ = run
    conclude(result, "tensorboard", tmp_path)
    log = events.EventAccumulator(str(tmp_path / "tensorboard"), {events.TENSORS: 0, events.SCALARS: 0})
    log.Reload()
    for name in ("accuracy", "energy_joules"):
        curve = [(e.step, e.value) for e in log.Scalars(f"anytime/{name}")]
        assert curve == [(p["t"], pytest.approx(p[name])) for p in result.anytime]
    text = log.Tensors("anytime/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.count("\n") == 5 and f"| 4 | {result.accuracy:.4f} |" in text


def test_the_anytime_curve_is_a_plot_and_a_table_in_wandb(run, tmp_path, monkeypatch):
    """Offline; read back from what the run's directory keeps for ``wandb sync``."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    result, _ = run
    conclude(result, "wandb", tmp_path)
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/anytime curve_table_*.table.json")
    record = json.loads(table.read_text())
    assert record["columns"] == ["t", "accuracy", "energy_joules"]
    assert record["data"] == [[p[c] for c in record["columns"]] for p in result.validation.anytime]
    kept = next(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    panel = b'"panelDefId":"wandb/line/v0","fieldSettings":{"x":"energy_joules","y":"accuracy"'
    deadline = time.monotonic() + 20  # W&B's own process writes it, on a busy machine after the run's end
    while panel not in kept.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    sent = kept.read_bytes()
    assert b"anytime curve" in sent and panel in sent
