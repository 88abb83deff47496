"""A last batch of one image is tried before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wcordbench.data import base
from wcordbench.data.base import Dataset, Images
from wcordbench.errors import UserError
from wcordbench.methods.kd import KD
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite

Train = Callable[..., list[dict[str, Any]]]

SUITE = """
name: odd
dataset: {name: digits, mean: [0.5], std: [0.25]}
train: {epochs: 1, batch_size: BATCH, learning_rate: 0.05, schedule: {type: one_cycle},
        augment: {crop_padding: 1, flip: false}, first_stage: {epochs: 1}}
seeds: [0]
pairs: [{teacher: {model: TEACHER, train: {batch_size: 4}}, student: STUDENT}]
methods: [METHOD]
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Nine images of 16 pixels, and a run of them without a teacher's training."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 16, 16, 1)).astype(np.uint8)
    split = Images(pixels, np.arange(9) % 3)
    monkeypatch.setattr(base, "load", lambda *_: Dataset(split, split, ("a", "b", "c")))

    def make(student: str, batch: int, method: str = "student", teacher: str = "resnet8") -> Run:
        text = SUITE.replace("STUDENT", student).replace("BATCH", str(batch))
        (tmp_path / "s.yaml").write_text(text.replace("METHOD", method).replace("TEACHER", teacher))
        return next(c.run for c in expand(load_suite(tmp_path / "s.yaml")) if not c.is_teacher)

    return make


@pytest.mark.parametrize(("batch", "other"), [(8, 9), (4, 5), (1, 3)])
def test_one_that_batch_norm_cannot_take_is_refused_before_training(
    batch: int, other: int, odd: Callable[..., Run], train: Train, tmp_path: Path
) -> None:
    store, events = Store(tmp_path / "new"), []
    run = odd("mobilenetv2", batch)
    with pytest.raises(UserError) as raised:
        train(run, store=store, report=events.append)
    said = str(raised.value)
    assert said.startswith(f"train.batch_size {batch} leaves one image of the 9 training images")
    assert said.endswith(f"choose another, such as {other}")
    assert "Expected more than 1 value per channel" in said
    assert not any(e["kind"] in ("loaded", "epoch", "failed") for e in events)
    assert store.folder(run).state == "begun"
    train(odd("mobilenetv2", other), store=store)  # what it suggests works


def test_one_that_is_no_obstacle_is_trained_to_the_same_bits(
    odd: Callable[..., Run], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wcordbench.training import cohort

    run, weights = odd("resnet8", 4), []
    for name in ("tried", "not"):
        store = Store(tmp_path / name)
        train(run, store=store)
        weights.append(json.loads((store.folder(run).path / "result.json").read_text()))
        monkeypatch.setattr(cohort, "check_last_batch", lambda *_: None)
    assert weights[0]["weights_sha256"] == weights[1]["weights_sha256"]


def test_methods_are_tried_as_well(odd: Callable[..., Run], train: Train, tmp_path: Path) -> None:
    """Of a run with a first stage both stages are, and neither changes what is trained."""
    run, store = odd("resnet8", 4, "ft", "resnet14"), Store(tmp_path / "new")
    assert run.teacher is not None
    train(run.teacher, store=store)
    train(run, store=store)
    assert store.folder(run).state == "done"


def test_a_mistake_of_a_method_is_not_taken_for_one_of_the_batch_size(
    odd: Callable[..., Run], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = odd("resnet8", 4, "kd", "resnet14"), Store(tmp_path / "new")
    assert run.teacher is not None
    train(run.teacher, store=store)
    forward = KD.forward
    monkeypatch.setattr(
        KD, "forward", lambda self, student, *more: forward(self, student.detach(), *more)
    )
    train(run, store=store)
    assert "without a gradient" in store.folder(run).failure()["reason"]


@pytest.mark.parametrize("metric", ["top5", "top1"])
def test_a_score_that_is_always_100_is_refused(metric: str, tmp_path: Path) -> None:
    text = SUITE.replace("STUDENT", "resnet8").replace("BATCH", "8").replace("METHOD", "student")
    text = text.replace("TEACHER", "resnet8") + f"metric: {metric}\n"
    for few in ("task: {positive: ['3']}\n", "task: {groups: {a: ['1'], b: ['2'], c: ['3']}}\n"):
        (tmp_path / "s.yaml").write_text(text + few)
        if metric == "top1":
            load_suite(tmp_path / "s.yaml")
            continue
        with pytest.raises(UserError, match=r"key 'metric' is top5, which is 100 for any network"):
            load_suite(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text(text)
    load_suite(tmp_path / "s.yaml")  # ten classes
