"""Classes of a task made of a dataset's classes."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from wcordbench.data.base import Dataset, Images
from wcordbench.errors import UserError

POSITIVE, OTHER = "positive", "other"


def apply_task(dataset: Dataset, task: dict[str, Any]) -> Dataset:
    """A dataset with the classes of a task; images of classes in no group are left out.

    Args:
        dataset: as its loader gives it.
        task: ``{"positive": [..]}``: these classes against all others (class 1 against
            class 0); or ``{"groups": {name: [..], ..}}``: one class a group, in the order
            of the file. A class is named or numbered from 0.

    Raises:
        UserError: the dataset has no such class, or one class stands in two groups.
    """
    if "positive" in task:
        chosen = _numbers(dataset, task["positive"], "task.positive")
        groups = {OTHER: set(range(len(dataset.classes))) - chosen, POSITIVE: chosen}
        if not groups[OTHER]:
            raise UserError(
                "task.positive names every class of the dataset, which leaves none to"
                " tell them from; leave some out"
            )
    else:
        groups = {}
        for name, members in task["groups"].items():
            chosen = _numbers(dataset, members, f"task.groups.{name}")
            for other, taken in groups.items():
                if both := sorted(taken & chosen):
                    raise UserError(
                        f"task.groups: class {dataset.classes[both[0]]!r} is in both"
                        f" {other!r} and {name!r}; leave it in one"
                    )
            groups[name] = chosen
    new = np.full(len(dataset.classes), -1, np.int64)
    for number, members in enumerate(groups.values()):
        new[sorted(members)] = number
    return Dataset(_mapped(dataset.train, new), _mapped(dataset.test, new), tuple(groups))


def _mapped(images: Images, new: Any) -> Images:
    labels = new[images.labels]
    kept = labels >= 0
    if kept.all():
        return Images(images.pixels, labels)
    return Images(np.ascontiguousarray(images.pixels[kept]), labels[kept])


def _numbers(dataset: Dataset, members: list[str | int], key: str) -> set[int]:
    numbers = set()
    for member in members:
        if isinstance(member, int):
            if not 0 <= member < len(dataset.classes):
                raise UserError(
                    f"{key}: {member} is no class; they are numbered 0 to"
                    f" {len(dataset.classes) - 1}"
                )
            numbers.add(member)
        elif member in dataset.classes:
            numbers.add(dataset.classes.index(member))
        else:
            near = difflib.get_close_matches(member, dataset.classes, n=3, cutoff=0.5)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else (f"it has {', '.join(dataset.classes[:5])}, …")
            )
            raise UserError(f"{key}: the dataset has no class {member!r}; {hint}")
    return numbers
