"""Pixels are what the files say: ranges, orientation, transparency, and the same by any decoder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from wcordbench.data import decode as module
from wcordbench.data.decode import Reading, decode, fit


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def ramp(dtype: Any, top: float) -> Any:
    """16×16 values from 0 to ``top``, every one of 256 levels once."""
    return (np.arange(256).reshape(16, 16) * (top / 255)).astype(dtype)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_their_range(kind: str) -> None:
    image = Image.fromarray(ramp(np.uint16, 65535))
    got = decode(encoded(image, kind), grayscale=True)
    assert got.shape == (16, 16, 1)
    assert np.array_equal(got[..., 0], np.arange(256).reshape(16, 16))
    assert np.array_equal(decode(encoded(image, kind)), np.repeat(got, 3, 2))


def test_big_endian_and_dark_images_are_scaled_alike() -> None:
    dark = np.full((4, 4), 300, ">u2")  # of 65,535: nearly black, not white
    stream = encoded(Image.frombytes("I;16B", (4, 4), dark.tobytes()), "TIFF")
    assert np.unique(decode(stream, grayscale=True)).tolist() == [1]


def test_floats_are_from_zero_to_one() -> None:
    got = decode(encoded(Image.fromarray(ramp(np.float32, 1.0)), "TIFF"), grayscale=True)
    assert np.array_equal(got[..., 0], np.arange(256).reshape(16, 16))
    for top in (255.0, 1.01, np.nan):
        values = ramp(np.float32, 1.0)
        values[3, 3] = top
        with pytest.raises(ValueError, match="floating-point values"):
            decode(encoded(Image.fromarray(values), "TIFF"))


def test_what_has_no_known_range_is_refused() -> None:
    with pytest.raises(ValueError, match="32-bit integers"):
        decode(encoded(Image.fromarray(ramp(np.int32, 2e9)), "TIFF"))
    page = Image.fromarray(ramp(np.uint8, 255))
    with pytest.raises(ValueError, match="2 pages"):
        decode(encoded(page, "TIFF", save_all=True, append_images=[page]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_recorded_orientation_is_applied(kind: str, orientation: int) -> None:
    half = np.zeros((24, 40, 3), np.uint8)
    half[:, :20, 0] = half[:12, :, 1] = 250
    image = Image.fromarray(half)
    exif = image.getexif()
    exif[0x0112] = orientation
    how = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image, kind, exif=exif, **how)
    with Image.open(io.BytesIO(data)) as file:
        upright = ImageOps.exif_transpose(file).convert("RGB")
    assert np.array_equal(decode(data), np.asarray(upright))
    assert decode(data).shape[:2] == ((24, 40) if orientation < 5 else (40, 24))


def test_orientation_of_sixteen_bits() -> None:
    image = Image.fromarray(ramp(np.uint16, 65535)[:8])
    exif = Image.Exif()
    exif[0x0112] = 6
    got = decode(encoded(image, "PNG", exif=exif), grayscale=True)
    assert np.array_equal(got[..., 0], np.rot90(np.arange(128).reshape(8, 16), -1))


def test_transparency_is_dropped_and_the_stored_colours_stay() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    data = encoded(Image.fromarray(colours), "PNG")
    assert np.array_equal(decode(data), colours[..., :3])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 100}])
def test_torchvision_and_pillow_give_the_same_bits(mode: str, how: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (9, 13, 3), np.uint8)).resize((61, 47))
    data = encoded(image.convert(mode), "JPEG", **how)
    with Image.open(io.BytesIO(data)) as file:
        assert np.array_equal(decode(data), np.asarray(file.convert("RGB")))
        if mode != "RGB":
            return
        assert np.array_equal(
            decode(data, grayscale=True)[..., 0], np.asarray(file.convert("RGB").convert("L"))
        )


def test_pillow_serves_where_torchvision_has_no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(np.full((8, 8, 3), 77, np.uint8)), "JPEG")
    want = decode(data)
    monkeypatch.setattr(module, "_torchvision", lambda: None)
    assert np.array_equal(decode(data), want)


def test_the_short_side_then_the_centre() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (30, 50, 3), np.uint8)
    whole = np.asarray(Image.fromarray(pixels).resize((33, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(Reading(16, 20)(pixels), whole[2:18, 8:24])
    assert np.array_equal(fit(pixels, 30), pixels[:, 10:40])
    kept = Reading(16, stored=24)(pixels)
    assert np.array_equal(kept, fit(fit(pixels, 24), 16))
