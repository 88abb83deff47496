"""Classes of a task made of a dataset's classes."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import numpy as np

from wcordbench.data.base import Dataset, Split
from wcordbench.errors import UserError

POSITIVE, OTHER = "positive", "other"


def apply_task(dataset: Dataset, task: dict[str, Any]) -> Dataset:
    """A dataset with the classes of a task; images of classes in no group are left out.

    Args:
        dataset: as its loader gives it.
        task: ``{"positive": [..]}``: these classes against all others (class 1 against
            class 0); or ``{"groups": {name: [..], ..}}``: one class a group, in the order
            of the file. A class is named, or numbered from 0 where none is called by a number.

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


def _mapped(images: Split, new: Any) -> Split:
    labels = new[images.labels]
    kept = labels >= 0
    if kept.all():
        return replace(images, labels=labels)
    return images.take(kept, labels[kept])


def _numbers(dataset: Dataset, members: list[str | int], key: str) -> set[int]:
    return {
        _by_number(dataset.classes, member, key)
        if isinstance(member, int)
        else _by_name(dataset.classes, member, key)
        for member in members
    }


def _by_number(classes: tuple[str, ...], number: int, key: str) -> int:
    """The class that a number means: the one of that name, or else the one in that place."""
    if str(number) in classes:
        return classes.index(str(number))
    same = [name for name in classes if name.isascii() and name.isdecimal()]
    of_value = [name for name in same if int(name) == number]
    if len(of_value) == 1:
        return classes.index(of_value[0])
    if same:  # "0" where they are called 1, 2, 3: a place, or a mistake?
        raise UserError(
            f"{key}: {number} is {'several classes' if of_value else 'no class'}, and the classes"
            f" are called {', '.join(of_value or classes[:5])}{', …' * (len(classes) > 5)};"
            " write the name of one, in quotes"
        )
    if not 0 <= number < len(classes):
        raise UserError(f"{key}: {number} is no class; they are numbered 0 to {len(classes) - 1}")
    return number


def _by_name(classes: tuple[str, ...], name: str, key: str) -> int:
    if name in classes:
        return classes.index(name)
    near = difflib.get_close_matches(name, classes, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(classes[:5])}, …"
    raise UserError(f"{key}: the dataset has no class {name!r}; {hint}")
