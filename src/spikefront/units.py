"""Numbers as people read them: three digits, an SI prefix, a unit."""

from __future__ import annotations

import re
from collections.abc import Iterable

SMALL = (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9), ("p", 1e-12))
LARGE = ((" G", 1e9), (" M", 1e6), (" k", 1e3))
TIMES = {"s": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "μs": 1.0}  # in µs; both of Unicode's micros
TIME = re.compile(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?) ?(s|ms|us|µs|μs)?", re.I)


def si(value: float, unit: str) -> str:
    """A quantity with its SI prefix, ``3.9 mJ``; zero has none, ``0 J``."""
    if not value:
        return f"0 {unit}"
    prefix, scale = next((s for s in SMALL if abs(value) >= s[1]), SMALL[-1])
    return f"{value / scale:.3g} {prefix}{unit}"


def joules(value: float) -> str:
    """An energy, ``1.24 µJ``."""
    return si(value, "J")


def amount(value: float) -> str:
    """How many, ``1.85 G``."""
    for prefix, scale in LARGE:
        if value >= scale:
            return f"{value / scale:.3g}{prefix}"
    return f"{value:.3g}"


def figure(name: str, value: float) -> str:
    """A metric by its name: ``0.9639``, ``1.24 µJ``, ``163,650``."""
    if name == "energy":
        return joules(value)
    if name in ("latency", "seconds"):
        return si(value, "s")
    if name in ("parameters", "memory"):
        return f"{value:,.0f}"
    return f"{value:.4f}"


def microseconds(text: object) -> float | None:
    """The time that a text such as ``1.5s``, ``20 ms`` or ``500us`` says, in µs; of a number itself; None: no time."""
    match = TIME.fullmatch(str(text).strip())
    return float(match[1]) * TIMES[match[2] or "us"] if match and not isinstance(text, bool) else None


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Of each key its last word, or as many of its last words as tell it from the others: ``s1.depth``."""
    keys = list(keys)

    def end(key: str, words: int) -> str:
        return ".".join(key.split(".")[-words:])

    def enough(key: str) -> str:
        most = key.count(".") + 1
        others = [other for other in keys if other != key]
        ends = (end(key, n) for n in range(1, most + 1) if all(end(o, n) != end(key, n) for o in others))
        return next(ends, key)

    return {key: enough(key) for key in keys}


def duration(seconds: float) -> str:
    """A time to go, roughly: ``40 s``, ``7 min``, ``1.5 h``, ``3.1 days``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
