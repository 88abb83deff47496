"""What a dataset is to the rest of the suite, and how one is loaded by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wcordbench import registry
from wcordbench.data import index
from wcordbench.data.decode import average
from wcordbench.data.files import ImageFiles
from wcordbench.data.notes import alone, listening, may_download, offline, say
from wcordbench.errors import UserError


@dataclass(frozen=True)
class Images:
    """One split.

    Attributes:
        pixels: uint8, ``(N, H, W, C)``; channels last is how batches are cut fastest.
        labels: int64, ``(N,)``.

    Raises:
        ValueError: the arrays have another shape or type.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be uint8 (N, H, W, C), not {self.pixels.dtype} {self.pixels.shape}"
            )
        if self.labels.shape != (len(self.pixels),) or self.labels.dtype != np.int64:
            raise ValueError(
                f"labels must be int64 ({len(self.pixels)},), not"
                f" {self.labels.dtype} {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pixels: ``(N, H, W, C)``."""
        return self.pixels.shape

    @property
    def nbytes(self) -> int:
        """Of the pixels."""
        return self.pixels.nbytes

    def take(self, chosen: NDArray[Any], labels: NDArray[np.int64] | None = None) -> Images:
        """Some of the images, by number or mask; with other labels where they are given."""
        labels = self.labels[chosen] if labels is None else labels
        return Images(np.ascontiguousarray(self.pixels[chosen]), labels)

    def chunks(self, size: int = 512) -> Iterator[NDArray[np.uint8]]:
        """All pixels in order, so many images at a time."""
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size]


#: a split in memory, or one that is decoded as it is needed
Split = Images | ImageFiles


@dataclass(frozen=True)
class Dataset:
    """Training and test images of the same classes; a label is an index of ``classes``."""

    train: Split
    test: Split
    classes: tuple[str, ...]

    def fingerprint(self, whole: bool = False) -> str:
        """16 hexadecimal digits that change when any image, label or their order changes.

        The same for images in memory and for the files that they are decoded from.

        Args:
            whole: add a dash and 16 digits that change when any pixel of a training image's file
                changes, for runs that cut from those (see :mod:`wcordbench.data.fingerprints`).

        Raises:
            UserError: a file cannot be decoded.
            ValueError: ``whole``, of training images in memory.
        """
        from wcordbench.data.survey import digest, survey

        return survey(self, whole).fingerprint if whole or self.streamed else digest(self)

    @property
    def streamed(self) -> bool:
        """Whether images are decoded as they are needed."""
        return isinstance(self.train, ImageFiles) or isinstance(self.test, ImageFiles)

    def in_memory(self) -> Dataset:
        """The same with all images decoded."""
        train, test = (
            s if isinstance(s, Images) else Images(s.pixels, s.labels)
            for s in (self.train, self.test)
        )
        return Dataset(train, test, self.classes)


def described(dataset: Dataset) -> dict[str, Any]:
    """What a result records of its images, for whoever uses the network without them."""
    _, size, _, channels = dataset.test.shape
    return {"size": size, "channels": channels, "classes": list(dataset.classes)}


def load(config: dict[str, Any], root: Path) -> Dataset:
    """Load the dataset that a run's configuration names, at the size it names.

    Args:
        config: the ``dataset`` part of a run's configuration.
        root: the folder that holds datasets (``--data``).

    Raises:
        UserError: the data are missing, damaged or smaller than the wanted size, or are not
            what a network can be trained on (no images, not square, labels without a class).
    """
    name, size = config["name"], config["size"]
    dataset = _placed(look(config, root), size, name)
    if size is None or dataset.streamed:
        return dataset
    train, test = (
        Images(shrink(split.pixels, size, name), split.labels)
        for split in (dataset.train, dataset.test)
    )
    return Dataset(train, test, dataset.classes)


def look(config: dict[str, Any], root: Path) -> Dataset:
    """As :func:`load`, before any file is decoded and at the size that the loader gives.

    Raises:
        UserError: as :func:`load`, as far as it shows without decoding.
    """
    name = config["name"]
    from wcordbench.data.holdout import hold_out
    from wcordbench.data.task import apply_task

    entry = registry.get("dataset", name)
    preset = entry.meta.get("preset", {})
    try:
        dataset: Dataset = entry.load()(root, **preset, **entry.arguments(config["options"]))
    except UserError:
        raise
    except Exception as error:  # a plugin's code raises anything
        if not entry.is_plugin:
            raise
        raise UserError(
            f"dataset {name!r} cannot be loaded ({type(error).__name__}: {registry.reason(error)})"
        ) from error
    _check_parts(dataset, name)
    _check(dataset, name, len(config["mean"]))
    if "task" in config:
        dataset = apply_task(dataset, config["task"])
        _check(dataset, name, len(config["mean"]))
    if "holdout" in config:
        dataset = hold_out(dataset, config["holdout"])
    if config.get("cache") is not None:
        dataset = _from_squares(dataset, config["cache"], name)
    return dataset


def _from_squares(dataset: Dataset, side: int, name: str) -> Dataset:
    """A dataset of files whose images are brought to squares of ``side`` pixels first."""
    if not isinstance(dataset.train, ImageFiles) or not isinstance(dataset.test, ImageFiles):
        raise UserError(f"dataset {name!r} is no folder of images; leave dataset.cache out")
    return Dataset(dataset.train.at(stored=side), dataset.test.at(stored=side), dataset.classes)


