"""Any folder of class folders, decoded once into a cached array."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wcordbench.data.base import Dataset, Images
from wcordbench.errors import UserError
from wcordbench.registry import register_dataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


@register_dataset("imagefolder", title="Image folder")
def imagefolder(
    root: Path, *, folder: str, image_size: int = 32, grayscale: bool = False
) -> Dataset:
    """A folder with ``train/<class>/*`` and ``test/<class>/*`` images.

    Args:
        root: the folder that holds datasets.
        folder: the dataset's folder in ``root``.
        image_size: images of another size are resized to it (antialiased, short side first,
            then centre-cropped).
        grayscale: one channel in place of three.

    Raises:
        UserError: a folder is missing or empty, the classes of the two splits differ, or an
            image cannot be decoded.
    """
    base = inside(root, folder)
    return load_folder(base, image_size, grayscale, f"imagefolder {folder!r}")


def inside(root: Path, folder: str) -> Path:
    """``root / folder``, which must not leave ``root``.

    Raises:
        UserError: it does.
    """
    base = (root / folder).resolve()
    if not base.is_relative_to(root.resolve()):
        raise UserError(
            f"dataset folder {folder!r} leaves {root}; name a folder in it, or give another"
            " place with --data"
        )
    return base


def load_folder(base: Path, image_size: int, grayscale: bool, what: str) -> Dataset:
    """Decode ``base`` or read its cache; images sorted by class, then by file name."""
    splits = []
    names: list[tuple[str, ...]] = []
    for split in ("train", "test"):
        folder = base / split
        if not folder.is_dir():
            raise UserError(
                f"{what}: {folder} does not exist; put class folders of images there,"
                " or name another place with --data"
            )
        images, classes = _load_split(folder, image_size, grayscale, what)
        splits.append(images)
        names.append(classes)
    if names[0] != names[1]:
        odd = sorted(set(names[0]) ^ set(names[1]))[0]
        raise UserError(f"{what}: class {odd!r} is in only one of train and test; add it to both")
    return Dataset(splits[0], splits[1], names[0])


def _load_split(
    folder: Path, size: int, grayscale: bool, what: str
) -> tuple[Images, tuple[str, ...]]:
    with os.scandir(folder) as entries:
        classes = tuple(sorted(e.name for e in entries if e.is_dir() and e.name[0] != "."))
    files: list[Path] = []
    labels: list[int] = []
    key = hashlib.sha256(f"v1 {size} {grayscale}".encode())
    for label, name in enumerate(classes):
        found = []
        with os.scandir(folder / name) as entries:
            for e in entries:
                if os.path.splitext(e.name)[1].lower() in SUFFIXES and e.name[0] != ".":
                    stat = e.stat()
                    found.append((e.name, stat.st_size, stat.st_mtime_ns))
        if not found:
            raise UserError(f"{what}: {folder / name} holds no image; fill or remove it")
        for file, length, mtime in sorted(found):
            key.update(f"{name}/{file} {length} {mtime}\n".encode())
            files.append(folder / name / file)
            labels.append(label)
    if len(classes) < 2:
        raise UserError(f"{what}: {folder} has {len(classes)} class folders; at least 2 are needed")
    cache = folder.parent / ".wcordbench-cache" / f"{folder.name}-{key.hexdigest()[:16]}.npy"
    pixels = _read_cache(cache, (len(files), size, size, 1 if grayscale else 3))
    if pixels is None:
        pixels = _decode(files, size, grayscale, what)
        _write_cache(cache, pixels)
    return Images(pixels, np.asarray(labels, np.int64)), classes


def _decode(files: list[Path], size: int, grayscale: bool, what: str) -> NDArray[np.uint8]:
    out = np.empty((len(files), size, size, 1 if grayscale else 3), np.uint8)

    def decode(i: int) -> None:
        try:
            with Image.open(files[i]) as image:
                image = image.convert("L" if grayscale else "RGB")
                if image.size != (size, size):
                    image = _fit(image, size)
                out[i] = np.asarray(image).reshape(size, size, -1)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            reason = str(error).split(str(files[i]))[0].strip(" '\"") or type(error).__name__
            raise UserError(
                f"{what}: {files[i]} is not a readable image ({reason}); replace or remove it"
            ) from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(files)), chunksize=256))
    return out


def _fit(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    wide = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
    image = image.resize(wide, Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _read_cache(cache: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The cached array if it is there, whole and of the right shape; a bad one is ignored."""
    try:
        checksum = json.loads(cache.with_suffix(".json").read_text())["sha256"]
        pixels: NDArray[np.uint8] = np.load(cache, allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    whole = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest() == checksum
    return pixels if whole and pixels.shape == shape and pixels.dtype == np.uint8 else None


def _write_cache(cache: Path, pixels: NDArray[np.uint8]) -> None:
    """Keep the decoded array beside the images; a read-only folder only costs the next time."""
    try:
        cache.parent.mkdir(exist_ok=True)
        for stale in cache.parent.glob(f"{cache.name.split('-')[0]}-*"):
            stale.unlink(missing_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=cache.parent)
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, pixels)
        os.replace(temporary, cache)
        checksum = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
        cache.with_suffix(".json").write_text(json.dumps({"sha256": checksum}))
    except OSError:
        pass
