"""What sharing a teacher and batches saves: python benchmarks/cohorts.py [--rounds N]

Cohorts of 1, 2, 4 and 8 runs and the same runs alone, on both of the pairs with a target. Alone, a
run pays for its batch, its teacher's pass and its own step; a cohort pays the first two once.
Everything is timed in the same rounds, one after the other in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from common import batches_of, benchmark_runs, features, learner, median, network, timed, write

from wcordbench.training.learner import Learner

PAIRS = [("resnet32x4", "resnet8x4", 0.62), ("resnet56", "resnet20", 0.80)]
FOUR = ["crd", "crd+kd", "wcord", "wcord+kd"]
COHORTS = {1: ["kd"], 2: ["kd", "wcord"], 4: FOUR, 8: [*FOUR, "kd", "at", "sp", "pkt"]}
BATCH = 64


def cohort_step(drawn: Any, teacher: torch.nn.Module, members: list[Learner]) -> None:
    """What the loop does for a batch: draw it, see it through the teacher, train everybody."""
    images, batch = next(drawn)
    known = features(teacher, images)
    for member in members:
        member.train_step(images, known, batch)


def measure(
    teacher: str, student: str, most: float, rounds: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """A row a cohort."""
    runs = benchmark_runs(teacher, student, COHORTS[8])
    drawn, source = batches_of(next(iter(runs.values())).config, BATCH), network(teacher)
    learners = {name: learner(run, BATCH) for name, run in runs.items()}
    for trained in learners.values():
        trained.start_epoch()
    alone: dict[str, list[float]] = {name: [] for name in learners}
    together: dict[int, list[float]] = {size: [] for size in COHORTS}
    for round_ in range(rounds + 1):
        for name, member in learners.items():
            seconds, _ = timed(lambda m=member: cohort_step(drawn, source, [m]), clock)
            alone[name] += [seconds] * bool(round_)  # the first round warms up
        for size, names in COHORTS.items():
            members = [learners[n] for n in names]
            seconds, _ = timed(lambda m=members: cohort_step(drawn, source, m), clock)
            together[size] += [seconds] * bool(round_)
    rows = []
    for size, names in COHORTS.items():
        each = [sum(alone[n][i] for n in names) for i in range(rounds)]
        share = median(t / a for t, a in zip(together[size], each, strict=True))
        rows.append(
            {
                "pair": f"{teacher}→{student}",
                "cohort": size,
                "methods": " ".join(names),
                "ms a run alone": f"{1000 * median(each) / size:.0f}",
                "ms a run together": f"{1000 * median(together[size]) / size:.0f}",
                "together/alone": f"{share:.3f}",
                "target": f"{most:.2f}" if names == FOUR else "",
                "met": ("yes" if share <= most else "no") if names == FOUR else "",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="for a shared machine")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(1)
    rows = [row for pair in PAIRS for row in measure(*pair, arguments.rounds, clock)]
    write(
        "cohorts",
        "What sharing a teacher and batches saves",
        rows,
        [
            f"Milliseconds{' of processor time' * arguments.cpu_time} a training step and run at"
            f" batch {BATCH} of 32×32 images, fp32, 1 thread; medians of {arguments.rounds}"
            " interleaved rounds in one process. *Alone*: each run draws its batch and runs the"
            " teacher itself. By `python benchmarks/cohorts.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
