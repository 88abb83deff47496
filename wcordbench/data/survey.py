"""One pass over all images of a dataset: its fingerprint, and its mean and deviation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wcordbench.data import decode
from wcordbench.data.base import Dataset, ImageFiles
from wcordbench.data.files import MANY, read_both, write_beside
from wcordbench.data.fingerprints import joined
from wcordbench.data.notes import alone, say
from wcordbench.data.walk import CACHE


@dataclass(frozen=True)
class Survey:
    """What is known of a dataset once every image has been seen.

    Attributes:
        fingerprint: see :meth:`Dataset.fingerprint`.
        mean, std: of the training images' values in [0, 1], one a channel.
    """

    fingerprint: str
    mean: list[float]
    std: list[float]


def survey(dataset: Dataset, whole: bool = False) -> Survey:
    """Look at every image once; of files the outcome is kept beside them.

    Args:
        dataset: what to look at.
        whole: whether the fingerprint is also of the whole training images.

    Raises:
        UserError: a file cannot be decoded.
        ValueError: ``whole``, of training images in memory.
    """
    if whole and not isinstance(dataset.train, ImageFiles):
        raise ValueError("images in memory are not whole; stream them")
    files = next((s for s in (dataset.train, dataset.test) if isinstance(s, ImageFiles)), None)
    if files is None:
        return _look(dataset)
    key, kept = _key(dataset) + "-whole" * whole, files.base / CACHE / "surveys.json"
    with alone(kept.with_suffix(".lock")):
        known = {key: value for found in read_both(kept) for key, value in found.items()}
        if key in known:
            return Survey(**known[key])
        count = len(dataset.train) + len(dataset.test)
        if count >= MANY:
            say(f"{files.what}: looking at all {count} images, once")
        found = _look(dataset, whole)
        known[key] = asdict(found)
        write_beside(kept, json.dumps(known).encode())
    return found


def _key(dataset: Dataset) -> str:
    """Equal for datasets of the same images, labels and order."""
    found = hashlib.sha256(f"v{decode.RULES}".encode())
    for split in (dataset.train, dataset.test):
        if isinstance(split, ImageFiles):
            taken = b"" if split.taken is None else split.taken.tobytes()
            parts = [split.content().encode(), repr(split.reading).encode(), taken]
        else:
            parts = [np.ascontiguousarray(split.pixels).tobytes()]
        for part in (*parts, split.labels.tobytes()):
            found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:32]


def digest(dataset: Dataset) -> str:
    """A dataset's fingerprint alone."""
    found = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        found.update(repr(tuple(split.shape)).encode())
        for part in split.chunks():
            found.update(np.ascontiguousarray(part).data)
        found.update(np.ascontiguousarray(split.labels).data)
    return found.hexdigest()[:16]


def _look(dataset: Dataset, whole: bool = False) -> Survey:
    found, files = hashlib.sha256(), hashlib.sha256()
    channels = dataset.train.shape[3]
    total = np.zeros((2, channels), np.int64)
    for training, split in ((True, dataset.train), (False, dataset.test)):  # may be one object
        found.update(repr(tuple(split.shape)).encode())
        parts = split.chunks()
        if whole and training and isinstance(split, ImageFiles):
            parts = _whole_too(split, files)
        for part in parts:
            part = np.ascontiguousarray(part)
            found.update(part.data)
            if training:
                for c in range(channels):
                    counts = np.bincount(part[..., c].ravel(), minlength=256)
                    total[:, c] += counts @ _POWERS
        found.update(np.ascontiguousarray(split.labels).data)
    values = int(np.prod(dataset.train.shape[:3]))
    mean = total[0] / values
    std = np.sqrt(total[1] / values - mean**2)
    fingerprint = found.hexdigest()[:16]
    return Survey(
        joined(fingerprint, files.hexdigest()[:16]) if whole else fingerprint,
        [round(float(x) / 255, 4) for x in mean],
        [round(float(x) / 255, 4) for x in std],
    )


def _whole_too(files: ImageFiles, found: Any) -> Iterator[decode.Pixels]:
    """As :meth:`ImageFiles.chunks`; ``found`` is updated with each whole image on the way."""

    def each(index: int) -> tuple[decode.Pixels, bytes]:
        image = np.ascontiguousarray(files.whole(index))
        seen = hashlib.sha256(repr(image.shape).encode())
        seen.update(image.data)
        return files.reading(image), seen.digest()

    for made in files.mapped(each):
        for _, seen in made:
            found.update(seen)
        yield np.stack([square for square, _ in made])


#: of every value that a pixel may have: itself and its square
_POWERS = np.stack([np.arange(256), np.arange(256) ** 2], 1).astype(np.int64)
