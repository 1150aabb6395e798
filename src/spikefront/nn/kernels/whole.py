"""Spikes as bits and layers of whole numbers that read them: weights of 8 bits, sums of 16 and 32 (``whole.cpp``).

Counts of several spikes travel as planes of bits, the n-th set where a count is above n. Currents are int32 tensors in
channels-last memory.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefront.errors import UserError
from spikefront.nn.kernels import sparse
from spikefront.nn.kernels.arguments import number, pointer, rows_of, words_in
from spikefront.nn.kernels.build import library
from spikefront.nn.kernels.sparse import Neuron as RealNeuron
from spikefront.nn.kernels.sparse import Spikes

TILE = 64  # columns: a word
INDICES = 2**16  # rows of weights that a list can name
LARGEST = 2**30  # that a potential may be, so that a neuron's sum of two is a number still
MOST = 64  # spikes at once that are still told from real values


class Neuron(ctypes.Structure):
    """As in whole.cpp: ``h = (leak v + gain x) >> 8``, a threshold a channel."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("leak", "gain", "soft", "levels")),
        *((name, ctypes.c_void_p) for name in ("thresholds", "drop")),
    ]


@dataclass
class Packed:
    """A layer's numbers as the kernel wants them: padded to whole tiles of columns and whole words of channels.

    Attributes:
        weight: uint8 ``(tiles, taps, channels, 64)``, interleaved.
        gain, offset: a number a column, int32 of whole currents, float32 of real ones.
        out, taps: output channels, and 1 or 9.
    """

    weight: Tensor
    gain: Tensor
    offset: Tensor
    out: int
    taps: int


def available() -> bool:
    """Whether the kernels are there; if not, says why, once."""
    return library("whole") is not None


def fits(channels: int, taps: int) -> bool:
    """Whether lists can name a layer's weights."""
    return taps * words_in(channels) * 64 <= INDICES


