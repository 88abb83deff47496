"""Folders of images: what is decoded, cached, refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from wcordbench.data import files as module
from wcordbench.data.base import Dataset, listening
from wcordbench.data.folder import imagefolder
from wcordbench.data.walk import CACHE
from wcordbench.errors import UserError


def pixels(seed: int, size: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``root/pets`` with 3 + 2 images of two classes, whose pixels are ``pixels(serial)``."""
    serial = 0
    for split, count in (("train", 3), ("test", 2)):
        for name in ("dog", "cat"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels(serial)).save(folder / f"{9 - i}.png")
                serial += 1
    return tmp_path


def load(root: Path, **options: Any) -> Dataset:
    return imagefolder(root, **{"folder": "pets", "image_size": 8, **options}).in_memory()


def refused(root: Path, *parts: str, **options: Any) -> None:
    with pytest.raises(UserError) as error:
        load(root, **options)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(module, "_decode", fail)


def same(a: Dataset, b: Dataset) -> bool:
    return a.fingerprint() == b.fingerprint() and a.classes == b.classes


def test_decodes_by_class_then_by_name(root: Path) -> None:
    dataset = load(root)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    for got, serial in zip(dataset.train.pixels, [5, 4, 3, 2, 1, 0], strict=True):
        assert np.array_equal(got, pixels(serial))
    for got, serial in zip(dataset.test.pixels, [9, 8, 7, 6], strict=True):
        assert np.array_equal(got, pixels(serial))


def test_grayscale_and_other_sizes(root: Path) -> None:
    wide = Image.fromarray(np.repeat(pixels(50, 20), 2, 1))  # 40×20
    wide.save(root / "pets/train/cat/9.png")
    small = load(root, image_size=5)
    assert small.train.pixels.shape == (6, 5, 5, 3)
    centre = wide.resize((10, 5), Image.Resampling.BILINEAR).crop((2, 0, 7, 5))
    assert np.array_equal(small.train.pixels[2], np.asarray(centre))
    gray = load(root, grayscale=True, image_size=16)
    assert gray.train.pixels.shape == (6, 16, 16, 1)
    want = Image.fromarray(pixels(5)).convert("L").resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(gray.train.pixels[0, ..., 0], np.asarray(want))


def test_other_kinds_of_images(root: Path) -> None:
    folder = root / "pets/train/cat"
    Image.fromarray(pixels(1)).convert("P").save(folder / "a.png")
    Image.fromarray(pixels(2)).convert("RGBA").save(folder / "b.tiff")
    Image.fromarray(pixels(3)[..., 0]).save(folder / "c.bmp")
    Image.fromarray(pixels(4)).save(folder / "d.JPG", "JPEG", quality=95)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not one either")
    train = load(root).train
    assert train.labels.tolist() == [0] * 7 + [1] * 3
    assert np.array_equal(train.pixels[4], pixels(2))
    assert np.array_equal(train.pixels[5], np.repeat(pixels(3)[..., :1], 3, 2))


def test_the_cache_is_used_the_second_time(root: Path, request: pytest.FixtureRequest) -> None:
    first = load(root)
    request.getfixturevalue("no_decoding")
    assert same(load(root), first)
    with pytest.raises(AssertionError, match="decoded"):
        load(root, grayscale=True)  # another array


def change_pixels(root: Path) -> None:
    Image.fromarray(pixels(99)).save(root / "pets/train/cat/9.png")


def touch(root: Path) -> None:
    os.utime(root / "pets/train/cat/9.png", (1, 1))


def add(root: Path) -> None:
    Image.fromarray(pixels(99)).save(root / "pets/train/cat/10.png")


def rename(root: Path) -> None:
    (root / "pets/train/cat/9.png").rename(root / "pets/train/cat/6.png")


@pytest.mark.parametrize("change", [change_pixels, touch, add, rename])
def test_a_changed_file_is_decoded_anew(root: Path, change: Any) -> None:
    first = load(root)
    change(root)
    second = load(root)
    assert same(first, second) == (change is touch)
    shutil.rmtree(root / "pets" / CACHE)
    assert same(load(root), second)
    assert len(list((root / "pets" / CACHE).glob("train-*.npy"))) == 1


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def write(content: bytes) -> Any:
    return lambda file: file.write_bytes(content)


DAMAGE: dict[str, list[Any]] = {
    "npy": [
        cut,
        flip,
        Path.unlink,
        write(b""),
        write(b"PK\3\4x"),
        lambda file: np.save(file, np.zeros((6, 8, 8, 3))),
        lambda file: np.save(file, np.zeros(4, np.uint8)),
    ],
    "json": [cut, Path.unlink, write(b"[]"), write(b"null"), write(b"{}"), write(b'"a"')],
}


@pytest.mark.parametrize(("suffix", "damage"), [(s, d) for s, ds in DAMAGE.items() for d in ds])
def test_a_damaged_cache_is_built_anew(
    root: Path, request: pytest.FixtureRequest, suffix: str, damage: Any
) -> None:
    first = load(root)
    (file,) = (root / "pets" / CACHE).glob(f"train-*.{suffix}")
    damage(file)
    assert same(load(root), first)
    request.getfixturevalue("no_decoding")
    assert same(load(root), first)


