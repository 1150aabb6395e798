"""The convolution that adds weight rows where a spike is, instead of multiplying with zeros.

In a deployed network neurons hand bits to the layers that read them (``readers``), as long as nothing is hooked onto
either: whoever looks at spikes, as the energy meter does, sees floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikefront.nn.fixed.rounding import rounded
from spikefront.nn.kernels import masked, sparse, whole
from spikefront.nn.kernels.sparse import Counts, Spikes
from spikefront.nn.torch_internals import version_of, watched, watched_backward

ROUNDS = 3  # of each way, when a layer decides
WEIGHTS = ("float32", "bfloat16")
LARGEST = 127  # of weights of 8 bits
MOST_IN_TRAINING = 0.4  # firing rate up to which sparse forward passes and weight gradients won wherever measured


class SparseConv2d(nn.Conv2d):
    """A 1x1 or 3x3 convolution (stride 1, same size) of spikes, float tensors or ``Spikes``.

    Values other than whole numbers, and tensors elsewhere than float32 on the CPU, are convolved densely. In training
    spikes (0, 1) up to ``MOST_IN_TRAINING`` are added, and so are weight gradients; the gradient of the input is dense.

    Attributes:
        sparse: True or False; None: the first input decides, on which both ways are timed if it is spikes.
        rate: spikes an input element in that first input; ``crossover``: the rate at which both would take as long, if
            sparse time were proportional to spikes. Both None before, or without a decision by time.
        weights: one of ``WEIGHTS``, or ``"int8"`` with a scale an output channel. In the two short ones (for inference
            only) ``weight`` is rounded in place, so that the layer gives the same densely.
        in_bfloat16: multiplies in bfloat16 where it multiplies, for inference; sums are rounded to it, too.
    """

    def __init__(self, conv: nn.Conv2d, sparse: bool | None, weights: str = "float32") -> None:
        size, bias = conv.kernel_size[0], conv.bias is not None
        super().__init__(conv.in_channels, conv.out_channels, size, padding=size // 2, bias=bias, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.sparse, self.in_bfloat16 = sparse, False
        self.rate: float | None = None
        self.crossover: float | None = None
        self._packed: tuple[Tensor, int, Tensor | whole.Packed] | None = None
        self.hold(weights)

    def hold(self, weights: str) -> None:
        """Take ``weight`` as it is now, rounded to ``weights``."""
        self.weights, self._packed = weights, None
        if weights == "bfloat16":
            self.weight.data = self.weight.data.bfloat16().to(self.weight.dtype)
        elif weights == "int8":
            scale = self.weight.data.abs().flatten(1).amax(1).clamp_min(1e-30).div_(LARGEST)
            rows = rounded(self.weight.data.flatten(1), scale, LARGEST)
            self.weight.data = (rows * scale[:, None]).view_as(self.weight)
            bias = torch.zeros(len(scale)) if self.bias is None else self.bias.detach()
            packed = whole.pack(rows.view_as(self.weight), scale, bias)
            self._packed = self.weight, version_of(self.weight), packed

    @staticmethod
    def replaces(conv: nn.Module) -> bool:
        """Whether ``conv`` is such a convolution."""
        return type(conv) in (nn.Conv2d, SparseConv2d) and isinstance(conv, nn.Conv2d) and keeps_size(conv)

    @property
    def reads_bits(self) -> bool:
        """Whether neurons should hand it bits."""
        return self.sparse is not False

    def forward(self, x: Tensor | Spikes) -> Tensor:  # type: ignore[override]
        if self.sparse is not False and isinstance(x, Tensor) and self._learns(x):
            return self._train(x)
        if self.sparse is False or not self._fits(x) or (self.sparse is None and watched(self)):
            return self.multiplied(x.dense() if isinstance(x, Spikes) else x)
        found = self.reads(x)
        if found is None:  # real values
            self.sparse = self.sparse or False
            return super().forward(x)  # type: ignore[arg-type]
        if self.sparse is None:
            self._decide(x, found)
        return self.added(found)

    def fires(self, x: Tensor | Spikes, norm: nn.Module, neuron: Any) -> bool:
        """Whether ``fire`` can do ``neuron(norm(conv(x)))`` in one pass, with bits that ``neuron.readers`` want."""
        return (
            self.sparse is True
            and isinstance(x, Spikes)
            and type(norm) is nn.Identity
            and bool(neuron.readers)
            and not watched(self)
            and sparse.unwatched(neuron)
        )

    def fire(self, x: Spikes, neuron: Any, timesteps: int | None = None) -> Spikes:
        """``neuron(conv(x))`` of spikes ``(T, B, C, H, W)``; ``timesteps`` are those that they have."""
        packed, constants = self._weight(), neuron.constants()
        if isinstance(packed, whole.Packed):
            return whole.convolve_and_fire(x, packed, constants)
        return sparse.convolve_and_fire(x, packed, self.bias, self.out_channels, constants)

    def adds(self, x: Tensor | Spikes, norm: nn.Module, onto: Tensor) -> bool:
        """Whether ``add`` can do ``onto + norm(conv(x))`` in one pass."""
        return (
            self.sparse is True
            and isinstance(x, Spikes)
            and type(norm) is nn.Identity
            and type(onto) is Tensor
            and (onto.dtype, onto.device.type) == (torch.float32, "cpu")
            and onto.shape == (*x.shape[:2], self.out_channels, *x.shape[3:])
            and not watched(self)
        )

    def add(self, x: Spikes, onto: Tensor) -> Tensor:
        """``onto + conv(x)`` of spikes ``(T, B, C, H, W)``."""
        frames = onto.flatten(0, 1)
        y = self.added(x.flatten(0, 1), frames)
        return y.unflatten(0, onto.shape[:2])

    def _fits(self, x: Tensor | Spikes) -> bool:
        if isinstance(x, Spikes):
            return True
        plain = type(x) in (Tensor, nn.Parameter) and x.dtype == self.weight.dtype == torch.float32
        return (
            plain
            and x.device.type == "cpu"
            and x.dim() == 4
            and x.numel() > 0
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
            and not torch.is_autocast_enabled("cpu")
            and sparse.available()
        )

    def _learns(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)

    def _train(self, x: Tensor) -> Tensor:
        spikes = sparse.encode(x) if self._fits(x) else None
        if spikes is None or spikes.count() > MOST_IN_TRAINING * x.numel():
            return super().forward(x)
        mask = None if watched_backward(self) else masked.mask_of(x)
        return _Add.apply(x, self.weight, self.bias, spikes, mask)

    def reads(self, x: Tensor | Spikes) -> Spikes | Counts | None:
        """What ``added`` takes; None of real values."""
        return whole.encode(x) if self.weights == "int8" and isinstance(x, Tensor) else sparse.read(x)

    def added(self, found: Spikes | Counts, onto: Tensor | None = None) -> Tensor:
        """The convolution of frames, by additions; added to ``onto``."""
        packed = self._weight()
        if isinstance(packed, whole.Packed):
            assert isinstance(found, Spikes)
            return whole.convolve(found, packed, onto)
        return sparse.convolve(found, packed, self.bias, self.out_channels, onto)

    def multiplied(self, x: Tensor) -> Tensor:
        """The convolution of frames, by multiplications."""
        if not self.in_bfloat16:
            return super().forward(x)
        bias = None if self.bias is None else self.bias.bfloat16()
        return self._conv_forward(x.bfloat16(), self.weight.bfloat16(), bias).to(x.dtype)

    def _weight(self) -> Tensor | whole.Packed:
        version = version_of(self.weight)
        if self._packed is None or self._packed[0] is not self.weight or self._packed[1] != version:
            self._packed = self.weight, version, sparse.pack(self.weight, self.weights)
        return self._packed[2]

    def _decide(self, x: Tensor | Spikes, found: Spikes | Counts) -> None:
        floats = x.dense() if isinstance(x, Spikes) else x
        by_spikes = seconds(lambda: self.added(found) if found is x else (self.reads(x), self.added(found)))
        by_zeros = seconds(lambda: nn.Conv2d.forward(self, floats))
        self.rate = found.count() / max(1, x.shape.numel())
        self.crossover = self.rate * by_zeros / by_spikes
        self.sparse = by_spikes < by_zeros

    def extra_repr(self) -> str:
        how = {True: "sparse", False: "dense", None: "undecided"}[self.sparse]
        how += f", {self.weights}" if self.weights != "float32" else ""
        how += ", bfloat16" if self.in_bfloat16 else ""
        if self.rate is None or self.crossover is None:
            return f"{super().extra_repr()}, {how}"
        return f"{super().extra_repr()}, {how}: rate {self.rate:.3f}, crossover {self.crossover:.2f}"


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether it is a 1x1 or 3x3 convolution in one group whose output is as large as its input."""
    return (
        conv.kernel_size in ((1, 1), (3, 3))
        and conv.padding == (conv.kernel_size[0] // 2,) * 2
        and (conv.stride, conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
    )


class _Add(torch.autograd.Function):
    """``conv(spikes)`` whose bits are all that is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spikes: Spikes, mask: masked.Mask | None
    ) -> Tensor:
        ctx.save_for_backward(spikes.bits, weight)
        ctx.shape, ctx.biased, ctx.mask = spikes.shape, bias is not None, mask
        return sparse.convolve(spikes, sparse.pack(weight), bias, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        bits, weight = ctx.saved_tensors
        spikes, grad = Spikes(bits, ctx.shape), grads[0].contiguous(memory_format=torch.channels_last)
        size, (needs_x, needs_weight, needs_bias, *_) = weight.shape[-1], ctx.needs_input_grad
        grad_weight = sparse.weight_gradient(spikes, grad, size) if needs_weight else None
        grad_x = masked.gradient(ctx.mask, grad, weight, ctx.shape) if needs_x and ctx.mask is not None else None
        needs_x = needs_x and grad_x is None
        if needs_x and size == 1:
            grad_x = (grad.permute(0, 2, 3, 1) @ weight.flatten(1)).permute(0, 3, 1, 2)
        elif needs_x:
            x = torch.empty(ctx.shape, memory_format=torch.channels_last)  # only its shape is read
            arguments = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
            grad_x = torch.ops.aten.convolution_backward(grad, x, weight, None, *arguments)[0]
        grad_bias = grad.sum((0, 2, 3)) if ctx.biased and needs_bias else None
        return grad_x, grad_weight, grad_bias, None, None


def add_sparsely(model: nn.Module, choice: bool | None, weights: str = "float32") -> str | None:
    """Replace, in place, every convolution that ``SparseConv2d`` can be, but the first, which reads images.

    Returns the name of that one. Without compiled kernels, of which a warning tells, nothing changes.
    """
    if not sparse.available():
        return None
    place, first = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), (None, None))
    for module in model.modules():
        for name, child in list(module.named_children()):
            if child is not first and SparseConv2d.replaces(child):
                assert isinstance(child, nn.Conv2d)
                setattr(module, name, SparseConv2d(child, choice, weights))
    return place


def seconds(run: Callable[[], object]) -> float:
    """The shortest of ``ROUNDS`` runs."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
