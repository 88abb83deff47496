"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from torchvision's download or as PNG files.

Both sources give the same bits: images are ordered by class and then by their pixels, so
that a run's result does not depend on where its images came from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wcordbench.data.base import Dataset, ImageFiles, Images, Split
from wcordbench.data.decode import Reading
from wcordbench.data.fetch import fetch, why
from wcordbench.data.folder import load_folder
from wcordbench.data.notes import alone, may_download, warn
from wcordbench.errors import UserError
from wcordbench.registry import register_dataset

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
#: the classes in the order of their labels, which is that of the alphabet
NAMES = {"cifar10": tuple(_CIFAR10.split()), "cifar100": tuple(_CIFAR100.split())}

#: how files end whose pixels are not those that were written
_LOSSY = (b".jpg", b".jpeg", b".webp")

#: what :func:`content` gives of the published images, where it is known
PUBLISHED = {"cifar100": "7a9fbe29d265a89c"}

#: training and test images; whatever has another number of them is damaged
COUNTS = (50000, 10000)


@register_dataset(
    "cifar100",
    title="CIFAR-100",
    classes=100,
    size=32,
    channels=3,
    images=50000,
    test_images=10000,
    reads=("cifar100", "cifar-100-python"),
)
def cifar100(root: Path) -> Dataset:
    """CIFAR-100: 50,000 training and 10,000 test images of 32×32 pixels, 100 classes.

    Read from ``root/cifar100/{train,test}/<class>/*.png`` where that exists, else from
    torchvision's files in ``root``, downloaded on first use.

    Raises:
        UserError: the data are damaged or cannot be downloaded.
    """
    return _cifar(root, "cifar100", "CIFAR100", 100)


@register_dataset(
    "cifar10",
    title="CIFAR-10",
    classes=10,
    size=32,
    channels=3,
    images=50000,
    test_images=10000,
    reads=("cifar10", "cifar-10-batches-py"),
)
def cifar10(root: Path) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images of 32×32 pixels, 10 classes.

    Found and downloaded as :func:`cifar100`.

    Raises:
        UserError: the data are damaged or cannot be downloaded.
    """
    return _cifar(root, "cifar10", "CIFAR10", 10)


def _cifar(root: Path, name: str, torchvision_name: str, classes: int) -> Dataset:
    folder = root / name
    if folder.is_dir():
        dataset, place = _named(load_folder(folder, Reading(32), name), name, folder), folder
    else:
        dataset, place = _torchvision(root, name, torchvision_name)
    counts = (len(dataset.train.labels), len(dataset.test.labels), len(dataset.classes))
    if counts != (*COUNTS, classes):
        raise UserError(
            f"{name}: {place} holds {counts[0]} training and {counts[1]} test images of"
            f" {counts[2]} classes, not {COUNTS[0]}, {COUNTS[1]} and {classes}; delete it and"
            " run again to fetch it anew"
        )
    lossy = [name for split in (dataset.train, dataset.test) if isinstance(split, ImageFiles)
             for name in split.names.tolist() if name.lower().endswith(_LOSSY)]  # fmt: skip
    dataset = dataset.in_memory()
    found = Dataset(canonical_order(dataset.train), canonical_order(dataset.test), dataset.classes)
    known = PUBLISHED.get(name) if place == folder else None
    if lossy or (known is not None and content(found) != known):
        which = f"{os.fsdecode(lossy[0])} is compressed with loss" if lossy else "pixels or labels"
        warn(
            f"{name}: the images in {folder} are not the published ones ({which}); nothing"
            " that is trained on them is comparable with what was published"
        )
    return found


def content(dataset: Dataset) -> str:
    """16 hexadecimal digits of the images and labels in canonical order."""
    found = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        assert isinstance(split, Images)
        found.update(np.ascontiguousarray(split.pixels).data)
        found.update(split.labels.astype("<i8").tobytes())
    return found.hexdigest()[:16]


def _named(dataset: Dataset, name: str, folder: Path) -> Dataset:
    """Class folders under CIFAR's own names; numbers from 0 are the labels of its files.

    Raises:
        UserError: the folders are called otherwise.
    """
    known = NAMES[name]
    found = [c.casefold().replace(" ", "_").replace("-", "_") for c in dataset.classes]
    by_number = all(c.isascii() and c.isdecimal() for c in found)
    if by_number and [int(c) for c in found] == list(range(len(known))):
        return replace(dataset, classes=known)
    if found == list(known):
        return replace(dataset, classes=known)
    odd = next((c for c, f in zip(dataset.classes, found, strict=True) if f not in known), None)
    what = f"{folder} has {len(found)} class folders"
    what = what if odd is None else f"the class folder {odd!r} in {folder} is not one of {name}'s"
    raise UserError(
        f"{name}: {what}; call them by the {len(known)} names of its classes"
        f" ({', '.join(known[:3])}, …) or by its labels, 0 to {len(known) - 1}; name: imagefolder"
        " reads any folder"
    )


def canonical_order(images: Split) -> Images:
    """Sorted by label, then by the digest of the pixels: the same from every source."""
    if not isinstance(images, Images):
        images = Images(images.pixels, images.labels)
    keys = [
        (int(label), hashlib.sha256(np.ascontiguousarray(p).data).digest())
        for p, label in zip(images.pixels, images.labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    # torchvision's array is a transposed one, and indexing keeps its layout
    return Images(np.ascontiguousarray(images.pixels[order]), images.labels[order])


def _torchvision(root: Path, name: str, class_name: str) -> tuple[Dataset, Path]:
    """The data in torchvision's format, and the folder they are in."""
    import torchvision

    source: Any = getattr(torchvision.datasets, class_name)
    place = root / source.base_folder
    try:
        with alone(root / f".{name}.lock") if may_download() else contextlib.nullcontext():
            try:
                splits = [source(root, train=train) for train in (True, False)]
            except RuntimeError:  # not there, or a checksum does not agree
                # torchvision's own download writes the archive in place, so that one cut off
                # stays, and draws a bar that no log file and no live display can take.
                fetch(source.url, root / source.filename, source.tgz_md5, name)
                splits = [source(root, train=train, download=True) for train in (True, False)]
        arrays = [(s.data, np.asarray(s.targets, np.int64), s.classes) for s in splits]
    except UserError:
        raise
    except Exception as error:  # URLError, RuntimeError, UnpicklingError, KeyError, …
        raise UserError(
            f"{name} is missing or damaged in {root} and cannot be downloaded ({why(error)});"
            f" delete {place} and run again with a network, or put class folders of PNG files"
            f" in {root / name}/train and {root / name}/test"
        ) from None
    # Class folders of PNG files sort by name; torchvision numbers classes as its files do.
    classes = arrays[0][2]
    rank = np.argsort(np.argsort(classes)).astype(np.int64)
    train, test = (Images(pixels, rank[labels]) for pixels, labels, _ in arrays)
    return Dataset(train, test, tuple(sorted(classes))), place
