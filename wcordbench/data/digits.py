"""Handwritten digits that scikit-learn ships: real images, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wcordbench.data.base import Dataset, Images
from wcordbench.registry import register_dataset


@register_dataset(
    "digits", title="Digits", classes=10, size=8, channels=1, images=1438, test_images=359, reads=()
)
def digits(root: Path) -> Dataset:  # noqa: ARG001
    """1,797 handwritten digits of 8×8 pixels (UCI, test part of optdigits).

    Every fifth image (359) is the test set, the other 1,438 train. Values 0–16 are scaled
    to 0–255. ``root`` is not used: the images come with scikit-learn.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int64)
    test = np.arange(len(labels)) % 5 == 4
    return Dataset(
        Images(pixels[~test], labels[~test]),
        Images(pixels[test], labels[test]),
        tuple(str(d) for d in range(10)),
    )
