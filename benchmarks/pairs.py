"""Step times of every method over the thirteen pairs: python benchmarks/pairs.py [--data DIR]

Real CIFAR-100 batches of 64, the suite's own learners; one step to warm up, the median of the
rest. The teacher's pass is timed by itself: a cohort shares it.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from typing import Any

import torch
from common import ROOT, features, learner, milliseconds, network, write

from wcordbench.data import base
from wcordbench.data.batches import dataset_batches
from wcordbench.methods.base import Batch, Features
from wcordbench.suite import expand, load_suite
from wcordbench.suite.check import check_shapes


def measure(run: Any, knowledge: list[Features], batches: list[Any], steps: int) -> dict[str, str]:
    """Milliseconds a step in each of a run's stages."""
    trained = learner(run)
    found = {"first stage": "", "step": ""}
    for stage in ("first stage", "step"):
        if stage == "first stage" and not trained.in_first_stage:
            continue
        if stage == "step" and trained.in_first_stage:
            trained.epoch = 0
            trained.optimizer = trained._optimizer()
        trained.start_epoch()
        times = []
        for i in range(steps + 1):
            images, batch = batches[i % len(batches)]
            known = knowledge[i % len(batches)]
            before = time.perf_counter()
            trained.train_step(
                images, known, batch, (images, known) if trained.second_view else None
            )
            times.append(time.perf_counter() - before)
        if not torch.isfinite(trained.loss_sum):
            raise SystemExit(f"{run.name}: the loss is {trained.loss_sum}")
        found[stage] = f"{milliseconds(times[1:]):.0f}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in ("cifar100", "cifar100_cross"):
        suite = load_suite(ROOT / "suites" / f"{name}.yaml")
        undefined = {(u.pair.name, u.method.title) for u in check_shapes(suite)}
        cells = [
            c for c in expand(suite)
            if c.method is not None and c.seed == 0 and "+" not in c.method.name
        ]  # fmt: skip
        config = cells[0].run.config
        train = base.load(config["dataset"], arguments.data).train
        drawn = dataset_batches(config, train, torch.device("cpu")).epoch(0)
        batches: list[tuple[torch.Tensor, Batch]] = [next(drawn) for _ in range(2)]
        for pair in suite.pairs:
            teacher = network(pair.teacher.model, batches[0][0])
            before = time.perf_counter()
            knowledge = [features(teacher, images) for images, _ in batches]
            seconds = (time.perf_counter() - before) / len(batches)
            del teacher
            for cell in (c for c in cells if c.pair == pair):
                assert cell.method is not None
                row = {"teacher": pair.teacher.model, "student": pair.student}
                row |= {"teacher pass": f"{1000 * seconds:.0f}", "method": cell.method.title}
                if (pair.name, cell.method.title) in undefined:
                    row |= {"first stage": "N/A", "step": "N/A"}
                else:
                    row |= measure(cell.run, knowledge, batches, arguments.steps)
                rows.append(row)
                print(*row.values(), flush=True)
                gc.collect()
    write(
        "pairs",
        "Step times of every method over the thirteen pairs",
        rows,
        [
            "Milliseconds a training step without the teacher's pass, batch 64 of real CIFAR-100,"
            f" fp32, median of {arguments.steps}. Every loss was finite. Where the"
            " load average is above 1 the machine was shared, and the times are no more than a"
            " guide. By `python benchmarks/pairs.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
