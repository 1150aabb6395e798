"""What the report says of a user's own data: classes, parts, sensor, scale, and its contact sheet, made small."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

SIDE = (900, 1600)  # of the contact sheet in the page, at most, in pixels
NAMED = 30  # classes


def data_panel(described: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Rows of names and values, and the sheet as a data URI where there is one; None of a set that its name tells.

    Args:
        described: as ``Result.data`` has it.
    """
    if not described:
        return None
    classes, filters = described.get("classes", []), described.get("filters") or {}
    more = f" … ({len(classes)})" if len(classes) > NAMED else ""
    removed = filters.get("removed", {})
    rows = {
        "classes": ", ".join(map(str, classes[:NAMED])) + more,
        "samples": ", ".join(f"{count} {part}" for part, count in described.get("samples", {}).items()),
        "split": described.get("split"),
        "layout": described.get("layout"),
        "sensor": "x".join(map(str, described["sensor"])) if described.get("sensor") else None,
        "seen as": described.get("seen"),
        "normalise": described.get("normalise"),
        "filters removed": ", ".join(f"{name} {share:.2%}" for name, share in removed.items()),
    }
    sheet = _sheet(Path(described["card"]).with_suffix(".png")) if described.get("card") else None
    return {"rows": [[name, str(value)] for name, value in rows.items() if value], "sheet": sheet}


def _sheet(path: Path) -> str | None:
    """The contact sheet beside what is kept of the folder."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail(SIDE)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
