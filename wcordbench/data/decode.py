"""One image file to pixels: the one place that says how, whichever way a dataset is read.

JPEG files are decoded by torchvision, all others by Pillow; where both can, they give the same
bits. The rules, for every file:

- Integers of 16 bits keep their upper 8, which is scaling by the type's range; Pillow does so
  itself for colour. Floating-point values are from 0 to 1.
- The orientation that a camera recorded (EXIF) is applied.
- Transparency is dropped: the colours are those that the file stores, as torchvision's
  ``ImageFolder`` has them.
"""

from __future__ import annotations

import functools
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wcordbench.errors import UserError

Pixels = NDArray[np.uint8]

#: part of what a cache is known by: raised where the same file gives other pixels than before
RULES = 2
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Reading:
    """What becomes of a decoded image before anything else sees it.

    Attributes:
        size: side of the square images, in pixels.
        resize: the short side's length before the centre of ``size`` is cut out; None is
            ``size``.
        grayscale: one channel in place of three.
        stored: side of the square that is kept on disk and that the rest begins from; None
            where nothing lies between.
        averaged: side that the square is averaged down to in the end; None leaves it.
    """

    size: int
    resize: int | None = None
    grayscale: bool = False
    stored: int | None = None
    averaged: int | None = None

    @property
    def side(self) -> int:
        """Of the outcome, in pixels."""
        return self.averaged or self.size

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.grayscale else 3

    def __call__(self, image: Pixels) -> Pixels:
        """``(side, side, C)`` of a decoded ``(H, W, C)``."""
        if self.stored is not None:
            image = fit(image, self.stored)
        image = fit(image, self.size, self.resize)
        if self.averaged is None or self.averaged == self.size:
            return image
        (made,) = average(image[None], self.averaged)
        return np.asarray(made)


def decode(data: bytes, grayscale: bool = False) -> Pixels:
    """An encoded image as uint8 ``(H, W, C)``, upright, of one or three channels.

    Raises:
        ValueError: its values have no range that pixels are known to have, or it holds several
            images.
        Exception: decoders raise of every kind.
    """
    if data.startswith(_JPEG) and (decoder := _torchvision()) is not None:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        tensor = decoder(encoded, "RGB", apply_exif_orientation=True)
        pixels: Pixels = tensor.permute(1, 2, 0).contiguous().numpy()
        return _grey(Image.fromarray(pixels)) if grayscale else pixels
    with Image.open(io.BytesIO(data)) as file:
        if file.format == "TIFF" and getattr(file, "n_frames", 1) > 1:
            raise ValueError(f"it holds {file.n_frames} pages; save each as a file")  # type: ignore[attr-defined]
        file.load()
        image = ImageOps.exif_transpose(_eight_bits(file))
        if grayscale:
            return _grey(image)
        made: Pixels = np.asarray(image.convert("RGB"))
        return made


@functools.cache
def _torchvision() -> Any:
    """torchvision's decoder; None where it is gone, as its later versions promise."""
    try:
        from torchvision.io import decode_image
    except ImportError:
        return None
    return decode_image


def _grey(image: Image.Image) -> Pixels:
    made: Pixels = np.asarray(image.convert("L"))[..., None]
    return made


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same image with values from 0 to 255.

    Raises:
        ValueError: they have no known range, or leave it.
    """
    if image.mode == "F":
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also where they are NaN
            raise ValueError(
                f"its floating-point values go from {low:.6g} to {high:.6g}, not from 0 to 1;"
                " scale them"
            )
        made = Image.fromarray(np.rint(values * np.float32(255)).astype(np.uint8))
    elif image.mode.startswith("I"):
        # Pillow gives PNG and PGM files of 16 bits as 32 in some versions.
        if image.mode == "I" and image.format not in ("PNG", "PPM"):
            raise ValueError("32-bit integers have no usual range; save it with 8 or 16 bits")
        values = np.asarray(image)
        made = Image.fromarray((values.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    else:
        return image
    orientation = image.getexif().get(_ORIENTATION)
    if orientation:
        made.getexif()[_ORIENTATION] = orientation
    return made


_ORIENTATION = 0x0112


def fit(image: Pixels, size: int, resize: int | None = None) -> Pixels:
    """The centre of an image at another size: resized (antialiased) by its short side, then cut.

    Args:
        image: uint8 ``(H, W, C)``.
        size: side of the outcome, in pixels.
        resize: length of the short side before the cut; None is ``size``.
    """
    height, width, channels = image.shape
    short = resize or size
    if (height, width) == (size, size) and short == size:
        return image
    scale = short / min(height, width)
    wide = (max(short, round(width * scale)), max(short, round(height * scale)))
    made = Image.fromarray(image if channels > 1 else image[..., 0])
    if wide != (width, height):
        made = made.resize(wide, Image.Resampling.BILINEAR)
    left, top = (made.width - size) // 2, (made.height - size) // 2
    cut = made.crop((left, top, left + size, top + size))
    return np.asarray(cut).reshape(size, size, channels)


def read(file: Path, what: str, grayscale: bool = False, data: bytes | None = None) -> Pixels:
    """A file decoded, see :func:`decode`.

    Args:
        file: the image.
        what: how messages name the dataset.
        grayscale: one channel in place of three.
        data: the file's content, where it has been read.

    Raises:
        UserError: it is not a whole image, or not one whose pixels are known.
    """
    try:
        return decode(file.read_bytes() if data is None else data, grayscale)
    except MemoryError:
        raise
    except Exception as error:  # damaged files make decoders raise of every kind
        lines = re.split(re.escape(str(file)) + "|<_io", str(error))[0].strip(" '\"").splitlines()
        reason = lines[0].rpartition("cpp:")[2].partition(", ")[2] if "cpp:" in lines[:1] else ""
        reason = reason or (lines[0] if lines else type(error).__name__)
        raise UserError(
            f"{what}: {file} is not a readable image ({reason}); replace or remove it"
        ) from None


def average(images: Pixels, size: int) -> Pixels:
    """Square images ``(N, S, S, C)`` averaged down to ``size``; halves round to even."""
    out = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    factor, rest = divmod(images.shape[1], size)
    whole = rest == 0 and factor <= 16  # of so many, sums of 16 bits hold 255 times the square
    for start in range(0, len(images), 4096):  # bounds the copy
        if whole:
            sums = _sums(images[start : start + 4096], factor)
            out[start : start + 4096] = np.rint(sums / np.float32(factor**2))
            continue
        chunk = torch.from_numpy(np.array(images[start : start + 4096])).permute(0, 3, 1, 2).float()
        small: torch.Tensor = torch.nn.functional.adaptive_avg_pool2d(chunk, size)
        out[start : start + 4096] = (
            small.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        )
    return out


def _sums(images: Pixels, factor: int) -> NDArray[np.uint16]:
    """Of each square of ``factor`` pixels, ``(N, S / factor, S / factor, C)``; at most 16."""
    count, side, _, channels = images.shape
    small = side // factor
    lines = images.reshape(count, small, factor, side * channels)
    high = lines[:, :, 0].astype(np.uint16)
    for i in range(1, factor):
        high += lines[:, :, i]
    columns = high.reshape(count, small, small, factor, channels)
    sums = columns[:, :, :, 0].copy()
    for i in range(1, factor):
        sums += columns[:, :, :, i]
    return sums
