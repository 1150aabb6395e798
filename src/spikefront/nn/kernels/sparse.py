"""Spikes as bits and the layers that read them: additions only, and only where a spike is (``sparse.cpp``).

``Spikes`` is what neuron, pool and attention of a deployed network hand on. Shapes are as everywhere,
``(T, B, C, H, W)`` or frames ``(N, C, H, W)``; in memory a pixel is a row of bits.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefront.nn.kernels.arguments import number, pointer, rows_of, words_in
from spikefront.nn.kernels.build import library
from spikefront.nn.torch_internals import watched

SPAN = 448  # input channels a chunk, at most, whole words: a list entry is 16 bits of distance in bytes, 128 a channel
GRADIENTS = 256 * 32  # of a tile, gathered from the cache at once


@dataclass
class Spikes:
    """Spikes of frames.

    Attributes:
        bits: ``(planes rows, words)`` int64, a row a pixel of a frame, 64 channels a word.
        shape: ``(..., C, H, W)`` of the float tensor they stand for.
        planes: of a pixel's spikes the n-th plane of rows has those above n; 1 of binary ones.
    """

    bits: Tensor
    shape: torch.Size
    planes: int = 1

    def flatten(self, first: int, last: int) -> Spikes:
        """Time and batch as one dimension."""
        assert (first, last) == (0, 1) and len(self.shape) == 5
        return replace(self, shape=torch.Size((self.shape[0] * self.shape[1], *self.shape[2:])))

    def unflatten(self, dim: int, sizes: tuple[int, ...]) -> Spikes:
        """Frames as time and batch."""
        assert dim == 0 and len(self.shape) == 4
        return replace(self, shape=torch.Size((*sizes, *self.shape[1:])))

    def count(self) -> int:
        """How many there are."""
        return int(_library().count_bits(pointer(self.bits), number(self.bits.numel())))

    def dense(self) -> Tensor:
        """How many spikes, in float32, channels-last."""
        *lead, channels, height, width = self.shape
        rows = torch.empty(len(self.bits) // self.planes, channels)
        _library().decode(pointer(self.bits), pointer(rows), number(self.planes), number(len(rows)), number(channels))
        frames = rows.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return frames.unflatten(0, tuple(lead)) if len(lead) == 2 else frames


def hands_over(neuron: Any, x: Tensor) -> bool:
    """Whether a neuron with currents ``x`` is to fire bits, which only its ``readers`` know."""
    return (
        type(x) is Tensor
        and x.dim() == 5
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        and unwatched(neuron)
    )


def unwatched(neuron: Any) -> bool:
    """Whether nobody looks at a neuron's spikes and all of its readers want bits."""
    return not watched(neuron) and all(getattr(r, "reads_bits", False) and not watched(r) for r in neuron.readers)


def available() -> bool:
    """Whether the kernels are there; if not, says why, once."""
    return library("sparse") is not None


def encode(x: Tensor) -> Spikes | None:
    """Frames ``(..., C, H, W)`` as bits, or None if they hold anything but zeros and ones."""
    rows = rows_of(x)
    channels = rows.shape[1]
    bits = torch.empty(len(rows), words_in(channels), dtype=torch.int64)
    binary = _library().encode(pointer(rows), pointer(bits), number(len(rows)), number(channels))
    return Spikes(bits, x.shape) if binary else None


class Neuron(ctypes.Structure):
    """A leaky integrate-and-fire neuron: ``h = leak v + gain x``, as in sparse.cpp."""

    _fields_ = [*((name, ctypes.c_float) for name in ("gain", "leak", "threshold")), ("soft", ctypes.c_int32)]


def fire(x: Tensor, timesteps: int | None, neuron: Neuron) -> Spikes:
    """The neuron's spikes on currents ``(T, B, C, H, W)``, or ``(1, ...)`` shown often."""
    T, B, C, H, W = x.shape
    steps = timesteps or T
    rows = rows_of(x)
    bits = torch.empty(steps * B * H * W, words_in(C), dtype=torch.int64)
    sizes = map(number, (steps, B * C * H * W if T > 1 else 0, B * H * W, C))
    _library().fire_bits(pointer(rows), pointer(bits), ctypes.byref(neuron), *sizes)
    return Spikes(bits, torch.Size((steps, B, C, H, W)))


