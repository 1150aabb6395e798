"""A contact sheet: samples of each class as the network is shown them, in one picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CLASSES = 24  # of more the first ones are shown
COLUMNS = 8  # pictures in a row
EACH = 3  # samples of a class of recordings
STILLS = 8  # of pictures
CELL = 128  # pixels
GAP, LINE = 6, 20
BACK, EMPTY, INK, DIM = (24, 24, 28), (58, 44, 44), (238, 238, 238), (165, 165, 170)
ON, OFF = np.array([255, 138, 60]), np.array([70, 150, 255])
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")


@dataclass
class Shown:
    """A sample: its name and what is seen of it, each ``(side, side, 3)`` bytes, and a word below each."""

    name: str
    pictures: list[np.ndarray]
    words: list[str]


def coloured(frames: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
    """Frames of events ``(T, C, side, side)`` as pictures, ON orange and OFF blue, and how many events are in each.

    As bright as in the sample's other frames, so that a frame with little in it is seen to be one. Channels other than
    two (a voxel grid, a third one) are shown by their sign.
    """
    if frames.shape[1] >= 2:
        off, on = frames[:, 0], frames[:, 1]
    else:
        off, on = np.maximum(-frames[:, 0], 0), np.maximum(frames[:, 0], 0)
    both = np.stack([off, on])
    most = np.percentile(both[both > 0], 98) if (both > 0).any() else 1.0
    bright = np.clip(both / most, 0, 1) ** 0.7
    mixed = np.clip(bright[0, ..., None] * OFF + bright[1, ..., None] * ON, 0, 255).astype(np.uint8)
    words = [f"{'empty' if not total else f'{total:,.0f}'}" for total in both.sum((0, 2, 3))]
    return list(mixed), words


def evenly(count: int, most: int) -> list[int]:
    """Up to ``most`` of ``count`` places, first and last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def sheet(title: Sequence[str], classes: Sequence[tuple[str, Sequence[Shown]]], in_a_row: bool) -> Image.Image:
    """The whole of it.

    Args:
        title: lines at the top.
        classes: the name of each and samples of it.
        in_a_row: a sample's pictures fill a row; else each sample is one picture, and a row holds many.
    """
    width = GAP + COLUMNS * (CELL + GAP)
    heights = [_height(samples, in_a_row) for _, samples in classes]
    image = Image.new("RGB", (width, GAP + LINE * len(title) + GAP + sum(heights)), BACK)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(title):
        draw.text((GAP, GAP + i * LINE), fitting(line, width - 2 * GAP, 13), INK if i == 0 else DIM, _font(13))
    at = GAP + LINE * len(title) + GAP
    for (name, samples), height in zip(classes, heights, strict=True):
        draw.line((GAP, at, width - GAP, at), DIM)
        draw.text((GAP, at + 4), fitting(name, width - 2 * GAP, 16), INK, _font(16))
        (_rows if in_a_row else _grid)(image, draw, at + LINE + 8, samples)
        at += height
    return image


def _height(samples: Sequence[Shown], in_a_row: bool) -> int:
    if not samples:
        return LINE + 8 + LINE
    rows = len(samples) if in_a_row else -(-len(samples) // COLUMNS)
    return LINE + 8 + rows * (CELL + LINE + (LINE if in_a_row else 0) + GAP)


def _rows(image: Image.Image, draw: ImageDraw.ImageDraw, top: int, samples: Sequence[Shown]) -> None:
    for sample in samples:
        draw.text((GAP, top), fitting(sample.name, image.width - 2 * GAP, 13), DIM, _font(13))
        for i, (picture, word) in enumerate(zip(sample.pictures, sample.words, strict=True)):
            _cell(image, draw, GAP + i * (CELL + GAP), top + LINE, picture, word)
        top += CELL + 2 * LINE + GAP


def _grid(image: Image.Image, draw: ImageDraw.ImageDraw, top: int, samples: Sequence[Shown]) -> None:
    for i, sample in enumerate(samples):
        row, column = divmod(i, COLUMNS)
        place = GAP + column * (CELL + GAP), top + row * (CELL + LINE + GAP)
        _cell(image, draw, *place, sample.pictures[0], sample.name)


def _cell(image: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, picture: np.ndarray, word: str) -> None:
    if word == "empty":
        draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), EMPTY, DIM)
        draw.line((left, top, left + CELL - 1, top + CELL - 1), DIM)
        draw.line((left, top + CELL - 1, left + CELL - 1, top), DIM)
    else:
        way = Image.Resampling.NEAREST if picture.shape[0] <= CELL else Image.Resampling.BOX
        image.paste(Image.fromarray(picture).resize((CELL, CELL), way), (left, top))
        draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=(70, 70, 76))
    draw.text((left, top + CELL + 2), fitting(word, CELL, 11), DIM, _font(11))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def fitting(text: str, width: int, size: int) -> str:
    """A text in one line of so many pixels, its middle left out where it is longer; what the font lacks is spelled."""
    font = _font(size)
    text = "".join(c if _has(font, c) else c.encode("unicode_escape", "surrogateescape").decode() for c in text)
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(_cut(text, middle)) <= width else (low, middle - 1)
    return _cut(text, low)


def _cut(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail] + "…" + text[len(text) - tail :]


@functools.cache
def _has(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    try:
        drawn, missing = (bytes(font.getmask(c)) for c in (character, "\uffff"))
    except (UnicodeEncodeError, ValueError):
        return False
    return drawn != missing
