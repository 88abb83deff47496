"""Step time and memory of Inception-v3 → resnet8x4: python benchmarks/privileged.py [--data DIR]

suites/privileged.yaml as it stands, batches, views and learners, but on CIFAR-100 images (one
half of the classes against the other) brought to 299 pixels, and without pretrained weights.
Every row is measured in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ROOT, milliseconds, write

from wcordbench import models
from wcordbench.data import base
from wcordbench.data.batches import dataset_batches
from wcordbench.methods.base import Features, Setup
from wcordbench.results.store import RunFolder
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.learner import Learner

CLASSES = 2
IMAGES = [
    "dataset={name: cifar100, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    f"task={{positive: {list(range(50))}}}",
    "train.augment.crop_padding=4",
    "pairs.0.teacher.pretrained=false",
]
ROWS = {
    "teacher's training": "Inception-v3: a training step",
    "teacher's pass": "Inception-v3: its pass for the students",
    "student's step": "resnet8x4: a WCoRD step without the teacher's pass",
    "distillation": "both: a WCoRD step with the teacher's pass",
}


def runs(batch: int | None) -> tuple[Run, Run]:
    """The teacher's run and a student's."""
    asked = [] if batch is None else [f"pairs.0.teacher.train.batch_size={batch}"]
    suite = load_suite(ROOT / "suites" / "privileged.yaml", [*IMAGES, *asked])
    cells = expand(suite)
    student = next(c.run for c in cells if c.method is not None and "0.8" in c.method.title)
    return next(c.run for c in cells if c.is_teacher), student


def measure(row: str, data: Path, steps: int, batch: int | None) -> dict[str, Any]:
    """Median milliseconds of a step after one to warm up, and the peak memory of it all."""
    teacher_run, student_run = runs(batch)
    run = teacher_run if row == "teacher's training" else student_run
    cpu = torch.device("cpu")
    train = base.load(run.config["dataset"], data).train
    batches = dataset_batches(run.config, train, cpu, run.config["teacher"])
    sizes = batches.student.size, batches.teacher.size
    setup = teacher = None
    if run.config["teacher"]:
        name = run.config["teacher"]["model"]
        shapes = models.feature_shapes(run.config["model"], CLASSES, sizes[0], 3)
        setup = Setup(shapes, models.feature_shapes(name, CLASSES, sizes[1], 3), CLASSES,
                      batches.labels)  # fmt: skip
        torch.manual_seed(0)
        teacher = models.create(name, CLASSES, sizes[1]).requires_grad_(False).eval()
        teacher = teacher.to(memory_format=torch.channels_last)
    folder = RunFolder(Path(tempfile.gettempdir()) / "unwritten")
    learner = Learner(run, folder, setup, sizes[0], 3, CLASSES, len(batches), cpu)
    learner.start_epoch()
    times = []
    known: Features | None = None
    for step, (images, privileged, drawn) in enumerate(batches.pairs(0)):
        if step > steps:
            break
        before = time.perf_counter()
        if teacher is not None and (row != "student's step" or known is None):
            with torch.no_grad():
                known = teacher(privileged())
        if row == "student's step":
            before = time.perf_counter()
        if row != "teacher's pass":
            learner.train_step(images, known, drawn)
        times.append(time.perf_counter() - before)
    if not torch.isfinite(learner.loss_sum):
        raise SystemExit(f"{row}: the loss is {learner.loss_sum}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "what": ROWS[row],
        "batch": run.config["train"]["batch_size"],
        "pixels": " and ".join(str(s) for s in dict.fromkeys((sizes[1], sizes[0]))),
        "seconds a step": f"{milliseconds(times[1:]) / 1000:.2f}",
        "peak memory, GiB": f"{peak:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.row:
        found = measure(arguments.row, arguments.data, arguments.steps, arguments.batch)
        print(json.dumps(found))
        return
    rows = []
    # The suite's, and the double of the teacher's batch: why the suite does not take it.
    double = 2 * int(runs(None)[0].config["train"]["batch_size"])
    for row, batch in [*((name, None) for name in ROWS), ("teacher's training", double)]:
        command = [sys.executable, __file__, "--row", row, "--data", str(arguments.data)]
        command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
        command += ["--batch", str(batch)] if batch else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(*rows[-1].values(), flush=True)
    write(
        "privileged",
        "Step time and memory of Inception-v3 → resnet8x4 (suites/privileged.yaml)",
        rows,
        [
            "Real CIFAR-100 images brought to 299 pixels for the teacher, fp32, median of"
            f" {arguments.steps} steps, peak memory of the whole process with PyTorch and the"
            " dataset. The last row is not the suite's: the double of the teacher's batch. Every"
            " loss was finite. Where the load average is above the threads the machine was shared,"
            " and the times are no more than a guide. By `python benchmarks/privileged.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
