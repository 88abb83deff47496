"""ImageNet (ILSVRC 2012) as its archives unpack, with or without the development kit."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from wcordbench.data.base import Dataset
from wcordbench.data.decode import Reading
from wcordbench.data.files import ImageFiles
from wcordbench.data.folder import load_split, placed
from wcordbench.data.notes import warn
from wcordbench.data.walk import Walk
from wcordbench.errors import UserError
from wcordbench.options import PositiveInt
from wcordbench.registry import register_dataset

CLASSES, TRAIN, TEST = 1000, 1_281_167, 50_000
KIT, TABLE = "ILSVRC2012_devkit_t12", "LOC_val_solution.csv"


@register_dataset(
    "imagenet",
    title="ImageNet",
    classes=1000,
    channels=3,
    images=1281167,
    test_images=50000,
    files=True,
    reads=(
        "{folder}",
        "{folder}/../ILSVRC2012_devkit_t12",
        "{folder}/../LOC_val_solution.csv",
    ),
)
def imagenet(
    root: Path,
    *,
    folder: str = "imagenet",
    image_size: PositiveInt = 224,
    resize: PositiveInt | None = 256,
    follow_links: bool = False,
) -> Dataset:
    """ImageNet-1k: 1,281,167 training and 50,000 validation images, 1,000 classes.

    Training images are in ``train/<class>/*.JPEG``. Validation images are in class folders of
    ``val``, or in ``val`` itself, when the development kit (``ILSVRC2012_devkit_t12`` beside them)
    or Kaggle's ``LOC_val_solution.csv`` says their classes. Kaggle's folders
    (``ILSVRC/Data/CLS-LOC``) are found as well. Classes are numbered in the order of their WordNet
    names, as torchvision and the published weights number them.

    Args:
        root: the folder that holds datasets.
        folder: the dataset's folder in ``root``; or any, by an absolute path or one with ``~``.
        image_size: side of the images, in pixels.
        resize: length of the short side before the centre is cut out, in pixels.
        follow_links: whether links may lead out of the folder.

    Raises:
        UserError: a file is missing or damaged, or a validation image's class is not known.
    """
    if image_size < 1 or (resize is not None and resize < image_size):
        raise UserError(
            f"imagenet: image_size is {image_size} and resize {resize}; give a size above 0 and at"
            " least as much to resize to"
        )
    base = placed(root, folder, follow_links)
    what, reading = "imagenet", Reading(image_size, resize)
    places = [base, base / "ILSVRC/Data/CLS-LOC", base / "Data/CLS-LOC"]
    images = next((p for p in places if (p / "train").is_dir()), None)
    if images is None or not (images / "val").is_dir():
        missing = "train" if images is None else "val"
        raise UserError(
            f"{what}: {(images or base).absolute() / missing} does not exist; ImageNet's terms do"
            " not allow that it is fetched for you: unpack its archives there (image-net.org), or"
            " name its folder in dataset.options"
        )
    walk = Walk(base, what, follow_links)
    train, classes = load_split(walk, images / "train", reading, "train")
    val = images / "val"
    if any(entry.is_dir() for entry in val.iterdir() if not entry.name.startswith(".")):
        test, found = load_split(walk, val, reading, "test")
        if found != classes:
            odd = sorted(set(found) ^ set(classes))[0]
            raise UserError(
                f"{what}: class {odd!r} is in only one of train and val; add it to both"
            )
    else:
        labelled, source = _ground_truth(base, val)
        test = flat_split(walk, val, labelled, classes, reading, source)
    remark = walk.remark(base)
    if remark:
        warn(remark)
    counts = (len(classes), len(train), len(test))
    if counts != (CLASSES, TRAIN, TEST):
        warn(
            f"{what}: {base} holds {counts[0]} classes, {counts[1]} training and {counts[2]} test"
            f" images, not {CLASSES}, {TRAIN} and {TEST}: a part of ImageNet, or another set"
        )
    return Dataset(train, test, classes)


def flat_split(
    walk: Walk,
    folder: Path,
    labelled: dict[str, str],
    classes: tuple[str, ...],
    reading: Reading,
    source: Path,
) -> ImageFiles:
    """A folder of test images whose classes a file says; in the order of class, then of name.

    Args:
        walk: looks through the folder.
        folder: of the images.
        labelled: the class's name by the image's name, with or without a suffix.
        classes: the names that labels number.
        reading: how a decoded image becomes the dataset's.
        source: the file, for messages.

    Raises:
        UserError: an image is not in it, or its class not among the training set's.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    found: list[tuple[int, str]] = []
    for name in walk.images(folder):
        label = labelled.get(name, labelled.get(Path(name).stem))
        if label is None:
            raise UserError(
                f"{walk.what}: {source} does not say the class of {folder / name}; remove the image"
                " or add its line"
            )
        if label not in numbers:
            raise UserError(
                f"{walk.what}: {source} says that {name} is of class {label!r}, which the training"
                " images do not have; add that class or remove the image"
            )
        found.append((numbers[label], name))
    missing = set(range(len(classes))) - {label for label, _ in found}
    if missing:
        raise UserError(
            f"{walk.what}: class {classes[min(missing)]!r} is in the training images and not among"
            f" those of {folder}; add some"
        )
    found.sort()
    return ImageFiles(
        walk.base,
        folder,
        np.array([os.fsencode(name) for _, name in found]),
        np.array([label for label, _ in found], np.int64),
        reading,
        walk.what,
        "test",
    )


def label_file(file: Path, what: str, remedy: str) -> str:
    """The text of a file that says the images' classes.

    Args:
        file: UTF-8.
        what: how messages name the dataset.
        remedy: what to do where it cannot be read.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{what}: {file} cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what}: {file} is damaged; {remedy}") from None


def _ground_truth(base: Path, val: Path) -> tuple[dict[str, str], Path]:
    """The class of every validation image, and the file that says it.

    Raises:
        UserError: no such file is there, or it is damaged.
    """
    around = dict.fromkeys([base, val.parent, base.parent, *base.parents[:1]])
    for place in around:
        kit = place / KIT / "data"
        if kit.is_dir():
            return _kit(kit), kit / "ILSVRC2012_validation_ground_truth.txt"
        table = place / TABLE
        if table.is_file():
            remedy = "fetch it again"
            rows = csv.DictReader(io.StringIO(label_file(table, "imagenet", remedy)))
            try:
                return {r["ImageId"]: r["PredictionString"].split()[0] for r in rows}, table
            except (KeyError, AttributeError, IndexError, csv.Error):
                raise UserError(f"imagenet: {table} is damaged; {remedy}") from None
    raise UserError(
        f"imagenet: the images in {val} are in no class folders, and nothing says their classes;"
        f" put them into folders called by their class, or unpack {KIT}.tar.gz in {base}"
    )


def _kit(folder: Path) -> dict[str, str]:
    """What the development kit says: a line for each validation image, in order of its number."""
    from scipy.io import loadmat

    file = folder / "ILSVRC2012_validation_ground_truth.txt"
    try:
        meta: Any = loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
        names = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in meta}
        numbers = [int(line) for line in file.read_text().split()]
        return {
            f"ILSVRC2012_val_{i:08}": names[number] for i, number in enumerate(numbers, start=1)
        }
    except OSError as error:
        raise UserError(
            f"imagenet: {error.filename or file} cannot be read ({error.strerror}); unpack"
            f" {KIT}.tar.gz again"
        ) from None
    except Exception as error:  # damaged files make the reader raise of every kind
        raise UserError(
            f"imagenet: {folder} is damaged ({type(error).__name__}); unpack {KIT}.tar.gz again"
        ) from None
