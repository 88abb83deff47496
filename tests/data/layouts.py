"""Small trees of images in the layouts that people have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WNIDS = ("n01443537", "n01629819", "n01641577")


def picture(file: Path, label: int, seed: int, side: tuple[int, int]) -> None:
    """A noisy image whose brightness tells its class."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(70 * label, 70 * label + 90, (*side, 3)).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, "JPEG", quality=95)


def tiny(root: Path, train: int = 8, val: int = 4) -> Path:
    """Tiny ImageNet's native layout, of three classes."""
    base, lines = root / "tiny-imagenet-200", []
    for k, wnid in enumerate(WNIDS):
        for i in range(train):
            file = base / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            picture(file, k, 100 * k + i, (64, 64))
        (base / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    for i in range(3 * val):
        picture(base / "val/images" / f"val_{i}.JPEG", i % 3, 1000 + i, (64, 64))
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t32\t44\t62")
    (base / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    picture(base / "test/images/test_0.JPEG", 0, 1, (64, 64))
    return base


def imagenet(root: Path, val: str = "folders", train: int = 8, count: int = 4) -> Path:
    """ILSVRC's layout, of three classes.

    Args:
        root: where the folder ``imagenet`` goes.
        val: ``folders``, ``devkit`` or ``kaggle``.
        train: images a class.
        count: validation images a class.
    """
    base = root / "imagenet"
    images = base / "ILSVRC/Data/CLS-LOC" if val == "kaggle" else base
    rng = np.random.default_rng(0)
    for k, wnid in enumerate(WNIDS):
        for i in range(train):
            side = (int(rng.integers(30, 60)), int(rng.integers(30, 60)))
            picture(images / "train" / wnid / f"{wnid}_{i}.JPEG", k, 100 * k + i, side)
    truth = []
    for i in range(3 * count):
        name = f"ILSVRC2012_val_{i + 1:08}"
        folder = images / "val" / (WNIDS[i % 3] if val == "folders" else "")
        picture(folder / f"{name}.JPEG", i % 3, 1000 + i, (40, 50))
        truth.append((name, i % 3))
    if val == "kaggle":
        rows = "".join(f"{n},{WNIDS[k]} 1 2 3 4\n" for n, k in truth)
        (base / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    if val == "devkit":
        from scipy.io import savemat

        data = base / "ILSVRC2012_devkit_t12/data"
        data.mkdir(parents=True)
        identities = {2: 7, 1: 3, 0: 9}  # in another order than the names
        fields: Any = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
        synsets = np.array([(n, WNIDS[k], 0) for k, n in identities.items()], dtype=fields)
        savemat(data / "meta.mat", {"synsets": synsets})
        lines = "".join(f"{identities[k]}\n" for _, k in truth)
        (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    return base
