"""Streamed images are those in memory: the same pixels, draws and fingerprint, however decoded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from wcordbench.data import base, files, kept, stream
from wcordbench.data.base import Dataset, ImageFiles, listening
from wcordbench.data.batches import TestBatches, TrainingBatches
from wcordbench.data.memory import allowing
from wcordbench.data.recipe import Transforms
from wcordbench.data.survey import survey
from wcordbench.errors import UserError
from wcordbench.seeds import derive

CPU = torch.device("cpu")
CONFIG: dict[str, Any] = {
    "name": "imagefolder",
    "options": {"folder": "x", "image_size": 12},
    "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "size": None,
}  # fmt: skip
#: GiB that nothing fits in
NONE = 1e-9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 + 9 photographs of two classes, of different sizes and kinds."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 9)):
        for i in range(count):
            folder = tmp_path / "x" / split / "ab"[i % 2] / ("more" if i % 3 else "")
            folder.mkdir(parents=True, exist_ok=True)
            height, width = rng.integers(10, 40, 2)
            pixels = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
            image = Image.fromarray(pixels).resize((int(width), int(height)))
            image.save(folder / (f"{i}.jpg" if i % 4 else f"{i}.png"))
    return tmp_path


def load(root: Path, gib: float | None = None, **more: Any) -> Dataset:
    with allowing(gib), listening([].append):
        return base.load({**CONFIG, **more}, root)


@pytest.fixture(params=["0", "1", "3"])
def processes(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv(stream.LOADERS, request.param)
    monkeypatch.setattr(stream, "PART_IMAGES", 3)
    yield int(request.param)


def training(dataset: Dataset, **more: Any) -> TrainingBatches:
    values = {"crop_padding": 2, "flip": True, "batch_size": 8, "seed": 5, **more}
    return TrainingBatches(
        dataset.train, mean=CONFIG["mean"], std=CONFIG["std"], device=CPU, **values
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"size": 6},
        {"cache": 16},
        {"options": {"folder": "x", "image_size": 12, "resize": 14, "grayscale": True},
         "mean": [0.5], "std": [0.5]},
        {"task": {"positive": ["b"]}},
        {"holdout": 4},
    ],
    ids=["plain", "size", "cache", "resize-grey", "task", "holdout"],
)  # fmt: skip
def test_both_ways_give_the_same_dataset(root: Path, more: dict[str, Any]) -> None:
    held, streamed = load(root, **more), load(root, NONE, **more)
    assert not held.streamed and streamed.streamed
    assert streamed.fingerprint() == held.fingerprint()
    for a, b in ((held.train, streamed.train), (held.test, streamed.test)):
        assert isinstance(b, ImageFiles) and a.shape == b.shape
        assert np.array_equal(a.labels, b.labels)
        assert np.array_equal(
            np.concatenate(list(a.chunks())), np.stack(list(map(b.read, range(len(b)))))
        )


@pytest.mark.parametrize("more", [{}, {"cache": 16}], ids=["files", "squares"])
def test_batches_are_the_same_bits(root: Path, processes: int, more: dict[str, Any]) -> None:
    held, streamed = (training(load(root, gib, **more)) for gib in (None, NONE))
    for epoch in (-1, 0, 1):
        want, got = list(held.epoch(epoch)), list(streamed.epoch(epoch))
        assert len(want) == len(got) == 3
        for (a, x), (b, y) in zip(want, got, strict=True):
            assert torch.equal(a, b) and torch.equal(x.labels, y.labels)
            assert torch.equal(x.indices, y.indices)


def test_transforms_of_each_image_are_the_same_bits(root: Path, processes: int) -> None:
    named = [
        {"name": "random_resized_crop", "scale": [0.3, 1.0]},
        {"name": "color_jitter", "brightness": 0.4},
    ]
    held, streamed = (
        training(load(root, gib), transforms=Transforms(named, (12, 12), 5)) for gib in (None, NONE)
    )
    for epoch in (0, 1):
        for (a, _), (b, _) in zip(held.epoch(epoch), streamed.epoch(epoch), strict=True):
            assert torch.equal(a, b)


def test_a_crop_of_the_whole_image_is_torchvisions(root: Path, processes: int) -> None:
    named = [{"name": "random_resized_crop", "scale": [0.3, 1.0], "whole": True}]
    batches = training(
        load(root, NONE), transforms=Transforms(named, (12, 12), 5), crop_padding=0, flip=False
    )
    files = batches.stream.files if batches.stream else None
    assert files is not None
    shapes = {files.whole(i).shape for i in range(len(files))}
    assert len(shapes) > 5  # none of them square
    crop = v2.RandomResizedCrop((12, 12), scale=[0.3, 1.0], antialias=True)
    for epoch in (0, 1):
        for pixels, _, batch in batches.pixels_of(epoch):
            for made, number in zip(pixels, batch.indices.tolist(), strict=True):
                image = torch.from_numpy(files.whole(number).copy()).permute(2, 0, 1)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive(5, "whole", epoch, number))
                    assert torch.equal(made.permute(2, 0, 1), crop(image))
    with pytest.raises(ValueError, match="not whole"):
        training(load(root), transforms=Transforms(named, (12, 12), 5), crop_padding=0)


def test_an_epoch_goes_on_anywhere(root: Path, processes: int) -> None:
    batches = training(load(root, NONE))
    whole = [images for images, _ in batches.epoch(3)]
    next(iter(batches.epoch(3)))  # left in the middle, with parts under way
    again = [images for images, _ in batches.epoch(3, start=1)]
    assert len(again) == 2 and all(map(torch.equal, whole[1:], again))


def test_test_images_are_decoded_once_for_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, streamed = load(root), load(root, NONE)
    want = list(TestBatches(held.test, CONFIG["mean"], CONFIG["std"], CPU))
    test = TestBatches(streamed.test, CONFIG["mean"], CONFIG["std"], CPU)

    def fail(*args: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFiles, "read", fail)
    for _ in range(2):
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(want, test, strict=True))


def test_an_array_that_was_changed_on_disk_is_not_read(root: Path) -> None:
    held, streamed = load(root), load(root, NONE)
    want = list(TestBatches(held.test, CONFIG["mean"], CONFIG["std"], CPU))
    for changed in (False, True, False):
        for file in (root / "x/.wcordbench-cache").glob("test-*.npy"):
            if changed:
                data = bytearray(file.read_bytes())
                data[-5] ^= 255
                file.write_bytes(data)
        got = list(TestBatches(streamed.test, CONFIG["mean"], CONFIG["std"], CPU))
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(want, got, strict=True))
    assert list((root / "x/.wcordbench-cache").glob("test-*.seen"))


def test_without_room_on_disk_test_images_are_streamed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ROOM", 1 << 60)
    monkeypatch.setenv(stream.LOADERS, "1")
    held, streamed = load(root), load(root, NONE, cache=None)
    assert kept.keep(streamed.test) is None or (root / "x/.wcordbench-cache").exists()  # type: ignore[arg-type]
    for file in (root / "x/.wcordbench-cache").glob("*.npy"):
        file.unlink()
    want = list(TestBatches(held.test, CONFIG["mean"], CONFIG["std"], CPU))
    got = list(TestBatches(streamed.test, CONFIG["mean"], CONFIG["std"], CPU))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(want, got, strict=True))
    assert not list((root / "x/.wcordbench-cache").glob("*.npy"))


@pytest.mark.parametrize("count", ["0", "2"])
def test_an_image_that_breaks_in_mid_epoch_is_one_sentence(
    root: Path, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stream.LOADERS, count)
    dataset = load(root, NONE)
    batches = training(dataset, batch_size=2)
    order = [int(i) for _, batch in batches.epoch(0) for i in batch.indices]
    assert isinstance(dataset.train, ImageFiles)
    jpegs = [i for i in order[10:] if dataset.train.path(i).suffix == ".jpg"]
    file = dataset.train.path(jpegs[0])
    file.write_bytes(file.read_bytes()[:-40])
    seen = 0
    with pytest.raises(UserError, match="is not a readable image") as error:
        for _ in training(dataset, batch_size=2).epoch(0):
            seen += 1
    assert seen >= 4 and str(file) in str(error.value) and "\n" not in str(error.value)


def test_another_reading_of_one_folder_leaves_what_is_in_use(root: Path) -> None:
    """Arrays of other split folders stay; of a folder that was changed the old one goes."""
    shutil.copytree(root / "x/test", root / "x/val")  # the same images: not the same arrays
    shutil.copytree(root / "x/train", root / "x/more")
    cache, more = root / "x/.wcordbench-cache", {"train": "more", "test": "val"}

    def begin(memory: float | None, **folders: str) -> tuple[Dataset, TestBatches]:
        options = {"folder": "x", "image_size": 12, **folders}
        with allowing(memory, keep=True), listening([].append):
            dataset = base.load({**CONFIG, "options": options}, root)
        return dataset, TestBatches(dataset.test, [0.5] * 3, [0.5] * 3, CPU)

    both = [begin(NONE), begin(NONE, **more)]
    (root / "x/more/a/0.png").unlink()
    (root / "x/val/a/0.png").unlink()
    begin(None, **more)  # also into memory
    begin(NONE, **more)
    (dataset, batches), _ = both
    assert sum(len(labels) for _, labels in batches) == 9
    assert isinstance(dataset.train, ImageFiles) and dataset.train.kept is not None
    dataset.train.read(0)
    assert len(list(cache.glob("test-*.npy"))) == len(list(cache.glob("train-*.npy"))) == 2


def test_a_survey_is_made_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, streamed = load(root), load(root, NONE)
    found = survey(streamed)
    assert found == survey(held)
    values = held.train.pixels / 255  # type: ignore[union-attr]
    assert np.allclose(found.mean, values.mean((0, 1, 2)), atol=6e-5)
    assert np.allclose(found.std, values.std((0, 1, 2)), atol=6e-5)

    def fail(*args: Any) -> None:
        raise AssertionError("looked")

    monkeypatch.setattr(ImageFiles, "read", fail)
    assert survey(load(root, NONE)) == found


def test_a_read_only_folder_is_surveyed_once_too(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (root / "x/.wcordbench-cache").write_text("no folder can be made here")
    found = survey(load(root, NONE))
    monkeypatch.delattr(ImageFiles, "read")
    assert survey(load(root, NONE)) == found


def test_what_another_user_keeps_beside_the_images_hides_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A survey and an index of one's own stand in one's own folder, theirs beside the images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    found = survey(load(root, NONE))
    theirs = root / "x/.wcordbench-cache/surveys.json"
    own = files.local(theirs)
    own.parent.mkdir(parents=True)
    theirs.rename(own)
    theirs.write_text('{"another reading": {"fingerprint": "0", "mean": [], "std": []}}')
    monkeypatch.delattr(ImageFiles, "read")
    assert survey(load(root, NONE)) == found
    assert [len(part) for part in files.read_both(theirs)] == [1, 1]


def test_training_images_of_a_single_pass_are_not_kept(root: Path) -> None:
    held, streamed = load(root), load(root, NONE)
    passes = TestBatches(streamed.train, CONFIG["mean"], CONFIG["std"], CPU, again=False)
    want = list(TestBatches(held.train, CONFIG["mean"], CONFIG["std"], CPU))
    before = set((root / "x/.wcordbench-cache").glob("*.npy"))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(want, passes, strict=True))
    assert set((root / "x/.wcordbench-cache").glob("*.npy")) == before


def test_what_is_one_array_is_refused_where_it_does_not_fit() -> None:
    config = {"name": "digits", "options": {}, "mean": [0.3], "std": [0.3], "size": None}
    with allowing(NONE), pytest.raises(UserError, match=r"'digits' takes .* GiB as one array"):
        base.load(config, Path())
    with allowing(1.0):
        base.load(config, Path())
    with pytest.raises(UserError, match=r"no folder of images; leave dataset\.cache out"):
        base.load({**config, "cache": 16}, Path())


def test_a_number_of_processes_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("-1", "two", "1e3", "99999"):
        monkeypatch.setenv(stream.LOADERS, wrong)
        with pytest.raises(UserError, match="WCORDBENCH_LOADERS is"):
            stream.loaders()
    monkeypatch.delenv(stream.LOADERS)
    assert stream.loaders() == torch.get_num_threads()


def test_little_shared_memory_makes_small_parts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stream.LOADERS, "4")
    files = load(root, NONE).train
    assert isinstance(files, ImageFiles)
    assert stream.Stream(files, CPU).images == stream.PART_IMAGES
    monkeypatch.setattr(stream, "UNDER_WAY", 4 * stream.AHEAD * 5 * 12 * 12 * 3)
    assert stream.Stream(files, CPU).images == 5
