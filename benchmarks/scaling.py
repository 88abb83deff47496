"""The paper's whole suite on 1 to 512 GPUs, simulated: python benchmarks/scaling.py

Both suites (13 pairs, 28 methods, 5 seeds) as the executors would run them: the cohorts and the
order are those of `wcordbench run`, and workers take jobs by the same rule. What steps cost
comes from results/calibration.json, which benchmarks/plan_check.py measures.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import torch
from common import defined, write
from plan_check import Kept, calibration

from wcordbench import models
from wcordbench.suite import Run
from wcordbench.suite.plan import Cost, Costs, Job, cohorts, epochs
from wcordbench.suite.schedule import arrange, lower_bound, simulate
from wcordbench.training.calibrate import Calibration

GPUS = [1, 8, 64, 512]
#: how many times faster than the measured core a GPU is taken to be; scales all times alike
SPEED = 40.0
#: the assumed GPU of the second table: seconds to launch a kernel, multiply-accumulates a second
LAUNCH, RATE = 8e-6, 10e12
STEPS, TEST, BATCH = 782, 10_000, 64


def measured_costs(core: Calibration) -> Costs:
    """Measured on a core, divided by one number."""

    def cost(run: Run) -> Cost:
        found = core.cost(run)
        return Cost(found.own / SPEED, found.shared / SPEED)

    return cost


@functools.cache
def pass_seconds(name: str, images: int) -> float:
    """A forward pass on the assumed GPU: bound by launches or by arithmetic."""
    with torch.device("meta"):
        network = models.create(name, 100)
    # A convolution, a linear layer, a batch norm, an activation: about a kernel each.
    kernels = 1.3 * sum(not list(module.children()) for module in network.modules())
    return max(kernels * LAUNCH, images * models.macs(name, 100) / RATE)


def assumed_costs(core: Calibration) -> Costs:
    """Of a GPU on which small networks are bound by launching kernels.

    A training step is three passes and an update; a method adds to it the part that was
    measured on the core, of the plain step's time.
    """

    @functools.cache
    def plain(run: Run) -> Cost:
        config = {**run.config, "teacher": None}
        config["method"] = {"name": "student", "gamma": 1.0, "terms": []}
        return core.cost(Run(config))

    def cost(run: Run) -> Cost:
        model, count = run.config["model"], epochs(run)
        step = 3.3 * pass_seconds(model, BATCH)
        on_core = core.cost(run).own / plain(run).own
        own = on_core * count * (STEPS * step + TEST / 500 * pass_seconds(model, 500))
        teacher = run.config["teacher"]
        seen = pass_seconds(teacher["model"], BATCH) if teacher else 0.0
        return Cost(own, 10.0 + count * STEPS * (seen + 10 * LAUNCH))

    return cost


def cut_bound(jobs: list[Job], workers: int) -> float:
    """A sharper bound: to be over by then, a cohort needs parts, and each a teacher's pass."""
    done = {run: job.cost for job in jobs for run in job.runs if job.after is None}
    low = lower_bound(jobs, workers)
    end = low
    while True:
        work = 0.0
        for job in jobs:
            ready = 0.0 if job.after is None else done[job.after]
            own = sum(c.own for c in job.costs)
            shared, most = (f(c.shared for c in job.costs) for f in (min, max))
            parts = -(-own // max(end - ready - shared, 1e-9))
            work += own + most + shared * max(0.0, parts - 1)
        if work / workers <= end:
            return end
        end *= 1.002


def uneven(order: list[Job], workers: int) -> float:
    """The mean makespan when every job takes up to a fifth more or less than expected."""
    draws = random.Random(0)
    made = [
        simulate(order, workers, [job.cost * draws.uniform(0.8, 1.2) for job in order]).makespan
        for _ in range(20)
    ]
    return sum(made) / len(made)


def row(what: str, jobs: list[Job], workers: int) -> dict[str, Any]:
    """One schedule, simulated."""
    order = arrange(jobs, workers)
    made, bound = simulate(order, workers), lower_bound(jobs, workers)
    work = sum(job.cost for job in jobs)
    hours = 3600.0
    return {
        "step times": what,
        "GPUs": workers,
        "jobs": len(order),
        "makespan (h)": f"{made.makespan / hours:.1f}",
        "lower bound (h)": f"{bound / hours:.1f}",
        "bound by": "work" if bound > work / workers * 0.9999 < bound * 1.0001 else "a chain",
        "over bound": f"{made.makespan / bound - 1:.1%}",
        "over bound with cuts": f"{made.makespan / cut_bound(jobs, workers) - 1:.1%}",
        "utilisation": f"{made.busy / workers / made.makespan:.1%}",
        "extra work": f"{made.busy / work - 1:.1%}",
        "makespan, ±20% (h)": f"{uneven(order, workers) / hours:.1f}",
    }


def main() -> None:
    cells = [c for name in ("cifar100", "cifar100_cross") for c in defined(name)]
    runs = list(dict.fromkeys(c.run for c in cells))
    teachers = {r.teacher for r in runs if r.teacher}
    core = calibration(Kept("calibration", 0), cells, Path("data"))
    rows = []
    for what, costs in (
        ("measured on a core", measured_costs(core)), ("assumed GPU", assumed_costs(core))
    ):  # fmt: skip
        jobs = cohorts(runs, costs)
        rows += [row(what, jobs, workers) for workers in GPUS]
        given = cohorts([r for r in runs if r not in teachers], costs)
        rows += [row(f"{what}, teachers given", given, workers) for workers in GPUS[2:]]
        for job in jobs:
            if job.runs[0].config["seed"] == 0:
                print(what, len(job.runs), f"{job.cost / 3600:.1f} h", job.runs[0].name)
    write(
        "scaling",
        "The paper's whole suite on 1 to 512 GPUs, simulated",
        rows,
        [
            f"suites/cifar100.yaml and cifar100_cross.yaml together: 13 pairs, 28 methods, 5 seeds;"
            f" {len(runs)} runs, {len(teachers)} of them teachers. *Measured on a core*: step times"
            f" of calibration.json, all divided by {SPEED:.0f}. *Assumed GPU*: see docs/scaling.md."
            " *Lower bound*: all work shared evenly, or a teacher and its longest student. *With"
            " cuts*: counting the teacher's passes of the parts that a cohort must have to be over"
            " in time. *Extra work*: of splitting. *±20%*: mean of 20 draws of every job's time."
            " By `python benchmarks/scaling.py`, simulated on:",
        ],
    )


if __name__ == "__main__":
    main()
