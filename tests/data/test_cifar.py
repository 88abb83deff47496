"""CIFAR from torchvision's files and from PNG files: the same bits, and one sentence otherwise."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from wcordbench.data import cifar
from wcordbench.data.base import Dataset, listening
from wcordbench.errors import UserError

#: name, images of a class in train and test, the classes in the order of the files
SETS: dict[str, Any] = {
    "cifar100": (torchvision.datasets.CIFAR100, 3, 1, [f"class_{i:02}" for i in range(100)]),
    "cifar10": (torchvision.datasets.CIFAR10, 10, 3, [f"class_{(i * 7) % 10}" for i in range(10)]),
}


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


class Fake:
    """A small CIFAR: in torchvision's files, in its archive, and as PNG files."""

    def __init__(self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, train, test, classes = SETS[name]
        self.name, self.source, self.monkeypatch = name, source, monkeypatch
        self.root, self.png, self.server = folder / "root", folder / "png", folder / "server"
        self.files = self.root / source.base_folder
        for made in (self.files, self.server):
            made.mkdir(parents=True)
        self.images = []
        rng = np.random.default_rng(1)
        for split, count in (("train", train), ("test", test)):
            labels = np.repeat(np.arange(len(classes)), count)
            pixels = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
            pixels[1] = pixels[0]  # CIFAR has duplicates
            order = rng.permutation(len(labels))
            self._pickles(split, pixels[order].reshape(len(order), -1), labels[order])
            self.images += [(split, classes[x], p) for x, p in zip(labels, pixels, strict=True)]
        key = source.meta["key"]
        meta = self.files / source.meta["filename"]
        meta.write_bytes(pickle.dumps({key: classes}, protocol=2))
        monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5(meta)})
        archive = self.server / source.filename
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(self.files, source.base_folder)
        monkeypatch.setattr(source, "tgz_md5", md5(archive))
        monkeypatch.setattr(source, "url", archive.as_uri())
        monkeypatch.setattr(
            cifar, "COUNTS", (train * len(classes), test * len(classes))
        )  # fmt: skip
        monkeypatch.setitem(cifar.NAMES, name, tuple(sorted(classes)))
        self.archive = archive

    def _pickles(self, split: str, pixels: Any, labels: Any) -> None:
        key = "fine_labels" if self.name == "cifar100" else "labels"
        names = [n for n, _ in getattr(self.source, f"{split}_list")]
        listed = []
        parts = zip(
            np.array_split(pixels, len(names)), np.array_split(labels, len(names)), strict=True
        )
        for name, (data, targets) in zip(names, parts, strict=True):
            content = {"data": data, key: targets.tolist(), "coarse_labels": targets.tolist()}
            (self.files / name).write_bytes(pickle.dumps(content, protocol=2))
            listed.append([name, md5(self.files / name)])
        self.monkeypatch.setattr(self.source, f"{split}_list", listed)

    def write_png(self) -> Path:
        """The same images as PNG files, under names in another order; returns their root."""
        for i, (split, label, pixels) in enumerate(self.images):
            file = self.png / self.name / split / label / f"{i * 7919 % 1000}_{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(file, compress_level=1)
        return self.png

    def trust(self) -> None:
        """Take the files' checksums as they are now for the right ones."""
        for split in ("train_list", "test_list"):
            listed = [[n, md5(self.files / n)] for n, _ in getattr(self.source, split)]
            self.monkeypatch.setattr(self.source, split, listed)

    def lose(self) -> None:
        """There are no files."""
        for file in self.files.iterdir():
            file.unlink()
        self.files.rmdir()

    def offline(self) -> None:
        def urlopen(*args: Any, **kwargs: Any) -> None:
            raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))

        self.monkeypatch.setattr(urllib.request, "urlopen", urlopen)

    def load(self, root: Path | None = None) -> Dataset:
        dataset: Dataset = getattr(cifar, self.name)(root or self.root)
        return dataset

    def refused(self, *parts: str, root: Path | None = None) -> None:
        with pytest.raises(UserError) as error:
            self.load(root)
        assert error.value.__cause__ is None and "\n" not in str(error.value)
        for part in (self.name, *parts):
            assert part in str(error.value)


