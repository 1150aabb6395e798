"""What the page says of a user's own folder."""

from __future__ import annotations

import base64
import io

import made
from PIL import Image

from spikefront.tracking.pages.data_panel import data_panel
from spikefront.tracking.pages.page import page, payload

DESCRIBED = {
    "classes": ["clap", "<b>wave</b>"],
    "samples": {"train": 6, "val": 2, "test": 2},
    "split": "0123abcd",
    "sensor": [24, 16],
    "seen": "24x16, padded to 24x24",
    "normalise": "none",
    "filters": {"removed": {"hot": 0.25}},
}


def test_rows_and_a_small_sheet(tmp_path):
    Image.effect_noise((2000, 500), 40).save(tmp_path / "spikefront.png")
    panel = data_panel({**DESCRIBED, "card": str(tmp_path / "spikefront.yaml")})
    assert dict(panel["rows"])["samples"] == "6 train, 2 val, 2 test"
    assert dict(panel["rows"])["filters removed"] == "hot 25.00%"
    kind, _, content = panel["sheet"].partition(";base64,")
    assert kind == "data:image/webp" and Image.open(io.BytesIO(base64.b64decode(content))).size == (900, 225)
    (tmp_path / "spikefront.png").write_bytes(b"no picture")
    assert data_panel({**DESCRIBED, "card": str(tmp_path / "spikefront.yaml")})["sheet"] is None
    assert data_panel(None) is None and data_panel(DESCRIBED)["sheet"] is None


def test_the_page_holds_it_as_text():
    study = {**made.study(trials=6, importance=False), "described": DESCRIBED}
    html = page(payload([study]))
    assert '"split","0123abcd"' in html and "<b>wave</b>" not in html
    assert payload([made.study(trials=6, importance=False)])["studies"][0]["described"] is None
