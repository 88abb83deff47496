"""One stored run trained again in a scratch folder, and compared with what is stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wcordbench.errors import UserError
from wcordbench.results.find import find
from wcordbench.results.groups import find_order
from wcordbench.results.store import RunFolder, Store, file_sha256
from wcordbench.suite.code import require
from wcordbench.suite.runs import Run


def train_again(
    stored: RunFolder,
    store: Store,
    scratch: Path,
    data_root: Path,
    checkpoint: str | None,
    report: Callable[[dict[str, Any]], None],
) -> RunFolder:
    """Train a finished run from its stored configuration alone.

    Args:
        stored: the run.
        store: where its teacher is.
        scratch: an empty folder; the run, and a copy of its teacher's, go there.
        data_root: the folder that holds datasets.
        checkpoint: the teacher's weights, for a run whose teacher was given as a file.
        report: called with every event of the training.

    Raises:
        UserError: the run is not finished, or its teacher's weights are not there; or the images
            here are not those that tell the order of its groups.
    """
    import torch

    from wcordbench.training.cohort import Cohort

    if stored.state != "done":
        raise UserError(f"{stored.path} has no result.json to compare with; run its suite first")
    record = stored.result()
    find_order(record, data_root)
    config, teacher = record["config"], None
    require(stored.path.name, config)
    again = Store(scratch)
    source = config["teacher"]
    if isinstance(config.get("pretrained"), str) and checkpoint is None:
        raise UserError(
            f"{stored.path.name} began with the weights of a file; give its path with --checkpoint"
        )
    if source is not None and "run" in source:
        teacher = _copy_teacher(store, again, source["run"])
    elif source is not None and checkpoint is None:
        raise UserError(
            f"{stored.path.name} was taught by a checkpoint file; give its path with --checkpoint"
        )
    run = Run(config, teacher, checkpoint, allow_chance=True)  # it has taught already
    environment = record.get("environment", {})
    torch.set_num_threads(int(environment.get("threads") or torch.get_num_threads()))
    device = str(environment.get("device", "cpu"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{stored.path.name} was trained on CUDA, and there is no CUDA device here")
    compiled = str(environment.get("compile", "off"))
    cohort = Cohort([run], again, data_root, torch.device(device), report, compile=compiled)
    cohort.train()
    folder = again.folder(run)
    if folder.state != "done":
        raise UserError(f"the run failed this time: {folder.failure()['reason']}")
    return folder


def _copy_teacher(store: Store, again: Store, identity: str) -> Run:
    for folder in store.folders():
        if folder.path.name.endswith(identity[:8]) and folder.state == "done":
            if not (folder.path / "student.pt").is_file():
                raise UserError(
                    f"{folder.path / 'student.pt'}, the teacher's weights, is missing; copy it"
                    " there from where the teacher was trained"
                )
            run = Run(folder.result()["config"])
            shutil.copytree(folder.path, again.folder(run).path)
            return run
    raise UserError(f"the run's teacher {identity} is not in {store.root / 'runs'}")


def differences(stored: RunFolder, again: RunFolder) -> list[str]:
    """What differs between two trainings of a run, times and hosts aside; empty: not a bit."""
    old, new = stored.result(), again.result()
    found = []
    if old.get("weights_sha256") != file_sha256(again.path / "student.pt"):
        found.append("the weights differ")
    was, now = (
        [{k: v for k, v in m.items() if k != "seconds"} for m in f.read_json("metrics.json")]
        for f in (stored, again)
    )
    for a, b in zip(was, now, strict=False):
        keys = [k for k in a if a[k] != b.get(k)]
        if keys:
            key = keys[0]
            found.append(f"epoch {a['epoch'] + 1}: {key} was {a[key]}, now {b.get(key)}")
            break
    if len(was) != len(now):
        found.append(f"there were {len(was)} epochs, now {len(now)}")
    for key in ("dataset_fingerprint", "teacher_sha256"):
        if old.get(key) != new.get(key):
            found.append(f"{key.replace('_', ' ')} differs")
    for key in ("top1", "top5"):
        if old["scores"].get(key) != new["scores"].get(key):
            found.append(f"{key} was {old['scores'].get(key)}, now {new['scores'].get(key)}")
    return found


def conditions(stored: RunFolder, again: RunFolder) -> list[str]:
    """How the machine and the versions differ: what may explain different bits."""
    records = [f.result() for f in (stored, again)]
    old, new = (
        {"precision": r["config"]["train"]["precision"], **r.get("environment", {})}
        for r in records
    )
    keys = (
        "device_name", "instructions", "threads", "precision", "tf32", "tf32_products", "torch",
        "numpy", "system", "commit",
    )  # fmt: skip
    found = [
        f"{k}: {old.get(k, 'not recorded')} then, {new.get(k)} now"
        for k in keys
        if old.get(k) != new.get(k)
    ]
    for before in records[0].get("earlier_environments", []):
        other = [
            f"{k} {before.get(k)}"
            for k in (*keys, "compile")
            if before.get(k, old.get(k)) != old.get(k)
        ]
        found.append(f"it was interrupted, and began with another {', '.join(other) or 'host'}")
    return found


__all__ = ["conditions", "differences", "find", "train_again"]
