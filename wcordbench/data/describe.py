"""A dataset in words."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from wcordbench.data import base
from wcordbench.data.base import Dataset, Split
from wcordbench.data.index import fingerprint_of
from wcordbench.data.memory import GIB, allowing
from wcordbench.data.survey import survey


def seen(config: dict[str, Any], root: Path) -> list[str]:
    """What is there, as far as it shows without decoding a file.

    Args:
        config: the ``dataset`` part of a run's configuration.
        root: the folder that holds datasets.

    Raises:
        UserError: the dataset is missing, or is not what a network can be trained on.
    """
    return _counts(base.look(config, root))


def prepared(
    config: dict[str, Any],
    root: Path,
    gib: float | None,
    keep: bool,
    whole: Collection[bool] = (False,),
) -> list[str]:
    """Decode what is decoded once, look at every image, and say what was found.

    Args:
        config: the ``dataset`` part of a run's configuration.
        root: the folder that holds datasets.
        gib: that the images may take in memory; None is ``auto``.
        keep: whether streamed training images are kept on disk as they are read.
        whole: of each way of training, whether it cuts from whole images, which are streamed.

    Raises:
        UserError: as :func:`seen`, or a file cannot be decoded.
    """
    from wcordbench.data.base import ImageFiles
    from wcordbench.data.kept import keep as keep_on_disk

    with allowing(0.0 if all(whole) else gib, keep):
        dataset = base.load(config, root)
    found = survey(dataset, all(whole))
    fingerprints = [f"fingerprint: {found.fingerprint}"]
    if any(whole) and not all(whole):
        cut = fingerprint_of(config, root, True)
        fingerprints.append(f"fingerprint: {cut} of training that cuts from whole images")
    if isinstance(dataset.test, ImageFiles):
        keep_on_disk(dataset.test)
    size = dataset.train.nbytes + dataset.test.nbytes
    side, channels = dataset.train.shape[1], dataset.train.shape[3]
    way = "streamed: decoded as they are needed" if dataset.streamed else "held in memory"
    if any(whole) and not dataset.streamed:
        way += ", and streamed for training that cuts from whole images"
    return [
        *_counts(dataset),
        f"images:      {side}×{side} pixels, {channels} channel{'s' * (channels != 1)};"
        f" {size / GIB:.3g} GiB decoded, {way}",
        *fingerprints,
        f"mean: [{', '.join(f'{x:.4f}' for x in found.mean)}]",
        f"std: [{', '.join(f'{x:.4f}' for x in found.std)}]",
    ]


def _counts(dataset: Dataset) -> list[str]:
    names = dataset.classes
    shown = ", ".join(names[:5]) + ", …" * (len(names) > 5)
    return [
        f"classes:     {len(names)} ({shown})",
        f"training:    {_split(dataset.train, len(names))}",
        f"test:        {_split(dataset.test, len(names))}",
    ]


def _split(split: Split, classes: int) -> str:
    counts = np.bincount(split.labels, minlength=classes)
    low, high = int(counts.min()), int(counts.max())
    each = str(low) if low == high else f"{low} to {high}"
    return f"{len(split):,} images, {each} of each class"
