"""Checkpoints in the form that the published code writes."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from examples import few

import spikefront
from spikefront.errors import UserError


def model(name: str = "sdt_2_16", **kwargs):
    return spikefront.create_model(name, data="imagenet", num_heads=2, timesteps=2, **{"num_classes": 5, **kwargs})


def published(source, **more) -> dict:
    """What timm's CheckpointSaver wrote for the published runs, ``module.`` prefixes from DDP included."""
    weights = OrderedDict((f"module.{k}", v) for k, v in source.state_dict().items())
    optimizer = {"state": {0: {"step": 7, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    args = argparse.Namespace(model="sdt", lr=1e-3, data_dir="/data")
    return {
        "epoch": 3, "arch": "sdt", "state_dict": weights, "optimizer": optimizer, "version": 2, "args": args, **more,
    }  # fmt: skip


def equal(a, b) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_published_file_loads(tmp_path, legacy):
    source, target, path = model(), model(), tmp_path / "8_384.pth.tar"
    torch.save(published(source), path, _use_new_zipfile_serialization=not legacy)
    assert not equal(source, target)
    assert spikefront.load_checkpoint(target, path) is target
    assert equal(source, target)


def test_averaged_weights_are_preferred(tmp_path):
    source, averaged, target, path = model(), model(), model(), tmp_path / "best.pth.tar"
    torch.save(published(source, state_dict_ema=averaged.state_dict()), path)
    assert equal(averaged, spikefront.load_checkpoint(target, path))
    assert equal(source, spikefront.load_checkpoint(target, path, ema=False))


@pytest.mark.parametrize(
    "prefix", few(["module.", "model.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.model."])
)
def test_wrappers_around_the_model_do_not_matter(tmp_path, prefix):
    source, target, path = model(), model(), tmp_path / "x.pth.tar"
    torch.save({"state_dict": {f"{prefix}{k}": v for k, v in source.state_dict().items()}}, path)
    assert equal(source, spikefront.load_checkpoint(target, path))


@pytest.mark.parametrize(
    ("other", "says"),
    few(
        [
            (
                {"num_classes": 7},
                r"2 of another shape: head.weight \(7, 16\) here \(5, 16\), head.bias \(7,\) here \(5,\)$",
            ),
            (
                {"name": "sdt_2_32"},
                r"of another shape: patch_embed.proj_conv.weight \(4, 3, 3, 3\) here \(2, 3, 3, 3\)",
            ),
            ({"name": "sdt_3_16"}, r"\d+ unknown: block.2.attn.q_conv.weight"),
            ({"name": "sdt_1_16"}, r"\d+ missing: block.1.attn.q_conv.weight"),
        ]
    ),
)
def test_another_models_file_is_named_by_its_tensors(tmp_path, other, says):
    torch.save(published(model(**other)), tmp_path / "x.pth.tar")
    target = model()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(UserError, match=says):
        spikefront.load_checkpoint(target, tmp_path / "x.pth.tar")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


class Malicious:
    def __reduce__(self):
        return subprocess.check_output, (["touch", "owned"],)


def test_a_file_that_would_execute_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(published(model(), extra=Malicious()), tmp_path / "x.pth.tar")
    with pytest.raises(UserError, match=r"holds \w+\.check_output beside the weights"):
        spikefront.load_checkpoint(model(), tmp_path / "x.pth.tar")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("legacy", few([False, True]), ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("name", ["x.ckpt", 'it\'s "$mine" 中.ckpt'])
def test_what_a_foreign_file_holds_is_named_and_the_line_that_strips_it_works(tmp_path, monkeypatch, legacy, name):
    source, path = model(), tmp_path / name
    foreign = {"state_dict": source.state_dict(), "config": Path("x"), "best": np.float64(0.9), "model": None}
    torch.save(foreign, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"pathlib\.\w+") as error:
        spikefront.load_checkpoint(model(), path)
    said = str(error.value)
    assert legacy or "numpy" in said
    command = shlex.split(said[said.index("python -c") :])
    assert command[:2] == ["python", "-c"]
    exec(command[2], {})
    (left,) = tmp_path.glob("*.weights.pth")
    assert equal(source, spikefront.load_checkpoint(model(), left))


def test_half_a_file_is_damaged(tmp_path):
    torch.save(published(model()), tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").write_bytes((tmp_path / "x.ckpt").read_bytes()[:5000])
    with pytest.raises(UserError, match="it is damaged"):
        spikefront.load_checkpoint(model(), tmp_path / "x.ckpt")


def test_another_resolution_just_works(tmp_path):
    torch.save(published(model(image_size=224)), tmp_path / "x.pth.tar")
    target = spikefront.load_checkpoint(model(image_size=288), tmp_path / "x.pth.tar").eval()
    with torch.inference_mode():
        logits = {size: target(torch.rand(1, 3, size, size)) for size in (224, 288)}
    assert all(v.shape == (1, 5) and v.isfinite().all() for v in logits.values())
