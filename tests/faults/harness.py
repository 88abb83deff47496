"""Trainings that are killed at chosen and random moments, as real processes.

Each training is a fork of a process that has torch loaded, so that a kill costs milliseconds
and a thousand are affordable. A fault is injected between two file operations of a save by
replacing the operations in the child; nothing in the package knows of it.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wcordbench.results.store import RunFolder, Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError

#: every kind of method: none, one stage, two stages (student's body, method's part), memory bank
SUITE = """
name: faults
dataset: {name: digits, mean: [0.3], std: [0.4]}
train:
  epochs: 2
  batch_size: 128
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: false}
  first_stage: {epochs: 1, learning_rate: 0.01}
seeds: [0]
pairs: [{teacher: {model: resnet8, train: {epochs: 1}}, student: resnet8}]
methods:
  - student
  - ab
  - ft
  - {name: crd, negatives: 64, feature_dim: 16}
  - {name: wcord+kd, negatives: 64, feature_dim: 16}
"""
#: what may differ between two trainings of a run
VARYING = ("seconds", "started", "ended", "environment", "metrics_sha256", "cohort")
CRASHED = 137


def suite_runs(folder: Path) -> tuple[list[Run], list[Run]]:
    """The teacher, and the students."""
    file = folder / "faults.yaml"
    file.write_text(SUITE)
    runs = list(dict.fromkeys(c.run for c in expand(load_suite(file))))
    teachers = {r.teacher for r in runs if r.teacher is not None}
    return [r for r in runs if r in teachers], [r for r in runs if r not in teachers]


def train(store: Store, groups: tuple[list[Run], ...], should_stop: Callable[[], bool]) -> bool:
    """Train everything with checkpoints at every tenth of a second; says whether it ended."""
    for group in groups:
        cohort = Cohort(
            group, store, Path(), torch.device("cpu"), should_stop=should_stop,
            checkpoint_minutes=0.1 / 60,
        )  # fmt: skip
        try:
            cohort.train()
        except StoppedError:
            return False
    return True


def finished(store: Store, groups: tuple[list[Run], ...]) -> bool:
    return all(store.folder(run).state == "done" for group in groups for run in group)


# --- faults -------------------------------------------------------------------------------


class Operations:
    """Counts the file operations under a folder, and does something at the n-th.

    Args:
        root: only operations on files below it count.
        at: the number of the operation, from 1, before which (or, for a write, in the middle
            of which) the fault happens; 0 for never.
        fault: what happens.
    """

    def __init__(self, root: Path, at: int, fault: Callable[[], None]) -> None:
        self.root, self.at, self.fault = str(root.resolve()), at, fault
        self.count = 0

    def _due(self, path: Any) -> bool:
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        if not os.path.abspath(os.fspath(path)).startswith(self.root):  # noqa: PTH100
            return False
        self.count += 1
        return self.count == self.at

    def install(self, patch: Callable[[Any, str, Any], None]) -> None:
        """Replace the operations that the store is made of.

        Args:
            patch: ``setattr``, or a fixture's.
        """
        for module, name in (
            (os, "replace"), (os, "fsync"), (os, "chmod"), (os, "unlink"), (os, "mkdir"),
        ):  # fmt: skip
            if self.fault is no_space and name == "unlink":
                continue  # needs no space
            patch(module, name, self._before(getattr(module, name)))
        mkstemp, fdopen = tempfile.mkstemp, os.fdopen

        def made(*args: Any, **options: Any) -> Any:
            if self._due(options.get("dir") or "."):
                self.fault()
            return mkstemp(*args, **options)

        def opened(descriptor: int, *args: Any, **options: Any) -> Any:
            file = fdopen(descriptor, *args, **options)
            return _Halfway(self, file) if "w" in (args or ("r",))[0] else file

        patch(tempfile, "mkstemp", made)
        patch(os, "fdopen", opened)

    def _before(self, operation: Any) -> Any:
        def instead(path: Any, *args: Any, **options: Any) -> Any:
            if self._due(path):
                self.fault()
            return operation(path, *args, **options)

        return instead


class _Halfway:
    """A file whose faulty write writes the first half."""

    def __init__(self, operations: Operations, file: Any) -> None:
        self.operations, self.file = operations, file

    def write(self, data: bytes) -> int:
        if self.operations._due(self.file.fileno()):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            self.operations.fault()
        return int(self.file.write(data))

    def __enter__(self) -> _Halfway:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def crash() -> None:
    """End as a power cut does: nothing is closed, nothing cleaned up."""
    os._exit(CRASHED)


def no_space() -> None:
    """What a full disk answers."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- processes ----------------------------------------------------------------------------


def fork(action: Callable[[Callable[[], bool]], bool]) -> int:
    """Run an action in a child, which stops when told by SIGTERM; its process number."""
    child = os.fork()
    if child:
        return child
    told = False

    def on_term(number: int, frame: object) -> None:
        nonlocal told
        told = True

    code = 1
    try:
        signal.signal(signal.SIGTERM, on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = 0 if action(lambda: told) else 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """How a child ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def storm(
    root: Path, groups: tuple[list[Run], ...], kills: int, seed: int = 0
) -> tuple[Counter[str], list[Path]]:
    """Train over and over under faults until so many have struck.

    Returns:
        How many faults of each kind ended a training, and the stores, all finished.
    """
    rng = random.Random(seed)
    struck: Counter[str] = Counter()
    stores: list[Path] = []
    operation = 0
    while struck.total() < kills or not finished(Store(stores[-1]), groups):
        if not stores or finished(Store(stores[-1]), groups):
            stores.append(root / f"store{len(stores)}")
        store = Store(stores[-1])
        kind = ("crash", "SIGKILL", "crash", "SIGTERM")[(struck.total() + len(stores)) % 4]
        if struck.total() >= kills:
            kind = "nothing"
        operation = operation % 60 + 1
        operations = Operations(stores[-1], operation if kind == "crash" else 0, crash)

        def action(
            stop: Callable[[], bool], store: Store = store, ops: Operations = operations
        ) -> bool:
            ops.install(setattr)
            return train(store, groups, stop)

        child = fork(action)
        if kind in ("SIGKILL", "SIGTERM"):
            time.sleep(rng.uniform(0.02, 1.5))
            os.kill(child, getattr(signal, kind))
        code = ended(child)
        wanted = {"crash": CRASHED, "SIGKILL": -signal.SIGKILL, "SIGTERM": 130}.get(kind, 0)
        if code not in (0, wanted):
            raise AssertionError(f"{kind}: the training ended with {code}")
        if code and kind != "nothing":
            struck[kind] += 1
    return struck, stores


# --- comparison ---------------------------------------------------------------------------


def contents(root: Path) -> dict[str, Any]:
    """Every file of a store by its path, times and host apart."""
    found: dict[str, Any] = {}
    for path in sorted(
        p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".lease")
    ):
        data: Any = path.read_bytes()
        if path.name == "result.json":
            data = {k: v for k, v in json.loads(data).items() if k not in VARYING}
        if path.name == "metrics.json":
            data = [{k: v for k, v in m.items() if k != "seconds"} for m in json.loads(data)]
        found[str(path.relative_to(root))] = data
    return found


def log_finishes(log: Path) -> None:
    """In a child: write a line for each run that this process finishes."""
    finish = RunFolder.finish

    def logged(self: RunFolder, record: dict[str, Any]) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {self.path.name}\n")
        finish(self, record)

    setattr(RunFolder, "finish", logged)  # noqa: B010
