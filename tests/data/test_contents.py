"""Labels are what the folders say, and nothing in them is passed over without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wcordbench.data import cifar
from wcordbench.data.base import Dataset, Images, listening
from wcordbench.data.folder import imagefolder
from wcordbench.data.task import apply_task
from wcordbench.data.walk import in_order
from wcordbench.errors import UserError


def grey(file: Path, level: int, kind: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(file, kind)


def make(root: Path, classes: dict[str, int], splits: tuple[str, str] = ("train", "test")) -> Path:
    """Two images a class and split, of the class's level."""
    for split in splits:
        for name, level in classes.items():
            for i in range(2):
                grey(root / "x" / split / name / f"{i}.png", level)
    return root


def load(root: Path, **options: Any) -> tuple[Dataset, list[str]]:
    lines: list[str] = []
    with listening(lines.append):
        return imagefolder(root, folder="x", image_size=8, **options).in_memory(), lines


def levels(dataset: Dataset) -> list[int]:
    """The level of each label's images."""
    return [
        int(dataset.train.pixels[dataset.train.labels == k].mean())
        for k in range(len(dataset.classes))
    ]


def test_numbers_sort_as_numbers_and_other_names_as_text(tmp_path: Path) -> None:
    dataset, _ = load(make(tmp_path, {"10": 100, "9": 90, "1": 10, "002": 20}))
    assert dataset.classes == ("1", "002", "9", "10")
    assert levels(dataset) == [10, 20, 90, 100]
    assert in_order(["10", "9", "b"]) == ["10", "9", "b"]
    assert in_order(["class10", "class9"]) == ["class10", "class9"]


def test_files_that_are_not_read_are_counted_and_said(tmp_path: Path) -> None:
    make(tmp_path, {"a": 1, "b": 2})
    folder = tmp_path / "x/train/a"
    grey(folder / "2.gif", 1)
    grey(folder / "3.JFIF", 1, "JPEG")
    grey(folder / "more/deep/4.JPG", 1)
    grey(folder / "5.pgm", 1)
    (folder / "more/notes.txt").write_text("")
    (folder / "README").write_text("")
    (folder / ".DS_Store").write_text("")
    (tmp_path / "x/test/list.csv").write_text("")
    dataset, lines = load(tmp_path)
    assert len(dataset.train) == 6 and len(dataset.test) == 4
    (line,) = lines
    for part in ("6 files", "1 .csv, 1 .gif, 1 .jfif, 1 .txt, 1 hidden, 1 without a suffix"):
        assert part in line
    assert load(make(tmp_path / "clean", {"a": 1, "b": 2}))[1] == []


