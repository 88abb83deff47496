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
from PIL import Image

from wcordbench.data.base import Dataset, Images, alone, say
from wcordbench.errors import UserError
from wcordbench.registry import register_dataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
CACHE = ".wcordbench-cache"
#: images that take long enough to decode for the user to be told
MANY = 1000


@register_dataset("imagefolder", title="Image folder")
def imagefolder(
    root: Path, *, folder: str, image_size: int = 32, grayscale: bool = False
) -> Dataset:
    """A folder with ``train/<class>/*`` and ``test/<class>/*`` images.

    Args:
        root: the folder that holds datasets.
        folder: the dataset's folder in ``root``.
        image_size: images of another size are resized to it (antialiased, short side first,
            then centre-cropped), in pixels.
        grayscale: one channel in place of three.

    Raises:
        UserError: a folder is missing, empty or leaves ``root``, the classes of the two
            splits differ, or an image cannot be decoded.
    """
    if image_size < 1:
        raise UserError(f"imagefolder: image_size is {image_size}; give at least 1 pixel")
    base = inside(root, folder)
    return load_folder(base, image_size, grayscale, f"imagefolder {folder!r}")


def inside(root: Path, folder: str) -> Path:
    """``root / folder``, which must not leave ``root``, by ``..`` or by a link.

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
    """Decode ``base`` or read its cache; images sorted by class, then by file name.

    Args:
        base: holds ``train`` and ``test``; nothing in it may be a link that leaves it.
        image_size: side of the square images, in pixels.
        grayscale: one channel in place of three.
        what: how messages name the dataset.

    Raises:
        UserError: as :func:`imagefolder`.
    """
    splits = []
    names: list[tuple[str, ...]] = []
    for split in ("train", "test"):
        folder = base / split
        if not folder.is_dir():
            raise UserError(
                f"{what}: {folder} does not exist; put class folders of images there,"
                " or name another place with --data"
            )
        images, classes = _load_split(base, folder, image_size, grayscale, what)
        splits.append(images)
        names.append(classes)
    if names[0] != names[1]:
        odd = sorted(set(names[0]) ^ set(names[1]))[0]
        raise UserError(f"{what}: class {odd!r} is in only one of train and test; add it to both")
    return Dataset(splits[0], splits[1], names[0])


def _load_split(
    base: Path, folder: Path, size: int, grayscale: bool, what: str
) -> tuple[Images, tuple[str, ...]]:
    classes = tuple(name for name, entry in _list(base, folder, what) if entry.is_dir())
    if len(classes) < 2:
        raise UserError(f"{what}: {folder} has {len(classes)} class folders; at least 2 are needed")
    files: list[Path] = []
    labels: list[int] = []
    key = hashlib.sha256(f"v1 {size} {grayscale}".encode())
    for label, name in enumerate(classes):
        found = 0
        for file, entry in _list(base, folder / name, what):
            if Path(file).suffix.lower() in SUFFIXES:
                stat = entry.stat()
                key.update(os.fsencode(f"{name}/{file} {stat.st_size} {stat.st_mtime_ns}\n"))
                files.append(folder / name / file)
                labels.append(label)
                found += 1
        if not found:
            raise UserError(f"{what}: {folder / name} holds no image; fill or remove it")
    cache = base / CACHE / f"{folder.name}-{key.hexdigest()[:16]}.npy"
    shape = (len(files), size, size, 1 if grayscale else 3)
    pixels = _read_cache(cache, shape)
    if pixels is None:
        with alone(cache.with_name(f"{folder.name}.lock")):
            pixels = _read_cache(cache, shape)  # another process may have just written it
            if pixels is None:
                if len(files) >= MANY:
                    say(f"{what}: decoding the {len(files)} images of {folder}, once")
                pixels = _decode(files, size, grayscale, what)
                _write_cache(cache, pixels)
    return Images(pixels, np.asarray(labels, np.int64)), classes


def _list(base: Path, folder: Path, what: str) -> list[tuple[str, os.DirEntry[str]]]:
    """The entries of a folder by name, hidden ones left out.

    Raises:
        UserError: the folder cannot be read, or it or an entry is a link that leaves
            ``base`` (a dataset from elsewhere must not read other files) or leads nowhere.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e) for e in entries if not e.name.startswith("."))
        links = [Path(e.path) for _, e in found if e.is_symlink()]
        for link in [folder, *links]:
            if not link.resolve(strict=True).is_relative_to(base.resolve()):
                raise UserError(
                    f"{what}: {link} is a link that leaves {base}; copy what it points to"
                )
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        where = getattr(error, "filename", None) or folder
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{what}: {where} cannot be read ({reason}); correct or remove it"
        ) from None
    return found


def _decode(files: list[Path], size: int, grayscale: bool, what: str) -> NDArray[np.uint8]:
    """All images as ``(N, size, size, C)``.

    Raises:
        UserError: the first file, in order, that is not a whole image.
    """
    out = np.empty((len(files), size, size, 1 if grayscale else 3), np.uint8)

    def decode(i: int) -> None:
        try:
            with Image.open(files[i]) as file:
                image = file.convert("L" if grayscale else "RGB")
            if image.size != (size, size):
                image = _fit(image, size)
            out[i] = np.asarray(image).reshape(size, size, -1)
        except MemoryError:
            raise
        except Exception as error:  # damaged files make PIL's decoders raise of every kind
            reason = str(error).split(str(files[i]))[0].strip(" '\"") or type(error).__name__
            raise UserError(
                f"{what}: {files[i]} is not a readable image ({reason}); replace or remove it"
            ) from None

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in pool.map(decode, range(len(files))):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return out


def _fit(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    wide = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
    image = image.resize(wide, Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _read_cache(cache: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The cached array if it is there, whole and of the right shape; a bad one is ignored."""
    if cache.parent.is_symlink():
        return None
    try:
        checksum = json.loads(cache.with_suffix(".json").read_bytes())["sha256"]
        pixels: NDArray[np.uint8] = np.load(cache, allow_pickle=False)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            return None
        whole = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest() == checksum
    except Exception:  # arbitrary bytes fail in arbitrary ways; the images are still there
        return None
    return pixels if whole else None


def _write_cache(cache: Path, pixels: NDArray[np.uint8]) -> None:
    """Keep the decoded array beside the images; a read-only folder only costs the next time.

    The checksum is written last: without it, or with that of an older array, the array is
    not read.
    """
    temporary = None
    if cache.parent.is_symlink():  # it could lead to anyone's files
        return
    try:
        cache.parent.mkdir(exist_ok=True)
        prefix = f"{cache.name.split('-')[0]}-"
        for stale in cache.parent.glob(f"{prefix}*"):
            stale.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=cache.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, pixels)
        temporary.chmod(0o644)
        temporary.replace(cache)
        checksum = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
        cache.with_suffix(".json").write_text(json.dumps({"sha256": checksum}))
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
