"""Held-out training images: the draw, what is refused, and that nothing else sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wcordbench.data.base import Dataset, Images, load
from wcordbench.data.holdout import hold_out
from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training import cohort
from wcordbench.training.cohort import Cohort

DIGITS: dict[str, Any] = {
    "name": "digits", "options": {}, "mean": [0.3], "std": [0.4], "size": None,
}  # fmt: skip


def pixels(images: Any) -> set[bytes]:
    return {image.tobytes() for image in images.pixels}


def test_as_many_of_each_class_and_every_image_once() -> None:
    whole = load(DIGITS, Path())
    made = load({**DIGITS, "holdout": 200}, Path())
    assert np.bincount(made.test.labels).tolist() == [20] * 10
    assert len(made.train) + len(made.test) == len(whole.train)
    assert made.classes == whole.classes
    assert pixels(made.train) | pixels(made.test) == pixels(whole.train)
    assert not pixels(made.train) & pixels(made.test)
    assert not pixels(made.test) & pixels(whole.test)
    assert made.fingerprint() != whole.fingerprint()


DRAWN = [5, 10, 18, 21, 27, 28, 30, 35]


def test_the_draw_is_fixed() -> None:
    """By places alone: these are a decision's images for as long as it stands."""
    labels = np.arange(40, dtype=np.int64) % 2
    numbered = Images(np.arange(40, dtype=np.uint8).reshape(-1, 1, 1, 1), labels)
    made = hold_out(Dataset(numbered, numbered, ("even", "odd")), 8)
    assert made.test.pixels.ravel().tolist() == DRAWN
    fewer = hold_out(Dataset(numbered, numbered, ("even", "odd")), 4)
    assert set(fewer.test.pixels.ravel()) < set(DRAWN)


def test_sizes_and_tasks_hold_out_the_same_images() -> None:
    made = load({**DIGITS, "holdout": 100}, Path())
    small = load({**DIGITS, "holdout": 100, "size": 4}, Path())
    assert small.test.pixels.shape == (100, 4, 4, 1)
    assert small.test.labels.tolist() == made.test.labels.tolist()
    task = {"groups": {"small": [0, 1, 2, 3, 4], "large": [5, 6, 7, 8, 9]}}
    grouped = load({**DIGITS, "holdout": 100, "task": task}, Path())
    assert np.bincount(grouped.test.labels).tolist() == [50, 50]
    assert grouped.classes == ("small", "large")


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (15, ["dataset.holdout is 15", "10 classes", "multiple"]),
        (5, ["dataset.holdout is 5", "multiple"]),
        (1420, ["142 images of each class", "training images; hold out fewer"]),
    ],
)
def test_what_does_not_fit_is_refused(count: int, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load({**DIGITS, "holdout": count}, Path())
    for part in parts:
        assert part in str(caught.value)


SUITE = """
name: held
dataset: {name: digits, mean: [0.3], std: [0.4], holdout: 100}
train:
  epochs: 1
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student, {name: crd, negatives: 32}]
"""


def test_runs_are_tested_on_them_and_never_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    suite = load_suite(tmp_path / "suite.yaml")
    cells = expand(suite)
    assert all(c.run.config["dataset"]["holdout"] == 100 for c in cells)  # the teacher's, too
    store, seen = Store(tmp_path / "results"), []
    made = load(cells[0].run.config["dataset"], tmp_path)
    plain = cohort.dataset_batches

    def watched(config: dict[str, Any], images: Any, *rest: Any) -> Any:
        seen.append(pixels(images))
        return plain(config, images, *rest)

    monkeypatch.setattr(cohort, "dataset_batches", watched)
    runs: list[Run] = list(dict.fromkeys(c.run for c in cells))
    for run in runs:
        Cohort([run], store, tmp_path, torch.device("cpu"), lambda _: None).train()
    assert len(seen) == len(runs) and all(s == pixels(made.train) for s in seen)
    for run in runs:
        result = store.folder(run).result()
        assert result["dataset_fingerprint"] == made.fingerprint()
        assert (100 * result["scores"]["top1"] / 100) % 1 == 0  # of 100 images
        assert json.loads((store.folder(run).path / "run.json").read_text())["id"] == run.id
