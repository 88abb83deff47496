"""MedMNIST v2 (Yang et al., Scientific Data 2023): medical images at 28, 64, 128 and 224 pixels.

The 2D sets that give an image one label; ChestMNIST gives it fourteen.
"""

from __future__ import annotations

import http.client
import shlex
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wcordbench.data.base import Dataset, Images
from wcordbench.data.fetch import fetch, why
from wcordbench.data.notes import alone
from wcordbench.errors import UserError
from wcordbench.registry import register_dataset


@register_dataset(
    "bloodmnist", title="BloodMNIST", classes=8, channels=3, images=11959,
    reads=("medmnist/bloodmnist*.npz",),
    preset={"flag": "bloodmnist"},
)  # fmt: skip
@register_dataset(
    "breastmnist", title="BreastMNIST", classes=2, channels=1, images=546,
    reads=("medmnist/breastmnist*.npz",),
    preset={"flag": "breastmnist"},
)  # fmt: skip
@register_dataset(
    "dermamnist", title="DermaMNIST", classes=7, channels=3, images=7007,
    reads=("medmnist/dermamnist*.npz",),
    preset={"flag": "dermamnist"},
)  # fmt: skip
@register_dataset(
    "octmnist", title="OCTMNIST", classes=4, channels=1, images=97477,
    reads=("medmnist/octmnist*.npz",),
    preset={"flag": "octmnist"},
)  # fmt: skip
@register_dataset(
    "organamnist", title="OrganAMNIST", classes=11, channels=1, images=34561,
    reads=("medmnist/organamnist*.npz",),
    preset={"flag": "organamnist"},
)  # fmt: skip
@register_dataset(
    "organcmnist", title="OrganCMNIST", classes=11, channels=1, images=12975,
    reads=("medmnist/organcmnist*.npz",),
    preset={"flag": "organcmnist"},
)  # fmt: skip
@register_dataset(
    "organsmnist", title="OrganSMNIST", classes=11, channels=1, images=13932,
    reads=("medmnist/organsmnist*.npz",),
    preset={"flag": "organsmnist"},
)  # fmt: skip
@register_dataset(
    "pathmnist", title="PathMNIST", classes=9, channels=3, images=89996,
    reads=("medmnist/pathmnist*.npz",),
    preset={"flag": "pathmnist"},
)  # fmt: skip
@register_dataset(
    "pneumoniamnist", title="PneumoniaMNIST", classes=2, channels=1, images=4708,
    reads=("medmnist/pneumoniamnist*.npz",),
    preset={"flag": "pneumoniamnist"},
)  # fmt: skip
@register_dataset(
    "retinamnist", title="RetinaMNIST", classes=5, channels=3, images=1080,
    reads=("medmnist/retinamnist*.npz",),
    preset={"flag": "retinamnist"},
)  # fmt: skip
@register_dataset(
    "tissuemnist", title="TissueMNIST", classes=8, channels=1, images=165466,
    reads=("medmnist/tissuemnist*.npz",),
    preset={"flag": "tissuemnist"},
)  # fmt: skip
def medmnist(root: Path, flag: str, *, image_size: Literal[28, 64, 128, 224] = 28) -> Dataset:
    """A set of MedMNIST from ``root/medmnist``, downloaded on first use.

    Its training and its test images; the validation images are left out, because the last
    epoch counts and nothing is selected.

    Args:
        root: the folder that holds datasets.
        flag: the set, as the ``medmnist`` package names it.
        image_size: the edition, in pixels.

    Raises:
        UserError: the package is missing, or the file is missing or damaged and cannot be
            downloaded.
    """
    try:
        from medmnist import INFO
    except ImportError:
        raise UserError(
            f"dataset {flag!r} needs the medmnist package; install it with"
            " 'pip install wcordbench[medmnist]'"
        ) from None
    info = INFO[flag]
    edition = "" if image_size == 28 else f"_{image_size}"
    file = root / "medmnist" / f"{flag}{edition}.npz"
    url, md5 = info[f"url{edition}"], info[f"MD5{edition}"]
    try:
        with alone(file.with_name(f".{file.stem}.lock")):
            fetch(url, file, md5, file.stem)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        state = "is damaged or not whole" if file.exists() else "is missing"
        raise UserError(
            f"{flag}: {file} {state} and cannot be downloaded ({why(error)}); run again with a"
            f" network, or fetch it by: curl -L -o {shlex.quote(str(file))} '{url}'"
        ) from None
    with np.load(file, allow_pickle=False) as arrays:
        train, test = (
            _images(arrays[f"{split}_images"], arrays[f"{split}_labels"])
            for split in ("train", "test")
        )
    names = info["label"]
    return Dataset(train, test, tuple(names[str(i)] for i in range(len(names))))


def _images(pixels: NDArray[np.uint8], labels: NDArray[Any]) -> Images:
    """A split of ``(N, S, S)`` or ``(N, S, S, 3)`` pixels and ``(N, 1)`` labels."""
    return Images(pixels.reshape(*pixels.shape[:3], -1), labels[:, 0].astype(np.int64))
