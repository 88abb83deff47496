"""The published numbers, and which suites may be set against them."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wcordbench.suite.schema import Suite

#: What the published tables were trained with (Tian et al., ICLR 2020, and the WCoRD supplement).
#: A suite that differs in any of these is not set against them unless asked to.
PROTOCOL: dict[str, Any] = {
    "epochs": 240,
    "batch_size": 64,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "nesterov": False,
    "schedule": {"type": "step", "milestones": [150, 180, 210], "factor": 0.1},
    "augment": {"crop_padding": 4, "flip": True},
}


@dataclass(frozen=True)
class Number:
    """A published mean and, where it was printed, its deviation; percent."""

    mean: float
    std: float | None
    source: str


@functools.cache
def numbers(metric: str = "top1") -> dict[tuple[str, str, str], Number]:
    """Published numbers by (teacher, student, method).

    Where two sources print the same cell, the WCoRD supplement wins: it is the table that
    is reproduced.
    """
    found: dict[tuple[str, str, str], Number] = {}
    with (Path(__file__).parent / "published.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    for row in sorted(rows, key=lambda r: r["source"] != "WCoRD supplement"):
        key = (row["teacher"], row["student"], row["method"])
        std = float(row["std"]) if row["std"] else None
        found.setdefault(key, Number(float(row["mean"]), std, row["source"]))
    return found


def differences(suite: Suite) -> list[str] | None:
    """How a suite departs from the published protocol.

    Returns:
        One phrase a departure (none for the full protocol), or None where nothing was
        published for the dataset.
    """
    if suite.dataset.name != "cifar100":
        return None
    found = []
    size = suite.dataset.size or 32
    if size != 32:
        found.append(f"images of {size}×{size} pixels, published 32×32")
    train = suite.train.model_dump()
    for key, published in PROTOCOL.items():
        if train[key] != published:
            found.append(f"{_phrase(key, train[key])}, published {_phrase(key, published)}")
    return found


def _phrase(key: str, value: Any) -> str:
    if key == "schedule":
        if value["type"] == "step":
            return f"steps at epochs {', '.join(map(str, value['milestones']))}"
        return "a one-cycle schedule"
    if key == "augment":
        flips = " and flips" if value["flip"] else " without flips"
        return f"crops padded by {value['crop_padding']}{flips}"
    if key == "epochs":
        return f"{value} epochs"
    return f"{key.replace('_', ' ')} {value}"
