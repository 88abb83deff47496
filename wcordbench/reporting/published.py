"""The published numbers, and which suites may be set against them."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wcordbench.suite.schema import MethodSpec, Suite

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

#: seeds that a published mean is of
SEEDS = 5

#: teacher and student of the supplement's Table 2
PRIVILEGED = ("inception_v3", "resnet8x4")
#: why its numbers are never a target
PRIVILEGED_REMARK = (
    "The published AUCs are of images that are not public: compare the shape of the curve, not"
    " its height."
)


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


def of_method(teacher: str, student: str, spec: MethodSpec, metric: str) -> Number | None:
    """The published number of a method with a suite's options, if there is one.

    A published name such as ``wcord(lambda1=0,lambda2=0.1)`` is that of every method with
    these values of these options; one without options is the method's as the papers tune it.
    """
    pair = (_architecture(teacher), student)
    found = numbers(metric)
    options: dict[str, Any] | None = None
    for (t, s, name), number in found.items():
        base, _, rest = name.partition("(")
        if (t, s) != pair or base != spec.name or not rest:
            continue
        if options is None:  # resolved only where a published name has some: it takes time
            options = {key: value for term in spec.terms() for key, value in term.options.items()}
        wanted = dict(part.split("=") for part in rest.rstrip(")").split(","))
        if all(options.get(key) == float(value) for key, value in wanted.items()):
            return number
    return found.get((*pair, spec.name))


def _architecture(model: str) -> str:
    """A model's name in the papers' tables: without timm's prefix and tag."""
    return model.removeprefix("timm:").partition(".")[0]


def privileged(suite: Suite) -> bool:
    """Whether a suite has a pair of the supplement's Table 2 and is measured as there."""
    pairs = [(_architecture(p.teacher.model), p.student) for p in suite.pairs]
    return suite.metric == "auc" and suite.dataset.holdout is None and PRIVILEGED in pairs


def differences(suite: Suite) -> list[str] | None:
    """How a suite departs from the published protocol.

    Returns:
        One phrase a departure (none for the full protocol), or None where nothing was
        published for the dataset, or the scores are of training images held out.
    """
    plain = (
        suite.task is None
        and suite.dataset.holdout is None
        and not any(
            view.config(suite.dataset) for view in (suite.views.teacher, suite.views.student)
        )
    )
    if suite.dataset.name != "cifar100" or suite.metric != "top1" or not plain:
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