def test_the_order_of_sub_folders_is_torchvisions(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    make(tmp_path, {"a": 1, "b": 2})
    for name in ("zz/0.png", "aa/b/1.png", "aa/2.png", "aa/b.c/1.png", "3.PNG", "aa-x/1.png"):
        grey(tmp_path / "x/train/a" / name, 3)
    ours = imagefolder(tmp_path, folder="x", image_size=8).train
    theirs = ImageFolder(str(tmp_path / "x/train")).samples
    assert not isinstance(ours, Images)
    assert [str(ours.path(i)) for i in range(len(ours))] == [file for file, _ in theirs]
    assert ours.labels.tolist() == [label for _, label in theirs]


def test_val_is_read_where_there_is_no_test(tmp_path: Path) -> None:
    dataset, lines = load(make(tmp_path, {"a": 1, "b": 2}, ("train", "val")))
    assert len(dataset.test) == 4 and not lines
    make(tmp_path, {"a": 7, "b": 8}, ("unused", "test"))
    dataset, lines = load(tmp_path)
    assert int(dataset.test.pixels.max()) == 8 and "val beside it not read" in lines[0]
    dataset, lines = load(tmp_path, train="unused", test="val")
    assert (int(dataset.train.pixels.max()), int(dataset.test.pixels.max())) == (8, 2)
    assert not lines
    with pytest.raises(UserError, match=r"x/gone does not exist.*another split"):
        load(tmp_path, test="gone")


def test_links_are_followed_where_the_suite_says_so(tmp_path: Path) -> None:
    make(tmp_path / "store", {"a": 1, "b": 2})
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").symlink_to(tmp_path / "store/x")
    with pytest.raises(UserError, match="follow_links: true"):
        load(data)
    assert len(load(data, follow_links=True)[0].train) == 4
    (data / "x").unlink()
    for split in ("train", "test"):
        (data / "x" / split).mkdir(parents=True)
        for name in "ab":
            (data / "x" / split / name).symlink_to(tmp_path / "store/x" / split / name)
    with pytest.raises(UserError, match=r"train/a is a link that leaves .*follow_links: true"):
        load(data)
    assert len(load(data, follow_links=True)[0].train) == 4
    (tmp_path / "store/x/train/a/round").symlink_to(tmp_path / "store/x/train/a")
    with pytest.raises(UserError, match="round is a link to a folder around it"):
        load(data, follow_links=True)


@pytest.mark.parametrize("wait", [False, True])
def test_content_that_changed_behind_its_times_is_noticed(
    tmp_path: Path, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wcordbench.data import files

    if wait:  # as after two seconds: times are trusted from then on
        monkeypatch.setattr(files, "SETTLED", -60.0)
    make(tmp_path, {"a": 1, "b": 2})
    before = load(tmp_path)[0].fingerprint()
    file = tmp_path / "x/train/a/0.png"
    stat = file.stat()
    content = bytearray(file.read_bytes())
    grey(file, 9)
    assert len(file.read_bytes()) == len(content)  # neither the size …
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # … nor the time
    changed = load(tmp_path)[0]
    assert changed.fingerprint() != before and int(changed.train.pixels[0].max()) == 9


def test_new_times_alone_decode_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wcordbench.data import files

    make(tmp_path, {"a": 1, "b": 2})
    load(tmp_path)

    def fail(*args: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(files, "_decode", fail)
    for file in (tmp_path / "x").rglob("*.png"):
        os.utime(file, (1, 1))
    (tmp_path / "x").rename(tmp_path / "y")
    (tmp_path / "y").rename(tmp_path / "x")
    load(tmp_path)


# --- CIFAR's own names ------------------------------------------------------------------


def cifar10(root: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(cifar, "COUNTS", (20, 20))
    for k, name in enumerate(names):
        for split in ("train", "test"):
            for i in range(2):
                file = root / "cifar10" / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((32, 32, 3), 20 * k + i, np.uint8)).save(file)
    return cifar.cifar10(root)


@pytest.mark.parametrize(
    "called",
    [
        list(cifar.NAMES["cifar10"]),
        [str(k) for k in range(10)],
        [f"{k:03}" for k in range(10)],
        [name.capitalize() for name in cifar.NAMES["cifar10"]],
    ],
)
def test_cifars_folders_by_name_or_by_label(
    tmp_path: Path, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = cifar10(tmp_path, called, monkeypatch)
    assert dataset.classes == cifar.NAMES["cifar10"]
    assert (dataset.train.pixels[:, 0, 0, 0] // 20 == dataset.train.labels).all()


@pytest.mark.parametrize(
    "called",
    [
        [f"class{k}" for k in range(10)],
        [str(k) for k in range(1, 11)],
        [*cifar.NAMES["cifar10"][:9], "lorry"],
        list(cifar.NAMES["cifar10"][:9]),
    ],
)
def test_other_folders_are_not_cifar(
    tmp_path: Path, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"cifar10: .*airplane.*0 to 9"):
        cifar10(tmp_path, called, monkeypatch)


# --- names and numbers of a task --------------------------------------------------------


def numbered(classes: tuple[str, ...], positive: list[Any]) -> list[int]:
    labels = np.arange(len(classes))
    split = Images(np.zeros((len(classes), 1, 1, 1), np.uint8), labels)
    made = apply_task(Dataset(split, split, classes), {"positive": positive})
    return np.flatnonzero(made.train.labels).tolist()


def test_a_name_wins_over_a_number_and_an_ambiguity_is_refused() -> None:
    grades = ("1", "2", "3", "10")
    assert numbered(grades, [1]) == [0] and numbered(grades, ["1", 10]) == [0, 3]
    assert numbered(("01", "02", "03"), [2]) == [1]
    assert numbered(("ant", "bee", "7"), [7]) == [2]
    with pytest.raises(UserError, match=r"0 is no class, and the classes are called 1, 2, 3, 10"):
        numbered(grades, [0])
    with pytest.raises(UserError, match=r"0 is no class.*quotes"):
        numbered(("ant", "bee", "7"), [0])
    with pytest.raises(UserError, match=r"1 is several classes.*001, 01"):
        numbered(("001", "01", "2"), [1])
