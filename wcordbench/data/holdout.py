"""Training images that are kept from training, to decide by."""

from __future__ import annotations

import numpy as np

from wcordbench.data.base import Dataset
from wcordbench.errors import UserError
from wcordbench.seeds import derive


def hold_out(dataset: Dataset, count: int) -> Dataset:
    """A dataset that is tested on some of its training images, and trained on the others.

    The draw is fixed: as many images of each class, those whose place in the training set hashes
    lowest. No seed, size of the images or version of a library changes it, and the test images
    are out of reach.

    Args:
        dataset: as its loader, or its task, gives it.
        count: how many, a multiple of the number of classes.

    Raises:
        UserError: it is no multiple, or would leave a class without training images.
    """
    each, rest = divmod(count, len(dataset.classes))
    if rest or not each:
        raise UserError(
            f"dataset.holdout is {count}, but there are {len(dataset.classes)} classes, of which it"
            " takes as many images each; give a multiple of that number"
        )
    labels = dataset.train.labels
    held = np.zeros(len(labels), bool)
    for number, name in enumerate(dataset.classes):
        members = np.flatnonzero(labels == number)
        if len(members) <= each:
            raise UserError(
                f"dataset.holdout is {count}, {each} images of each class, but class {name!r} has"
                f" {len(members)} training images; hold out fewer"
            )
        held[sorted(members, key=lambda place: derive(int(place), "holdout"))[:each]] = True
    return Dataset(dataset.train.take(~held), dataset.train.take(held), dataset.classes)
