"""The published numbers, and which cells of a table they belong beside.

A published number belongs to a run: it is set beside a cell whose whole configuration is, but for
the seeds, what the shipped suite of its protocol expands to. What those suites expand to is kept
in ``published.json`` (see :mod:`wcordbench.reporting.freeze`), so that a suite that was edited
does not become the published protocol.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wcordbench.reporting.configuration import Leaf, differences, of_run
from wcordbench.suite.runs import Cell
from wcordbench.suite.schema import Pair

#: the epoch that a score is taken from
Rule = Literal["last", "best"]

#: seeds that a published mean is of
SEEDS = 5

#: The shipped suites that a protocol's numbers were trained under; those of a protocol that is not
#: named here stand beside nothing unless asked for.
PROTOCOLS: dict[str, tuple[str, ...]] = {
    # Tian et al., ICLR 2020, and the WCoRD supplement's Table 1
    "crd-240-last": ("cifar100", "cifar100_cross"),
    # the later methods' own repositories that keep that recipe, and show the best epoch
    "crd-240-best": ("later", "later_cross"),
    "mdistiller-240-best": ("later", "later_cross"),
    # the WCoRD supplement's Table 2
    "wcord-table2-last": ("privileged",),
}

#: teacher and student of the supplement's Table 2
PRIVILEGED = ("inception_v3", "resnet8x4")
#: why its numbers are never a target
PRIVILEGED_REMARK = (
    "The published AUCs are of images that are not public: compare the shape of the curve, not"
    " its height."
)
#: protocols whose images are not public, so that nothing is judged by their numbers
NOT_PUBLIC = {"wcord-table2-last"}


@dataclass(frozen=True)
class Number:
    """A published mean and, where it was printed, its deviation; percent.

    Attributes:
        method: as published, see :func:`named`.
        rule: the epoch it is of.
        protocol: how it was trained, see :data:`PROTOCOLS`.
    """

    mean: float
    std: float | None
    source: str
    method: str = ""
    rule: Rule = "last"
    protocol: str = ""


@dataclass(frozen=True)
class Beside:
    """A published number of a cell's pair and method, and how the cell differs from its run.

    Attributes:
        number: the nearest of those there are.
        differences: none where the number belongs to the cell; None where the number's
            configuration is not known.
    """

    number: Number
    differences: tuple[Leaf, ...] | None

    @property
    def alike(self) -> bool:
        """Whether the number is of the cell's very configuration."""
        return self.differences == ()


