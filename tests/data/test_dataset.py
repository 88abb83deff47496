"""What loaders may give, how images shrink, how loaders talk and wait for one another."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wcordbench import registry
from wcordbench.data import notes
from wcordbench.data.base import Dataset, Images, alone, listening, load, say, shrink
from wcordbench.data.survey import survey
from wcordbench.errors import UserError


def images(
    count: int = 4, height: int = 8, width: int = 8, channels: int = 1, top: int = 2
) -> Images:
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return Images(pixels, (np.arange(count) % top).astype(np.int64))


CONFIG: dict[str, Any] = {"name": "made", "options": {}, "mean": [0.5], "std": [0.5], "size": None}


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``give(dataset)``: what the dataset named ``made`` is from now on."""

    def to(dataset: Dataset) -> None:
        def loader(root: Path) -> Dataset:
            return dataset

        def get(kind: str, name: str) -> Any:
            return SimpleNamespace(load=lambda: loader, meta={}, arguments=dict)

        monkeypatch.setattr(registry, "get", get)

    return to


def test_a_dataset_is_given_as_its_loader_gives_it(give: Any) -> None:
    dataset = Dataset(images(4), images(2), ("a", "b"))
    give(dataset)
    assert load(CONFIG, Path()) is dataset
    small = load({**CONFIG, "size": 4}, Path())
    assert small.train.pixels.shape == (4, 4, 4, 1) and small.test.pixels.shape == (2, 4, 4, 1)
    assert small.classes == ("a", "b")


@pytest.mark.parametrize(
    ("train", "test", "parts"),
    [
        (images(channels=3), images(channels=3), ["3 channels", "1 value;"]),
        (images(height=6), images(height=6), ["6×8", "square"]),
        (images(), images(height=4, width=4), ["8×8", "4×4", "one size"]),
        (images(0), images(), ["no training images"]),
        (images(), images(0), ["no test images"]),
        (images(top=3), images(), ["0 to 2", "2 classes"]),
    ],
)
def test_what_no_network_can_be_trained_on_is_refused(
    give: Any, train: Images, test: Images, parts: list[str]
) -> None:
    give(Dataset(train, test, ("a", "b")))
    with pytest.raises(UserError) as error:
        load(CONFIG, Path())
    assert all(part in str(error.value) for part in ["'made'", *parts])


def test_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Images(np.zeros((2, 8, 8, 1), np.float32), np.zeros(2, np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels"):
        Images(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="int64"):
        Images(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32))  # type: ignore[arg-type]


def test_the_fingerprint_sees_every_change() -> None:
    def fingerprint(train: Images, test: Images) -> str:
        return Dataset(train, test, ("a", "b")).fingerprint()

    one, two = images(4), images(6)
    pixels = one.pixels.copy()
    pixels[3, 7, 7, 0] ^= 1
    prints = {
        fingerprint(one, two),
        fingerprint(two, one),
        fingerprint(Images(pixels, one.labels), two),
        fingerprint(Images(one.pixels, one.labels[::-1].copy()), two),
        fingerprint(Images(one.pixels[::-1], one.labels), two),
    }
    assert len(prints) == 5 and all(len(p) == 16 for p in prints)
    assert fingerprint(one, two) == fingerprint(images(4), images(6))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 11])
