"""The report's front as a picture file, drawn by a headless Chromium."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from urllib.parse import unquote

from spikefront.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def write_picture(html: str | Path, path: str | Path, width: int = 1100, height: int = 620) -> Path:
    """Draw the front of a written report into a ``.png`` (of twice the size, in pixels) or ``.svg`` file.

    Raises:
        UserError: no Chromium on the PATH, another kind of file, or the browser gave no picture.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in ("png", "svg"):
        raise UserError(f"image={path} is not a .png or .svg file")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise UserError(f"image= needs one of {', '.join(BROWSERS)} on the PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            browser,
            *("--headless", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"{Path(html).absolute().as_uri()}#picture-{kind}-{width}x{height}",
        ]
        try:
            document = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
        except (subprocess.SubprocessError, OSError) as error:
            raise UserError(f"{browser} could not draw {path}: {error}") from error
    drawn = re.search(r'<pre id="picture">data:[^,]*?(;base64)?,([^<]*)</pre>', document)
    if drawn is None:
        raise UserError(f"{browser} drew no picture of {html}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(drawn[2]) if drawn[1] else unquote(unescape(drawn[2])).encode())
    return path
