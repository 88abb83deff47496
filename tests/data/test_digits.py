"""The digits are the ones that results were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wcordbench.data.digits import digits


def test_the_split_is_pinned() -> None:
    dataset = digits(Path("/nowhere"))
    assert dataset.train.pixels.shape == (1438, 8, 8, 1)
    assert dataset.test.pixels.shape == (359, 8, 8, 1)
    assert dataset.classes == tuple("0123456789")
    assert dataset.train.pixels.max() == 255 and dataset.train.pixels.min() == 0
    assert set(np.unique(dataset.test.labels)) == set(range(10))
    assert dataset.fingerprint() == "8624fa12993158b1"
