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
def current(x, at, inside, scale, shift, NORM: tl.constexpr):
    y = tl.load(x + at, inside, 0.0).to(tl.float32)
    if NORM:
        y = y * scale + shift
    return y


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


@triton.jit
def statistics(
    x, partial, weight, bias, mean, variance, tracked, factors, rows, C, sc, count, momentum, eps,
    TRAIN: tl.constexpr, TRACKED: tl.constexpr, ROWS: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Factors from the batch's sums, which also move the running estimates, or from those."""
    c = tl.program_id(0) * CB + tl.arange(0, CB)
    inside = c < C
    m, var = tl.load(mean + c, inside, 0.0).to(tl.float64), tl.load(variance + c, inside, 1.0).to(tl.float64)
    if TRAIN:
        n = count.to(tl.float64)
        d = column_sum(partial, rows, 2 * C, c, C, ROWS, CB) / n
        q = column_sum(partial + C, rows, 2 * C, c, C, ROWS, CB) / n
        now = tl.load(x + c.to(tl.int64) * sc, inside, 0.0).to(tl.float64) + d
        spread = tl.maximum(q - d * d, 0.0)
        tl.store(mean + c, (m + (now - m) * momentum).to(mean.dtype.element_ty), inside)
        unbiased = spread * n / (n - 1)
        tl.store(variance + c, (var + (unbiased - var) * momentum).to(variance.dtype.element_ty), inside)
        m, var = now, spread
        if TRACKED:
            if tl.program_id(0) == 0:
                tl.store(tracked, tl.load(tracked) + 1)
    inverse = 1 / tl.sqrt(var + eps)
    scale = tl.load(weight + c, inside, 0.0).to(tl.float64) * inverse
    shift = tl.load(bias + c, inside, 0.0).to(tl.float64) - m * scale
    tl.store(factors + c, m.to(tl.float32), inside)
    tl.store(factors + C + c, inverse.to(tl.float32), inside)
    tl.store(factors + 2 * C + c, scale.to(tl.float32), inside)
    tl.store(factors + 3 * C + c, shift.to(tl.float32), inside)


@triton.jit
def forward(
    x, out, factors, learned, pixels, C, sb, sp, sc, step, frame, gain, leak, threshold,
    T: tl.constexpr, NORM: tl.constexpr, FIRE: tl.constexpr, SOFT: tl.constexpr, LEARNED: tl.constexpr,
    PB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Spikes of normalised currents, or these themselves."""
    blocks = tl.cdiv(pixels, PB)
    i = tl.program_id(0)
    p = (i % blocks) * PB + tl.arange(0, PB)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    inside = (p < pixels)[:, None] & (c < C)[None, :]
    at = (i // blocks).to(tl.int64) * sb + p.to(tl.int64)[:, None] * sp + c.to(tl.int64)[None, :] * sc
    gain, leak = gain_and_leak(learned, gain, leak, LEARNED)
    scale, shift = scale_and_shift(factors, c, C, NORM)
    v = tl.full([PB, CB], 0.0, tl.float32)
    for t in tl.static_range(T):
        y = current(x + t * step, at, inside, scale, shift, NORM)
        if FIRE:
            h = leak * v + gain * y
            y = tl.where(h >= threshold, 1.0, 0.0)
            v = after_reset(h, threshold, SOFT)
        tl.store(out + t * frame + at, y.to(out.dtype.element_ty), inside)


@triton.jit
def forward_pooled(
    x, pooled, winners, factors, learned, pixels, C, H, W, OH, OW, step, frame, gain, leak, threshold,
    T: tl.constexpr, NORM: tl.constexpr, SOFT: tl.constexpr, LEARNED: tl.constexpr, KEEP: tl.constexpr,
    PB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Spikes of channels-last frames, 3x3 max-pooled with stride 2 and padding 1, and which of nine won: 4 bits a step.

    As PyTorch has it the first of equals wins, the first pixel of all where none fired.
    """
    p = tl.program_id(0) * PB + tl.arange(0, PB)
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    inside = (p < pixels)[:, None] & (c < C)[None, :]
    oy, ox, sample = (p // OW) % OH, p % OW, p // (OH * OW)
    gain, leak = gain_and_leak(learned, gain, leak, LEARNED)
    scale, shift = scale_and_shift(factors, c, C, NORM)
    fired = tl.full([PB, CB], 0, tl.int32)
    first = tl.where(oy == 0, 3, 0) + tl.where(ox == 0, 1, 0)
    if T <= 8:
        won = tl.full([PB, CB], 0, tl.int32) + (first * 0x11111111)[:, None]
    else:
        won = tl.full([PB, CB], 0, tl.int64) + (first.to(tl.int64) * 0x1111111111111111)[:, None]
    for k in range(9):
        iy, ix = 2 * oy - 1 + k // 3, 2 * ox - 1 + k % 3
        there = inside & ((iy >= 0) & (iy < H) & (ix >= 0) & (ix < W))[:, None]
        at = ((sample.to(tl.int64) * H + iy) * W + ix)[:, None] * C + c[None, :]
        v = tl.full([PB, CB], 0.0, tl.float32)
        for t in tl.static_range(T):
            h = leak * v + gain * current(x + t * step, at, there, scale, shift, NORM)
            v = after_reset(h, threshold, SOFT)
            new = (h >= threshold) & there & ((fired >> t) & 1 == 0)
            fired = tl.where(new, fired | (1 << t), fired)
            if KEEP:
                mine = tl.full([PB, CB], 0, won.dtype) + (first.to(won.dtype))[:, None]
                won = tl.where(new, won + ((k - mine) << (4 * t)), won)  # still the first's
    at = p.to(tl.int64)[:, None] * C + c[None, :]
    for t in tl.static_range(T):
        tl.store(pooled + t * frame + at, ((fired >> t) & 1).to(tl.float32).to(pooled.dtype.element_ty), inside)
    if KEEP:
        tl.store(winners + at, won.to(winners.dtype.element_ty), inside)


@triton.jit
def from_window(grad, winners, oy, ox, there, k, t, base, OW, c, C, frame, WIDE: tl.constexpr):
    """What flows back through one window to its ``k``-th pixel at step ``t``."""
    at = (base + oy * OW + ox)[:, None] * C + c[None, :]
    won = tl.load(winners + at, there, 0)
    if not WIDE:
        won = won.to(tl.int32)
    mine = ((won >> (4 * t)) & 15) == k[:, None]
    g = tl.load(grad + t * frame + at, there, 0.0).to(tl.float32)  # not only mine: sixteen bytes at once
    return tl.where(mine, g, 0.0)


@triton.jit
def backward(
    x, grad_out, winners, grad_x, partial, factors, corrections, learned,
    batches, pixels, C, sb, sp, sc, step, frame, H, W, OH, OW, gain, leak, threshold, a, b,
    T: tl.constexpr, ONE: tl.constexpr, NORM: tl.constexpr, FIRE: tl.constexpr, POOL: tl.constexpr,
    SUM: tl.constexpr, WRITE: tl.constexpr, CORRECT: tl.constexpr, SOFT: tl.constexpr, DETACH: tl.constexpr,
    KIND: tl.constexpr, LEARNED: tl.constexpr, PB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Recompute potentials, go back through time; then ``SUM`` what the norm's gradients need, ``WRITE`` those of x.

    ``partial``: three rows a program: of the gradient, of it times ``x - mean``, and of the learned gain's. ``ONE``:
    a single frame was shown. ``CORRECT``: batch statistics depended on x, too.
    """
    c = tl.program_id(1) * CB + tl.arange(0, CB)
    gain, leak = gain_and_leak(learned, gain, leak, LEARNED)
    scale, shift = scale_and_shift(factors, c, C, NORM)
    if NORM:
        mean = tl.load(factors + c, c < C, 0.0)[None, :]
    if CORRECT:
        k0, k1 = (tl.load(corrections + c, c < C, 0.0))[None, :], (tl.load(corrections + C + c, c < C, 0.0))[None, :]
    s0, s1 = tl.full([PB, CB], 0.0, tl.float32), tl.full([PB, CB], 0.0, tl.float32)
    s2 = tl.full([PB, CB], 0.0, tl.float32)
    blocks = tl.cdiv(pixels, PB)
    for i in range(tl.program_id(0), batches * blocks, tl.num_programs(0)):
        p = (i % blocks) * PB + tl.arange(0, PB)
        inside = (p < pixels)[:, None] & (c < C)[None, :]
        at = (i // blocks).to(tl.int64) * sb + p.to(tl.int64)[:, None] * sp + c.to(tl.int64)[None, :] * sc
        if POOL:  # windows with this pixel: one, or two where its row or column is odd
            iy, ix, base = (p // W) % H, p % W, (p // (W * H)).to(tl.int64) * OH * OW
            oy, ox = iy // 2, ix // 2
            ky, kx = 1 + iy % 2, 1 + ix % 2
            below = (iy % 2 == 1) & (oy + 1 < OH)
            right = (ix % 2 == 1) & (ox + 1 < OW)
        hs = ()
        v = tl.full([PB, CB], 0.0, tl.float32)
        if FIRE:
            for t in tl.static_range(T):
                h = leak * v + gain * current(x + t * step, at, inside, scale, shift, NORM)
                v = after_reset(h, threshold, SOFT)
                hs = hs + (h,)
        grad_v = tl.full([PB, CB], 0.0, tl.float32)
        total = tl.full([PB, CB], 0.0, tl.float32)
        for t in tl.static_range(T - 1, -1, -1):
            if POOL:
                g = from_window(grad_out, winners, oy, ox, inside, ky * 3 + kx, t, base, OW, c, C, frame, T > 8)
                g += from_window(
                    grad_out, winners, oy + 1, ox, inside & below[:, None], kx, t, base, OW, c, C, frame, T > 8
                )
                g += from_window(
                    grad_out, winners, oy, ox + 1, inside & right[:, None], ky * 3, t, base, OW, c, C, frame, T > 8
                )
                corner = inside & (below & right)[:, None]
                g += from_window(grad_out, winners, oy + 1, ox + 1, corner, ky * 0, t, base, OW, c, C, frame, T > 8)
            else:
                g = tl.load(grad_out + t * frame + at, inside, 0.0).to(tl.float32)
            if FIRE:
                h = hs[t]
                slope = derivative(h - threshold, a, b, KIND)
                through = tl.where(h >= threshold, 1.0 if SOFT else 0.0, 1.0)
                if not DETACH:
                    through -= slope * (threshold if SOFT else h)
                grad_h = g * slope + grad_v * through
                grad_v = grad_h * leak
                g = grad_h * gain
                if LEARNED:
                    drive = current(x + t * step, at, inside, scale, shift, NORM)
                    if t > 0:
                        drive -= after_reset(hs[t - 1], threshold, SOFT)
                    s2 += tl.where(inside, grad_h * drive, 0.0)
            if ONE:
                total += g
            else:
                if NORM:
                    d = tl.load(x + t * step + at, inside, 0.0).to(tl.float32) - mean
                    if SUM:
                        s0 += tl.where(inside, g, 0.0)
                        s1 += tl.where(inside, g * d, 0.0)
                    if CORRECT:
                        g = g - k0 - d * k1
                    g *= scale
                if WRITE:
                    tl.store(grad_x + t * step + at, g.to(grad_x.dtype.element_ty), inside)
        if ONE:
            if NORM:
                d = tl.load(x + at, inside, 0.0).to(tl.float32) - mean
                if SUM:
                    s0 += tl.where(inside, total, 0.0)
                    s1 += tl.where(inside, total * d, 0.0)
                if CORRECT:
                    total = total - k0 - d * k1
                total *= scale
            if WRITE:
                tl.store(grad_x + at, total.to(grad_x.dtype.element_ty), inside)
    if SUM:
        row = partial + tl.program_id(0) * 3 * C + c
        tl.store(row, tl.sum(s0, 0), c < C)
        tl.store(row + C, tl.sum(s1, 0), c < C)
        tl.store(row + 2 * C, tl.sum(s2, 0), c < C)


@triton.jit
def norm_gradients(
    partial, factors, grad_weight, grad_bias, corrections, rows, C, count, ROWS: tl.constexpr, CB: tl.constexpr
):
    """From the sums over programs; ``corrections``: what every value's gradient loses, constant and times x - mean."""
    c = tl.program_id(0) * CB + tl.arange(0, CB)
    s0 = column_sum(partial, rows, 3 * C, c, C, ROWS, CB)
    s1 = column_sum(partial + C, rows, 3 * C, c, C, ROWS, CB)
    inverse = tl.load(factors + C + c, c < C, 0.0).to(tl.float64)
    tl.store(grad_weight + c, (s1 * inverse).to(grad_weight.dtype.element_ty), c < C)
    tl.store(grad_bias + c, s0.to(grad_bias.dtype.element_ty), c < C)
    n = count.to(tl.float64)
    tl.store(corrections + c, (s0 / n).to(tl.float32), c < C)
    tl.store(corrections + C + c, (s1 * inverse * inverse / n).to(tl.float32), c < C)