def pack_images(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights ``(out, in, 3, 3)`` as ``(9, in, columns)`` and a bias a column, padded with zeros to sixteens."""
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    rows = F.pad(weight.detach().flatten(2).permute(2, 1, 0), (0, -len(weight) % 16))
    return rows.contiguous(), F.pad(bias, (0, -len(bias) % 16)).contiguous()


def fire_images(x: Tensor, packed: tuple[Tensor, Tensor], out: int, timesteps: int, neuron: Neuron) -> Spikes:
    """The neuron's spikes on 3x3 convolutions of images ``(T, B, C, H, W)``, or ``(1, ...)`` shown that often."""
    T, B, C, H, W = x.shape
    bits, rows = torch.empty(timesteps * B * H * W, words_in(out), dtype=torch.int64), rows_of(x)
    sizes = map(number, (T > 1, timesteps, B, H, W, C, out))
    _library().fire_images(pointer(rows), *map(pointer, packed), ctypes.byref(neuron), pointer(bits), *sizes)
    return Spikes(bits, torch.Size((timesteps, B, out, H, W)))


def pool(spikes: Spikes, stride: int) -> Spikes:
    """3x3 max-pooling with padding 1 of frames ``(N, C, H, W)``."""
    N, C, H, W = spikes.shape
    h, w = (H - 1) // stride + 1, (W - 1) // stride + 1
    words = spikes.bits.shape[1]
    frames = spikes.planes * N
    out = torch.empty(frames * h * w, words, dtype=torch.int64)
    _library().pool_bits(pointer(spikes.bits), pointer(out), *map(number, (frames, words, H, W, stride)))
    return replace(spikes, bits=out, shape=torch.Size((N, C, h, w)))


@dataclass
class Counts:
    """Whole numbers 0 to 64 as spikes: ``x`` as it came, and how many there are."""

    x: Tensor
    spikes: int

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    def count(self) -> int:
        """How many there are."""
        return self.spikes


def read(x: Tensor | Spikes) -> Spikes | Counts | None:
    """What ``convolve`` reads, of frames ``(..., C, H, W)`` of bits or of whole numbers; None for any other values."""
    if isinstance(x, Spikes):
        return x
    if (spikes := encode(x)) is not None:
        return spikes
    rows = rows_of(x)
    total = _library().count_numbers(pointer(rows), number(rows.numel()))
    return Counts(x, total) if total >= 0 else None


def pack(weight: Tensor, weights: str = "float32") -> Tensor:
    """Weights ``(out, in, k, k)`` as tiles of output columns ``(tiles, k k, in, columns)``, padded with zeros.

    In ``"float32"`` 32 columns a tile, in ``"bfloat16"`` 64, in the order in which the kernel adds them.
    """
    code, half = _library(), weights == "bfloat16"
    tile = code.tile_width() * (2 if half else 1)
    out, channels, taps = weight.shape[0], weight.shape[1], weight[0, 0].numel()
    rows = weight.detach().flatten(2)
    if out % tile:
        rows = F.pad(rows, (0, 0, 0, 0, 0, -out % tile))
    tiles = rows.view(-1, tile, channels, taps).permute(0, 3, 2, 1)
    if not half:
        return tiles.contiguous()
    order = torch.empty(tile, dtype=torch.int64)
    code.halves_order(pointer(order))
    return tiles[..., order].bfloat16().contiguous()


def convolve(x: Spikes | Counts, packed: Tensor, bias: Tensor | None, out: int, onto: Tensor | None = None) -> Tensor:
    """``conv(x) + bias`` of frames ``(N, C, H, W)``: ``(N, out, H, W)``, channels-last; added to ``onto`` if given."""
    N, _, H, W = x.shape
    y = torch.empty(N, out, H, W, memory_format=torch.channels_last)
    _convolve(x, packed, bias, onto, y, None, None, (1, N, H, W), out)
    return y


def convolve_and_fire(x: Spikes | Counts, packed: Tensor, bias: Tensor | None, out: int, neuron: Neuron) -> Spikes:
    """The neuron's spikes on ``conv(x) + bias``, of ``x`` ``(T, B, C, H, W)``; currents are never written."""
    T, B, _, H, W = x.shape
    bits = torch.empty(T * B * H * W, words_in(out), dtype=torch.int64)
    _convolve(x, packed, bias, None, None, neuron, bits, (T, B, H, W), out)
    return Spikes(bits, torch.Size((T, B, out, H, W)))


def _convolve(
    x: Spikes | Counts,
    packed: Tensor,
    bias: Tensor | None,
    onto: Tensor | None,
    out: Tensor | None,
    neuron: Neuron | None,
    bits: Tensor | None,
    sizes: tuple[int, ...],
    columns: int,
) -> None:
    channels = x.shape[-3]
    span = -(-channels // -(-channels // SPAN))  # chunks of equal size, in whole words
    rows, before = (rows_of(t) if t is not None else None for t in (x.x if isinstance(x, Counts) else None, onto))
    given = (x.bits if isinstance(x, Spikes) else None, rows, packed, bias, before, out)
    fires = ctypes.c_void_p(None) if neuron is None else ctypes.byref(neuron)
    numbers = (packed.dtype == torch.bfloat16, *sizes, channels, columns, packed.shape[1], 64 * words_in(span))
    _library().convolve(*map(pointer, given), fires, pointer(bits), *map(number, numbers))


def weight_gradient(spikes: Spikes, grad: Tensor, kernel: int) -> Tensor:
    """``(out, in, k, k)`` of a 1x1 or 3x3 convolution: for every channel and tap, ``grad`` where it spiked, added."""
    code, pad = _library(), kernel // 2
    (N, C, H, W), out = spikes.shape, grad.shape[1]
    columns = code.tile_width() * (1 if pad else 2)
    span = GRADIENTS // columns
    inside, tiles = N * (H + pad) * (W + pad), -(-out // columns)
    sizes = tuple(map(number, (N, H, W, pad, C, span)))
    starts = torch.empty(-(-inside // span) * C + 1, dtype=torch.int64)
    entries = torch.empty(code.count_places(pointer(spikes.bits), pointer(starts), *sizes), dtype=torch.int16)
    code.list_places(pointer(spikes.bits), pointer(starts), pointer(entries), *sizes, number(columns))
    rows, sums = rows_of(grad), torch.empty(tiles, kernel, C, kernel * columns)
    weight = torch.empty(out, C, kernel, kernel)
    given = map(pointer, (entries, starts, rows, sums, weight))
    code.gather_gradient(*given, *sizes, number(columns), number(out))
    return weight


def sdsa(qkv: Spikes, gate: torch.nn.Module, heads: int, event_mode: bool) -> Spikes:
    """SDSA on ``(T, B, 3 D, H, W)`` spikes of queries, keys and values side by side, D a multiple of 64.

    ``k & v``, a count down the tokens, the gate's neuron, and a mask on q; with ``event_mode`` the published poolings.
    """
    T, B, width, H, W = qkv.shape
    D, code = width // 3, _library()
    words, plane = D // 64, D // heads if event_mode else 0
    pooled = pool(qkv.flatten(0, 1), 1).bits if event_mode else qkv.bits
    sums = torch.empty(T * B, D)
    sizes = tuple(map(number, (T * B, H * W, words, plane)))
    k, v = (ctypes.c_void_p(pooled.data_ptr() + 8 * words * i) for i in (1, 2))
    code.sdsa_sum(k, v, number(3 * words), pointer(sums), *sizes)
    open_ = encode(gate(sums.view(T, B, D, 1, 1)))
    if open_ is None:
        raise ValueError("the gate of spike-driven self-attention must fire 0 or 1")
    out = torch.empty(T * B * H * W, words, dtype=torch.int64)
    code.sdsa_mask(pointer(qkv.bits), number(3 * words), pointer(open_.bits), pointer(out), *sizes)
    return Spikes(out, torch.Size((T, B, D, H, W)))


def _library() -> ctypes.CDLL:
    code = library("sparse")
    assert code is not None
    for name in ("tile_width", "count_bits", "count_numbers", "count_places"):
        getattr(code, name).restype = ctypes.c_int64
    return code
