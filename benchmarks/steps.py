"""Every method's step beside its floor: python benchmarks/steps.py [--rounds N] [--precision P]

The floor is what no implementation can save: the teacher's forward pass, the student's forward
and backward pass and the optimiser's step, on tensors that are ready. A step is what a run pays:
the same, the batch's augmentation, and the method. Rounds interleave everything, and every ratio
is the median of the rounds' own. In bf16 everything is under autocast, the floor included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import (
    CLASSES,
    IMAGES,
    SIZE,
    batches_of,
    benchmark_runs,
    features,
    learner,
    median,
    network,
    timed,
    write,
)  # fmt: skip
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional as F

from wcordbench import models
from wcordbench.methods.base import Batch, Features
from wcordbench.training.learner import Learner
from wcordbench.training.precision import autocast

PAIRS = [("resnet56", "resnet20"), ("resnet32x4", "resnet8x4")]
BATCH = 64
PRECISIONS = ["fp32", "bf16"]
#: step / floor, at most
LIMITS = {"student": 1.05, "kd": 1.05, "crd": 1.15, "wcord": 1.15}
BASELINE, WIDE = 1.15, 1.10


def limit(method: str, student: str) -> float:
    """The target of a method on a pair."""
    if student == "resnet8x4":
        return WIDE
    return max(LIMITS.get(part, BASELINE) for part in method.split("+"))


class Floor:
    """A plain training step of a student on ready tensors."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.student = models.create(name, CLASSES, SIZE).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True
        )

    def networks(self, images: Tensor, batch: Batch, precision: str) -> None:
        """Forward and backward pass."""
        with autocast(precision, images.device):
            loss = F.cross_entropy(self.student(images).logits.float(), batch.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()


def step(
    trained: Learner, images: Tensor, known: Features | None, batch: Batch, source: nn.Module,
    precision: str,
) -> None:  # fmt: skip
    """A training step; the teacher's pass over a second view, where one is asked for, is in it."""
    second = None
    if trained.second_view:
        flipped = images.flip(3)
        second = (flipped, features(source, flipped, precision))
    trained.train_step(images, known, batch, second)


def peak(
    trained: Learner, images: Tensor, known: Features | None, batch: Batch, source: nn.Module,
    precision: str,
) -> str:  # fmt: skip
    """MiB of all tensors that are alive at a step's worst moment, teacher's features included.

    The tracker does not follow a step that calls a layer of the student twice.
    """
    tracker = MemTracker()
    flipped = images.flip(3)
    second = (flipped, features(source, flipped, precision)) if trained.second_view else None
    inputs = [images, batch.labels, batch.indices]
    if known is not None:
        inputs += [known.stem, *known.stages, *known.stages_preact, known.pooled, known.logits]
        inputs += [] if known.last_map is None else [known.last_map]
    tracker.track_external(*inputs, trained.student, trained.objective, trained.optimizer)
    try:
        with tracker:
            trained.train_step(images, known, batch, second)
    except NotImplementedError:
        return "–"
    return f"{tracker.get_tracker_snapshot('peak')[torch.device('cpu')]['Total'] / 2**20:.0f}"


def measure(
    teacher: str,
    student: str,
    methods: list[str],
    rounds: int,
    clock: Callable[[], float],
    precision: str,
) -> list[dict[str, Any]]:
    """A row a method: milliseconds of a step and its parts, step / floor, MiB."""
    runs = benchmark_runs(teacher, student, methods, precision)
    methods = list(runs)
    learners = {name: learner(run, BATCH) for name, run in runs.items()}
    for trained in learners.values():
        trained.epoch = 0  # the ordinary protocol; first stages are in pairs.md
        trained.optimizer = trained._optimizer()
        trained.start_epoch()
    drawn = batches_of(next(iter(runs.values())).config, BATCH)
    source, floor = network(teacher), Floor(student)
    keys = ("data", "teacher", "networks", "optimiser")
    times: dict[str, list[float]] = {name: [] for name in [*keys, *methods]}
    for round_ in range(rounds + 1):
        data, (images, batch) = timed(lambda: next(drawn), clock)
        seen, known = timed(lambda i=images: features(source, i, precision), clock)
        found = {"data": data, "teacher": seen}
        found["networks"], _ = timed(
            lambda i=images, b=batch: floor.networks(i, b, precision), clock
        )
        found["optimiser"], _ = timed(floor.optimizer.step, clock)
        # the order changes, so that nothing always follows the same
        order = methods[round_ % len(methods) :] + methods[: round_ % len(methods)]
        for name in order:
            given = known if learners[name].needs_teacher else None
            action = partial(step, learners[name], images, given, batch, source, precision)
            found[name], _ = timed(action, clock)
        if round_:  # the first one warms up
            for key, seconds in found.items():
                times[key].append(seconds)
    rows = []
    for name in methods:
        taught = learners[name].needs_teacher
        seen = times["teacher"] if taught else [0.0] * rounds
        columns = zip(
            times["data"], seen, times["networks"], times["optimiser"], times[name], strict=True
        )
        lines = [
            {"floor": s + n + o, "step": d + s + m, "data": d, "teacher": s, "student": n,
             "beyond": m - n - o, "optimiser": o, "ratio": (d + s + m) / (s + n + o)}
            for d, s, n, o, m in columns
        ]  # fmt: skip
        middle = {key: median(line[key] for line in lines) for key in lines[0]}
        most = limit(name, student)
        given = known if taught else None
        rows.append(
            {
                "pair": f"{teacher}→{student}",
                "precision": precision,
                "method": name,
                **{k: f"{1000 * v:.1f}" for k, v in middle.items() if k != "ratio"},
                "step/floor": f"{middle['ratio']:.3f}",
                "target": f"{most:.2f}",
                "met": "yes" if middle["ratio"] <= most else "no",
                "peak MiB": peak(learners[name], images, given, batch, source, precision),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--method", action="append")
    parser.add_argument("--student", action="append")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="default: both")
    parser.add_argument("--cpu-time", action="store_true", help="for a shared machine")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(1)
    methods = arguments.method or [
        "student", "kd", "fitnet", "at", "sp", "cc", "vid", "rkd", "pkt", "ab", "ft", "fsp",
        "nst", "crd", "crd+kd", "wcord", "wcord+kd",
    ]  # fmt: skip
    rows = []
    for teacher, student in PAIRS:
        if not arguments.student or student in arguments.student:
            for precision in arguments.precision or PRECISIONS:
                rows += measure(teacher, student, methods, arguments.rounds, clock, precision)
    write(
        "steps",
        "Every method's step beside its floor",
        rows,
        [
            f"Milliseconds{' of processor time' * arguments.cpu_time} at batch {BATCH} of 32×32"
            f" images, {IMAGES:,} images in the memory banks, 1 thread; medians of"
            f" {arguments.rounds} interleaved rounds in one process."
            " *Floor*: teacher forward, student forward and backward, optimiser, on ready tensors."
            " *Beyond*: what a training step takes beyond the floor's networks and optimiser."
            " *Peak*: all tensors alive at the step's worst moment. Where the load average is"
            " above 1 the machine was shared. By `python benchmarks/steps.py`, on:",
        ],
        partial=bool(arguments.method or arguments.student or arguments.precision),
    )


if __name__ == "__main__":
    main()