@pytest.fixture(params=["cifar100", "cifar10"])
def either(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(request.param, tmp_path, monkeypatch)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    made = Fake("cifar10", tmp_path, monkeypatch)
    made.offline()
    yield made


def test_both_sources_give_the_same_bits(either: Fake) -> None:
    files, png = either.load(), either.load(either.write_png())
    assert files.classes == png.classes == tuple(sorted(SETS[either.name][3]))
    for a, b in ((files.train, png.train), (files.test, png.test)):
        assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.labels, b.labels)
        assert a.labels.tolist() == sorted(a.labels.tolist())
        assert a.pixels.flags.c_contiguous
    assert files.fingerprint() == png.fingerprint()


def test_class_folders_of_other_images_are_named(
    either: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with listening(lines.append):
        found = either.load(either.write_png())
        monkeypatch.setattr(cifar, "PUBLISHED", {either.name: cifar.content(found)})
        before, _ = list(lines), lines.clear()
        either.load(either.png)
        assert not lines
        file = next((either.png / either.name / "test").rglob("*.png"))
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
        either.load(either.png)
    assert len(before) == (either.name == "cifar100")  # the others' digest is not known
    assert all("not the published ones (pixels or labels)" in line for line in before)
    (said,) = lines
    assert f"{file.stem}.jpg is compressed with loss" in said


def test_downloads_once_and_says_so(either: Fake) -> None:
    want = either.load()
    either.lose()
    lines: list[str] = []
    with listening(lines.append):
        got = either.load()
    assert got.fingerprint() == want.fingerprint()
    assert "downloading file://" in lines[0] and "MB" in lines[0] and "downloaded" in lines[-1]
    either.offline()
    with listening(lines.append):
        assert either.load().fingerprint() == want.fingerprint()
    assert len(lines) == 2
    assert not list(either.root.glob("*.part")) + list(either.root.glob(".*.part"))


def test_missing_and_no_network(fake: Fake) -> None:
    fake.lose()
    fake.refused("Temporary failure in name resolution", "run again with a network", "PNG files")
    fake.refused("missing or damaged", root=fake.root / "not/there")
    assert not list(fake.root.glob("*.gz"))


def test_a_truncated_archive_is_no_archive(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.lose()
    (fake.root / fake.archive.name).write_bytes(fake.archive.read_bytes()[:1000])
    fake.refused("cannot be downloaded", "delete")


def test_a_truncated_archive_is_downloaded_anew(either: Fake) -> None:
    want = either.load()
    either.lose()
    (either.root / either.archive.name).write_bytes(either.archive.read_bytes()[:1000])
    assert either.load().fingerprint() == want.fingerprint()


def test_another_file_from_the_server_is_refused(either: Fake) -> None:
    either.lose()
    either.archive.write_bytes(b"<html>moved</html>")
    either.refused("gave another file than expected")
    assert list(either.root.iterdir()) == [either.root / f".{either.name}.lock"]


def test_a_damaged_file_is_unpacked_anew(fake: Fake) -> None:
    want = fake.load()
    (fake.root / fake.archive.name).write_bytes(fake.archive.read_bytes())
    (fake.files / "data_batch_3").write_bytes(b"")
    assert fake.load().fingerprint() == want.fingerprint()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02}q\x00", b"not a pickle", pickle.dumps({}), pickle.dumps([1]),
     pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]})],
)  # fmt: skip
def test_a_damaged_pickle_is_one_sentence(fake: Fake, content: bytes) -> None:
    (fake.files / "data_batch_1").write_bytes(content)
    fake.refused("missing or damaged", "delete")  # its checksum differs
    fake.trust()
    fake.refused("missing or damaged", "delete")  # as if that was the file


def test_damaged_class_names_are_one_sentence(fake: Fake) -> None:
    (fake.files / fake.source.meta["filename"]).write_bytes(b"cut")
    fake.refused("missing or damaged", str(fake.files))


def test_the_counts_are_checked(either: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = cifar.COUNTS
    either.write_png()
    next((either.png / either.name / "train").rglob("*.png")).unlink()
    classes = len(SETS[either.name][3])
    either.refused(
        f"{train - 1} training and {test} test images of {classes} classes, not {train}, {test}",
        str(either.png / either.name),
        root=either.png,
    )
    monkeypatch.setattr(cifar, "COUNTS", (50000, 10000))
    either.refused("not 50000, 10000", str(either.files))
