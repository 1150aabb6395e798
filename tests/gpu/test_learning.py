"""Training on the device: the CPU's accuracy and energy, a resumed run bit for bit, memory that runs out."""

from __future__ import annotations

import copy

import pytest
import torch
from test_networks import network

import spikefront

pytestmark = pytest.mark.cuda


def patterns(count, seed):
    """Ten noisy patterns of 8x8, as hard as handwritten digits."""
    made = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 10, (count,), generator=random)
    return (made[target] + 0.35 * torch.randn(count, 1, 8, 8, generator=random)).clamp(0, 1), target


def trained(device, **settings):
    """A network after 120 steps there, and its accuracy on unseen samples."""
    model = network(depth=2, dim=64, **settings).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for i in range(120):
        x, target = (t.to(device) for t in patterns(64, i + 1))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
    x, target = (t.to(device) for t in patterns(500, 1000))
    with torch.inference_mode():
        return model.eval(), (model(x).argmax(-1) == target).float().mean().item()


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "graphs"])
def test_it_learns_as_on_the_cpu(compile):
    torch.set_num_threads(4)
    _, expected = trained("cpu")
    model, found = trained("cuda", compile=compile)
    assert expected > 0.6 and abs(found - expected) < 0.1
    x = patterns(64, 1000)[0]
    on_cpu, here = (
        spikefront.measure_energy(m, x.to(d)) for m, d in ((copy.deepcopy(model).cpu(), "cpu"), (model, "cuda"))
    )
    assert here.total_joules == pytest.approx(on_cpu.total_joules, rel=2e-3)  # a spike at the threshold may flip


def test_a_resumed_run_ends_bit_for_bit(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("hydra")
    from spikefront.config import compose
    from spikefront.training import run

    common = [
        "model=sdt_tiny",
        "data=digits",
        "trainer=gpu",
        "trainer.deterministic=warn",
        "logger=none",
        "seed=3",
        "schedule=constant",
    ]
    common += ["trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
    whole = run.train(compose([*common, "trainer.max_epochs=2", f"output_dir={tmp_path}/whole"]))
    half = f"output_dir={tmp_path}/half"
    run.train(compose([*common, "trainer.max_epochs=1", half]))
    resumed = run.train(compose([*common, "trainer.max_epochs=2", half, "resume=auto"]))
    assert resumed.accuracy == whole.accuracy and resumed.energy_joules == whole.energy_joules


def test_memory_that_runs_out_is_told_and_survived():
    pytest.importorskip("optuna")
    worker = pytest.importorskip("spikefront.sweeping.worker.worker")
    model = network(depth=2, dim=64).cuda()
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**42, dtype=torch.uint8, device="cuda")
    assert worker._reason(caught.value) == "out of memory"
    assert torch.isfinite(model(patterns(8, 1)[0].cuda())).all()
