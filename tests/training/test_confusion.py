"""Which classes are taken for which: counted against the whole, whatever the batches and processes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import torch

from spikefront.training.confusion import LISTED, Confusion

CLASSES, SAMPLES = 4, 203


def passed(logits, target, batch: int, world: int = 1) -> list[Confusion]:
    """A test pass of several processes, as ``data.order`` shares samples."""
    found = []
    for rank in range(world):
        mine = list(range(rank, len(target), world))
        order = SimpleNamespace(rank=rank, total_size=len(target), num_replicas=world)
        trainer = SimpleNamespace(test_dataloaders=SimpleNamespace(order=order, size=batch), world_size=world)
        confusion = Confusion(CLASSES)
        confusion.on_test_epoch_start()
        for i in range(0, len(mine), batch):
            at = mine[i : i + batch]
            outputs = {"steps": logits[:, at], "target": target[at]}
            confusion.on_test_batch_end(trainer, None, outputs, None, i // batch)
        found.append(confusion)
    return found


def test_processes_count_as_one_does(monkeypatch):
    torch.manual_seed(0)
    logits, target = torch.randn(3, SAMPLES, CLASSES), torch.randint(0, CLASSES, (SAMPLES,))
    (alone,) = passed(logits, target, SAMPLES)
    likely, said = logits.mean(0).softmax(-1).max(-1)
    expected = np.zeros((CLASSES, CLASSES), int)
    for t, s in zip(target.tolist(), said.tolist(), strict=True):
        expected[t, s] += 1
    np.testing.assert_array_equal(alone.matrix, expected)
    wrong = sorted((p, i) for i, p in enumerate(likely.tolist()) if said[i] != target[i])[::-1][:LISTED]
    assert [(p, place) for p, place, _, _ in alone.wrong] == wrong and len(alone.wrong) == LISTED
    team = passed(logits, target, 16, world=3)

    def gather(parts, mine):
        parts[:] = [(c.matrix, c.wrong) for c in team]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    last = Confusion(CLASSES)
    last.on_test_epoch_end(SimpleNamespace(world_size=3), None)
    np.testing.assert_array_equal(last.matrix, expected)
    assert last.wrong == alone.wrong
    names = SimpleNamespace(classes=["a", "b", "c", "d"], sample_name=lambda i: f"{i}.png")
    found = json.loads(json.dumps(last.found(names)))
    assert found["samples"] == SAMPLES and found["wrong"][0]["sample"] == f"{wrong[0][1]}.png"
    counts = [c["count"] for c in found["confused"]]
    assert counts == sorted(counts, reverse=True) and sum(counts) == SAMPLES - np.trace(expected)


def test_of_a_batch_with_samples_left_out_no_place_is_known():
    order = SimpleNamespace(rank=0, total_size=8, num_replicas=1)
    trainer = SimpleNamespace(test_dataloaders=SimpleNamespace(order=order, size=4))
    confusion = Confusion(2)
    outputs = {"steps": torch.tensor([[[9.0, 0.0]] * 3]), "target": torch.ones(3, dtype=torch.long)}
    confusion.on_test_batch_end(trainer, None, outputs, None, 0)
    assert [place for _, place, _, _ in confusion.wrong] == [-1] * 3


def test_names_of_classes_and_files_are_told_and_kept(script, tmp_path):
    from own import given

    own = given("event_folder", tmp_path)
    own += ["data=event_folder", "data.sensor=[24,16]", "data.unit=us", "data.num_workers=0", "data.image_size=16"]
    small = ["model=sdt_1_16", "model.timesteps=2", "trainer=cpu", "trainer.max_epochs=1", "logger=none"]
    code, _, err = script("train", *own, *small, "data.filters.refractory=1ms", f"hydra.run.dir={tmp_path}/run")
    assert code == 0, err
    code, out, err = script(
        "evaluate", f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"hydra.run.dir={tmp_path}/e"
    )
    assert code == 0, err
    found = json.loads((tmp_path / "e/confusion.json").read_text())
    assert found["classes"] == ["left", "right"] and found["samples"] == 2
    for wrong in found["wrong"]:
        assert (tmp_path / "own" / wrong["sample"]).is_file() and wrong["sample"].startswith(wrong["true"])
        assert f"surely wrong: {wrong['sample']}: {wrong['said']}" in out
    for pair in found["confused"]:
        assert f"{pair['true']} taken for {pair['said']}: {pair['count']} of 1" in out
    result = json.loads((tmp_path / "e/result.json").read_text())
    assert result["data"]["filters"]["refractory"] == 1000 and result["confused"] == found["confused"]
