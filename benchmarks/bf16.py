"""What a bf16 step costs on this CPU: python benchmarks/bf16.py [--rounds N]

A plain training step of resnet20 at 16×16 pixels and batch 128, as suites/cifar100_cpu_bf16.yaml
has it: in fp32, under torch's own autocast, and as the suite trains.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import Any

import torch
from common import CLASSES, median, timed, write
from torch.nn import functional as F

from wcordbench import models
from wcordbench.training.precision import autocast

BATCH, SIDE = 128, 16
CPU = torch.device("cpu")
WAYS = {
    "fp32": contextlib.nullcontext,
    "torch's own autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "precision: bf16": lambda: autocast("bf16", CPU),
}


class Case:
    """A network in training, in one precision."""

    def __init__(self, precision: Any) -> None:
        torch.manual_seed(0)
        self.precision = precision
        self.student = models.create("resnet20", CLASSES, SIDE)
        self.student = self.student.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True
        )
        images = torch.randn(BATCH, 3, SIDE, SIDE)
        self.images = images.to(memory_format=torch.channels_last)
        self.labels = torch.arange(BATCH) % CLASSES

    def step(self) -> None:
        """Forward, backward, optimise."""
        with self.precision():
            logits = self.student(self.images).logits
            loss = F.cross_entropy(logits.float(), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="for a shared machine")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(1)
    cases = {name: Case(precision) for name, precision in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(arguments.rounds + 1):
        for name, case in cases.items():
            seconds, _ = timed(case.step, clock)
            times[name] += [seconds] * bool(round_)  # the first round warms up
    rows = [
        {
            "step": name,
            "ms": f"{1000 * median(seconds):.0f}",
            "of fp32": f"{median(s / f for s, f in zip(seconds, times['fp32'], strict=True)):.2f}",
        }
        for name, seconds in times.items()
    ]
    write(
        "bf16",
        "What a bf16 step costs on this CPU",
        rows,
        [
            f"Milliseconds{' of processor time' * arguments.cpu_time} of a plain training step of"
            f" resnet20, {SIDE}×{SIDE} pixels, batch {BATCH}, 1 thread; medians of"
            f" {arguments.rounds} interleaved rounds. By `python benchmarks/bf16.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
