"""Decoded images on disk, read as they are needed: a memory-mapped array beside the images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wcordbench.data.decode import Pixels, Reading
from wcordbench.data.files import (
    CHUNK,
    MANY,
    ImageFiles,
    cache_file,
    forget_stale,
    local,
    read_both,
    write_beside,
)
from wcordbench.data.notes import alone, say

#: a disk is not filled by what only saves time
ROOM = 1 << 30


@dataclass(frozen=True)
class Kept:
    """Images of a split on disk.

    Attributes:
        file: uint8 ``(M, S, S, C)``, of all files of the split.
        taken: which of them the split's images are; None takes all.
    """

    file: Path
    taken: NDArray[np.int64] | None = None

    def rows(self, indices: NDArray[np.int64]) -> Pixels:
        """Images by number.

        The file is mapped for this call alone: what stays mapped counts as memory of the process.
        """
        array = np.load(self.file, mmap_mode="r", allow_pickle=False)
        return np.array(array[indices if self.taken is None else self.taken[indices]])


def keep(files: ImageFiles) -> Kept | None:
    """The images of a split as they are read, on disk; decoded now where they are not there.

    Returns:
        None where the disk has no room, or cannot be written.

    Raises:
        UserError: a file cannot be decoded.
    """
    every = replace(files, taken=None, labels=np.zeros(len(files.names), np.int64))
    cache = cache_file(every)
    for place in (cache, local(cache)):
        if _whole(place, every.shape):
            return Kept(place, files.taken)
    with contextlib.suppress(OSError):
        with alone(cache.with_name(f"{files.split}.lock")):
            if not _whole(cache, every.shape):  # another process may have just written it
                _write(every, cache)
        return Kept(cache, files.taken)
    return None


def stored(files: ImageFiles, size: int) -> ImageFiles:
    """The same files read from squares of ``size`` pixels, kept on disk where that can be."""
    asked = files if files.reading.size == size else files.at(stored=size)
    reading = Reading(size, None, files.reading.grayscale)
    kept = keep(replace(files, taken=None, labels=np.zeros(len(files.names), np.int64),
                        reading=reading))  # fmt: skip
    return asked if kept is None else replace(asked, kept=kept.file)


def _whole(cache: Path, shape: tuple[int, ...]) -> bool:
    """Whether the array is there, and is what was written.

    It is read for that where its times say that it may have been changed since it last was.
    """
    if cache.parent.is_symlink():
        return False
    try:
        checksum = json.loads(cache.with_suffix(".json").read_bytes())["sha256"]
        array = np.load(cache, mmap_mode="r", allow_pickle=False)
        if array.shape != shape or array.dtype != np.uint8:
            return False
        seen = _seen(cache, checksum)
        if seen in read_both(cache.with_suffix(".seen")):
            return True
        if len(array) >= MANY:
            say(f"checking {cache}, once")
        digest = hashlib.sha256()
        for start in range(0, len(array), CHUNK):
            digest.update(np.ascontiguousarray(array[start : start + CHUNK]).data)
    except Exception:  # arbitrary bytes fail in arbitrary ways; the images are still there
        return False
    if digest.hexdigest() == checksum:
        _remember(cache, seen)
        return True
    return False


def _seen(cache: Path, checksum: str) -> dict[str, Any]:
    """What tells a whole array from one that was changed later, without reading it."""
    stat = cache.stat()
    return {"sha256": checksum, "file": [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]}


def _remember(cache: Path, seen: dict[str, Any]) -> None:
    write_beside(cache.with_suffix(".seen"), json.dumps(seen).encode())


def _write(files: ImageFiles, cache: Path) -> None:
    """Decode all images into the cache without holding them.

    Raises:
        OSError: it cannot be written.
        UserError: an image cannot be decoded.
    """
    if cache.parent.is_symlink():
        raise OSError("a link")
    cache.parent.mkdir(exist_ok=True)
    forget_stale(cache)
    size = int(np.prod(files.shape))
    if shutil.disk_usage(cache.parent).free < size + ROOM:
        raise OSError("no room")
    if len(files) >= MANY:
        say(f"{files.what}: decoding the {len(files)} images of {files.folder}, once, to disk")
    with tempfile.NamedTemporaryFile(prefix=f"{cache.stem}-", dir=cache.parent) as file:
        digest = hashlib.sha256()
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": "|u1", "fortran_order": False, "shape": files.shape},
        )
        for part in files.chunks(CHUNK):
            data = np.ascontiguousarray(part).data
            digest.update(data)
            file.write(data)
        file.flush()
        final = Path(file.name)
        final.chmod(0o644)
        cache.unlink(missing_ok=True)
        cache.hardlink_to(final)
    cache.with_suffix(".json").write_text(json.dumps({"sha256": digest.hexdigest()}))
    _remember(cache, _seen(cache, digest.hexdigest()))
