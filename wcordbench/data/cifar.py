"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from torchvision's download or as PNG files.

Both sources give the same bits: images are ordered by class and then by their pixels, so
that a run's result does not depend on where its images came from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from wcordbench.data.base import Dataset, Images
from wcordbench.data.folder import load_folder
from wcordbench.errors import UserError
from wcordbench.registry import register_dataset


@register_dataset("cifar100", title="CIFAR-100", classes=100, size=32, channels=3, images=50000)
def cifar100(root: Path) -> Dataset:
    """CIFAR-100: 50,000 training and 10,000 test images of 32×32 pixels, 100 classes.

    Read from ``root/cifar100/{train,test}/<class>/*.png`` where that exists, else from
    torchvision's files in ``root``, downloaded on first use.

    Raises:
        UserError: the data are damaged or cannot be downloaded.
    """
    return _cifar(root, "cifar100", "CIFAR100", 100, 32)


@register_dataset("cifar10", title="CIFAR-10", classes=10, size=32, channels=3, images=50000)
def cifar10(root: Path) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images of 32×32 pixels, 10 classes.

    Found and downloaded as :func:`cifar100`.

    Raises:
        UserError: the data are damaged or cannot be downloaded.
    """
    return _cifar(root, "cifar10", "CIFAR10", 10, 32)


def _cifar(root: Path, name: str, torchvision_name: str, classes: int, size: int) -> Dataset:
    folder = root / name
    if folder.is_dir():
        dataset = load_folder(folder, size, False, name)
    else:
        dataset = _torchvision(root, name, torchvision_name)
    counts = (len(dataset.train.labels), len(dataset.test.labels), len(dataset.classes))
    if counts != (50000, 10000, classes):
        raise UserError(
            f"{name}: {folder if folder.is_dir() else root} holds {counts[0]} training and"
            f" {counts[1]} test images of {counts[2]} classes, not 50000, 10000 and {classes};"
            " delete it and run again to fetch it anew"
        )
    return Dataset(canonical_order(dataset.train), canonical_order(dataset.test), dataset.classes)


def canonical_order(images: Images) -> Images:
    """Sorted by label, then by the digest of the pixels: the same from every source."""
    keys = [
        (int(label), hashlib.sha256(np.ascontiguousarray(p).data).digest())
        for p, label in zip(images.pixels, images.labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return Images(images.pixels[order], images.labels[order])


def _torchvision(root: Path, name: str, class_name: str) -> Dataset:
    import torchvision

    source: Any = getattr(torchvision.datasets, class_name)
    splits = []
    for train in (True, False):
        try:
            try:
                data = source(root, train=train, download=False)
            except RuntimeError:  # not there, or its checksums do not agree
                data = source(root, train=train, download=True)
        except Exception as error:  # URLError, RuntimeError, EOFError, …: torchvision's are many
            reason = str(getattr(error, "reason", error)).splitlines()[0]
            raise UserError(
                f"{name} is missing or damaged in {root} and cannot be downloaded ({reason});"
                f" delete {root / source.base_folder} and run again with a network, or put"
                f" class folders of PNG files in {folder_hint(root, name)}"
            ) from None
        splits.append((data.data, np.asarray(data.targets, np.int64)))
        classes = data.classes
    # class folders of PNG files sort by name; torchvision's CIFAR-10 does not
    rank = np.argsort(np.argsort(classes))
    return Dataset(
        *(Images(pixels, rank[labels].astype(np.int64)) for pixels, labels in splits),
        classes=tuple(sorted(classes)),
    )


def folder_hint(root: Path, name: str) -> str:
    """Where a user may put the PNG files of a dataset."""
    return f"{root / name}/{{train,test}}"
