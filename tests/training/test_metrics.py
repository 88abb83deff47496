"""AUC: scikit-learn's, ties included; where it is undefined it is named before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

from wcordbench.data import base
from wcordbench.data.base import Dataset, Images
from wcordbench.errors import UserError
from wcordbench.models.features import Features
from wcordbench.results.store import Store
from wcordbench.suite import Run
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import evaluate
from wcordbench.training.learner import Learner
from wcordbench.training.metrics import auc, check_auc


def counted(labels: Any, scores: Any) -> float:
    """How often a positive is above a negative, ties one half: pair by pair."""
    pairs = [
        (p > n) + 0.5 * (p == n)
        for p, a in zip(scores, labels, strict=True)
        for n, b in zip(scores, labels, strict=True)
        if a == 1 and b == 0
    ]
    return 100 * float(np.mean(pairs))


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=40
    )
)
@settings(deadline=None)
def test_two_classes_agree_with_scikit_learn_and_with_counting_on_ties(rows: Any) -> None:
    labels = np.array([int(r[0]) for r in rows])
    labels[:2] = 0, 1
    logits = np.array([r[1:] for r in rows], np.float32)
    scores = logits[:, 1] - logits[:, 0]
    assert auc(labels, logits) == 100 * roc_auc_score(labels, scores)
    assert auc(labels, logits) == pytest.approx(counted(labels, scores))


def test_all_tied_is_one_half() -> None:
    assert auc(np.array([0, 1, 1]), np.zeros((3, 2), np.float32)) == 50
    assert auc(np.array([0, 1, 2]), np.zeros((3, 3), np.float32)) == 50


def test_logits_far_out_are_told_apart() -> None:
    """Probabilities would all be 1; their differences are not."""
    logits = np.array([[0, 90], [0, 95], [0, 100]], np.float32)
    assert auc(np.array([0, 1, 1]), logits) == 100


@given(st.integers(3, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_more_classes_are_the_mean_of_each_against_the_rest(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 30)])
    outputs = rng.normal(size=(8, classes)).astype(np.float32)
    logits = outputs[rng.integers(0, 8, len(labels))]  # many ties
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    want = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert auc(labels, logits) == pytest.approx(100 * want, abs=1e-9)


class Given(nn.Module):
    """A network whose logits are the images."""

    def forward(self, x: torch.Tensor) -> Features:
        return Features(x, (x,), (x,), x, x)


def test_batches_of_a_single_class_are_no_matter() -> None:
    """The curve is of all test images together, however they were cut into batches."""
    logits = torch.tensor([[0.0, 2], [0, 1], [0, 1], [0, 1], [0, 0], [3, 0]])
    labels = torch.tensor([1, 1, 1, 0, 0, 0])
    batches = [(logits[i : i + 3], labels[i : i + 3]) for i in (0, 3)]
    found = evaluate(Given(), batches, "fp32", torch.device("cpu"), auc=True)
    scores = (logits[:, 1] - logits[:, 0]).numpy()
    assert found["test_auc"] == 100 * roc_auc_score(labels.numpy(), scores)
    assert found["test_auc"] == pytest.approx(counted(labels.tolist(), scores))
    assert "test_auc" not in evaluate(Given(), batches, "fp32", torch.device("cpu"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_auc_of_logits_that_are_not_finite(bad: float) -> None:
    batch = (torch.tensor([[0.0, bad], [0, 1]]), torch.tensor([0, 1]))
    found = evaluate(Given(), [batch], "fp32", torch.device("cpu"), auc=True)
    assert "test_auc" not in found and not np.isfinite(found["test_loss"])


@pytest.mark.parametrize(
    ("labels", "classes", "parts"),
    [
        ([0, 0], ("well", "ill"), ["no image of class 'ill'", "change task"]),
        ([0, 2], ("a", "b", "c"), ["no image of class 'b'"]),
        ([0, 0], ("a",), ["1 class", "at least two"]),
    ],
)
def test_undefined(labels: list[int], classes: tuple[str, ...], parts: list[str]) -> None:
    with pytest.raises(UserError, match="metric auc is undefined") as error:
        check_auc(np.array(labels), classes)
    assert all(part in str(error.value) for part in parts)
    assert "choose metric top1" in str(error.value)


def test_undefined_is_named_before_training(
    runs: dict[str, Run],
    small: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = small.test.labels != 3
    without = replace(small, test=Images(small.test.pixels[kept], small.test.labels[kept]))
    monkeypatch.setattr(base, "load", lambda *_: without)

    def step(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(Learner, "train_step", step)
    run = Run({**runs["Student"].config, "metric": "auc"})
    store = Store(tmp_path / "results")
    with pytest.raises(UserError, match="no image of class '3'"):
        Cohort([run], store, Path(), torch.device("cpu")).train()
    assert store.folder(run).state == "begun"


def test_the_score_of_a_run_is_that_of_its_last_epoch(
    runs: dict[str, Run], store: Store, train: Callable[..., Any]
) -> None:
    run = Run({**runs["Student"].config, "metric": "auc"})
    train(run)
    folder = store.folder(run)
    last = folder.read_json("metrics.json")[-1]
    assert folder.result()["scores"]["auc"] == last["test_auc"] > 50
