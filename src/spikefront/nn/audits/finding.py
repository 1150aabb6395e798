"""What one check found, and how a list of them reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HOLDS, FAILS, NOT_TRIED = "holds", "fails", "not tried"
HEADER = ("check", "verdict", "what was found", "where", "what was tried")
SHOWN = 3  # places in a table


@dataclass(frozen=True)
class Finding:
    """One claim, put to the test.

    Attributes:
        check: its name, as ``checks=[…]`` takes it.
        verdict: ``holds``, ``fails`` or ``not tried``.
        tried: what was done to find out.
        why: what was found, or why nothing was tried.
        places: names of the modules where, the first first.
        figures: numbers by name, such as the largest spike of each layer.
    """

    check: str
    verdict: str
    tried: str = ""
    why: str = ""
    places: tuple[str, ...] = ()
    figures: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "places": list(self.places)}

    def cells(self) -> tuple[str, ...]:
        """Its row, in ``HEADER``'s order."""
        more = f" and {len(self.places) - SHOWN} more" if len(self.places) > SHOWN else ""
        where = ", ".join(place or "the network" for place in self.places[:SHOWN]) + more
        return self.check, self.verdict, self.why, where, self.tried


def holds(check: str, tried: str, why: str = "", **more: Any) -> Finding:
    return Finding(check, HOLDS, tried, why, **more)


def fails(check: str, tried: str, why: str, places: Iterable[str] = (), **more: Any) -> Finding:
    return Finding(check, FAILS, tried, why, tuple(dict.fromkeys(places)), **more)


def not_tried(check: str, why: str) -> Finding:
    return Finding(check, NOT_TRIED, why=why)


def markdown(findings: Sequence[Finding]) -> str:
    """A table, one row a check."""
    lines = [HEADER, ("---",) * len(HEADER), *(finding.cells() for finding in findings)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
