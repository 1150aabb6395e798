"""What to set before training, from what was seen of a folder, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spikefront.data.looking.overview import MANY, Overview, Piece, spread
from spikefront.units import amount

FEW = 200  # events of a frame below which there is little to see
DENSE = 0.05  # events a pixel of a frame, at least
TIMESTEPS = (16, 8, 4, 2, 1)
SHORTEST = 0.02  # s of a frame
LONGEST = 10.0  # s of a sample, beyond which a frame is a blur
FRAME = 0.1  # s of one when long recordings are cut
SIDES = (128, 64, 32, 16)
PICTURES = (224, 128, 96, 64, 32)
COSTLY = 64  # side of a picture to begin with
ROUND = (1, 2, 5)


@dataclass
class Advice:
    """Settings for ``train`` and ``sweep``, as overrides without quotes, lines that say why, and warnings."""

    settings: dict[str, object] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, key: str, value: object, why: str) -> None:
        self.settings[key] = value
        self.why.append(f"{key}={value}: {why}")


def for_recordings(seen: Overview, timesteps: int, side: int | None, windowed: bool, mode: str) -> Advice:
    """Of recordings.

    Args:
        timesteps: the network's, as it is set now.
        side: of the square that the sensor becomes, in its own pixels; None: no sensor is known.
        windowed: whether they are cut into windows already.
        mode: of the binning as it is set now.
    """
    found = Advice()
    if not seen.pieces:
        return found
    pieces = seen.pieces
    events, low, _ = spread([p.events for p in pieces])
    seconds = spread([p.inside / 1e6 for p in pieces])[0]
    if seconds > LONGEST and not windowed:
        rate = events / seconds
        window = rounded(max(8 * FRAME, 8 * FEW / rate))
        if window < seconds / 2:
            frame = f"{seconds / timesteps:.3g} s each as {timesteps} frames"
            found.add(
                "data.window",
                f"{window:g}s",
                f"recordings last {seconds:.3g} s, {frame}; cut, a frame of 8 is {window / 8:.2g} s and has about"
                f" {rate * window / 8:.0f} events. Leave it out where a class shows only in the whole",
            )
            low, seconds = low * window / seconds, window
    t = next((t for t in TIMESTEPS if low / t >= FEW and seconds / t >= SHORTEST), 1)
    each = f"{low / t:,.0f} events a frame in all but the poorest 5 % of the samples, {seconds / t:.2g} s each"
    found.add("model.timesteps", t, f"{each}; a sweep tries fewer and more")
    if "data.window" not in found.settings:
        _binning(found, pieces, mode)
    if side is not None:
        _side(found, side, low / t)
    found.warnings += _warnings(seen, timesteps)
    return found


def _binning(found: Advice, pieces: Sequence[Piece], mode: str) -> None:
    bare = float(np.mean([p.fewest < FEW / 10 for p in pieces]))
    lengths = [p.inside for p in pieces]
    if mode == "window":
        return
    if bare > 0.1:
        found.add("data.binning.mode", "count", f"of equal times a frame is all but empty in {bare:.0%} of the samples")
        return
    shortest, longest = (float(q) for q in np.percentile(lengths, [5, 95]))
    why = "events come evenly enough, and frames keep their time"
    if longest > 4 * max(shortest, 1):
        why += f" (it differs {longest / max(shortest, 1):.0f}-fold: data.binning.mode=window keeps one for all)"
    found.add("data.binning.mode", "time", why)


def _side(found: Advice, side: int, events: float) -> None:
    there = [s for s in SIDES if s <= side] or [SIDES[-1]]
    chosen = next((s for s in there if events / s**2 >= DENSE), there[-1])
    why = f"the sensor's square has {side}"
    if chosen != there[0]:
        why += f", but {events:,.0f} events a frame are few for {there[0]}x{there[0]}"
    elif chosen == 128 and side > 128:
        why += "; 64 costs a quarter"
    found.add("data.image_size", chosen, why)


def _warnings(seen: Overview, timesteps: int) -> list[str]:
    poor = [p for p in seen.pieces if p.events / timesteps < FEW]
    told = []
    if poor:
        worst = min(poor, key=lambda p: p.events)
        told.append(
            f"{len(poor)} of {len(seen.pieces)} samples have less than {FEW} events a frame of {timesteps}, such as"
            f" {worst.sample.name} with {worst.events}: fewer timesteps, or longer windows"
        )
    most, where = seen.crowded
    if most > MANY:
        told.append(
            f"about {amount(most)} events on one pixel of a frame, more than {MANY:,} ({where}): hot pixels, or take"
            " data.downsample=any, data.normalise=log or more timesteps"
        )
    return told


def for_pictures(seen: Overview) -> Advice:
    found = Advice()
    shorter = [min(fact["width"], fact["height"]) for fact in seen.good.values()]
    if not shorter:
        return found
    middle, low, high = spread(shorter)
    there = [s for s in PICTURES if s <= low] or [PICTURES[-1]]
    side = next((s for s in there if s <= COSTLY), there[-1])
    more = [s for s in there if s > side]
    why = f"the shorter sides are {middle:.0f} pixels (5-95 %: {low:.0f}-{high:.0f})"
    if more:
        why += f"; {min(more)} shows more and costs {(min(more) / side) ** 2:.2g} times"
    found.add("data.image_size", side, why)
    found.add("model.timesteps", 4, "a picture is shown again at each timestep; a sweep tries 1 to 8")
    if low < side:
        found.warnings.append(f"pictures of {low:.0f} pixels are enlarged to {side}")
    return found


def rounded(seconds: float) -> float:
    """Up to the next of 1, 2, 5, 10, … times a power of ten."""
    power = 10.0 ** np.floor(np.log10(seconds))
    return float(next(m * power for m in (*ROUND, 10) if m * power >= seconds * (1 - 1e-9)))
