"""A picture's bytes as the eight-bit RGB picture that its owner sees, whatever kind of file it is."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

WHITE = (255, 255, 255, 255)  # what lies behind a picture that can be seen through


class Undecodable(Exception):
    """An image's bytes aren't one; the message is the reason."""


def decoded(content: bytes) -> Image.Image:
    """The picture in a file's bytes, as RGB.

    Upright by its EXIF orientation; 16 bits scaled to 8; what can be seen through laid on white; CMYK and palettes
    turned into colours; of an animation the first frame.

    Raises:
        Undecodable: no picture, one cut short, or of numbers whose range the file doesn't say.
    """
    if not content:
        raise Undecodable("the file is empty")
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        return _coloured(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        raise Undecodable("not an image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Undecodable(str(error)) from error


def frames(content: bytes) -> int:
    """How many pictures a file holds; 0 if it can't be read."""
    try:
        return int(getattr(Image.open(io.BytesIO(content)), "n_frames", 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0


def _coloured(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, WHITE), seen).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Of more than eight bits a value, 16 of them, or of floats from 0 to 1."""
    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    most, kind = (1.0, "a float") if image.mode.startswith("F") else (65535.0, "an integer of 32 bits")
    if not (low >= 0 and high <= most):
        raise Undecodable(
            f"its values, each {kind}, reach from {low:g} to {high:g}, and no file says what white is:"
            f" save it with values from 0 to {most:g}"
        )
    return Image.fromarray((values * (255 / most) + 0.5).astype(np.uint8))
