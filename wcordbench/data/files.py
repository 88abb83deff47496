"""A split of image files: decoded into memory once, or one by one as they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wcordbench.data import decode
from wcordbench.data.decode import Pixels, Reading
from wcordbench.data.notes import alone, say
from wcordbench.data.walk import CACHE
from wcordbench.errors import UserError

T = TypeVar("T")

#: images that take long enough to decode for the user to be told
MANY = 1000
#: images decoded at a time where what is decoded is not all kept
CHUNK = 512
#: seconds after which a file's times tell a later change of it
SETTLED = 2.0


@dataclass(frozen=True)
class ImageFiles:
    """Images of a split as files; nothing is decoded before it is asked for.

    Args:
        base: the dataset's folder, which holds the cache.
        folder: what ``names`` are relative to.
        names: of the files, as bytes ``(M,)``.
        labels: int64 ``(N,)``, of the images taken.
        reading: how a decoded image becomes the dataset's.
        what: how messages name the dataset.
        split: names the cache.
        taken: which of the M files the N images are; None takes all.
        kept: an array of the M images as squares of ``reading.stored``, in place of the files.
    """

    base: Path
    folder: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    reading: Reading
    what: str
    split: str
    taken: NDArray[np.int64] | None = None
    kept: Path | None = None
    _known: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pixels: ``(N, S, S, C)``."""
        side = self.reading.side
        return (len(self), side, side, self.reading.channels)

    @property
    def nbytes(self) -> int:
        """That decoding into memory takes, those of files that are not taken included."""
        return len(self.names) * int(np.prod(self.shape[1:]))

    def take(self, chosen: NDArray[Any], labels: NDArray[np.int64] | None = None) -> ImageFiles:
        """Some of the images, by number or mask; with other labels where they are given."""
        taken = np.arange(len(self.names)) if self.taken is None else self.taken
        if labels is None:
            labels = self.labels[chosen]
        return replace(self, taken=taken[chosen], labels=labels)

    def at(self, size: int | None = None, stored: int | None = None) -> ImageFiles:
        """The same files averaged down to another size, or read from a square kept on disk."""
        reading = replace(self.reading, stored=stored or self.reading.stored)
        if size is not None:
            reading = replace(reading, averaged=size)
        known = {k: v for k, v in self._known.items() if k == "content"}
        return replace(self, reading=reading, _known=known)

    def path(self, index: int) -> Path:
        """The file of an image."""
        number = index if self.taken is None else int(self.taken[index])
        return self.folder / os.fsdecode(self.names[number])

    def whole(self, index: int) -> Pixels:
        """An image as its file has it, uint8 ``(H, W, C)``.

        Raises:
            UserError: it cannot be decoded.
        """
        return decode.read(self.path(index), self.what, self.reading.grayscale)

    def read(self, index: int) -> Pixels:
        """An image at the dataset's size, uint8 ``(S, S, C)``.

        Raises:
            UserError: it cannot be decoded.
        """
        if self.kept is None:
            return self.reading(self.whole(index))
        number = index if self.taken is None else int(self.taken[index])
        # Mapped for this image alone: what stays mapped counts as memory of the process.
        square = np.load(self.kept, mmap_mode="r", allow_pickle=False)[number]
        return replace(self.reading, stored=None)(np.array(square))

    @property
    def pixels(self) -> Pixels:
        """All of them, ``(N, S, S, C)``, from the cache beside the images where it is good.

        Raises:
            UserError: the first file, in order, that is not a whole image.
        """
        if "pixels" not in self._known:
            every = replace(self, taken=None, labels=np.zeros(len(self.names), np.int64))
            self._known["pixels"] = _load(every)
        pixels: Pixels = self._known["pixels"]
        return pixels if self.taken is None else np.ascontiguousarray(pixels[self.taken])

    def chunks(self, size: int = CHUNK) -> Iterator[Pixels]:
        """All images in order, so many at a time, decoded side by side.

        Raises:
            UserError: one cannot be decoded.
        """
        for part in self.mapped(self.read, size):
            yield np.stack(part)

    def mapped(self, what: Callable[[int], T], size: int = CHUNK) -> Iterator[list[T]]:
        """What a function makes of every image's number in order, so many at a time, side by side.

        Raises:
            Exception: the function does.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self), size):
                yield list(pool.map(what, range(start, min(start + size, len(self)))))

    def content(self) -> str:
        """A digest of the names and contents of all files, of which the taken ones are a part.

        Files are read again where a size, a time or an inode says that one may have changed:
        the time of change of an inode, which no program can set back, included.

        Raises:
            UserError: a file cannot be read.
        """
        if "content" not in self._known:
            self._known["content"] = _content(self)
        return str(self._known["content"])


# --- what is in the files ---------------------------------------------------------------


def _content(files: ImageFiles) -> str:
    digest = hashlib.sha256()
    newest = 0
    try:
        for name in files.names:
            stat = (files.folder / os.fsdecode(name)).stat()
            newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
            times = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
            digest.update(b"%b\0%b\n" % (name, times.encode()))
    except OSError as error:
        raise _unreadable(files, error) from None
    seen = digest.hexdigest()
    # A change within a clock's tick of the one before has the same time.
    settled = newest < time.time_ns() - int(SETTLED * 1e9)
    index = files.base / CACHE / f"{files.split}.index"
    for known in read_both(index) if settled else ():
        if known.get("seen") == seen and isinstance(known.get("content"), str):
            return str(known["content"])
    content = _read_all(files)
    if settled:
        write_beside(index, json.dumps({"seen": seen, "content": content}).encode())
    return content


def _read_all(files: ImageFiles) -> str:
    if len(files.names) >= MANY * 10:
        say(f"{files.what}: reading the {len(files.names)} files of {files.folder}, to know them")

    def digest(name: bytes) -> bytes:
        with (files.folder / os.fsdecode(name)).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()

    total = hashlib.sha256()
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(files.names), CHUNK):
                part = files.names[start : start + CHUNK]
                for name, found in zip(part, pool.map(digest, part), strict=True):
                    total.update(b"%b\0%b" % (name, found))
    except OSError as error:
        raise _unreadable(files, error) from None
    return total.hexdigest()


def _unreadable(files: ImageFiles, error: OSError) -> UserError:
    where = os.fsdecode(error.filename) if error.filename else files.folder
    return UserError(
        f"{files.what}: {where} cannot be read ({error.strerror}); correct or remove it"
    )


# --- decoded images on disk -------------------------------------------------------------


def cache_file(files: ImageFiles) -> Path:
    """Where the decoded images are kept: another name for other contents or another reading.

    Suites may read a split from different folders of one dataset. Each folder has names of its
    own, so that none is stale because of another.
    """
    reading = files.reading
    folder = os.path.relpath(files.folder, files.base)
    spec = f"v{decode.RULES} {reading.size} {reading.resize} {reading.grayscale} {reading.stored}"
    spec += f" {reading.averaged}" if reading.averaged else ""
    spec += f" {folder!r}" if folder != files.split else ""
    first = hashlib.sha256(spec.encode()).hexdigest()[:6]
    return files.base / CACHE / f"{files.split}-{first}{files.content()[:10]}.npy"


def _load(files: ImageFiles) -> Pixels:
    cache = cache_file(files)
    pixels = read_cache(cache, files.shape)
    if pixels is None:
        with alone(cache.with_name(f"{files.split}.lock")):
            pixels = read_cache(cache, files.shape)  # another process may have just written it
            if pixels is None:
                if len(files) >= MANY:
                    say(f"{files.what}: decoding the {len(files)} images of {files.folder}, once")
                pixels = _decode(files)
                _write_cache(cache, pixels)
    return pixels


def _decode(files: ImageFiles) -> Pixels:
    out = np.empty(files.shape, np.uint8)
    start = 0
    for part in files.chunks():
        out[start : start + len(part)] = part
        start += len(part)
    return out


def read_cache(cache: Path, shape: tuple[int, ...]) -> Pixels | None:
    """The cached array if it is there, whole and of the right shape; a bad one is ignored."""
    if cache.parent.is_symlink():
        return None
    try:
        checksum = json.loads(cache.with_suffix(".json").read_bytes())["sha256"]
        pixels: Pixels = np.load(cache, allow_pickle=False)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            return None
        whole = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest() == checksum
    except Exception:  # arbitrary bytes fail in arbitrary ways; the images are still there
        return None
    return pixels if whole else None


def _write_cache(cache: Path, pixels: Pixels) -> None:
    """Keep the decoded array beside the images; a read-only folder only costs the next time.

    The checksum is written last: without it, or with that of an older array, the array is
    not read.
    """
    temporary = None
    if cache.parent.is_symlink():  # it could lead to anyone's files
        return
    try:
        cache.parent.mkdir(exist_ok=True)
        forget_stale(cache)
        descriptor, name = tempfile.mkstemp(prefix=f"{cache.stem}-", dir=cache.parent)
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


def forget_stale(cache: Path) -> None:
    """Remove the caches of the same reading of the same folder's contents that are no more."""
    for stale in cache.parent.glob(f"{cache.stem[:-10]}*"):
        stale.unlink(missing_ok=True)


def write_beside(file: Path, data: bytes) -> None:
    """A small file in the cache's folder, whole or not at all.

    Where that cannot be written, it goes to the user's own cache; where that cannot be either,
    nowhere.
    """
    for place in (file, local(file)):
        temporary = None
        if place.parent.is_symlink():
            continue
        try:
            place.parent.mkdir(exist_ok=True, parents=place != file)
            descriptor, name = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
            temporary = Path(name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            temporary.chmod(0o644)
            temporary.replace(place)
            return
        except OSError:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


def local(file: Path) -> Path:
    """Where what belongs into a cache's folder goes if that cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = hashlib.sha256(os.fsencode(file.parent.resolve())).hexdigest()[:16]
    return home / "wcordbench" / folder / file.name


def read_both(file: Path) -> list[dict[str, Any]]:
    """What :func:`write_beside` wrote, in the cache's folder and in the user's own cache.

    Who may not write the folder has another's file there, and the own in the other place.
    """
    found = []
    for place in (file, local(file)):
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(place.read_bytes()) if not place.parent.is_symlink() else {}
            if isinstance(content, dict):
                found.append(content)
    return found
