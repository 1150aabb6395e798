"""A simulated event camera in front of moving still images, after N-MNIST's recording protocol."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from spikefront.errors import UserError

SACCADE = 105_000  # µs: tonic's NMNIST.stabilize undoes the camera's motion with the same figures
# Corners of the triangle, as shares of the image's side: 3.5 and 7 of N-MNIST's 28 pixels.
CORNERS = np.array([[0.0, 0.0], [0.125, 0.25], [0.25, 0.0], [0.0, 0.0]])
STEP = 1_000  # µs between two rendered positions; events in between are interpolated
DARK = 0.1  # added to intensities of 0-1 before the logarithm
DIGIT = 0.75  # side of the image as a share of the sensor's; the rest is room to move
TONIC = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])


def record(images: np.ndarray, sensor: tuple[int, int], threshold: float) -> list[np.ndarray]:
    """Events of grey ``images`` (N, H, W) in 0-1 moved along three micro-saccades (N-MNIST, arXiv 1507.07629).

    An ideal pixel remembers the log-intensity of its last event and makes another one whenever log-intensity has moved
    from there by ``threshold``. No noise: the same images give the same events.

    Returns:
        A structured array with x, y, t (µs), p for each image, in order of time.
    """
    if threshold <= 0:
        raise UserError(f"data.threshold is {threshold}: an event needs a change above 0")
    width, height = sensor
    side = round(DIGIT * min(width, height))
    digits = interpolate(torch.from_numpy(images).unsqueeze(1), (side, side), mode="bilinear", align_corners=False)
    scene = pad(digits[:, 0], (0, width - side + 1, 0, height - side + 1)).numpy().astype(np.float64)
    times = np.arange(0, 3 * SACCADE + 1, STEP)
    path = np.stack([np.interp(times / SACCADE, np.arange(4), CORNERS[:, axis] * side) for axis in (0, 1)], axis=1)
    before = np.log(_moved(scene, path[0, 0], path[0, 1], width, height) + DARK)
    reference = before.copy()
    found = []
    for start, (x, y) in zip(times[:-1], path[1:], strict=True):
        after = np.log(_moved(scene, x, y, width, height) + DARK)
        change = after - reference
        counts = np.trunc(change / threshold).astype(np.int64)
        n, row, column = np.nonzero(counts)
        many, sign = np.abs(counts[n, row, column]), np.sign(counts[n, row, column])
        which = np.repeat(np.arange(len(n)), many)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(many) - many, many) + 1
        n, row, column, sign = n[which], row[which], column[which], sign[which]
        level = reference[n, row, column] + nth * sign * threshold
        share = (level - before[n, row, column]) / (after[n, row, column] - before[n, row, column])
        found.append((n, column, row, start + np.floor(share.clip(0, 1) * STEP).astype(np.int64), sign > 0))
        reference += counts * threshold
        before = after
    n, x, y, t, p = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((x, y, t, n))
    events = np.empty(len(n), TONIC)
    events["x"], events["y"], events["t"], events["p"] = x[order], y[order], t[order], p[order]
    return np.split(events, np.searchsorted(n[order], np.arange(1, len(images))))


def _moved(scene: np.ndarray, x: float, y: float, width: int, height: int) -> np.ndarray:
    """The scene ``(N, height + 1, width + 1)`` moved right by ``x``, down by ``y`` pixels; dark outside."""
    left, top = int(x), int(y)
    fx, fy = x - left, y - top
    room = np.pad(scene, ((0, 0), (top + 1, 0), (left + 1, 0)))[:, : height + 1, : width + 1]
    return (
        (1 - fy) * (1 - fx) * room[:, 1:, 1:]
        + (1 - fy) * fx * room[:, 1:, :-1]
        + fy * (1 - fx) * room[:, :-1, 1:]
        + fy * fx * room[:, :-1, :-1]
    )
