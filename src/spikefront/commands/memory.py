"""How our own processes use memory; a host that uses the package as a library keeps its own ways."""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed for the next tensor, as CUDA's allocator does, in this whole process.

    By default tensors above 32 MiB are mapped anew each time, and of a large network's step the first touch of every
    page then takes up to a fifth. ``MALLOC_`` settings in the environment, which malloc reads itself, are left alone.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        libc = ctypes.CDLL(None)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            libc.mallopt(option, value)
