"""A run is the same to the last bit in memory and streamed, stopped or not, with any processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data import layouts
from wcordbench.data import stream
from wcordbench.data.files import ImageFiles
from wcordbench.errors import UserError
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite import expand, load_suite
from wcordbench.training import cohort
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError

SUITE = """
name: streamed
dataset:
  name: imagefolder
  options: {folder: x, image_size: 8}
  mean: [0.5, 0.5, 0.5]
  std: [0.25, 0.25, 0.25]
train:
  epochs: 2
  batch_size: 10
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: true}
seeds: [0]
pairs:
  - {teacher: {model: resnet14, train: {epochs: 1}}, student: resnet8}
methods: [kd, {name: crd, negatives: 16, feature_dim: 8}]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def environment(device: torch.device) -> dict[str, Any]:
        return {"threads": torch.get_num_threads()}

    monkeypatch.setattr(cohort, "environment", environment)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for split, count in (("train", 36), ("test", 12)):
        for i in range(count):
            folder = tmp_path / "data/x" / split / "abc"[i % 3] / "images"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(60 * (i % 3), 60 * (i % 3) + 120, (11, 9, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.JPEG", quality=95)
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path


def train(
    place: Path, out: str, *sets: str, stop: Callable[[], bool] = lambda: False, every: float = 1e9
) -> dict[str, Any]:
    """Everything that must agree, by run."""
    store = Store(place / out)
    cells = expand(load_suite(place / "s.yaml", sets))
    teacher = [c.run for c in cells if c.is_teacher]
    students = [c.run for c in cells if not c.is_teacher]
    for runs in (teacher, students):
        told = stop if runs is students else lambda: False
        events: list[dict[str, Any]] = []
        Cohort(runs, store, place / "data", torch.device("cpu"), events.append, told, every).train()
    found = {}
    for run in (*teacher, *students):
        folder = store.folder(run)
        metrics = json.loads((folder.path / "metrics.json").read_text())
        for record in metrics:
            del record["seconds"]
        result = folder.result()
        found[run.name] = (metrics, result["weights_sha256"], result["dataset_fingerprint"])
        assert result["environment"]["images"] == ("streamed" if sets else "in memory")
    return found


NONE = "dataset.memory=1e-9"


def test_in_memory_streamed_and_from_disk_are_the_same_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = train(place, "held")
    assert all(len(metrics) >= 1 for metrics, _, _ in held.values())
    for count in ("0", "2"):
        monkeypatch.setenv(stream.LOADERS, count)
        assert train(place, f"streamed{count}", NONE) == held
    # squares of the size at which images are read anyway are the same pixels
    monkeypatch.setattr(ImageFiles, "whole", _once(ImageFiles.whole, Counter()))
    assert train(place, "kept", NONE, "dataset.cache=8") == held


@pytest.mark.parametrize("name", ["tiny_imagenet", "imagenet"])
def test_the_known_layouts_train_the_same_both_ways(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "imagenet":
        layouts.imagenet(place / "data", "devkit")
        options = "options: {image_size: 16, resize: 18}"
    else:
        layouts.tiny(place / "data")
        options = "size: 16"
    head, rest = SUITE.split("  name: imagefolder\n")
    rest = rest.split("\n", 1)[1]
    (place / "s.yaml").write_text(f"{head}  name: {name}\n  {options}\n{rest}")
    held = train(place, "held")
    monkeypatch.setenv(stream.LOADERS, "1")
    assert train(place, "streamed", NONE) == held


def _once(read: Callable[[ImageFiles, int], Any], seen: Counter[Path]) -> Any:
    """Reads a file for the survey and for the array on disk, and never again."""

    def whole(files: ImageFiles, index: int) -> Any:
        seen[files.path(index)] += 1
        assert seen[files.path(index)] <= 2
        return read(files, index)

    return whole


@pytest.mark.parametrize(
    "sets",
    [
        (),
        (
            "train.augment={crop_padding: 0, flip: true, transforms:"
            " [{name: random_resized_crop, whole: true}, {name: random_erasing, p: 0.5}]}",
        ),
    ],
    ids=["squares", "whole"],
)
def test_stopped_in_mid_epoch_and_resumed_with_other_processes(
    place: Path, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = train(place, "held", *sets)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 13

    monkeypatch.setenv(stream.LOADERS, "2")
    with pytest.raises(StoppedError):
        train(place, "cut", NONE, *sets, stop=stop)
    monkeypatch.setenv(stream.LOADERS, "0")
    assert train(place, "cut", NONE, *sets) == held


def _train_and_die(place: Path) -> None:
    asked = 0

    def die() -> bool:
        nonlocal asked
        asked += 1
        if asked == 6:  # in the third step of four of the first epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    train(place, "cut", NONE, stop=die, every=0.0)


def test_killed_in_mid_epoch_and_resumed_with_other_processes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = train(place, "held")
    monkeypatch.setenv(stream.LOADERS, "2")
    process = multiprocessing.get_context("fork").Process(target=_train_and_die, args=(place,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stores = [RunFolder(file.parent) for file in (place / "cut").rglob("checkpoint.pt")]
    states = [torch.load(s.read_sealed("checkpoint.pt"), weights_only=True) for s in stores]
    assert [(x["epoch"], x["step"]) for x in states] == [(0, 2), (0, 2)]
    monkeypatch.setenv(stream.LOADERS, "1")
    assert train(place, "cut", NONE) == held


def test_a_broken_image_in_mid_epoch_loses_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = train(place, "held")
    monkeypatch.setenv(stream.LOADERS, "0")
    file = place / "data/x/train/b/images/4.JPEG"
    content = file.read_bytes()
    asked = 0

    def cut() -> bool:  # while the first epoch is under way
        nonlocal asked
        asked += 1
        if asked == 9:
            file.write_bytes(content[:-200])
        return False

    with pytest.raises(UserError, match=r"4\.JPEG is not a readable image"):
        train(place, "cut", NONE, stop=cut)
    assert list((place / "cut").rglob("checkpoint.pt"))
    file.write_bytes(content)
    assert train(place, "cut", NONE) == held


@pytest.mark.parametrize("wrong", ["0", "-1", "lots", "true", "[1]"])
def test_no_memory_is_one_sentence(place: Path, wrong: str) -> None:
    with pytest.raises(
        UserError, match=r"dataset\.memory' must be auto or a number of GiB above 0"
    ):
        load_suite(place / "s.yaml", [f"dataset.memory={wrong}"])


def test_what_is_no_part_of_a_run_and_what_is(place: Path) -> None:
    def ids(*sets: str) -> set[str]:
        return {c.run.id for c in expand(load_suite(place / "s.yaml", sets))}

    plain = ids()
    assert ids("dataset.memory=auto") == ids("dataset.memory=3") == plain
    assert ids("dataset.cache=8") == plain  # the pixels are the same
    assert not ids("dataset.cache=9") & plain
    titled = expand(load_suite(place / "s.yaml", ["dataset.title=My X-rays (2)"]))
    assert all(c.run.name.startswith("My-X-rays-2_") for c in titled)
