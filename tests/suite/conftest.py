"""A small valid suite, to be changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from wcordbench.suite import Suite, load_suite

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def base() -> dict[str, Any]:
    """A suite that is valid, with every kind of key."""
    return {
        "name": "base",
        "dataset": {"name": "digits", "size": 8, "mean": [0.3054], "std": [0.376]},
        "train": {
            "epochs": 10,
            "batch_size": 64,
            "learning_rate": 0.05,
            "schedule": {"type": "step", "milestones": [4, 8]},
            "augment": {"crop_padding": 1, "flip": False},
        },
        "seeds": [0, 1],
        "pairs": [
            {"teacher": {"model": "resnet14", "seed": 3}, "student": "resnet8"},
            {"teacher": "wrn_16_2", "student": "wrn_16_1"},
        ],
        "methods": ["student", "kd", {"name": "crd+kd", "negatives": 64}, "ab"],
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a suite to a file."""

    def write(suite: dict[str, Any]) -> Path:
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def load(write: Write) -> Callable[[dict[str, Any]], Suite]:
    """Write a suite to a file and load it."""
    return lambda suite: load_suite(write(suite))
