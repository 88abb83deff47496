"""What a dataset is to the rest of the suite, and how one is loaded by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (N, H, W, C), not {self.pixels.shape}")
        if self.labels.shape != (len(self.pixels),):
            raise ValueError(f"labels must be ({len(self.pixels)},), not {self.labels.shape}")


@dataclass(frozen=True)
class Dataset:
    """Training and test images of the same classes."""

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
        UserError: the data are missing, damaged or smaller than the wanted size.
    """
    entry = registry.get("dataset", config["name"])
    dataset: Dataset = entry.load()(root, **config["options"])
    channels = dataset.train.pixels.shape[-1]
    if channels != len(config["mean"]):
        raise UserError(
            f"dataset {config['name']!r} has {channels} channels, the suite's dataset.mean"
            f" has {len(config['mean'])} values; give one a channel"
        )
    size = config["size"]
    if size is None:
        return dataset
    return Dataset(
        *(
            Images(shrink(split.pixels, size, config["name"]), split.labels)
            for split in (dataset.train, dataset.test)
        ),
        classes=dataset.classes,
    )


def shrink(pixels: NDArray[np.uint8], size: int, name: str) -> NDArray[np.uint8]:
    """Average square images down to ``size`` × ``size`` pixels.

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