def _placed(dataset: Dataset, size: int | None, name: str) -> Dataset:
    """A dataset in memory if it may take as much, else one whose images are read as needed.

    Raises:
        UserError: it may not, and comes as one array.
    """
    from wcordbench.data.kept import stored
    from wcordbench.data.memory import GIB, allowed, given, keeping

    # A padded copy of the training images is what batches are cut from.
    need = 2 * dataset.train.nbytes + dataset.test.nbytes
    splits = [s for s in (dataset.train, dataset.test) if isinstance(s, ImageFiles)]
    if not splits:
        if given() is not None and need > allowed():
            raise UserError(
                f"dataset {name!r} takes {need / GIB:.3g} GiB as one array, and dataset.memory"
                f" allows {given():g}; allow more, or keep its images as files for imagefolder"
            )
        return dataset
    if need <= allowed():
        return dataset.in_memory()
    ready = []
    for split in (dataset.train, dataset.test):
        if isinstance(split, ImageFiles):
            if size is not None:
                shrinkable(split.shape, size, name)
                split = split.at(size)
            square = split.reading.stored or (split.reading.size if keeping() else None)
            if square is not None:
                split = stored(split, square)
        ready.append(split)
    return Dataset(ready[0], ready[1], dataset.classes)


def fingerprinted(config: dict[str, Any], root: Path, whole: bool = False) -> tuple[Dataset, str]:
    """As :func:`load`, with the fingerprint, which is kept for :mod:`wcordbench.data.index`.

    Args:
        config: the ``dataset`` part of a run's configuration.
        root: the folder that holds datasets.
        whole: whether the run cuts from whole images, which are then not held in memory.

    Raises:
        UserError: as :func:`load`.
    """
    from wcordbench.data.memory import allowing, given, keeping

    key = index.signature(config, root, whole)
    with allowing(0.0 if whole else given(), keeping()):
        dataset = load(config, root)
    fingerprint = dataset.fingerprint(whole)
    if index.signature(config, root, whole) == key:  # nothing was changed meanwhile
        index.remember(key, fingerprint)
    return dataset, fingerprint


def _check_parts(dataset: Any, name: str) -> None:
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"the loader of dataset {name!r} gives a {type(dataset).__name__}; give a"
            " wcordbench.data.base.Dataset"
        )
    for split in (dataset.train, dataset.test):
        if not isinstance(split, Images | ImageFiles):
            raise UserError(
                f"dataset {name!r} has a {type(split).__name__} for a split; give"
                " wcordbench.data.base.Images or ImageFiles"
            )
    odd = [c for c in dataset.classes if not isinstance(c, str)]
    if odd:
        raise UserError(f"dataset {name!r} has the class {odd[0]!r}, which is no text; name it")
    twice = [c for c, count in Counter(dataset.classes).items() if count > 1]
    if twice:
        raise UserError(
            f"dataset {name!r} has {dataset.classes.count(twice[0])} classes that are called"
            f" {twice[0]!r}; give each a name of its own"
        )


def _check(dataset: Dataset, name: str, channels: int) -> None:
    _, height, width, found = dataset.train.shape
    if found != channels:
        raise UserError(
            f"dataset {name!r} has {found} channel{'s' * (found != 1)}, and dataset.mean"
            f" {channels} value{'s' * (channels != 1)}; give one a channel"
        )
    if height != width or dataset.test.shape[1:] != dataset.train.shape[1:]:
        raise UserError(
            f"dataset {name!r} has training images of {height}×{width} pixels and test images of"
            f" {'×'.join(map(str, dataset.test.shape[1:3]))}; make its loader give square"
            " images of one size"
        )
    for what, split in (("training", dataset.train), ("test", dataset.test)):
        if not len(split.labels):
            raise UserError(f"dataset {name!r} has no {what} images; add some")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(dataset.classes):
            raise UserError(
                f"dataset {name!r} has {what} labels from {low} to {high} but"
                f" {len(dataset.classes)} classes; number the classes from 0"
            )


def shrink(pixels: NDArray[np.uint8], size: int, name: str) -> NDArray[np.uint8]:
    """Average square images down to ``size`` × ``size`` pixels; halves round to even.

    Args:
        pixels: ``(N, H, W, C)``.
        size: the new side; where it does not divide the old one, an output pixel averages
            every input pixel that it touches.
        name: of the dataset, for the message.

    Returns:
        ``(N, size, size, C)``.

    Raises:
        UserError: the images are smaller than ``size``.
    """
    shrinkable(pixels.shape, size, name)
    return pixels if pixels.shape[1:3] == (size, size) else average(pixels, size)


def shrinkable(shape: tuple[int, ...], size: int, name: str) -> None:
    """Refuse to enlarge images ``(N, H, W, C)``.

    Raises:
        UserError: they are smaller than ``size``.
    """
    height, width = shape[1:3]
    if size > min(height, width):
        raise UserError(
            f"dataset {name!r} has images of {height}×{width} pixels, dataset.size asks for"
            f" {size}; choose at most {min(height, width)}"
        )


__all__ = [
    "Dataset", "ImageFiles", "Images", "Split", "alone", "fingerprinted", "listening", "load",
    "look", "may_download", "offline", "say", "shrink",
]  # fmt: skip
