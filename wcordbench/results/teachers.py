"""What a teacher that is given as a file is worth: measured once, kept beside the runs.

``results/teachers/<dataset>_<network>_<identity>.json`` has its scores on the test images; every
student that it has taught repeats them in its own record, as ``teacher_scores``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wcordbench.results.sealed import changed, sealed
from wcordbench.results.store import FORMAT, StorageError, Store, to_json, write_atomic
from wcordbench.results.stray import is_stray
from wcordbench.results.summary import Summary
from wcordbench.suite.runs import Run, digest

FOLDER = "teachers"


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """What a teacher's scores depend on, of the configuration of a run that it teaches."""
    source = config["teacher"]
    of = {"dataset": config["dataset"], "teacher": source}
    if "metric" in config:
        of["metric"] = config["metric"]
    for key in ("plugins", "versions"):
        names = (f"dataset {config['dataset']['name']}", f"model {source['model']}")
        found = {n: v for n, v in config.get(key, {}).items() if n in names}
        if found:
            of[key] = found
    return of


def place(store: Store, config: dict[str, Any]) -> Path:
    """The file of the teacher of a run with this configuration."""
    of = identity(config)
    name = f"{of['dataset']['name']}_{of['teacher']['model']}_{digest(of)[:8]}.json"
    return store.root / FOLDER / name.replace("/", "-").replace(":", "-")


def read(store: Store, config: dict[str, Any]) -> dict[str, Any] | None:
    """The teacher's record; None where it has not been measured, or its file is damaged."""
    try:
        record = json.loads(place(store, config).read_bytes())
        known = record["id"] == digest(identity(config)) == digest(record["config"])
        return dict(record) if known and changed(record) is None else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(
    store: Store,
    config: dict[str, Any],
    scores: dict[str, float],
    fingerprint: str,
    file: str,
) -> None:
    """Keep what a teacher reaches.

    Args:
        store: the results folder.
        config: of a run that it teaches.
        scores: ``top1``, ``top5`` and, where the suite asks for it, ``auc``, in percent.
        fingerprint: of the images.
        file: the name of the weights' file, for people.

    Raises:
        StorageError: it cannot be written.
    """
    of = identity(config)
    record = {
        "id": digest(of), "config": of, "scores": scores, "dataset_fingerprint": fingerprint,
        "file": file, "format": FORMAT,
    }  # fmt: skip
    path = place(store, config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path.parent} cannot be made ({error.strerror or error}); give another place with"
            " --results"
        ) from None
    write_atomic(path, to_json(sealed(record)))


def summarise_teacher(runs: Iterable[Run], store: Store, score: str) -> Summary | None:
    """The Teacher row's cell of a pair whose teacher is given as a file.

    Args:
        runs: the pair's.
        store: where they are.
        score: a key of a result's ``scores``; a file has no best epoch but itself.

    Returns:
        None where the teacher has not been measured.
    """
    key = "top1" if score == "best_top1" else score
    for run in runs:
        source = run.config["teacher"]
        if source is None or "checkpoint" not in source:
            continue
        record = read(store, run.config)
        folder = store.folder(run)
        if record is None and folder.state == "done":  # its file was left behind
            result = folder.result(best=False)
            record = {**result, "scores": result.get("teacher_scores", {})}
        if record is not None and key in record["scores"]:
            images = frozenset({record["dataset_fingerprint"]})
            return Summary((float(record["scores"][key]),), 1, seeds=(0,), fingerprints=images)
    return None


def damaged(store: Store) -> list[tuple[Path, str]]:
    """The files of teachers that are not as they were written, and why."""
    folder = store.root / FOLDER
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name == ".lock" or is_stray(path.name):
            continue
        try:
            record = json.loads(path.read_bytes())
            sound = record["id"] == digest(record["config"])
            sound = sound and path.name.endswith(f"_{record['id'][:8]}.json")
            reason = changed(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            sound, reason = False, None
        if not sound:
            found.append((path, "is not the record of a teacher that its name says"))
        elif reason is not None:
            found.append((path, f"was changed after it was written ({reason})"))
    return found


__all__ = ["FOLDER", "damaged", "identity", "place", "read", "summarise_teacher", "write"]
