"""PatchCamelyon from files in its own format, without a network."""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import PCAM

from wcordbench.data import base
from wcordbench.data.base import Dataset, listening
from wcordbench.errors import UserError

h5py = pytest.importorskip("h5py")
pytest.importorskip("gdown")

COUNTS = {"train": 6, "test": 4}


def name(split: str, kind: str) -> str:
    return str(PCAM._FILES[split][kind][0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small files as they are published, unpacked."""
    place = tmp_path / "pcam"
    place.mkdir()
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        with h5py.File(place / name(split, "images"), "w") as file:
            pixels = rng.integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
            file.create_dataset("x", data=pixels, chunks=(1, 96, 96, 3), compression="gzip")
        with h5py.File(place / name(split, "targets"), "w") as file:
            file["y"] = (np.arange(count) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
    return place


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route\nto the host")

    monkeypatch.setattr("gdown.download", download)


def load(root: Path, **options: int) -> Dataset:
    config = {
        "name": "pcam", "options": options, "size": None, "mean": [0.5] * 3, "std": [0.5] * 3,
    }  # fmt: skip
    return base.load(config, root)


def refused(root: Path, *parts: str) -> None:
    with pytest.raises(UserError) as error:
        load(root)
    assert "\n" not in str(error.value)
    for part in ("pcam: ", *parts):
        assert part in str(error.value)


def test_agrees_with_torchvision(folder: Path) -> None:
    found = load(folder.parent)
    assert found.classes == ("normal", "tumor")
    for split, images in (("train", found.train), ("test", found.test)):
        theirs = PCAM(folder.parent, split)
        assert len(theirs) == len(images.labels) == COUNTS[split]
        for i, (image, label) in enumerate(theirs):
            assert np.array_equal(np.asarray(image), images.pixels[i])
            assert label == images.labels[i]


def test_the_first_images_of_the_training_set_alone(folder: Path) -> None:
    whole, part = load(folder.parent), load(folder.parent, images=3)
    assert np.array_equal(part.train.pixels, whole.train.pixels[:3])
    assert part.train.labels.tolist() == [0, 1, 0]
    assert np.array_equal(part.test.pixels, whole.test.pixels)
    with pytest.raises(UserError, match="images is 0; take at least 1"):
        load(folder.parent, images=0)


def test_archives_put_there_by_hand_are_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = load(folder.parent).fingerprint()
    pack_all(folder, monkeypatch)
    lines: list[str] = []
    with listening(lines.append):
        assert load(folder.parent).fingerprint() == want
    assert len(lines) == 4 and all("unpacking" in line for line in lines)
    assert not list(folder.glob("*.part")) + list(folder.glob(".*.part"))
    archive = folder / (name("test", "images") + ".gz")
    archive.write_bytes(archive.read_bytes()[:-100])
    (folder / name("test", "images")).unlink()
    refused(folder.parent, "is missing and cannot be downloaded", archive.name)


def test_what_others_unpacked_is_taken_with_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with listening(lines.append):
        load(folder.parent)
    assert len(lines) == 4 and all("unpacked by other means" in line for line in lines)
    pack_all(folder, monkeypatch)
    load(folder.parent)
    lines.clear()
    with listening(lines.append):
        load(folder.parent)
        for archive in folder.glob("*.gz"):
            archive.unlink()
        load(folder.parent)
    assert lines == []  # its checksum is known


def test_images_without_a_label_each_are_refused(folder: Path) -> None:
    with h5py.File(folder / name("test", "targets"), "w") as file:
        file["y"] = np.zeros((3, 1, 1, 1), np.uint8)
    refused(folder.parent, "4 test images and 3 labels")


def pack_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the archives alone in their place, which are then the published ones."""
    files = {
        split: {
            kind: (name(split, kind), "nowhere", pack(folder / name(split, kind)))
            for kind in ("images", "targets")
        }
        for split in COUNTS
    }
    monkeypatch.setattr(PCAM, "_FILES", files)


def pack(file: Path) -> str:
    """Leave the archive alone in its place; returns its checksum."""
    archive = file.with_name(file.name + ".gz")
    archive.write_bytes(gzip.compress(file.read_bytes(), 1))
    file.unlink()
    return hashlib.md5(archive.read_bytes()).hexdigest()


def test_missing_and_no_network(tmp_path: Path) -> None:
    refused(tmp_path, "is missing and cannot be downloaded", "put camelyonpatch", str(tmp_path))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_partial_file_is_named(folder: Path, share: float) -> None:
    file = folder / name("train", "images")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refused(folder.parent, str(file), "is damaged or another file", "delete it and run again")


def test_another_array_is_named(folder: Path) -> None:
    file = folder / name("test", "images")
    with h5py.File(file, "w") as content:
        content["x"] = np.zeros((4, 32, 32, 3), np.uint8)
    refused(folder.parent, str(file), "x is uint8 (4, 32, 32, 3)")
    with h5py.File(file, "w") as content:
        content["z"] = np.zeros((4, 96, 96, 3), np.uint8)
    refused(folder.parent, str(file), "x is not in it")


def test_a_file_that_leads_to_another_is_refused(folder: Path, tmp_path: Path) -> None:
    """HDF5 can take an array, or its bytes, from any file of the machine."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as content:
        content["x"] = np.ones((4, 96, 96, 3), np.uint8)
    file = folder / name("test", "images")
    with h5py.File(file, "w") as content:
        content["x"] = h5py.ExternalLink(secret, "/x")
    refused(folder.parent, "x is not in it")
    with h5py.File(file, "w") as content:
        content.create_dataset(
            "x", (1, 96, 96, 3), np.uint8, external=[(str(secret), 0, 96 * 96 * 3)]
        )
    refused(folder.parent, "x is not in it")
    layout = h5py.VirtualLayout((4, 96, 96, 3), np.uint8)
    layout[:] = h5py.VirtualSource(secret, "x", (4, 96, 96, 3))
    with h5py.File(file, "w") as content:
        content.create_virtual_dataset("x", layout)
    refused(folder.parent, "x is not in it")


def test_the_package_is_named_where_it_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install wcordbench\[pcam\]"):
        load(folder.parent)
