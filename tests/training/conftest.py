"""A small dataset, a suite of every kind of method on it, and a trained teacher."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_suite import SUITE

from wcordbench.data import base
from wcordbench.data.base import Dataset, Images
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training import cohort
from wcordbench.training.cohort import Cohort


def _images(count: int, seed: int) -> Images:
    """Each class is a pattern under noise: 8×8, one channel, like the digits."""
    patterns = np.random.default_rng(0).integers(0, 200, (10, 8, 8, 1))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    pixels = patterns[labels] + rng.integers(0, 56, (count, 8, 8, 1))
    return Images(pixels.astype(np.uint8), labels)


def _patch(patch: pytest.MonkeyPatch) -> Dataset:
    dataset = Dataset(_images(150, 1), _images(60, 2), tuple("0123456789"))

    def load(config: dict[str, Any], root: Path) -> Dataset:
        return dataset

    def environment(device: torch.device) -> dict[str, Any]:
        return {"threads": torch.get_num_threads()}

    patch.setattr(base, "load", load)
    patch.setattr(cohort, "environment", environment)  # asks git, which takes longer than training
    return dataset


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """What every dataset is in these tests: 5 steps an epoch, the last one smaller."""
    torch.set_num_threads(1)
    return _patch(monkeypatch)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The suite's runs by the method's title, and the teacher."""
    file = tmp_path_factory.mktemp("suite") / "small.yaml"
    file.write_text(SUITE)
    cells = expand(load_suite(file))
    return {"teacher" if c.method is None else c.method.title: c.run for c in cells}


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Run]) -> Path:
    """A results folder in which the teacher is trained; not to be changed."""
    root = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch)
        Cohort([runs["teacher"]], Store(root), Path(), torch.device("cpu")).train()
    return root


@pytest.fixture
def store(taught: Path, tmp_path: Path) -> Store:
    """A store of one's own with the trained teacher."""
    shutil.copytree(taught, tmp_path / "results")
    return Store(tmp_path / "results")


@pytest.fixture
def train(store: Store) -> Callable[..., list[dict[str, Any]]]:
    """Trains runs together; returns the events."""

    def to_end(*runs: Run, **options: Any) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        options = {"report": events.append, **options}
        where = options.pop("store", store)
        Cohort(list(runs), where, Path(), torch.device("cpu"), **options).train()
        return events

    return to_end


def _outcome(store: Store, run: Run) -> tuple[Any, ...]:
    """Everything of a finished run that must not depend on how it was trained."""
    folder = store.folder(run)
    metrics = json.loads((folder.path / "metrics.json").read_text())
    assert all(m.pop("seconds") >= 0 for m in metrics)
    record = folder.result()
    weights = torch.load(folder.path / "student.pt", weights_only=True)["model"]
    return (
        metrics,
        record["scores"],
        record["teacher_sha256"],
        record["dataset_fingerprint"],
        {k: (v.dtype, v.shape, v.numpy().tobytes()) for k, v in weights.items()},
    )


@pytest.fixture
def outcome() -> Callable[[Store, Run], tuple[Any, ...]]:
    """What training must give: metrics but for seconds, scores, checksums, weights."""
    return _outcome


@pytest.fixture(scope="session")
def alone(
    taught: Path, tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Run]
) -> Callable[[Run], tuple[Any, ...]]:
    """The outcome of a run that is trained alone, without a stop."""
    known: dict[Run, tuple[Any, ...]] = {}

    def of(run: Run) -> tuple[Any, ...]:
        if run not in known:
            root = tmp_path_factory.mktemp("alone") / "results"
            shutil.copytree(taught, root)
            Cohort([run], Store(root), Path(), torch.device("cpu")).train()
            known[run] = _outcome(Store(root), run)
        return known[run]

    return of
