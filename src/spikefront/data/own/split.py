"""Which files train, validate and test: shares by class, of what never parts, as they were before."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from spikefront.data.own.rows import Sample
from spikefront.errors import UserError

LARGEST = 0.9  # share that is tried when the smallest that works is looked for
COARSE = (0.25, 0.34, 0.5, 0.67)  # shares that are tried of both parts at once
NONE = "none works, as groups stay together", "none works beside what is kept: delete that in spikefront.yaml"
Unit = Hashable


@dataclass(frozen=True)
class Shares:
    """``test`` of all files and ``val`` of the others, drawn with ``seed``."""

    test: float
    val: float
    seed: int = 0


def drawn(
    units: Mapping[Unit, Counter[str]],
    share: float,
    seed: int,
    inside: Iterable[Unit] = (),
    outside: Iterable[Unit] = (),
) -> set[Unit]:
    """About ``share`` of each class: whole units, each with so many samples of each class.

    Units come in an order drawn with ``seed``, large ones first; each is taken if that brings the classes' sums nearer
    to their shares, half of a unit counting as one. (The greedy step of scikit-learn's ``StratifiedGroupKFold``, which
    only knows shares of 1/k and can't keep what was drawn before.)

    Args:
        inside, outside: units that are taken, or left, whatever comes.
    """
    total: Counter[str] = Counter()
    for counts in units.values():
        total.update(counts)
    taken = set(inside) & units.keys()
    missing = {c: share * n for c, n in total.items()}
    for unit in taken:
        for c, n in units[unit].items():
            missing[c] -= n
    free = sorted(units.keys() - taken - set(outside), key=str)
    random.Random(seed).shuffle(free)
    for unit in sorted(free, key=lambda u: -units[u].total()):
        change = sum(n * (n - 2 * missing[c]) / total[c] for c, n in units[unit].items())
        if change <= 1e-9:
            taken.add(unit)
            for c, n in units[unit].items():
                missing[c] -= n
    return taken


def lacking(units: Mapping[Unit, Counter[str]], taken: set[Unit]) -> str | None:
    """A class that none of the taken units holds, or none of the others."""
    inside, outside = ({c for u in units if (u in taken) == side for c in units[u]} for side in (True, False))
    return min((inside | outside) - (inside & outside), default=None)


def assign(
    samples: Sequence[Sample],
    shares: Shares,
    before: Mapping[str, str],
    alike: Mapping[str, Hashable],
    noun: str = "file",
) -> dict[str, str]:
    """The part of each file: what the folder says, what it was ``before``, and the rest drawn.

    Args:
        before: the part of files that were there already.
        alike: what of a file others may share, such as its content: they stay together.
        noun: what stays together, for messages.

    Raises:
        UserError: too few of a class for a part; what belongs together was put into two parts.
    """
    unit_of = _together(samples, alike)
    units: dict[Unit, Counter[str]] = defaultdict(Counter)
    first: dict[Unit, Sample] = {}
    declared = {s.part for s in samples if s.part}
    for s in samples:
        unit = unit_of[s.file]
        units[unit][s.label] += 1
        other = first.setdefault(unit, s)
        if other.part != s.part:
            raise UserError(
                f"{_bond(other, s, alike)}, but in two parts: {other.name} in {other.part or 'no part'}, {s.name} in"
                f" {s.part or 'no part'}"
            )
    if declared and not {s.part for s in samples} & {"train", None}:
        raise UserError(f"there is no training part beside {' and '.join(sorted(declared))}")
    if not shares.test and "test" not in declared:
        raise UserError("data.test_fraction=0, and the folder names no test part: give a share above 0")
    earlier = {unit_of[file]: part for file, part in sorted(before.items(), reverse=True) if file in unit_of}

    def draw(test: float, val: float) -> dict[Unit, str]:
        found = {unit: s.part or "train" for unit, s in first.items()}
        for part, share in (("test", test), ("val", val)):
            pool = {unit: counts for unit, counts in units.items() if found[unit] == "train"}
            if share and part not in declared:
                inside = {unit for unit in pool if earlier.get(unit) == part}
                outside = {unit for unit in pool if earlier.get(unit, part) != part}
                taken = drawn(pool, share, shares.seed, inside, outside)
                if (label := lacking(pool, taken)) is not None:
                    raise _TooFew(part, share, label, sum(label in counts for counts in pool.values()))
                found |= dict.fromkeys(taken, part)
        return found

    try:
        found = draw(shares.test, shares.val)
    except _TooFew as few:
        raise UserError(f"{few.told(noun)}: {_cure(draw, shares, few, bool(earlier))}") from None
    for part in sorted(set(found.values())):
        there = {label for unit in units if found[unit] == part for label in units[unit]}
        if gone := min({s.label for s in samples} - there, default=None):
            raise UserError(f"the {part} part has no sample of the class {gone!r}: each part needs all classes")
    return {file: found[unit] for file, unit in unit_of.items()}


class _TooFew(Exception):
    """A class of which no sample, or none of training, is left beside a part."""

    def __init__(self, part: str, share: float, label: str, having: int) -> None:
        self.part, self.share, self.label, self.having = part, share, label, having

    def told(self, noun: str) -> str:
        if self.having < 2:
            return (
                f"of the class {self.label!r} there is {self.having or 'no'} {noun} for training and the {self.part}"
                " part, and each needs one of its own"
            )
        return (
            f"data.{self.part}_fraction={self.share:g} of {self.having} {noun}s leaves the class {self.label!r} without"
            " one in one part"
        )


def _cure(draw: Callable[[float, float], object], shares: Shares, few: _TooFew, kept: bool) -> str:
    """The smallest shares that work, that of the part with too few alone if that is enough."""

    def works(test: float, val: float) -> bool:
        try:
            draw(test, val)
        except _TooFew:
            return False
        return True

    def above(share: float) -> list[float]:
        return [n / 100 for n in range(math.ceil(share * 100), round(LARGEST * 100) + 1)]

    for share in above(getattr(shares, few.part)) if few.having > 1 else ():  # one can't be in two parts
        if works(*((share, shares.val) if few.part == "test" else (shares.test, share))):
            return f"the smallest that works is {share}"
    for val in (*(v for v in COARSE if v > shares.val), 0.0):
        for test in (shares.test, *(t for t in COARSE if t > shares.test)):
            if works(test, val):
                changed = [f"data.test_fraction={test:g}"] if test != shares.test else []
                used = "; validation then uses the test part" if not val else ""
                return f"{' '.join([*changed, f'data.val_fraction={val:g}'])} works{used}"
    return NONE[kept]


def split_hash(samples: Iterable[Sample], parts: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """Twelve hex digits of a split: which content is in which part, as what."""
    rows = sorted(
        [parts[s.file], digests[s.file], s.label, s.start or 0, -1 if s.end is None else s.end] for s in samples
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


def _together(samples: Sequence[Sample], alike: Mapping[str, Hashable]) -> dict[str, Unit]:
    """The unit of each file: files of one group, or of one content, are one."""
    above: dict[Unit, Unit] = {}

    def top(x: Unit) -> Unit:
        while above.setdefault(x, x) != x:
            above[x] = above[above[x]]
            x = above[x]
        return x

    for s in samples:
        for bond in (("group", s.group), ("content", alike.get(s.file))):
            if bond[1] is not None:
                above[top(("file", s.file))] = top(bond)
    return {s.file: top(("file", s.file)) for s in samples}


def _bond(one: Sample, other: Sample, alike: Mapping[str, Hashable]) -> str:
    if one.file == other.file:
        return f"{one.file} is one recording"
    if one.group is not None and one.group == other.group:
        return f"the group {one.group!r} stays together"
    if alike.get(one.file) == alike.get(other.file):
        return f"{one.file} and {other.file} are the same, byte for byte"
    return f"{one.file} and {other.file} belong together by their groups or content"
