"""Batch norm, neuron and max-pool as Triton kernels: a tile of pixels and channels through all T steps at once.

Potentials are float32 whatever the dtype and never leave the registers: the backward pass recomputes them from the
currents before the norm, all that is saved. A tensor is ``batches`` of ``pixels`` times ``channels``, whose distances
in memory are ``sb``, ``sp`` and ``sc``: so one kernel serves channels-last frames and contiguous ones. ``step`` lies
between two steps of currents (0: one frame shown T times), ``frame`` between two of spikes. ``factors`` are a norm's
rows of mean, inverse deviation, scale and shift.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def derivative(u, a, b, KIND: tl.constexpr):
    """Of the surrogate with this number in surrogates.py."""
    if KIND == 0:
        s = 1 / (1 + tl.exp(-a * u))
        d = a * s * (1 - s)
    elif KIND == 1:
        z = 1.5707963267948966 * a * u
        d = a / 2 / (1 + z * z)
    elif KIND == 2:
        d = b * tl.maximum(1 - tl.abs(u) / a, 0.0)
    elif KIND == 3:
        z = 1 + a * tl.abs(u)
        d = 1 / (z * z)
    elif KIND == 4:
        d = tl.where(tl.abs(u) < a / 2, 1 / a, 0.0)
    else:
        d = tl.where(u == u, 1.0, u)
    return d


@triton.jit
def after_reset(h, threshold, SOFT: tl.constexpr):
    if SOFT:
        v = tl.where(h >= threshold, h - threshold, h)
    else:
        v = tl.where(h >= threshold, 0.0, h)
    return v


@triton.jit
def gain_and_leak(learned, gain, leak, LEARNED: tl.constexpr):
    if LEARNED:
        gain = tl.load(learned).to(tl.float32)
        leak = 1 - gain
    return gain, leak


@triton.jit
def scale_and_shift(factors, c, C, NORM: tl.constexpr):
    if NORM:
        scale, shift = tl.load(factors + 2 * C + c, c < C, 0.0), tl.load(factors + 3 * C + c, c < C, 0.0)
    else:
        scale, shift = tl.full(c.shape, 1.0, tl.float32), tl.full(c.shape, 0.0, tl.float32)
    return scale[None, :], shift[None, :]


@triton.jit
def normalised(y, scale, shift, NORM: tl.constexpr):
    y = y.to(tl.float32)
    if NORM:
        y = y * scale + shift
    return y


@triton.jit
def frames(x, at, inside, step, T: tl.constexpr, ONE: tl.constexpr):
    """All steps' values, asked for before the first is used; ``ONE`` frame is read once."""
    found = (tl.load(x + at, inside, 0.0),)
    for t in tl.static_range(1, T):
        if ONE:
            found = found + (found[0],)  # type: ignore[assignment]
        else:
            found = found + (tl.load(x + t * step + at, inside, 0.0),)  # type: ignore[assignment]
    return found


