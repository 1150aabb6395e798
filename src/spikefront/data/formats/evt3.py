"""EVT3's words of 16 bits: each changes a part of what is known (time, row, column) or makes events of it."""

from __future__ import annotations

import numba
import numpy as np

STATE = 11
# Of the state that is carried from block to block. PENDING: a vector's base has had no vector; BEYOND: the first
# column that has no 11 bits.
HIGH, LOW, LOOPS, STARTED, ROW, HAS_ROW, BASE, POLARITY, PENDING, BEYOND, HAS_BASE = range(STATE)


@numba.njit(cache=True, nogil=True)
def decode(words, state, out):  # type: ignore[no-untyped-def]
    """Events of ``words`` (uint16) into ``out`` (``EVENTS``, 12 at least), until either ends: words used, events made.

    What is not known yet makes no event: neither a time before its first upper part, nor a row or a vector's base
    before it is named. Times have 24 bits and begin again at zero after 16.8 s. A new upper part sets the lower one to
    zero, as in Prophesee's OpenEB. Words of other types (external triggers, continued ones) are passed over.
    """
    high, low, loops, started = state[HIGH], state[LOW], state[LOOPS], state[STARTED]
    row, has_row, base = state[ROW], state[HAS_ROW], state[BASE]
    polarity, pending, beyond, has_base = state[POLARITY], state[PENDING], state[BEYOND], state[HAS_BASE]
    time = (loops << 24) | (high << 12) | low
    made, used = 0, len(words)
    for i in range(len(words)):
        if made + 12 > len(out):
            used = i
            break
        word = np.int64(words[i])
        kind = word >> 12
        if kind == 2:
            if started and has_row:
                event = out[made]
                event.x = word & 0x7FF
                event.y = row
                event.t = time
                event.p = (word >> 11) & 1
                made += 1
        elif kind == 0:
            row, has_row = word & 0x7FF, 1
        elif kind == 6:
            low = word & 0xFFF
            time = (time & ~0xFFF) | low
        elif kind == 8:
            part = word & 0xFFF
            if started:
                if high >= part + 0x800:
                    loops += 1
                if high != part:
                    low = 0
            else:
                started = 1
            high = part
            time = (loops << 24) | (high << 12) | low
        elif kind == 3:
            base, polarity, pending, has_base = word & 0x7FF, (word >> 11) & 1, 1, 1
        elif kind == 4 or kind == 5:
            many = 12 if kind == 4 else 8
            if started and has_row and has_base:
                bits = word & ((1 << many) - 1)
                column = base
                while bits:
                    if bits & 1:
                        if column > 0x7FF:
                            beyond = max(beyond, column)
                            break
                        event = out[made]
                        event.x = column
                        event.y = row
                        event.t = time
                        event.p = polarity
                        made += 1
                    bits >>= 1
                    column += 1
            base += many
            pending = 0
    state[HIGH], state[LOW], state[LOOPS], state[STARTED] = high, low, loops, started
    state[ROW], state[HAS_ROW], state[BASE] = row, has_row, base
    state[POLARITY], state[PENDING], state[BEYOND], state[HAS_BASE] = polarity, pending, beyond, has_base
    return used, made
