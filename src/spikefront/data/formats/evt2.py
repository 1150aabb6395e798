"""EVT2's words of 32 bits: 28 bits of a time's upper part, or an event with its 6 lower ones."""

from __future__ import annotations

import numba
import numpy as np

HIGH, LOOPS, STARTED = range(3)  # of the state that is carried from block to block


@numba.njit(cache=True, nogil=True)
def decode(words, state, out):  # type: ignore[no-untyped-def]
    """Events of ``words`` (uint32) into ``out`` (``EVENTS``), until either ends: words used, events made.

    A time without its upper part is unknown, so events before the first of these words are none. Times have 34 bits
    and begin again at zero after 4.8 hours. Words of other types (external triggers, monitoring) are passed over.
    """
    made = 0
    base = (state[LOOPS] << 34) | (state[HIGH] << 6)
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= 1:
            if state[STARTED]:
                if made >= len(out):
                    return i, made
                event = out[made]
                event.x = (word >> 11) & 0x7FF
                event.y = word & 0x7FF
                event.t = base | ((word >> 22) & 0x3F)
                event.p = kind
                made += 1
        elif kind == 8:
            high = word & 0xFFFFFFF
            if state[STARTED] and state[HIGH] >= high + (1 << 27):
                state[LOOPS] += 1
            state[HIGH], state[STARTED] = high, 1
            base = (state[LOOPS] << 34) | (high << 6)
    return len(words), made
