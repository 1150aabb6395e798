"""The Triton kernels against plain PyTorch, run by Triton's interpreter where there is no GPU."""

from __future__ import annotations

import importlib.util
import itertools

import pytest
import torch

from spikefront.nn import surrogates
from spikefront.nn.kernels import gpu
from spikefront.nn.neurons import IntegrateAndFire

triton = pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SURROGATES = [
    surrogates.Sigmoid(),
    surrogates.ATan(),
    surrogates.Triangle(0.8, 1.5),
    surrogates.FastSigmoid(),
    surrogates.Rectangle(),
    surrogates.StraightThrough(),
]


@pytest.fixture(scope="module")
def kernels():
    """The module as it is on a GPU; without one, a copy of it whose kernels Triton interprets."""
    if DEVICE == "cuda":
        yield gpu
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec = importlib.util.spec_from_file_location("interpreted", gpu.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def both(kernels, x, gain, leak, *constants):
    """Spikes and gradients (of currents and gain) of the kernel and of PyTorch."""
    found = []
    for function in (kernels.Fire, IntegrateAndFire):
        own = x.clone().requires_grad_()
        g = gain.clone().requires_grad_() if isinstance(gain, torch.Tensor) else gain
        spikes = function.apply(own, g, leak, *constants)
        weight = torch.linspace(-1, 1, spikes.numel(), device=DEVICE).reshape(spikes.shape).to(spikes.dtype)
        (spikes * weight).sum().backward()
        found.append((spikes.detach(), own.grad, g.grad if isinstance(gain, torch.Tensor) else None))
    return found


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("soft", "detach"), itertools.product((False, True), repeat=2))
def test_spikes_equal_and_gradients_agree(kernels, surrogate, soft, detach):
    x = torch.randn(5, 3, 7, 60, device=DEVICE) * 2  # more than a block, not a multiple of one
    ours, plain = both(kernels, x, 0.5, 0.5, 0.9, soft, detach, surrogate)
    assert 0.05 < plain[0].mean() < 0.6 and torch.equal(ours[0], plain[0])
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_a_learned_gain_gets_its_gradient(kernels, soft):
    x, gain = torch.randn(4, 2, 900, device=DEVICE) * 2, torch.tensor(0.4, device=DEVICE)
    ours, plain = both(kernels, x, gain, None, 1.0, soft, True, surrogates.Sigmoid())
    assert torch.equal(ours[0], plain[0]) and ours[2].abs() > 0.1
    torch.testing.assert_close(ours[2], plain[2], rtol=1e-4, atol=1e-4)


def test_a_frame_shown_several_times_and_other_memory(kernels):
    frame = (torch.randn(1, 2, 3, 4, 5, device=DEVICE) * 3).requires_grad_()
    constants = (0.5, 0.5, 1.0, False, True, surrogates.Sigmoid())
    grads = []
    for function in (kernels.Fire, IntegrateAndFire):
        (grad,) = torch.autograd.grad(
            function.apply(frame.expand(4, -1, -1, -1, -1), *constants).cumsum(0).sum(), frame
        )
        grads.append(grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    "order", [(0, 1, 4, 2, 3), (0, 3, 2, 1, 4), (1, 0, 2, 3, 4)], ids=["channels last", "mixed", "time second"]
)
def test_any_memory_order(kernels, order):
    x = (torch.randn(4, 2, 3, 4, 5, device=DEVICE) * 3).permute(order)
    ours, plain = both(kernels, x, 0.5, 0.5, 1.0, False, True, surrogates.Sigmoid())
    assert torch.equal(ours[0], plain[0])
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_potentials_in_float32(kernels, dtype):
    x = (torch.randn(6, 2, 700, device=DEVICE) * 2).to(dtype)
    constants = (0.5, 0.5, 1.0, False, True, surrogates.Sigmoid())
    spikes = kernels.Fire.apply(x, *constants)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), IntegrateAndFire.apply(x.float(), *constants))


def test_only_cuda_tensors_are_taken():
    assert not gpu.usable(torch.ones(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("learned", [False, True])
def test_they_compile_for_a_gpu_that_is_not_here(dtype, learned):
    """For compute capability 9.0, without contraction: what runs there is otherwise up to Triton."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for kernel in (gpu._forward, gpu._backward):
        chosen = {"SOFT": False, "DETACH": True, "KIND": 0, "LEARNED": learned, "BLOCK": gpu.BLOCK}
        constants = {name: value for name, value in chosen.items() if name in kernel.arg_names}
        kinds = {
            "T": "i32",
            "step": "i64",
            "frame": "i64",
            "learned": "*fp32",
            "potential": "*fp32",
            "partial": "*fp32",
        }
        kinds |= dict.fromkeys(("x", "spikes", "grad_spikes", "grad"), f"*{dtype}") | dict.fromkeys(
            constants, "constexpr"
        )
        source = ASTSource(kernel, {name: kinds.get(name, "fp32") for name in kernel.arg_names}, constants)
        code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]
        assert "st.global" in code and "fma.rn.f32" not in code
