"""Pictures of any kind, as their owners see them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from spikefront.data.decoding import Undecodable, decoded, frames

RAMP = np.linspace(0, 255, 8 * 6).reshape(6, 8).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], -1)


def saved(image: Image.Image, kind: str, **how) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def pixels(content: bytes) -> np.ndarray:
    image = decoded(content)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(kind):
    """Were white, all but the darkest 256 of 65,536."""
    wide = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert (pixels(saved(wide, kind)) == RAMP[..., None]).all()


def test_floats_from_nought_to_one_are_scaled_and_others_refused():
    assert (pixels(saved(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF")) == RAMP[..., None]).all()
    with pytest.raises(Undecodable, match="reach from 0 to 255, and no file says what white is"):
        decoded(saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_says_which_side_is_up(orientation):
    shown = Image.fromarray(COLOURS)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = shown.transpose(undo[orientation]) if orientation in undo else shown
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (pixels(saved(stored, "PNG", exif=exif)) == COLOURS).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_can_be_seen_through_lies_on_white(kind):
    image = np.dstack([COLOURS, np.full_like(RAMP, 255)])
    image[:3, :, 3] = 0
    content = saved(Image.fromarray(image), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert (pixels(content)[:3] == 255).all() and (pixels(content)[3:] == COLOURS[3:]).all()


def test_a_see_through_colour_of_a_palette_and_of_grey():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert pixels(saved(image, "PNG"))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert pixels(saved(image, "PNG", transparency=0))[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    grey = Image.fromarray(np.array([[7, 90]], np.uint8))
    assert pixels(saved(grey, "PNG", transparency=7))[0].tolist() == [[255] * 3, [90] * 3]


def test_cmyk_and_the_first_frame_of_what_moves():
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(pixels(saved(ink, "JPEG", quality=95))[0, 0] - [255, 0, 0]).max() < 12
    red, blue = (Image.new("RGB", (4, 4), c) for c in ("red", "blue"))
    gif = saved(red, "GIF", save_all=True, append_images=[blue])
    assert (pixels(gif)[0, 0] == [255, 0, 0]).all() and frames(gif) == 2


@pytest.mark.parametrize("content", [b"", b"no picture", saved(Image.fromarray(COLOURS), "PNG")[:-30]])
def test_what_is_no_picture_is_said(content):
    with pytest.raises(Undecodable):
        decoded(content)
    assert frames(b"no picture") == 0
