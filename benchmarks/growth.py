"""How the cost of CRD and WCoRD grows: python benchmarks/growth.py [--rounds N]

The loss alone (forward, backward, the bank's update; no networks) by batch size, number of
negatives and images in the bank; one of them changes at a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from common import CLASSES, labels, median, setup, timed, write

from wcordbench import registry
from wcordbench.methods.base import Batch, Features, Setup

USUAL = {"batch": 64, "negatives": 16384, "bank": 50_000}
CHANGES = {
    "batch": [16, 32, 128, 256],
    "negatives": [1024, 4096, 32768],
    "bank": [20_000, 100_000, 200_000],
}


class Case:
    """A loss at a setting, and inputs for it."""

    def __init__(self, method: str, batch: int, negatives: int, bank: int) -> None:
        torch.manual_seed(0)
        shapes = setup("resnet56", "resnet20")
        built = Setup(shapes.student, shapes.teacher, CLASSES, labels(bank))
        self.loss = registry.get("method", method).load()(built, negatives=negatives)
        indices = torch.randperm(bank)[:batch]
        self.batch = Batch(labels(bank)[indices], indices)
        width = shapes.student.pooled, shapes.teacher.pooled
        self.pooled = [torch.randn(batch, w) for w in width]
        self.step()  # the first one sets the constants

    def step(self) -> None:
        """Forward and backward pass."""
        none: Any = None
        student, teacher = (
            Features(none, (), (), pooled, none)
            for pooled in (self.pooled[0].requires_grad_(), self.pooled[1])
        )
        self.loss(student, teacher, self.batch).backward()


def settings() -> list[dict[str, int]]:
    """The usual one, and those that differ from it in one value."""
    changed = [{**USUAL, key: value} for key, values in CHANGES.items() for value in values]
    return [USUAL, *changed]


def measure(method: str, rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """A row a setting."""
    cases = [(setting, Case(method, **setting)) for setting in settings()]
    times = [[timed(case.step, clock)[0] for _, case in cases] for _ in range(rounds)]
    rows = []
    for number, (setting, _) in enumerate(cases):
        seconds = [line[number] for line in times]
        usual = [line[0] for line in times]
        ratio = median(s / u for s, u in zip(seconds, usual, strict=True))
        rows.append(
            {
                "method": method, **setting,
                "ms": f"{1000 * median(seconds):.1f}", "of the usual": f"{ratio:.2f}",
            }
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true", help="for a shared machine")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(1)
    rows = [row for m in ("crd", "wcord") for row in measure(m, arguments.rounds, clock)]
    write(
        "growth",
        "How the cost of CRD and WCoRD grows",
        rows,
        [
            f"Milliseconds{' of processor time' * arguments.cpu_time} of the loss alone, forward"
            f" and backward, 1 thread; medians of {arguments.rounds} interleaved rounds. By"
            " `python benchmarks/growth.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
