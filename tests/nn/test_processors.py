"""Kernels for processors that this machine may not be: compiled for each, and for ARM's NEON run under an emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from system import missing, unable
from torch import nn

from spikefront.nn import LIF
from spikefront.nn.fixed.whole_layers import WholeNeuron
from spikefront.nn.kernels import sparse
from spikefront.nn.kernels.build import FLAGS, HERE, flags, library

PORTABLE = [flag for flag in FLAGS if flag not in ("-march=native", "-shared", "-fPIC")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.system,
    pytest.mark.skipif(library("sparse") is None or not shutil.which("g++"), reason="no g++ here"),
]


@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3", "x86-64-v4"])  # SSE2, AVX2, AVX-512
@pytest.mark.parametrize("name", ["sparse", "neuron", "masked", "whole"])
def test_compiles_for(name, march, tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("g++ here is not for x86-64")
    command = ["g++", *PORTABLE, "-Wall", "-Wextra", "-Werror", f"-march={march}", "-S"]
    subprocess.run([*command, HERE / f"{name}.cpp", "-o", tmp_path / "code.s"], check=True)
    assert ("zmm" in (tmp_path / "code.s").read_text()) == (march == "x86-64-v4")


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """The driver compiled for ARM, and what runs it."""
    if lacking := missing(("aarch64-linux-gnu-g++", "qemu-aarch64")):
        unable(f"needs {', '.join(lacking)}")
    return ["qemu-aarch64", built("aarch64-linux-gnu-g++", tmp_path_factory.mktemp("arm"), "-static")]


def built(compiler: str, folder: Path, *more: str, driver: str = "elsewhere") -> Path:
    source = Path(__file__).with_name(f"{driver}.cpp")
    subprocess.run([compiler, *PORTABLE, *more, f"-I{HERE}", source, "-o", folder / driver], check=True)
    return folder / driver


NEEDS = {"x86-64": set(), "x86-64-v3": {"avx2", "fma", "bmi2"}, "x86-64-v4": {"avx512f", "avx512bw", "avx512vl"}}


@pytest.fixture(scope="module", params=["native", *NEEDS, "arm"])
def run(request, tmp_path_factory):
    """The driver compiled for this machine, for older ones of its kind, or for ARM, and what runs it."""
    march = request.param
    if march == "arm":
        return request.getfixturevalue("arm")
    if march in NEEDS and (os.uname().machine != "x86_64" or not NEEDS[march] <= set(flags())):
        pytest.skip(f"this processor runs no {march} code")
    return [built("g++", tmp_path_factory.mktemp(march), f"-march={march}")]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(2, 70, 40, 5, 3), (4, 33, 130, 9, 4), (2, 1, 1, 1, 1)], ids=str)
def test_equals_pytorch(run, kernel, size):
    torch.manual_seed(0)
    N, C, D, H, W = size
    x, conv = (torch.rand(N, C, H, W) < 0.2).float(), nn.Conv2d(C, D, kernel, padding=kernel // 2, bias=False)
    nn.init.normal_(conv.weight, std=0.5)
    y = conv(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    rows = [t.detach().permute(0, 2, 3, 1).reshape(-1) for t in (x, grad)]
    given = torch.cat([rows[0], sparse.pack(conv.weight).flatten(), rows[1]]).numpy().tobytes()
    done = subprocess.run([*run, *map(str, (N, H, W, C, D, kernel))], input=given, stdout=subprocess.PIPE, check=True)
    got = torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).split([*[y.numel()] * 4, conv.weight.numel()])
    outputs, halved, fired, of_images = (t.view(N, H, W, D).permute(0, 3, 1, 2) for t in got[:4])
    torch.testing.assert_close(outputs, F.conv2d(x, conv.weight, padding=kernel // 2), rtol=1e-5, atol=1e-5)
    cut = (conv.weight.detach().view(torch.int32) & -65536).view(torch.float32)  # the upper half of the bits
    expected = outputs.double() + F.conv2d(x.double(), cut.double(), padding=kernel // 2)
    torch.testing.assert_close(halved.double(), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(fired, LIF()(outputs.unflatten(0, (2, N // 2))).flatten(0, 1))
    if kernel == 3:  # added in another order: a potential within rounding of the threshold may come to its other side
        assert (of_images != fired).sum() <= 1 and (C == 1 or fired.any())
    torch.testing.assert_close(got[4].view_as(conv.weight), conv.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", ["here", "arm"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(2, 70, 40, 5, 3), (4, 33, 130, 9, 4), (2, 1, 1, 1, 1)], ids=str)
def test_whole_numbers_are_exact(where, kernel, size, tmp_path, request):
    """Other processors of this kind: ``test_running``."""
    if where == "arm":
        request.getfixturevalue("arm")  # skips where there is none
        run = ["qemu-aarch64", built("aarch64-linux-gnu-g++", tmp_path, "-static", driver="whole_elsewhere")]
    else:
        run = [built("g++", tmp_path, "-march=native", driver="whole_elsewhere")]
    torch.manual_seed(0)
    N, C, D, H, W = size
    x, weight = torch.randint(0, 3, (N, C, H, W)).float(), torch.randint(-127, 128, (D, C, kernel, kernel)).float()
    given = torch.cat([weight.flatten(), x.permute(0, 2, 3, 1).flatten()]).numpy().tobytes()
    done = subprocess.run([*run, *map(str, (N, H, W, C, D, kernel))], input=given, stdout=subprocess.PIPE, check=True)
    got = torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).view(3, N, H, W, D).permute(0, 1, 4, 2, 3)
    sums = F.conv2d(x.double(), weight.double(), padding=kernel // 2)
    assert torch.equal(got[0].double(), sums) and torch.equal(got[2], got[0])
    neuron = WholeNeuron(torch.full((1, 1), 40), 128, 128, None)
    assert torch.equal(got[1].long(), neuron.fired(sums.long().unflatten(0, (2, N // 2))).flatten(0, 1))
