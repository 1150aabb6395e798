"""The way back through ``fused``: potentials recomputed, spikes' gradients through time, the norm's two sums."""

from __future__ import annotations

import triton
import triton.language as tl

from spikefront.nn.kernels.fused import (
    after_reset,
    column_sum,
    derivative,
    frames,
    gain_and_leak,
    normalised,
    scale_and_shift,
)


@triton.jit
def winners_of(winners, oy, ox, there, base, OW, c, C, WIDE: tl.constexpr):
    """Of one window, 4 bits a step."""
    won = tl.load(winners + (base + oy * OW + ox)[:, None] * C + c[None, :], there, 0)
    if not WIDE:
        won = won.to(tl.int32)
    return won


@triton.jit
def from_window(grad, won, oy, ox, there, k, t, base, OW, c, C, frame):
    """What flows back through one window to its ``k``-th pixel at step ``t``."""
    at = (base + oy * OW + ox)[:, None] * C + c[None, :]
    g = tl.load(grad + t * frame + at, there, 0.0).to(tl.float32)  # not only its own: sixteen bytes at once
    return tl.where(((won >> (4 * t)) & 15) == k[:, None], g, 0.0)


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
            low, beside, corner = inside & below[:, None], inside & right[:, None], inside & (below & right)[:, None]
            won = winners_of(winners, oy, ox, inside, base, OW, c, C, T > 8)
            won_low = winners_of(winners, oy + 1, ox, low, base, OW, c, C, T > 8)
            won_beside = winners_of(winners, oy, ox + 1, beside, base, OW, c, C, T > 8)
            won_corner = winners_of(winners, oy + 1, ox + 1, corner, base, OW, c, C, T > 8)
        hs = ()
        v = tl.full([PB, CB], 0.0, tl.float32)
        values = frames(x, at, inside, step, T, ONE)
        if not POOL:
            grads = frames(grad_out, at, inside, frame, T, False)
        if FIRE:
            for t in tl.static_range(T):
                h = leak * v + gain * normalised(values[t], scale, shift, NORM)
                v = after_reset(h, threshold, SOFT)
                hs = hs + (h,)  # type: ignore[assignment]
        grad_v = tl.full([PB, CB], 0.0, tl.float32)
        total = tl.full([PB, CB], 0.0, tl.float32)
        for t in tl.static_range(T - 1, -1, -1):
            if POOL:
                g = from_window(grad_out, won, oy, ox, inside, ky * 3 + kx, t, base, OW, c, C, frame)
                g += from_window(grad_out, won_low, oy + 1, ox, low, kx, t, base, OW, c, C, frame)
                g += from_window(grad_out, won_beside, oy, ox + 1, beside, ky * 3, t, base, OW, c, C, frame)
                g += from_window(grad_out, won_corner, oy + 1, ox + 1, corner, ky * 0, t, base, OW, c, C, frame)
            else:
                g = grads[t].to(tl.float32)
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
                    drive = normalised(values[t], scale, shift, NORM)
                    if t > 0:
                        drive -= after_reset(hs[t - 1], threshold, SOFT)
                    s2 += tl.where(inside, grad_h * drive, 0.0)
            if ONE:
                total += g
            else:
                if NORM:
                    d = values[t].to(tl.float32) - mean
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
                d = values[0].to(tl.float32) - mean
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


@triton.jit(do_not_specialize=["count"])  # 1 would be no tensor
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
