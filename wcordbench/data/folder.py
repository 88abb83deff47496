"""Any folder of class folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from wcordbench.data.base import Dataset
from wcordbench.data.decode import Reading
from wcordbench.data.files import ImageFiles
from wcordbench.data.notes import warn
from wcordbench.data.walk import Walk
from wcordbench.errors import UserError
from wcordbench.options import PositiveInt
from wcordbench.registry import register_dataset

#: what the second split is called where the suite does not say
TESTS = ("test", "val", "valid", "validation")


@register_dataset(
    "imagefolder",
    title="Image folder",
    files=True,
    added=("resize", "train", "test", "follow_links"),
    reads=("{folder}",),
)
def imagefolder(
    root: Path,
    *,
    folder: str,
    image_size: PositiveInt = 32,
    grayscale: bool = False,
    resize: PositiveInt | None = None,
    train: str = "train",
    test: str | None = None,
    follow_links: bool = False,
) -> Dataset:
    """A folder with ``train/<class>/*`` and ``test/<class>/*`` or ``val/<class>/*`` images.

    Read as torchvision's ``ImageFolder`` reads them: its suffixes, sub-folders of a class
    included. Classes whose names are all whole numbers are numbered in that order, others in
    that of their names.

    Args:
        root: the folder that holds datasets.
        folder: the dataset's folder in ``root``; or any, by an absolute path or one with ``~``.
        image_size: images of another size are resized to it (antialiased, short side first,
            then centre-cropped), in pixels.
        grayscale: one channel in place of three.
        resize: length of the short side before the centre is cut out, in pixels; at least
            ``image_size``, which is the default.
        train: the folder of the training images.
        test: that of the test images; by default ``test``, or ``val`` where there is none.
        follow_links: whether links may lead out of the dataset's folder.

    Raises:
        UserError: a folder is missing or empty, or leaves ``root`` by ``..`` or by a link; the
            classes of the two splits differ; or an image cannot be decoded.
    """
    if image_size < 1:
        raise UserError(f"imagefolder: image_size is {image_size}; give at least 1 pixel")
    if resize is not None and resize < image_size:
        raise UserError(
            f"imagefolder: resize is {resize}, less than image_size, {image_size}; give at least"
            " as much"
        )
    base = placed(root, folder, follow_links)
    what = f"imagefolder {folder!r}"
    return load_folder(
        base, Reading(image_size, resize, grayscale), what, (train, test), follow_links
    )


def placed(root: Path, folder: str, follow_links: bool = False) -> Path:
    """The folder that a suite names: ``root / folder``, or any by an absolute path.

    Raises:
        UserError: a relative one leaves ``root``, by ``..`` or by a link.
    """
    given = Path(folder).expanduser()
    if given.is_absolute():
        return given
    base = root / folder
    if ".." in given.parts or not (follow_links or base.resolve().is_relative_to(root.resolve())):
        raise UserError(
            f"dataset folder {folder!r} leaves {root.absolute()}; name a folder in it, give its"
            " absolute path, or, where a link is meant, write 'follow_links: true' in"
            " dataset.options"
        )
    return base


def load_folder(
    base: Path,
    reading: Reading,
    what: str,
    names: tuple[str, str | None] = ("train", None),
    follow_links: bool = False,
) -> Dataset:
    """The files of a folder with ``train`` and ``test``, by class, then by file name.

    Args:
        base: the folder.
        reading: how a decoded image becomes the dataset's.
        what: how messages name the dataset.
        names: of the folders of the splits; None looks for one of :data:`TESTS`.
        follow_links: whether links may lead out of ``base``.

    Raises:
        UserError: as :func:`imagefolder`, but nothing is decoded yet.
    """
    walk = Walk(base, what, follow_links)
    splits: list[ImageFiles] = []
    classes: list[tuple[str, ...]] = []
    for split, name in zip(("train", "test"), names, strict=True):
        folder = base / (name or second(base, what))
        if not folder.is_dir():
            raise UserError(
                f"{what}: {folder.absolute()} does not exist; put class folders of images there,"
                " name another place with --data, or another split in dataset.options"
            )
        files, found = load_split(walk, folder, reading, split)
        splits.append(files)
        classes.append(found)
    if classes[0] != classes[1]:
        odd = sorted(set(classes[0]) ^ set(classes[1]))[0]
        raise UserError(
            f"{what}: class {odd!r} is in only one of {splits[0].folder.name} and"
            f" {splits[1].folder.name}; add it to both"
        )
    remark = walk.remark(base)
    if remark:
        warn(remark)
    return Dataset(splits[0], splits[1], classes[0])


def second(base: Path, what: str) -> str:
    """The folder of the test images: the first of :data:`TESTS` that is there."""
    there = [name for name in TESTS if (base / name).is_dir()]
    if len(there) > 1:
        warn(
            f"{what}: {base / there[0]} is the test set, {' and '.join(there[1:])} beside it"
            " not read; options.test names another"
        )
    return there[0] if there else TESTS[0]


def load_split(
    walk: Walk, folder: Path, reading: Reading, split: str
) -> tuple[ImageFiles, tuple[str, ...]]:
    """One split, and the names of its classes.

    Raises:
        UserError: it has fewer than two classes, or one without images.
    """
    classes = walk.classes(folder)
    names: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = walk.images(folder / name)
        if not found:
            raise UserError(
                f"{walk.what}: {folder / name} holds no image that is read"
                f"{_kinds(walk)}; fill or remove it"
            )
        names += [os.fsencode(f"{name}/{file}") for file in found]
        labels += [label] * len(found)
    files = ImageFiles(
        walk.base, folder, np.array(names), np.asarray(labels, np.int64), reading, walk.what, split
    )
    return files, tuple(classes)


def _kinds(walk: Walk) -> str:
    kinds = [kind for kind in sorted(walk.skipped) if kind.startswith(".")]
    return f" (there are {', '.join(kinds)})" if kinds else ""
