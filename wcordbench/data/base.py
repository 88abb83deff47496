"""What a dataset is to the rest of the suite, and how one is loaded by name."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wcordbench import registry
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


@dataclass(frozen=True)
class Dataset:
    """Training and test images of the same classes; a label is an index of ``classes``."""

    train: Images
    test: Images
    classes: tuple[str, ...]

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any image, label or their order changes."""
        h = hashlib.sha256()
        for split in (self.train, self.test):
            h.update(repr(split.pixels.shape).encode())
            h.update(np.ascontiguousarray(split.pixels).data)
            h.update(np.ascontiguousarray(split.labels).data)
        return h.hexdigest()[:16]


def load(config: dict[str, Any], root: Path) -> Dataset:
    """Load the dataset that a run's configuration names, at the size it names.

    Args:
        config: the ``dataset`` part of a run's configuration.
        root: the folder that holds datasets (``--data``).

    Raises:
        UserError: the data are missing, damaged or smaller than the wanted size, or are not
            what a network can be trained on (no images, not square, labels without a class).
    """
    name = config["name"]
    from wcordbench.data.task import apply_task

    entry = registry.get("dataset", name)
    preset = entry.meta.get("preset", {})
    dataset: Dataset = entry.load()(root, **preset, **config["options"])
    _check(dataset, name, len(config["mean"]))
    if "task" in config:
        dataset = apply_task(dataset, config["task"])
        _check(dataset, name, len(config["mean"]))
    size = config["size"]
    if size is None:
        return dataset
    train, test = (
        Images(shrink(split.pixels, size, name), split.labels)
        for split in (dataset.train, dataset.test)
    )
    return Dataset(train, test, dataset.classes)


def _check(dataset: Dataset, name: str, channels: int) -> None:
    _, height, width, found = dataset.train.pixels.shape
    if found != channels:
        raise UserError(
            f"dataset {name!r} has {found} channels, the suite's dataset.mean"
            f" has {channels} values; give one a channel"
        )
    if height != width or dataset.test.pixels.shape[1:] != dataset.train.pixels.shape[1:]:
        raise UserError(
            f"dataset {name!r} has training images of {height}×{width} pixels and test images of"
            f" {'×'.join(map(str, dataset.test.pixels.shape[1:3]))}; make its loader give square"
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
    height, width = pixels.shape[1:3]
    if (height, width) == (size, size):
        return pixels
    if size > min(height, width):
        raise UserError(
            f"dataset {name!r} has images of {height}×{width} pixels, dataset.size asks for"
            f" {size}; choose at most {min(height, width)}"
        )
    out = np.empty((len(pixels), size, size, pixels.shape[3]), np.uint8)
    for start in range(0, len(pixels), 4096):  # bounds the float copy
        chunk = torch.from_numpy(pixels[start : start + 4096]).permute(0, 3, 1, 2).float()
        small: Tensor = torch.nn.functional.adaptive_avg_pool2d(chunk, size)
        out[start : start + 4096] = (
            small.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        )
    return out


# --- for loaders ------------------------------------------------------------------


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_listener: contextvars.ContextVar[Callable[[str], None]] = contextvars.ContextVar(
    "wcordbench dataset listener", default=_to_stderr
)


def say(line: str) -> None:
    """Tell the user what takes long: a download, thousands of images to decode."""
    _listener.get()(line)


@contextlib.contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Within it :func:`say` calls ``listener``; outside, it prints to standard error."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


_offline: contextvars.ContextVar[bool] = contextvars.ContextVar("wcordbench offline", default=False)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Within it :func:`may_download` says no."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def may_download() -> bool:
    """Whether a loader may fetch what is not there; if not, it raises a :class:`UserError`."""
    return not _offline.get()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time, so that workers that start together prepare a dataset once.

    Where ``lock`` cannot be written (a read-only folder) nothing is locked: preparing twice
    costs time only, because whatever is written is renamed into place.
    """
    held = None
    with contextlib.suppress(OSError, NotImplementedError):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(lock)
        held.acquire()
    try:
        yield
    finally:
        if held is not None:
            held.release()
