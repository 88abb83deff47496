"""`wcordbench plan` beside a measured slice: python benchmarks/plan_check.py [--data DIR]

Calibrates suites/cifar100.yaml as the command does (and suites/cifar100_cross.yaml with it, for
benchmarks/scaling.py, which reads results/calibration.json), then trains a slice with the real
loop: some pairs and methods, each for a few steps on all of CIFAR-100 in place of an epoch, an
evaluation on a tenth of the test images included. What the slice took, times the steps and
evaluations that it left out, stands beside what the plan says of the same cohorts.

What is measured is kept at once in results/calibration.json and plan_slice.json, and not
measured again while it is there; --parts N stops after so many new measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import RESULTS, defined, write

from wcordbench.data import base
from wcordbench.data.base import Dataset, Images
from wcordbench.data.batches import TrainingBatches
from wcordbench.results.store import Store, to_json
from wcordbench.suite import Run
from wcordbench.suite.plan import Job, cohorts, epochs, first_epochs
from wcordbench.suite.runs import Cell
from wcordbench.training import learner
from wcordbench.training.calibrate import Calibration, calibrate
from wcordbench.training.cohort import Cohort

PAIRS = ["wrn_40_2->wrn_16_2", "resnet110->resnet32", "resnet32x4->resnet8x4", "vgg13->vgg8"]
METHODS = ["student", "kd", "ab", "nst", "wcord+kd"]
TENTH = 10


class Slice:
    """Cohorts of the suite, trained for a few steps in place of each epoch."""

    def __init__(self, data_root: Path, steps: int) -> None:
        self.data_root, self.steps = data_root, steps
        self.evaluating = 0.0

    def measure(self, cohorts: list[tuple[Run, ...]]) -> list[float]:
        """What cohorts, a teacher's and its students', would take at full length."""
        with contextlib.ExitStack() as within:
            for patch in self._patches():
                within.enter_context(patch)
            store = Store(within.enter_context(tempfile.TemporaryDirectory()))
            return [self._seconds(runs, store) for runs in cohorts]

    def _seconds(self, runs: tuple[Run, ...], store: Store) -> float:
        run = runs[0]
        short = [self._short(r) for r in runs]
        marks: dict[str, float] = {}

        def report(event: dict[str, Any]) -> None:
            stage = "first" if event.get("epoch", 0) < 0 else "main"
            kind = event["kind"]
            marks[f"{kind} {stage}" if kind == "epoch" else kind] = time.process_time()

        self.evaluating = 0.0
        began = time.process_time()
        Cohort(short, store, self.data_root, torch.device("cpu"), report).train()
        marks.setdefault("epoch first", marks["loaded"])
        longer = -(-50_000 // run.config["train"]["batch_size"]) / self.steps
        first = max(map(first_epochs, runs))
        main = epochs(run) - first_epochs(run)
        training = marks["epoch main"] - marks["epoch first"] - self.evaluating
        return (
            marks["loaded"] - began
            + first * longer * (marks["epoch first"] - marks["loaded"])
            + main * (longer * training + TENTH * self.evaluating)
        )  # fmt: skip

    def _short(self, run: Run) -> Run:
        train = {**run.config["train"], "epochs": 1}
        if "first_stage" in train:
            train["first_stage"] = {**train["first_stage"], "epochs": 1}
        teacher, source = run.teacher, run.config["teacher"]
        if teacher is not None:
            teacher = self._short(teacher)
            source = {**source, "run": teacher.id}
        return Run({**run.config, "train": train, "teacher": source}, teacher)

    def _patches(self) -> list[Any]:
        """Within them epochs are short and the test set a tenth."""
        load, evaluate = base.load, learner.evaluate

        def tenth(config: dict[str, Any], root: Path) -> Dataset:
            whole = load(config, root)
            test = Images(whole.test.pixels[::TENTH].copy(), whole.test.labels[::TENTH].copy())
            return Dataset(whole.train, test, whole.classes)

        def timed(*args: Any, **keys: Any) -> dict[str, float]:
            before = time.process_time()
            found: dict[str, float] = evaluate(*args, **keys)
            self.evaluating += time.process_time() - before
            return found

        def few(batches: TrainingBatches) -> int:  # noqa: ARG001
            return self.steps

        return [
            mock.patch.object(TrainingBatches, "__len__", few),
            mock.patch.object(base, "load", tenth),
            mock.patch.object(learner, "evaluate", timed),
        ]


class EnoughError(Exception):
    """As many measurements as were asked for have been made."""


class Kept:
    """A JSON file of measurements, each made once."""

    def __init__(self, name: str, parts: int) -> None:
        self.path, self.parts = RESULTS / f"{name}.json", parts
        self.found = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """What is kept, or is measured now.

        Raises:
            EnoughError: it would be one measurement too many.
        """
        if key not in self.found:
            if self.parts == 0:
                raise EnoughError
            self.parts -= 1
            self.found[key] = measure()
            self.path.write_bytes(to_json(self.found))
            print(key, flush=True)
        return self.found[key]


def calibration(kept: Kept, cells: list[Cell], data_root: Path = Path()) -> Calibration:
    """Of all cells, pair by pair."""
    known: set[Run] = set()
    parts = []
    for pair in dict.fromkeys(c.pair.name for c in cells):
        runs = [c.run for c in cells if c.pair.name == pair and c.run not in known]
        known.update(c.run for c in cells if c.is_teacher and c.pair.name == pair)

        def measure(runs: list[Run] = runs) -> dict[str, Any]:
            found = calibrate(runs, data_root, ["cpu"], 1, 1, clock=time.process_time)
            return dataclasses.asdict(found)

        parts.append(Calibration(**kept.get(pair, measure)))
    return Calibration(
        {k: v for part in parts for k, v in part.networks.items()},
        {k: v for part in parts for k, v in part.pairs.items()},
        all(part.real_images for part in parts),
        parts[0].dataset_bytes,
        sum(part.seconds for part in parts),
    )


def chosen(cells: list[Cell], pair: str) -> list[tuple[Run, ...]]:
    """A pair's teacher, and the students of one seed that are trained for a while."""
    here = [c for c in cells if c.pair.name == pair]
    return [
        tuple(c.run for c in here if c.method is None),
        tuple(c.run for c in here if c.method and c.seed == 0 and c.method.name in METHODS),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--parts", type=int, default=-1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells, others = (defined(name) for name in ("cifar100", "cifar100_cross"))
    kept = Kept("calibration", arguments.parts)
    try:
        measured = calibration(kept, [*cells, *others], arguments.data)
        trained = Kept("plan_slice", kept.parts)
        part = Slice(arguments.data, arguments.steps)
        rows, sums = [], [0.0, 0.0]
        for pair in PAIRS:
            cohorts_here = chosen(cells, pair)
            found = trained.get(pair, partial(part.measure, cohorts_here))
            for runs, seconds in zip(cohorts_here, found, strict=True):
                what = f"{len(runs)} students" if len(runs) > 1 else "teacher"
                plan = Job(runs, None, tuple(map(measured.cost, runs))).cost
                sums = [sums[0] + plan, sums[1] + seconds]
                rows.append(_row(pair, what, plan, seconds))
    except EnoughError:
        return
    total = sum(job.cost for job in cohorts((c.run for c in cells), measured.cost))
    rows.append(_row("all of these", "", *sums))
    rows.append(_row("whole suite", "", total, total * sums[1] / sums[0]))
    write(
        "plan_check",
        "`wcordbench plan` beside a measured slice",
        rows,
        [
            "Hours of one core, processor time, for suites/cifar100.yaml (240 epochs). *Plan*: from"
            " the calibration, 2 steps of every network and method of this suite's 7 pairs and"
            f" cifar100_cross.yaml's 6, {measured.seconds / 60:.1f} minutes here. *Slice*: the real"
            " loop on real CIFAR-100,"
            f" {arguments.steps} steps an epoch and evaluation on a tenth of the test images,"
            f" scaled to full length; methods {', '.join(METHODS)}. The whole suite's slice is the"
            " plan divided by the ratio of all cohorts measured."
            " By `python benchmarks/plan_check.py`, on:",
        ],
    )


def _row(pair: str, cohort: str, plan: float, found: float) -> dict[str, str]:
    return {
        "pair": pair, "cohort": cohort, "plan": f"{plan / 3600:.1f}",
        "slice": f"{found / 3600:.1f}", "plan / slice": f"{plan / found:.2f}",
    }  # fmt: skip


if __name__ == "__main__":
    main()
