"""What runs the Triton kernels of ``fused``: memory layouts and grids."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

try:
    import triton

    from spikefront.nn.kernels import fused, fused_backward
except ImportError:  # PyTorch for CPUs comes without
    triton = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # then kernels run, slowly, on the CPU
LONGEST = 32  # steps whose potentials fit into registers
LONGEST_POOLED = 16  # steps whose winners fit into 64 bits
TILE, WARPS = 1024, 4
ROWS = 64  # of partial sums added at once
PROGRAMS = 8  # a multiprocessor that sums


class Settings(NamedTuple):
    """A neuron in numbers; ``kind`` is -1 for none: the norm alone.

    Attributes:
        steps: spikes' T; currents have as many frames or one.
        pool: whether 3x3 max-pooling with stride 2 follows.
        count: values of a channel in batch statistics; 0: these were running estimates.
    """

    steps: int
    gain: float = 1.0
    leak: float = 0.0
    threshold: float = 1.0
    soft: bool = False
    detach: bool = True
    kind: int = -1
    a: float = 0.0
    b: float = 0.0
    pool: bool = False
    count: int = 0  # type: ignore[assignment]

    def numbers(self) -> list[float]:
        """As an operation's argument."""
        return [float(n) for n in self]

    @classmethod
    def read(cls, numbers: list[float]) -> Settings:
        """What ``numbers`` gave."""
        return cls(*(type(d)(n) for d, n in zip((0, *cls._field_defaults.values()), numbers, strict=True)))


