"""Whether finished runs are of the images that this machine holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wcordbench.data.fingerprints import of_squares, of_whole
from wcordbench.data.index import fingerprint_of
from wcordbench.data.notes import offline
from wcordbench.errors import UserError
from wcordbench.results.groups import or_order, put_in_order
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run, digest
from wcordbench.suite.transforms import cuts_whole


def compare_images(runs: Iterable[Run], store: Store, data_root: Path) -> list[str]:
    """Compare the images that finished runs were trained on with those that are here.

    Args:
        runs: of a suite; those that are not finished are passed over.
        store: where they are.
        data_root: the folder that holds datasets; nothing is downloaded to it.

    Returns:
        Remarks: that images are not here, or were not recorded, so that they were not compared.

    Raises:
        UserError: the images here are others, or the order of a task's groups is.
    """
    then: dict[str, tuple[dict[str, Any], bool, dict[str, str]]] = {}
    unordered = set()
    for run in sorted(runs, key=lambda run: run.name):
        folder = store.folder(run)
        if folder.state == "done":
            record = folder.result(best=False)
            fingerprint = record.get("dataset_fingerprint")
            if fingerprint is not None:
                if not put_in_order(record):
                    unordered.add(run.name)
                config, whole = run.config["dataset"], cuts_whole(run.config["train"])
                key = digest({"dataset": config, "whole": whole})
                then.setdefault(key, (config, whole, {}))[2][run.name] = fingerprint
    remarks = []
    for config, whole, finished in then.values():
        try:
            with offline():
                now = fingerprint_of(config, data_root, whole)
        except Exception as error:  # a loader of anyone's raises anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            remarks.append(
                f"the images of dataset {config['name']!r} cannot be read here, so that"
                f" {_counted(len(finished), 'finished run')} could not be compared with them:"
                f" {reason}"
            )
            continue
        untold = {name for name, was in finished.items() if whole and of_whole(was) is None}
        other = {
            name: was
            for name, was in finished.items()
            if was != (of_squares(now) if name in untold else now)
        }
        if other:
            name, was = next(iter(other.items()))
            most = Counter(other.values()).most_common(1)[0][0]
            verb = "is" if len(other) == 1 else "are"
            order = or_order({"dataset": config}) if name in unordered else ""
            raise UserError(
                f"{_counted(len(other), 'finished run')} in {store.root} {verb} not of the images"
                f" that dataset {config['name']!r} holds in {data_root} now{order} (fingerprint"
                f" {most if len(other) > 1 else was} then, {now} now), such as {name}; put"
                f" {'back what was there' if order else 'those images back'}, or name their place"
                " with --data; or train on these with another --results, or after wcordbench"
                " forget --teachers"
            )
        if untold:
            remarks.append(
                f"{_counted(len(untold), 'finished run')} in {store.root} cut from whole images of"
                f" dataset {config['name']!r} and recorded the fingerprint of their squares alone,"
                f" so that the rest of the images was not compared, such as {min(untold)}"
            )
    return remarks


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


__all__ = ["compare_images"]