def pack(weight: Tensor, gain: Tensor, offset: Tensor) -> Packed:
    """Whole weights ``(out, in, k, k)`` from -127 to 127, what a column's sum is multiplied by, and what is added.

    Those two are whole numbers, or float32: so is what the layer then gives.
    """
    out, channels, taps = weight.shape[0], weight.shape[1], weight[0, 0].numel()
    rows = F.pad(weight.detach().flatten(2).to(torch.int16), (0, 0, 0, -channels % 64, 0, -out % TILE))
    tiles = rows.view(-1, TILE, rows.shape[1], taps).permute(0, 3, 2, 1)
    by = _library().interleaved()
    pairs = tiles.unflatten(-1, (TILE // by, 4, by // 4)).transpose(-1, -2).flatten(-3).contiguous()
    pairs[..., ::2] += 128  # the lower of two weights in a word of 16 bits
    return Packed((pairs & 255).to(torch.uint8), *columns(gain, offset), out, taps)


def columns(gain: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """A number a column of all tiles, int32 or float32."""
    kind = torch.float32 if gain.dtype == torch.float32 else torch.int32
    gain, offset = (F.pad(t.detach().to(kind), (0, -len(t) % TILE)) for t in (gain, offset))
    return gain, offset


def neuron(leak: int, gain: int, thresholds: Tensor, drop: Tensor | None, channels: int) -> tuple[Neuron, list[Tensor]]:
    """A neuron of so many channels, and the tensors it points to, which must outlive it.

    ``thresholds``: ``(levels, channels)`` or ``(levels, 1)``; ``drop``: ``(channels,)`` or ``(1,)``.
    """
    held = [thresholds] + ([] if drop is None else [drop.view(1, -1)])
    padded = [
        F.pad(t.to(torch.int32).expand(-1, channels), (0, -channels % TILE), value=2**31 - 1).contiguous() for t in held
    ]
    pointers = [t.data_ptr() for t in padded] + ([0] if drop is None else [])
    return Neuron(leak, gain, drop is not None, len(thresholds), *pointers), padded


def encode(x: Tensor) -> Spikes | None:
    """Frames ``(..., C, H, W)`` of counts as planes of bits, or None if they hold anything else."""
    if (binary := sparse.encode(x.float())) is not None:
        return binary
    rows = rows_of(x.float())
    largest = int(rows.amax())
    if not 0 <= largest <= MOST:
        return None
    bits = torch.empty(largest * len(rows), words_in(rows.shape[1]), dtype=torch.int64)
    found = _library().encode_whole(pointer(rows), pointer(bits), *map(number, (largest, *rows.shape)))
    return None if found < 0 else Spikes(bits, x.shape, largest)


def convolve(spikes: Spikes, layer: Packed, onto: Tensor | None = None) -> Tensor:
    """Currents ``(N, out, H, W)`` of frames ``(N, C, H, W)``, added to those of ``onto``.

    Raises:
        UserError: a sum beyond ``LARGEST``.
    """
    N, _, H, W = spikes.shape
    out = torch.empty(N, layer.out, H, W, dtype=layer.gain.dtype, memory_format=torch.channels_last)
    before = None if onto is None else rows_of(onto)
    if not _convolve(spikes, layer, before, out, None, None, (1, N, H, W)):
        raise beyond()
    return out


def beyond() -> UserError:
    """What is said of potentials that 32 bits don't hold."""
    return UserError(
        "a potential is beyond 30 bits, so that whole numbers can't express this network's answer to these inputs: use"
        " for_inference(weights='float32')"
    )


def convolve_and_fire(spikes: Spikes, layer: Packed, neuron: Neuron | RealNeuron) -> Spikes:
    """The spikes of a neuron on the currents of ``(T, B, C, H, W)``, which are never written."""
    T, B, _, H, W = spikes.shape
    planes = neuron.levels if isinstance(neuron, Neuron) else 1
    bits = torch.empty(planes * T * B * H * W, words_in(layer.out), dtype=torch.int64)
    _convolve(spikes, layer, None, None, neuron, bits, (T, B, H, W))
    return Spikes(bits, torch.Size((T, B, layer.out, H, W)), planes)


def fire(x: Tensor, timesteps: int | None, neuron: Neuron, scales: tuple[Tensor, Tensor] | None = None) -> Spikes:
    """A neuron's spikes on whole currents ``(T, B, C, H, W)``, or ``(1, ...)`` shown often.

    ``scales``: what ``x`` in float32 is multiplied by and what is then added to it, from ``columns``.
    """
    T, B, C, H, W = x.shape
    steps, rows = timesteps or T, rows_of(x.to(torch.int32 if scales is None else torch.float32))
    bits = torch.empty(neuron.levels * steps * B * H * W, words_in(C), dtype=torch.int64)
    given = (rows, None, None, None) if scales is None else (None, rows, *scales)
    sizes = map(number, (steps, B * C * H * W if T > 1 else 0, B * H * W, C))
    _library().fire_whole(*map(pointer, given), pointer(bits), ctypes.byref(neuron), *sizes)
    return Spikes(bits, torch.Size((steps, B, C, H, W)), neuron.levels)


def pool(x: Tensor, stride: int) -> Tensor:
    """3x3 max-pooling with padding 1 of int32 frames ``(N, C, H, W)``."""
    N, C, H, W = x.shape
    size = N, C, (H - 1) // stride + 1, (W - 1) // stride + 1
    rows, out = rows_of(x), torch.empty(size, dtype=torch.int32, memory_format=torch.channels_last)
    _library().pool_whole(pointer(rows), pointer(out), *map(number, (N, C, H, W, stride)))
    return out


def _convolve(
    spikes: Spikes,
    layer: Packed,
    onto: Tensor | None,
    out: Tensor | None,
    neuron: Neuron | RealNeuron | None,
    bits: Tensor | None,
    sizes: tuple[int, ...],
) -> bool:
    given = (spikes.bits, layer.weight, layer.gain, layer.offset, onto, out)
    fires = ctypes.c_void_p(None) if neuron is None else ctypes.byref(neuron)
    numbers = (spikes.planes, *sizes, spikes.shape[-3], layer.out, layer.taps)
    real = layer.gain.dtype == torch.float32
    run = _library().convolve_scaled if real else _library().convolve_whole
    found = run(*map(pointer, given), fires, pointer(bits), *map(number, numbers))
    return real or bool(found)


def _library() -> ctypes.CDLL:
    code = library("whole")
    assert code is not None
    for name in ("interleaved", "encode_whole"):
        getattr(code, name).restype = ctypes.c_int64
    return code