def test_shrinking_averages_exactly(size: int) -> None:
    """Against integers: the mean of the pixels touched, halves rounded to even."""
    pixels = np.random.default_rng(size).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
    got = shrink(pixels, size, "x")
    edges = [((i * 12) // size, -(-(i + 1) * 12 // size)) for i in range(size)]
    for i, (top, bottom) in enumerate(edges):
        for j, (left, right) in enumerate(edges):
            block = pixels[:, top:bottom, left:right].astype(np.int64)
            count = block.shape[1] * block.shape[2]
            floor, rest = np.divmod(block.sum((1, 2)), count)
            up = (2 * rest > count) | ((2 * rest == count) & (floor % 2 == 1))
            assert np.array_equal(got[:, i, j], floor + up)


@pytest.mark.parametrize("factor", range(1, 19))
def test_shrinking_by_any_factor_rounds_as_exact_means_do(factor: int) -> None:
    """Sums of 16 bits and of floating point; few different values make many halves."""
    rng = np.random.default_rng(factor)
    for high in (2, 4, 256):
        pixels = rng.integers(0, high, (40, 4 * factor, 4 * factor, 3), dtype=np.uint8)
        pixels[0] = 255
        blocks = pixels.reshape(40, 4, factor, 4, factor, 3).astype(np.int64).sum((2, 4))
        assert np.array_equal(shrink(pixels, 4, "x"), np.rint(blocks / factor**2))


def test_one_array_for_both_splits_is_surveyed_once() -> None:
    images = Images(np.full((4, 2, 2, 1), 51, np.uint8), np.array([0, 1, 0, 1]))
    found = survey(Dataset(images, images, ("a", "b")))
    assert (found.mean, found.std) == ([0.2], [0.0])


def test_shrinking_does_not_enlarge() -> None:
    pixels = images().pixels
    assert shrink(pixels, 8, "x") is pixels
    with pytest.raises(
        UserError, match=r"'made' has images of 8×8 .* asks for 9; choose at most 8"
    ):
        shrink(pixels, 9, "made")


def test_shrinking_many_images_is_shrinking_each() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 4, 4, 1), dtype=np.uint8)
    whole = shrink(pixels, 2, "x")
    assert np.array_equal(whole[4090:4100], shrink(pixels[4090:4100], 2, "x"))


def test_loaders_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with listening(lines.append):
        say("here")
    say("there")
    assert lines == ["here"] and capsys.readouterr().err == "there\n"


def test_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def enter() -> None:
        with alone(tmp_path / "deeper" / "lock"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_where_nothing_can_be_locked_nothing_is() -> None:
    with alone(Path("/proc/nowhere/lock")):
        pass
    with pytest.raises(OSError, match="own"), alone(Path("/proc/nowhere/lock")):
        raise OSError("the body's own")


def test_the_module_has_no_listener_left() -> None:
    assert notes._listener.get() is notes._to_stderr


LOADER = """
from pathlib import Path

import numpy as np

from wcordbench.data.base import Dataset, Images
from wcordbench.registry import register_dataset


@register_dataset("mine", title="Mine", classes=2, size=4, channels=1)
def mine(root: Path) -> Dataset:
    split = Images(np.zeros((4, 4, 4, 1), np.uint8), np.array([0, 1, 0, 1]))
    return Dataset(split, split, ("a", "b"))
"""
MISTAKES = {
    "it raises": ("(4, 4, 4, 1)", "(4, 4, 4, -1)",
                  r"cannot be loaded \(ValueError: .*; mine\.py, line 12\)"),
    "pixels are no bytes": ("np.uint8", "float",
                            r"cannot be loaded \(ValueError: pixels must be.*; mine\.py, line 12"),
    "nothing is returned": ("return Dataset", "Dataset", "gives a NoneType; give a wcordbench"),
    "a split is an array": ("Dataset(split,", "Dataset(split.pixels,", "has a ndarray for a split"),
    "a class has no name": ('("a", "b")', '("a", 1)', "has the class 1, which is no text"),
    "two of one name": ('("a", "b")', '("a", "a")', "has 2 classes that are called 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(MISTAKES))
def test_a_plugins_dataset_is_one_sentence(case: str, tmp_path: Path) -> None:
    old, new, said = MISTAKES[case]
    assert old in LOADER
    (tmp_path / "mine.py").write_text(LOADER.replace(old, new))
    config = {"name": "mine", "options": {}, "mean": [0.5], "size": None}
    try:
        registry.add_plugin(tmp_path / "mine.py")
        with pytest.raises(UserError, match=said):
            load(config, tmp_path)
    finally:
        registry.forget_plugins()
