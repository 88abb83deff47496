"""What was measured of a finished run after its training, in a file beside its result.

``evaluations.json`` holds one record a measurement, by its name: ``photos`` for an evaluation on
dataset ``photos``, ``probe:stl10`` for a linear probe. A record belongs to the weights whose
checksum it holds: a run that was trained anew has none.
"""

from __future__ import annotations

from typing import Any

from wcordbench.errors import UserError
from wcordbench.results.sealed import changed, sealed
from wcordbench.results.store import RunBusyError, RunFolder, to_json, write_atomic

FILE = "evaluations.json"


def evaluations(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Every measurement of a run, by name; empty where there is none.

    Raises:
        UserError: the file is damaged, or its records are of other weights than the run's.
    """
    path = folder.path / FILE
    if not path.is_file():
        return {}
    records = folder.read_json(FILE)
    weights = folder.result(best=False).get("weights_sha256")
    reason = contradiction(records, weights)
    if reason is not None:
        raise UserError(f"{path} {reason}; delete it and measure again")
    return dict(records["evaluations"])


def contradiction(records: Any, weights: str | None) -> str | None:
    """Why the content of the file cannot be believed, or None.

    Args:
        records: what the file holds.
        weights: SHA-256 of the run's weights.
    """
    found = records.get("evaluations") if isinstance(records, dict) else None
    if not isinstance(found, dict):
        return "is damaged (it has no evaluations)"
    for name, record in found.items():
        if not isinstance(record, dict) or not isinstance(record.get("scores"), dict):
            return f"is damaged ({name!r} has no scores)"
        if record.get("weights_sha256") != weights:
            return f"is of other weights than result.json ({name!r})"
        if (reason := changed(record)) is not None:
            return f"was changed after it was written ({name!r}: {reason})"
    return None


def add(folder: RunFolder, name: str, record: dict[str, Any]) -> None:
    """Store a measurement; one of the same name is replaced.

    Args:
        folder: of a finished run.
        name: of the measurement.
        record: ``scores`` in percent, ``weights_sha256``, and what else was done with.

    Raises:
        UserError: the run is being trained or measured elsewhere, or cannot be written.
    """
    try:
        with folder.lease():
            write(folder, {**evaluations(folder), name: sealed(record)})
    except RunBusyError:
        raise UserError(
            f"{folder.path.name} is held by another process; measure again when it has ended"
        ) from None


def write(folder: RunFolder, records: dict[str, dict[str, Any]]) -> None:
    """Replace a run's measurements, which are sealed; its lease is held.

    Raises:
        StorageError: they cannot be written.
    """
    write_atomic(folder.path / FILE, to_json({"format": 1, "evaluations": records}))


def score(folder: RunFolder, metric: str) -> float | None:
    """A score of a measurement, in percent; None where the run has no such measurement.

    Args:
        folder: of a finished run.
        metric: ``NAME`` for the top-1 accuracy of that measurement, ``NAME/top5`` for another.

    Raises:
        UserError: see :func:`evaluations`; or the measurement has no such score.
    """
    name, _, key = metric.partition("/")
    record = evaluations(folder).get(name)
    if record is None:
        return None
    key = key or "top1"
    if key not in record["scores"]:
        raise UserError(
            f"{folder.path / FILE}: {name!r} has no score {key!r}; valid:"
            f" {', '.join(sorted(record['scores']))}"
        )
    return float(record["scores"][key])


def made_of(folder: RunFolder, metric: str) -> set[str]:
    """The images and settings of a measurement: scores are comparable where these are the same.

    Args:
        folder, metric: see :func:`score`.

    Returns:
        One text, or none where the run has no such measurement.

    Raises:
        UserError: see :func:`evaluations`.
    """
    record = evaluations(folder).get(metric.partition("/")[0])
    keys = ("kind", "dataset_fingerprint", "regularisation")
    return set() if record is None else {" ".join(str(record.get(key)) for key in keys)}


def names(folders: list[RunFolder]) -> list[str]:
    """Every measurement that any of the runs has, sorted."""
    return sorted({name for f in folders if f.state == "done" for name in evaluations(f)})


__all__ = ["FILE", "add", "contradiction", "evaluations", "made_of", "names", "score", "write"]
