"""Tiny ImageNet (Stanford's CS231n) as its archive unpacks."""

from __future__ import annotations

from pathlib import Path

from wcordbench.data.base import Dataset
from wcordbench.data.decode import Reading
from wcordbench.data.files import ImageFiles
from wcordbench.data.folder import load_split, placed
from wcordbench.data.imagenet import flat_split, label_file
from wcordbench.data.notes import warn
from wcordbench.data.walk import Walk
from wcordbench.errors import UserError
from wcordbench.registry import register_dataset

CLASSES, TRAIN, TEST = 200, 100_000, 10_000
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@register_dataset(
    "tiny_imagenet", title="Tiny ImageNet", classes=200, size=64, channels=3, images=100000,
    test_images=10000, files=True, reads=("{folder}",),
)  # fmt: skip
def tiny_imagenet(
    root: Path, *, folder: str = "tiny-imagenet-200", follow_links: bool = False
) -> Dataset:
    """Tiny ImageNet: 100,000 training and 10,000 validation images of 64×64 pixels, 200 classes.

    Read from ``train/<class>/images/*.JPEG`` and ``val/images/*.JPEG`` with
    ``val/val_annotations.txt``, or from class folders in ``val``. The images in ``test`` have no
    published labels and are not read: scores are of the validation images, as in all papers.
    Classes are numbered in the order of their WordNet names.

    Args:
        root: the folder that holds datasets.
        folder: the dataset's folder in ``root``; or any, by an absolute path or one with ``~``.
        follow_links: whether links may lead out of the folder.

    Raises:
        UserError: a file is missing, damaged, or names a class that is not there.
    """
    base = placed(root, folder, follow_links)
    what, reading = "tiny_imagenet", Reading(64)
    if not (base / "train").is_dir():
        raise UserError(
            f"{what}: {base.absolute() / 'train'} does not exist; its images are ImageNet's, whose"
            f" terms you agree to: fetch {URL} and unpack it in {base.absolute().parent}, or name"
            " its folder in dataset.options"
        )
    walk = Walk(base, what, follow_links)
    train, classes = load_split(walk, base / "train", reading, "train")
    boxes = walk.skipped[".txt"]  # each class's <class>_boxes.txt, which are no images
    walk.skipped[".txt"] -= min(boxes, len(classes))
    if (base / "val" / "val_annotations.txt").is_file():
        test = _annotated(walk, base / "val", classes, reading)
    else:
        test, found = load_split(walk, base / "val", reading, "test")
        if found != classes:
            odd = sorted(set(found) ^ set(classes))[0]
            raise UserError(
                f"{what}: class {odd!r} is in only one of train and val; add it to both"
            )
    remark = walk.remark(base)
    if remark:
        warn(remark)
    counts = (len(classes), len(train), len(test))
    if counts != (CLASSES, TRAIN, TEST):
        warn(
            f"{what}: {base} holds {counts[0]} classes, {counts[1]} training and {counts[2]} test"
            f" images, not {CLASSES}, {TRAIN} and {TEST}: a part of Tiny ImageNet, or another set"
        )
    return Dataset(train, test, classes)


def _annotated(walk: Walk, folder: Path, classes: tuple[str, ...], reading: Reading) -> ImageFiles:
    """The validation images, whose classes are the second column of a file."""
    file = folder / "val_annotations.txt"
    remedy = f"unpack {URL} again"
    text = label_file(file, walk.what, remedy)
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    if any(len(line) < 2 for line in lines):
        raise UserError(f"{walk.what}: {file} is damaged; {remedy}")
    return flat_split(
        walk, folder / "images", {line[0]: line[1] for line in lines}, classes, reading, file
    )