@functools.cache
def numbers(metric: str = "top1", rule: Rule = "last") -> dict[tuple[str, str, str], list[Number]]:
    """Published numbers by teacher, student and method, without the options that its name has.

    Where several sources print the same cell, the WCoRD supplement's stands first: it is the
    table that is reproduced.
    """
    found: dict[tuple[str, str, str], list[Number]] = {}
    with (Path(__file__).parent / "published.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["metric"], r["rule"]) == (metric, rule)]
    for row in sorted(rows, key=lambda r: r["source"] != "WCoRD supplement"):
        key = (row["teacher"], row["student"], row["method"].partition("(")[0])
        std = float(row["std"]) if row["std"] else None
        found.setdefault(key, []).append(
            Number(float(row["mean"]), std, row["source"], row["method"], rule, row["protocol"])
        )
    return found


@functools.cache
def _frozen() -> dict[str, Any]:
    value = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
    return dict(value)


def configuration(number: Number, teacher: str, student: str) -> dict[str, Any] | None:
    """The configuration that a number belongs to, as :func:`of_run` gives a run's; None if unknown.

    Args:
        number: the number.
        teacher, student: as published.
    """
    frozen = _frozen()
    packed = frozen["runs"].get(f"{number.protocol} {teacher} {student} {number.method}")
    return None if packed is None else _unpacked(packed, frozen["parts"])


def _unpacked(packed: Mapping[str, Any], parts: list[Any]) -> dict[str, Any]:
    config = {key: parts[value] for key, value in packed.items() if key != "teacher"}
    teacher = packed["teacher"]
    return {**config, "teacher": None if teacher is None else _unpacked(teacher, parts)}


def architecture(model: str) -> str:
    """A model's name in the papers' tables: without timm's prefix and tag."""
    return model.removeprefix("timm:").partition(".")[0]


def named(method: str, cell: Cell) -> bool:
    """Whether a published name can be that of a cell's method.

    A name such as ``wcord(lambda1=0,lambda2=0.1)`` is that of every method with these values of
    these options; one without options is any of its key's, whatever its options are.
    """
    base, _, rest = method.partition("(")
    if cell.method is None or not rest:
        return base == ("teacher" if cell.method is None else cell.method.name)
    if base != cell.method.name:
        return False
    terms = cell.run.config["method"]["terms"]
    options: dict[str, Any] = {}
    for term in terms:  # of a sum, the first that has it, as in a suite
        options = {**term["options"], **options}
    for part in rest.rstrip(")").split(","):
        key, _, text = part.partition("=")
        value = json.loads(text) if text[0] in "-0123456789tfn" else text
        if key not in options or options[key] != value:
            return False
    return True


def by_name(
    teacher: str, student: str, cell: Cell | None, metric: str, rule: Rule = "last"
) -> list[Number]:
    """The published numbers of a pair and a method, the teacher where that is None.

    Those whose name says the method's options stand before those whose name says none.
    """
    name = "teacher" if cell is None or cell.method is None else cell.method.name
    found = numbers(metric, rule).get((architecture(teacher), student, name), [])
    if cell is not None:
        found = [n for n in found if named(n.method, cell)]
    return sorted(found, key=lambda n: "(" not in n.method)


def beside(cell: Cell, metric: str, rule: Rule = "last") -> Beside | None:
    """The published number nearest to a cell, and how far it is from belonging to it.

    None where nothing is published of its dataset and task, pair and method, metric and rule.
    """
    found = by_name(cell.pair.teacher.model, cell.pair.student, cell, metric, rule)
    if not found or _other_images(cell.run.config["dataset"]):
        return None
    ours = of_run(cell.run)
    return _nearest(_compared(found, cell.pair, ours))


def teacher_from_file(pair: Pair, student: Cell, metric: str, rule: Rule = "last") -> Beside | None:
    """As :func:`beside`, of a pair whose teacher's weights are given.

    How they were trained is not known: the number is its own where the network is, and the
    images that a student of the pair is measured on.
    """
    config = of_run(student.run)
    if _other_images(config["dataset"]):
        return None
    ours: dict[str, Any] = {"model": pair.teacher.model, "teacher": None}
    ours |= {key: config[key] for key in ("dataset", "metric") if key in config}
    if config["teacher"] and "view" in config["teacher"]:
        ours["view"] = config["teacher"]["view"]
    found = by_name(pair.teacher.model, pair.student, None, metric, rule)
    return _nearest(_compared(found, pair, ours, set(ours) | {"view", "metric"}))


def _other_images(dataset: Mapping[str, Any]) -> bool:
    """Whether the scores are of other classes, or of images that were held out of training."""
    return "task" in dataset or "holdout" in dataset


def _compared(
    found: list[Number], pair: Pair, ours: Mapping[str, Any], keys: set[str] | None = None
) -> Iterator[Beside]:
    teacher = architecture(pair.teacher.model)
    for number in found:
        theirs = configuration(number, teacher, pair.student)
        if theirs is None:
            yield Beside(number, None)
        elif theirs["dataset"]["name"] == ours["dataset"]["name"]:
            if keys is not None:
                theirs = {key: value for key, value in theirs.items() if key in keys}
            yield Beside(number, tuple(differences(ours, theirs)))


def _nearest(found: Iterator[Beside]) -> Beside | None:
    """The first with the fewest differences."""

    def far(one: Beside) -> float:
        return float("inf") if one.differences is None else len(one.differences)

    return min(found, key=far, default=None)


def asked_for(cell: Cell, metric: str, rule: Rule = "last") -> Beside | None:
    """As :func:`beside`, for who asks for the published numbers of another protocol.

    Of an AUC the supplement's Table 2, where the cell's own pair has nothing.
    """
    found = beside(cell, metric, rule)
    if found is None and metric == "auc" and cell.method is not None:
        other = by_name(*PRIVILEGED, cell, metric, rule)
        return Beside(other[0], None) if other else None
    return found
