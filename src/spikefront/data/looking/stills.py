"""One picture, decoded once: its kind, its size, or why it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from spikefront.data.decoding import Undecodable, decoded

BAD = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def still(path: Path) -> dict[str, Any]:
    """``format``, ``width``, ``height`` and ``mode`` of a picture as its file has them, and, where they are others than
    is usual, ``orientation`` (EXIF's) and ``frames``; or ``error``, why it can't be decoded."""
    try:
        with Image.open(path) as image:
            found: dict[str, Any] = {
                "format": image.format,
                "width": image.width,
                "height": image.height,
                "mode": image.mode,
            }
            if (turned := int(image.getexif().get(ExifTags.Base.Orientation, 1))) != 1:
                found["orientation"] = turned
            if (count := int(getattr(image, "n_frames", 1))) > 1:
                found["frames"] = count
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft(None, (image.width // 8, image.height // 8))  # an eighth of the work, and it tells a cut
                image.load()
                return found
        decoded(path.read_bytes())
    except Image.UnidentifiedImageError:
        return {"error": "the file is empty" if not path.stat().st_size else "not an image"}
    except Undecodable as error:
        return {"error": str(error)}
    except BAD as error:
        return {"error": getattr(error, "strerror", None) or str(error)}
    return found
