"""Runs that cut from whole images belong to all pixels of them, not to the squares alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wcordbench.data import base as data
from wcordbench.data import index
from wcordbench.data.fingerprints import distinct, of_squares, of_whole
from wcordbench.errors import UserError
from wcordbench.reporting.table import build
from wcordbench.results.images import compare_images
from wcordbench.results.store import Store
from wcordbench.results.verify import verify
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError

SUITE = """
name: wide
dataset: {name: imagefolder, options: {folder: x, image_size: 8}, mean: [0, 0, 0], std: [1, 1, 1]}
train:
  epochs: 2
  batch_size: 4
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 0, transforms: [{name: random_resized_crop, whole: true}]}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student, kd]
"""
SQUARES = "{teacher: {model: resnet14, train: {augment: {transforms: []}}}, student: resnet8}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two classes of four images of 24×12 pixels a split."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "data/x" / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (12, 24, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path


def blacken(place: Path, split: str = "train") -> None:
    """Change what lies beside the squares."""
    for file in (place / "data/x" / split).rglob("*.png"):
        pixels = np.asarray(Image.open(file)).copy()
        pixels[:, :2] = 0
        Image.fromarray(pixels).save(file)


def runs(place: Path, *sets: str) -> list[Run]:
    """Those that are trained from scratch first."""
    every = dict.fromkeys(c.run for c in expand(load_suite(place / "s.yaml", sets)))
    return sorted(every, key=lambda run: run.teacher is not None)


def train(
    place: Path, out: str, run: Run, stop: Callable[[list[Any]], bool] = lambda _: False
) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    Cohort(
        [run], Store(place / out), place / "data", torch.device("cpu"), events.append,
        lambda: stop(events),
    ).train()  # fmt: skip
    return events


def config(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = runs(place)[0].config["dataset"]
    return found


def test_a_whole_fingerprint_is_that_of_the_squares_and_of_every_training_pixel(
    place: Path,
) -> None:
    of, root = config(place), place / "data"
    plain, whole = (data.fingerprinted(of, root, w)[1] for w in (False, True))
    assert of_squares(whole) == plain == data.load(of, root).fingerprint()
    assert plain.isalnum() and len(plain) == 16 and of_whole(plain) is None
    assert index.fingerprint_of(of, root, True) == whole
    (root / "x/train/a/3.png").rename(root / "x/train/a/7.png")  # neither name …
    Image.open(root / "x/train/a/2.png").save(root / "x/train/a/2.png", compress_level=0)
    blacken(place, "test")  # … nor encoding, nor what is not trained on
    assert index.fingerprint_of(of, root, True) == whole
    blacken(place)
    assert index.fingerprint_of(of, root) == plain
    now = index.fingerprint_of(of, root, True)
    assert of_squares(now) == plain and of_whole(now) != of_whole(whole)


def test_what_says_less_is_not_of_other_images() -> None:
    assert distinct(["a-1", "a"]) == {"a-1"}
    assert distinct(["a-1", "a-2", "a", "b"]) == {"a-1", "a-2", "b"}


def test_finished_runs_of_other_whole_images_are_refused(place: Path) -> None:
    first, store = runs(place)[0], Store(place / "r")
    train(place, "r", first)
    assert compare_images([first], store, place / "data") == []
    blacken(place)
    with pytest.raises(UserError, match=r"1 finished run in .* is not of the images"):
        compare_images([first], store, place / "data")
    train(place, "again", first)
    other = Store(place / "again").folder(first).result()
    assert other["weights_sha256"] != store.folder(first).result()["weights_sha256"]
    assert other["dataset_fingerprint"] != store.folder(first).result()["dataset_fingerprint"]


def test_a_checkpoint_of_other_whole_images_is_refused(place: Path) -> None:
    first = runs(place)[0]
    with pytest.raises(StoppedError):
        train(place, "r", first, lambda events: any(e["kind"] == "epoch" for e in events))
    blacken(place)
    (said,) = [e for e in train(place, "r", first) if e["kind"] == "failed"]
    assert "was written when the dataset held other images" in said["reason"]


def test_a_teacher_of_other_whole_images_is_refused(place: Path) -> None:
    """Also by a student that is trained on squares, which are as they were."""
    sets = ("train.augment={crop_padding: 0}",
            "pairs=[{teacher: {model: resnet14, train: {augment: {transforms:"
            " [{name: random_resized_crop, whole: true}]}}}, student: resnet8}]")  # fmt: skip
    *_, kd = runs(place, *sets)
    assert kd.teacher is not None and kd.config["train"]["augment"].get("transforms") is None
    train(place, "r", kd.teacher)
    blacken(place)
    with pytest.raises(UserError, match=r"holds other images than when .*, the teacher, was"):
        train(place, "r", kd)


@pytest.mark.parametrize("change", [False, True])
def test_runs_on_squares_and_on_whole_images_stand_in_one_table(place: Path, change: bool) -> None:
    sets, store = (f"pairs=[{SQUARES}]",), Store(place / "r")
    for run in runs(place, *sets):
        train(place, "r", run)
        if change and run.teacher is None and run.config["model"] == "resnet8":
            blacken(place)
    suite = load_suite(place / "s.yaml", sets)
    table = build(suite, expand(suite), store, None)
    assert any("NOT comparable with each other" in said for said in table.remarks) == change
    assert len(verify(store)[1]) == change


def test_runs_that_recorded_the_squares_alone_are_said(place: Path) -> None:
    first, store = runs(place)[0], Store(place / "r")
    train(place, "r", first)
    file = store.folder(first).path / "result.json"
    record = json.loads(file.read_text())
    squares = of_squares(record["dataset_fingerprint"])
    file.write_text(json.dumps({**record, "dataset_fingerprint": squares}))
    (line,) = compare_images([first], store, place / "data")
    assert "recorded the fingerprint of their squares alone" in line
    file.write_text(json.dumps({**record, "dataset_fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="not of the images"):
        compare_images([first], store, place / "data")