@triton.jit
def sums(x, partial, batches, pixels, C, sb, sp, sc, PB: tl.constexpr, CB: tl.constexpr):
    """Of a channel's values, less its first, and of their squares: a row of each for every program."""
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    first = tl.load(x + c.to(tl.int64) * sc, c < C, 0.0).to(tl.float32)
    s, q = tl.full([PB, CB], 0.0, tl.float32), tl.full([PB, CB], 0.0, tl.float32)
    blocks = tl.cdiv(pixels, PB)
    for i in range(tl.program_id(0), batches * blocks, tl.num_programs(0)):
        p = (i % blocks) * PB + tl.arange(0, PB)
        inside = (p < pixels)[:, None] & (c < C)[None, :]
        start = x + (i // blocks).to(tl.int64) * sb
        at = p.to(tl.int64)[:, None] * sp + c.to(tl.int64)[None, :] * sc
        d = tl.where(inside, tl.load(start + at, inside, 0.0).to(tl.float32) - first[None, :], 0.0)
        s += d
        q += d * d
    row = partial + tl.program_id(0) * 2 * C + c
    tl.store(row, tl.sum(s, 0), c < C)
    tl.store(row + C, tl.sum(q, 0), c < C)


@triton.jit
def column_sum(partial, rows, stride, c, C, ROWS: tl.constexpr, CB: tl.constexpr):
    total = tl.full([ROWS, CB], 0.0, tl.float64)
    for r in range(0, rows, ROWS):
        at = r + tl.arange(0, ROWS)
        inside = (at < rows)[:, None] & (c < C)[None, :]
        total += tl.load(partial + at[:, None] * stride + c[None, :], inside, 0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["count"])  # 1 would be no tensor
def statistics(
    x, partial, weight, bias, mean, variance, tracked, before, factors, rows, C, sc, count, momentum, eps,
    TRAIN: tl.constexpr, TRACKED: tl.constexpr, BEFORE: tl.constexpr, ROWS: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Factors from the batch's sums, which also move the running estimates, or from those.

    ``before``: a bias of the convolution that ``x`` has not got yet.
    """
    c = tl.program_id(0) * CB + tl.arange(0, CB)
    inside = c < C
    offset = tl.full([CB], 0.0, tl.float64)
    if BEFORE:
        offset = tl.load(before + c, inside, 0.0).to(tl.float64)
    m, var = tl.load(mean + c, inside, 0.0).to(tl.float64), tl.load(variance + c, inside, 1.0).to(tl.float64)
    if TRAIN:
        n = count.to(tl.float64)
        d = column_sum(partial, rows, 2 * C, c, C, ROWS, CB) / n
        q = column_sum(partial + C, rows, 2 * C, c, C, ROWS, CB) / n
        now = tl.load(x + c.to(tl.int64) * sc, inside, 0.0).to(tl.float64) + d
        spread = tl.maximum(q - d * d, 0.0)
        tl.store(mean + c, (m + (now + offset - m) * momentum).to(mean.dtype.element_ty), inside)
        unbiased = spread * n / (n - 1)
        tl.store(variance + c, (var + (unbiased - var) * momentum).to(variance.dtype.element_ty), inside)
        m, var = now, spread
        if TRACKED:
            if tl.program_id(0) == 0:
                tl.store(tracked, tl.load(tracked) + 1)
    else:
        m -= offset
    inverse = 1 / tl.sqrt(var + eps)
    scale = tl.load(weight + c, inside, 0.0).to(tl.float64) * inverse
    shift = tl.load(bias + c, inside, 0.0).to(tl.float64) - m * scale
    tl.store(factors + c, m.to(tl.float32), inside)
    tl.store(factors + C + c, inverse.to(tl.float32), inside)
    tl.store(factors + 2 * C + c, scale.to(tl.float32), inside)
    tl.store(factors + 3 * C + c, shift.to(tl.float32), inside)


@triton.jit
def forward(
    x, out, other, factors, learned, pixels, C, sb, sp, sc, step, frame, gain, leak, threshold,
    T: tl.constexpr, ONE: tl.constexpr, NORM: tl.constexpr, FIRE: tl.constexpr, ADD: tl.constexpr,
    BITS: tl.constexpr, SOFT: tl.constexpr, LEARNED: tl.constexpr, PB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Spikes of normalised currents, with ``BITS`` all steps' in one number; or these themselves, ``other`` added."""
    blocks = tl.cdiv(pixels, PB)
    i = tl.program_id(0)
    p = (i % blocks) * PB + tl.arange(0, PB)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    inside = (p < pixels)[:, None] & (c < C)[None, :]
    at = (i // blocks).to(tl.int64) * sb + p.to(tl.int64)[:, None] * sp + c.to(tl.int64)[None, :] * sc
    gain, leak = gain_and_leak(learned, gain, leak, LEARNED)
    scale, shift = scale_and_shift(factors, c, C, NORM)
    v, bits = tl.full([PB, CB], 0.0, tl.float32), tl.full([PB, CB], 0, tl.int32)
    if ADD:
        more = tl.load(other + at, inside, 0.0).to(tl.float32)
    values = frames(x, at, inside, step, T, ONE)
    for t in tl.static_range(T):
        y = normalised(values[t], scale, shift, NORM)
        if ADD:
            y += more
        if FIRE:
            h = leak * v + gain * y
            y = tl.where(h >= threshold, 1.0, 0.0)
            if BITS:
                bits |= tl.where(h >= threshold, 1 << t, 0)
            v = after_reset(h, threshold, SOFT)
        if not BITS:
            tl.store(out + t * frame + at, y.to(out.dtype.element_ty), inside)
    if BITS:
        tl.store(out + at, bits.to(out.dtype.element_ty), inside)


@triton.jit
def pool(
    bits, pooled, winners, pixels, C, H, W, OH, OW, frame,
    T: tl.constexpr, KEEP: tl.constexpr, PB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Channels-last spikes as bits, 3x3 max-pooled with stride 2 and padding 1, and which of nine won: 4 bits a step.

    As PyTorch has it the first of equals wins, the first pixel of all where none fired.
    """
    p = tl.program_id(0) * PB + tl.arange(0, PB)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    inside = (p < pixels)[:, None] & (c < C)[None, :]
    oy, ox, sample = (p // OW) % OH, p % OW, p // (OH * OW)
    fired = tl.full([PB, CB], 0, tl.int32)
    first = tl.where(oy == 0, 3, 0) + tl.where(ox == 0, 1, 0)
    if T <= 8:
        won = tl.full([PB, CB], 0, tl.int32) + (first * 0x11111111)[:, None]
    else:
        won = tl.full([PB, CB], 0, tl.int64) + (first.to(tl.int64) * 0x1111111111111111)[:, None]
    for k in tl.static_range(9):
        iy, ix = 2 * oy - 1 + k // 3, 2 * ox - 1 + k % 3
        there = inside & ((iy >= 0) & (iy < H) & (ix >= 0) & (ix < W))[:, None]
        at = ((sample.to(tl.int64) * H + iy) * W + ix)[:, None] * C + c[None, :]
        here = tl.load(bits + at, there, 0).to(tl.int32)
        if KEEP:
            new, spread = here & ~fired, tl.full([PB, CB], 0, won.dtype)
            for t in tl.static_range(T):
                spread |= ((new >> t) & 1).to(won.dtype) << (4 * t)
            won += spread * (k - first.to(won.dtype))[:, None]  # still the first's
        fired |= here
    at = p.to(tl.int64)[:, None] * C + c[None, :]
    for t in tl.static_range(T):
        tl.store(pooled + t * frame + at, ((fired >> t) & 1).to(tl.float32).to(pooled.dtype.element_ty), inside)
    if KEEP:
        tl.store(winners + at, won.to(winners.dtype.element_ty), inside)
