"""The order of ``task.groups``: it numbers the classes, and is no part of a run's identity.

Identities and records sort their keys. So a run records the order of its classes beside its
configuration, and a suite that has another order is told that the run is not its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wcordbench.errors import UserError

if TYPE_CHECKING:
    from wcordbench.results.store import Store
    from wcordbench.suite.runs import Run

#: groups whose orders are tried: 24 orders of 4
MOST = 4


def order_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The names of a configuration's groups in its order; empty where its task has none."""
    return tuple(_groups(config) or ())


def put_in_order(record: dict[str, Any]) -> tuple[str, ...]:
    """Put the groups of a record's configuration in the order that numbered the classes.

    Args:
        record: of ``result.json`` or ``run.json``; its ``config`` is changed.

    Returns:
        The names of the groups in that order; empty where the task has no groups, or where the
        record was written before records held the order.
    """
    groups = _groups(record["config"])
    classes = record.get("images", {}).get("classes", record.get("groups", ()))
    if not groups or sorted(map(str, classes)) != sorted(groups):
        return ()
    record["config"]["dataset"]["task"]["groups"] = {name: groups[name] for name in classes}
    return tuple(classes)


def find_order(record: dict[str, Any], data_root: Path) -> None:
    """As :func:`put_in_order`, also of a record that was written before records held the order.

    A fingerprint is of the labels as well: the order is the one that gives the record's.

    Args:
        record: of ``result.json``; its ``config`` is changed.
        data_root: the folder that holds datasets.

    Raises:
        UserError: no order of the groups gives the record's fingerprint on the images there, or
            there are too many to try; or the dataset cannot be read.
    """
    groups = _groups(record["config"])
    if not groups or put_in_order(record):
        return
    from wcordbench.data.index import fingerprint_of

    dataset = record["config"]["dataset"]
    for names in itertools.permutations(groups) if len(groups) <= MOST else ():
        dataset["task"]["groups"] = {name: groups[name] for name in names}
        if fingerprint_of(dataset, data_root) == record.get("dataset_fingerprint"):
            return
    raise UserError(
        f"run {record['id'][:8]} does not record the order of task.groups, and"
        + (
            f" no order gives its fingerprint on the images in {data_root}; put back what was"
            " there, or give another folder with --data"
            if len(groups) <= MOST
            else f" of more than {MOST} groups it is not tried; train it again"
        )
    )


def check_order(place: object, stored: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a run whose classes a suite numbers otherwise.

    Args:
        place: the file that records the run.
        stored: the order that it records; empty where it records none.
        wanted: the suite's; empty where there are no groups, or no suite asks.

    Raises:
        UserError: both are there, and differ.
    """
    if stored and wanted and tuple(stored) != tuple(wanted):
        raise UserError(
            f"{place}: task.groups numbered the run's classes in the order {', '.join(stored)},"
            f" and the suite has them in the order {', '.join(wanted)}; write task.groups in the"
            " run's order, or give another results folder with --results"
        )


def check_begun(runs: Iterable[Run], store: Store) -> None:
    """Refuse runs that were begun with their groups in another order, before any goes on.

    Raises:
        UserError: one was, or what records it is damaged.
    """
    for run in runs:
        folder = store.folder(run)
        if folder.groups and (folder.path / "run.json").is_file():
            record = folder.read_json("run.json")
            if isinstance(record, dict) and "config" in record:  # else whoever trains it says so
                check_order(folder.path / "run.json", put_in_order(record), folder.groups)


def or_order(config: dict[str, Any]) -> str:
    """What else than images a fingerprint tells apart, for a sentence about it; "" if nothing.

    A fingerprint is also of the labels. Of a run that does not record the order of its groups,
    it is all that tells whether the order is another one.
    """
    return ", or task.groups had another order" if _groups(config) else ""


def _groups(config: dict[str, Any]) -> dict[str, Any] | None:
    task: dict[str, Any] = config.get("dataset", {}).get("task", {})
    return task.get("groups")


__all__ = ["check_begun", "check_order", "find_order", "or_order", "order_of", "put_in_order"]
