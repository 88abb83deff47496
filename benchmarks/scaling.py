"""The paper's whole suite on 1 to 512 GPUs, simulated: python benchmarks/scaling.py

Both suites (13 pairs, 28 methods, 5 seeds) as the executors would run them: the cohorts and the
order are those of `wcordbench run`, and workers take jobs by the same rule. What steps cost
comes from results/pairs.csv, which benchmarks/pairs.py measures, and for comparison from a GPU
that is assumed.
"""

from __future__ import annotations

import csv
import functools
import random
from typing import Any

import torch
from common import RESULTS, defined, write

from wcordbench import models, registry
from wcordbench.suite import Run
from wcordbench.suite.plan import Cost, Job, cohorts, epochs, first_epochs
from wcordbench.suite.schedule import arrange, lower_bound, simulate

GPUS = [1, 8, 64, 512]
#: how many times faster than the measured core a GPU is taken to be; scales all times alike
SPEED = 40.0
#: the assumed GPU of the second table: seconds to launch a kernel, multiply-accumulates a second
LAUNCH, RATE = 8e-6, 10e12
STEPS, TEST, BATCH = 782, 10_000, 64


class Core:
    """Milliseconds of results/pairs.csv: batches of 64 on one core.

    That file times every pair apart, on a machine that others used: of a network's several
    times the least counts. Not in it are a teacher's own training, taken as three passes, and
    evaluation, taken as passes.
    """

    def __init__(self) -> None:
        with (RESULTS / "pairs.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.seen: dict[str, float] = {}
        self.plain: dict[str, float] = {}
        #: what a method adds to the plain step, and a step of its first stage
        self.extra: dict[tuple[str, str, str], tuple[float, float]] = {}
        for row in rows:
            _least(self.seen, row["teacher"], float(row["teacher pass"]))
            if row["method"] == "Student":
                _least(self.plain, row["student"], float(row["step"]))
        for row in rows:
            if row["step"] != "N/A":
                beyond = max(0.0, float(row["step"]) - self.plain[row["student"]])
                first = float(row["first stage"] or 0)
                self.extra[row["teacher"], row["student"], row["method"]] = beyond, first

    def cost(self, run: Run) -> Cost:
        """Seconds of a run on a GPU that is :data:`SPEED` times as fast."""
        config, first = run.config, first_epochs(run)
        model, teacher = config["model"], config["teacher"]
        step = self.plain.get(model) or 3 * self.seen[model]
        own = (epochs(run) - first) * (STEPS * step + TEST / BATCH * step / 3)
        if teacher is None:
            return Cost(own / 1000 / SPEED, 0.0)
        for term in config["method"]["terms"]:
            title = registry.get("method", term["name"]).meta["title"]
            beyond, before = self.extra[teacher["model"], model, title]
            own += STEPS * ((epochs(run) - first) * beyond + first * before)
        shared = epochs(run) * STEPS * self.seen[teacher["model"]]
        return Cost(own / 1000 / SPEED, shared / 1000 / SPEED)


def _least(times: dict[str, float], key: str, time: float) -> None:
    times[key] = min(time, times.get(key, time))


@functools.cache
def pass_seconds(name: str, images: int) -> float:
    """A forward pass on the assumed GPU: bound by launches or by arithmetic."""
    with torch.device("meta"):
        network = models.create(name, 100)
    # A convolution, a linear layer, a batch norm, an activation: about a kernel each.
    kernels = 1.3 * sum(not list(module.children()) for module in network.modules())
    return max(kernels * LAUNCH, images * models.macs(name, 100) / RATE)


def assumed(run: Run) -> Cost:
    """Seconds on the assumed GPU, on which small networks are bound by launching kernels.

    A step of training is three passes and an update, whose launches are a tenth. A method
    launches some hundred kernels more, and a worker takes half a minute to start.
    """
    config, count = run.config, epochs(run)
    model, teacher = config["model"], config["teacher"]
    step = 3.3 * pass_seconds(model, BATCH) + 100 * LAUNCH * len(config["method"]["terms"])
    seen = pass_seconds(teacher["model"], BATCH) if teacher else 0.0
    own = count * (STEPS * step + TEST / 500 * pass_seconds(model, 500))
    return Cost(own, 30.0 + count * STEPS * seen)


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
        for _ in range(5)
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
        "bound by": "work" if bound <= 1.0001 * work / workers else "a chain",
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
    rows = []
    for what, costs in (("measured on a core", Core().cost), ("assumed GPU", assumed)):
        jobs = cohorts(runs, costs)
        for workers in GPUS:
            rows.append(row(what, jobs, workers))
            print(*rows[-1].values(), flush=True)
    write(
        "scaling",
        "The paper's whole suite on 1 to 512 GPUs, simulated",
        rows,
        [
            f"suites/cifar100.yaml and cifar100_cross.yaml together: 13 pairs, 28 methods, 5 seeds;"
            f" {len(runs)} runs, {len(teachers)} of them teachers. *Measured on a core*: step times"
            f" of pairs.csv, all divided by {SPEED:.0f}. *Assumed GPU*: see docs/scaling.md."
            " *Lower bound*: all work shared evenly, or a teacher and its longest student. *With"
            " cuts*: counting the teacher's passes of the parts that a cohort must have to be over"
            " in time. *Extra work*: of splitting. *±20%*: mean of 5 draws of every job's time."
            " By `python benchmarks/scaling.py`, simulated on:",
        ],
    )


if __name__ == "__main__":
    main()