def test_a_cache_of_other_images_is_not_used(root: Path) -> None:
    """Whole in itself, but its checksum file is another array's."""
    first = load(root)
    (file,) = (root / "pets" / CACHE).glob("train-*.npy")
    np.save(file, np.load(file)[::-1])
    assert same(load(root), first)
    assert json.loads(file.with_suffix(".json").read_text()).keys() == {"sha256"}


def test_a_read_only_folder_works(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    want = load(root)
    shutil.rmtree(root / "pets" / CACHE)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert same(load(root), want)
    assert not (root / "pets" / CACHE).exists()


def test_a_full_disk_leaves_no_half_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    load(root)
    assert not [f for f in (root / "pets" / CACHE).iterdir() if f.suffix != ".lock"]


def test_a_linked_cache_is_neither_read_nor_written(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train-mine.txt").write_text("precious")
    (root / "pets" / CACHE).symlink_to(elsewhere)
    load(root)
    assert [f.name for f in elsewhere.glob("*.npy")] == []
    assert (elsewhere / "train-mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"P6 99999999 99999999 255\n"],
)
def test_a_corrupt_image_is_named(root: Path, content: bytes) -> None:
    (root / "pets/train/dog/8.png").write_bytes(content)
    refused(root, "imagefolder 'pets'", "train/dog/8.png", "not a readable image", "remove it")
    with pytest.raises(UserError) as error:
        load(root)
    assert "object at" not in str(error.value)


def test_a_pipe_is_counted_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pets/train/dog/pipe.png")
    lines: list[str] = []
    with listening(lines.append):
        assert len(load(root).train.labels) == 6
    assert any("1 not a file" in line for line in lines)


def test_a_truncated_image_is_named(root: Path) -> None:
    for name, kind in (("8.png", "PNG"), ("8.jpg", "JPEG"), ("8.tif", "TIFF"), ("8.webp", "WEBP")):
        file = root / "pets/train/dog" / name
        Image.fromarray(pixels(0, 64)).save(file, kind)
        file.write_bytes(file.read_bytes()[:-600])
        refused(root, name, "not a readable image")
        file.unlink()


def test_missing_parts_are_named(root: Path) -> None:
    refused(root, "'birds'", "birds/train does not exist", "--data", folder="birds")
    refused(root, "image_size is 0", image_size=0)
    shutil.rmtree(root / "pets/test/dog")
    refused(root, "pets/test has 1 class folders", "at least 2")
    (root / "pets/test/fish").mkdir()
    refused(root, "test/fish holds no image")
    Image.fromarray(pixels(0)).save(root / "pets/test/fish/0.png")
    refused(root, "class 'dog' is in only one of train and test")
    shutil.rmtree(root / "pets/test")
    refused(root, "pets/test does not exist")
    (root / "pets/test").write_text("a file")
    refused(root, "pets/test does not exist")


@pytest.mark.parametrize("folder", ["../pets", "..", "pets/../../pets", "pets/../pets"])
def test_a_relative_folder_stays_inside(root: Path, folder: str) -> None:
    shutil.copytree(root / "pets", root / "data/pets")
    refused(root / "data", "leaves", "absolute path", folder=folder)


def test_an_absolute_folder_may_be_anywhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = load(root)
    assert same(load(Path("/nowhere"), folder=str(root / "pets")), want)
    monkeypatch.setenv("HOME", str(root))
    assert same(load(Path("/nowhere"), folder="~/pets"), want)
    refused(Path("/nowhere"), "/etc/train does not exist", folder="/etc")


def test_a_folder_that_is_a_link_outside_is_refused(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data/pets").symlink_to(root / "pets")
    refused(root / "data", "'pets' leaves")
    (root / "data/cats").mkdir()
    (root / "data/cats/train").symlink_to(root / "pets/train")
    refused(root / "data", "cats/train is a link that leaves", folder="cats")


def test_links_out_of_the_dataset_are_refused(root: Path) -> None:
    outside = root / "outside"
    shutil.copytree(root / "pets/train/cat", outside)
    link = root / "pets/train/cat/0.png"
    link.symlink_to(outside / "9.png")
    refused(root, "train/cat/0.png is a link that leaves", "copy")
    link.unlink()
    os.link(outside / "9.png", link)  # a hard link is the file itself
    load(root)
    (root / "pets/train/ant").symlink_to(outside)
    refused(root, "train/ant is a link that leaves")


def test_links_that_lead_nowhere_are_named(root: Path) -> None:
    link = root / "pets/train/cat/0.png"
    link.symlink_to(root / "pets/gone.png")
    refused(root, "gone.png", "cannot be read")
    link.unlink()
    link.symlink_to(link)
    refused(root, "0.png", "cannot be read")


def test_links_within_the_dataset_are_followed(root: Path) -> None:
    (root / "pets/train/cat/0.png").symlink_to("../dog/9.png")
    (root / "link").symlink_to(root / "pets")
    dataset = load(root, folder="link")
    assert len(dataset.train.labels) == 7
    assert np.array_equal(dataset.train.pixels[0], pixels(0))


def test_names_that_are_not_unicode(root: Path) -> None:
    source = root / "pets/train/cat/9.png"
    shutil.copy(source, os.fsencode(source.parent) + b"/\xff.png")
    assert len(load(root).train.labels) == 7


def test_many_images_are_announced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 6)
    lines: list[str] = []
    with listening(lines.append):
        load(root)
        load(root)
    assert len(lines) == 1 and "decoding the 6 images" in lines[0]