class Layout(NamedTuple):
    """``batches`` of ``pixels`` times ``channels`` a frame of ``(T, B, C, H, W)``, and how far these lie apart."""

    batches: int
    pixels: int
    channels: int
    sb: int
    sp: int
    sc: int

    def tile(self, elements: int) -> dict[str, int]:
        """Pixels and channels of a program."""
        if self.sc != 1:
            return {"PB": elements, "CB": 1}
        width = min(self.channels & -self.channels, 128)  # its largest power of two: no lane is idle
        if width < 16:
            width = min(triton.next_power_of_2(self.channels), 64)
        return {"PB": elements // width, "CB": width}

    def grid(self, tile: dict[str, int], device: torch.device | None = None) -> tuple[int, int]:
        """Programs; with ``device`` no more than fill it, which then take several tiles each."""
        rows, columns = self.batches * triton.cdiv(self.pixels, tile["PB"]), triton.cdiv(self.channels, tile["CB"])
        if device is not None:
            rows = min(rows, max(1, PROGRAMS * _multiprocessors(device) // columns))
        return rows, columns


_counts: dict[int | None, int] = {}


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    if device.index not in _counts:
        _counts[device.index] = torch.cuda.get_device_properties(device).multi_processor_count
    return _counts[device.index]


def dense(x: Tensor) -> Tensor:
    """``x`` itself if its frames are contiguous or channels-last and follow each other, else a contiguous copy."""
    return x if channels_last(x) or x.is_contiguous() else x.contiguous()


def channels_last(x: Tensor) -> bool:
    """Whether ``(T, B, C, H, W)`` has its channels side by side."""
    if x.dim() != 5:
        return False
    B, C, H, W = x.shape[1:]
    wanted = (B * H * W * C, H * W * C, 1, W * C, C)
    return all(n == 1 or s == w for n, s, w in zip(x.shape, x.stride(), wanted, strict=True))


def _layout(x: Tensor, time_apart: bool) -> Layout:
    """Of a frame of a dense ``x``; with all frames together unless ``time_apart``."""
    frames = 1 if time_apart else x.shape[0]
    if x.dim() < 3:
        return Layout(1, frames * x[0].numel(), 1, 0, 1, 0)
    B, C, area = x.shape[1], x.shape[2], x[0, 0, 0].numel()
    if channels_last(x) or area == 1:
        return Layout(1, frames * B * area, C, 0, C, 1)
    return Layout(frames * B, area, C, C * area, 1, area)


def like(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``x`` with these strides."""
    return (
        x if x.stride() == strides else torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
    )


def _on(x: Tensor) -> Any:
    """Context in which kernels go to the device of ``x``."""
    return torch.cuda.device(x.device if x.is_cuda else -1)


def statistics(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, tracked: Tensor | None, train: bool,
    momentum: float, eps: float, before: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """A norm's factors ``(4, C)``: of the batch, which also moves the running estimates, or of these.

    ``before``: the bias of the convolution that gave ``x`` without it.
    """
    layout = _layout(x, time_apart=False)
    factors = torch.empty(4, layout.channels, device=x.device, dtype=torch.float32)
    partial, rows, count = factors, 0, x.numel() // layout.channels
    with _on(x):
        if train:
            tile = layout.tile(2 * TILE)
            grid = layout.grid(tile, x.device)
            rows = grid[0]
            partial = torch.empty(rows, 2, layout.channels, device=x.device, dtype=torch.float32)
            fused.sums[grid](x, partial, *layout, **tile, num_warps=WARPS)
        columns = {"ROWS": ROWS, "CB": 16}
        fused.statistics[(triton.cdiv(layout.channels, 16),)](
            x, partial, weight, bias, mean, variance, tracked if tracked is not None else x,
            before if before is not None else x, factors, rows, layout.channels, layout.sc, count, momentum, eps,
            TRAIN=train, TRACKED=tracked is not None, BEFORE=before is not None, **columns,
        )  # fmt: skip
    return factors


def forward(
    x: Tensor, factors: Tensor | None, gain: Tensor | None, other: Tensor | None, numbers: list[float], keep: bool
) -> tuple[Tensor, Tensor]:
    """Spikes, and pooled ones' winners if these are to be kept (else empty); or normalised ``x`` added to ``other``."""
    n = Settings.read(numbers)
    fires = n.kind >= 0
    layout = _layout(x, time_apart=fires)
    steps = n.steps if fires else 1
    step, frame = x[0].numel() if x.shape[0] > 1 else 0, x[0].numel()
    out = x.new_empty_strided((n.steps, *x.shape[1:]), (frame, *x.stride()[1:])) if not n.pool else x[:0]
    written = torch.empty(frame, dtype=torch.uint8 if steps <= 8 else torch.int16, device=x.device) if n.pool else out
    winners = x.new_empty(0, dtype=torch.uint8)
    flags = {"T": steps, "ONE": fires and x.shape[0] < steps, "NORM": factors is not None, "FIRE": fires}
    flags |= {"ADD": other is not None, "BITS": n.pool, "SOFT": n.soft, "LEARNED": gain is not None}
    pointers = [t if t is not None else x for t in (other, factors, gain)]
    with _on(x):
        tile = layout.tile(TILE if steps <= 8 else TILE // 2 if steps <= 16 else TILE // 4)
        fused.forward[layout.grid(tile)](
            x, written, *pointers, *layout[1:], step, frame, n.gain, n.leak, n.threshold, **flags, **tile,
            num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
        if n.pool:
            out = empty_frames((n.steps, *pooled_shape(x)), x)
            pooled = _layout(out, time_apart=True)
            if keep:
                winners = x.new_empty(out[0].numel(), dtype=winner(steps))
            tile = pooled.tile(TILE if steps <= 8 else TILE // 2)
            fused.pool[pooled.grid(tile)](
                written, out, winners if keep else written, pooled.pixels, layout.channels, *x.shape[3:],
                *out.shape[3:], out[0].numel(), T=steps, KEEP=keep, **tile, num_warps=WARPS,
            )  # fmt: skip
    return out, winners


def winner(steps: int) -> torch.dtype:
    return torch.int16 if steps <= 4 else torch.int32 if steps <= 8 else torch.int64


def pooled_shape(x: Tensor) -> tuple[int, ...]:
    _, B, C, H, W = x.shape
    return B, C, (H + 1) // 2, (W + 1) // 2


def empty_frames(shape: tuple[int, ...], like: Tensor) -> Tensor:
    frames = torch.empty(
        (shape[0] * shape[1], *shape[2:]), dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )
    return frames.unflatten(0, shape[:2])


def backward(
    grad: Tensor, x: Tensor, winners: Tensor, factors: Tensor | None, weight: Tensor | None, gain: Tensor | None,
    numbers: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of currents, of the norm's weight and bias, and of the gain (empty where there is none)."""
    n = Settings.read(numbers)
    fires = n.kind >= 0
    layout = _layout(x, time_apart=fires)
    frame, step = x[0].numel(), x[0].numel() if x.shape[0] > 1 else 0
    sizes = (1, 1, 1, 1)
    if n.pool:
        sizes = (*x.shape[3:], *grad.shape[3:])
        grad = like(grad, empty_frames(tuple(grad.shape), grad[:0]).stride())
        frame = grad[0].numel()
    else:
        grad = like(grad, (frame, *x.stride()[1:]))
    grad_x = torch.empty_like(x)
    grad_weight, grad_bias, grad_gain = (x.new_empty(0) for _ in range(3))  # three: outputs may not share memory
    norm, sums = factors is not None, factors is not None or gain is not None
    batch = norm and n.count > 0
    steps = n.steps if fires else 1
    tile = layout.tile((TILE if steps <= 8 else TILE // 2 if steps <= 16 else TILE // 4) // (2 if n.pool else 1))
    grid = layout.grid(tile, x.device)
    C = layout.channels
    partial = torch.empty(grid[0], 3, C, device=x.device, dtype=torch.float32) if sums else x
    corrections = torch.empty(2, C, device=x.device, dtype=torch.float32) if batch else x
    flags = {"T": steps, "ONE": x.shape[0] < n.steps, "NORM": norm, "FIRE": fires, "POOL": n.pool, "SOFT": n.soft}
    flags |= {"DETACH": n.detach, "KIND": n.kind, "LEARNED": gain is not None, **tile}

    def run(grid: tuple[int, int], SUM: bool, WRITE: bool, CORRECT: bool) -> None:
        fused_backward.backward[grid](
            x, grad, winners if n.pool else x, grad_x, partial, factors if norm else x, corrections,
            gain if gain is not None else x, *layout, step, frame, *sizes, n.gain, n.leak, n.threshold, n.a, n.b,
            SUM=SUM, WRITE=WRITE, CORRECT=CORRECT, **flags, num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip

    with _on(x):
        if sums:
            run(grid, True, not batch, False)
        if factors is not None and weight is not None:
            grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(weight)
            fused_backward.norm_gradients[(triton.cdiv(C, 16),)](
                partial, factors, grad_weight, grad_bias, corrections if batch else torch.empty_like(factors[:2]),
                grid[0], C, max(n.count, 1), ROWS=ROWS, CB=16,
            )  # fmt: skip
        if batch or not sums:
            run(layout.grid(tile), False, True, batch)
    if gain is not None:
        grad_gain = partial[:, 2].sum(dtype=torch.float64).to(gain.dtype)
    return grad_x, grad_weight, grad_bias, grad_gain
