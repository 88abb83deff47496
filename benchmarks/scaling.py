"""The paper's whole suite on 1 to 512 GPUs, simulated: python benchmarks/scaling.py

Both suites (13 pairs, 28 methods, 5 seeds) as the executors would run them: the cohorts and the
order are those of `wcordbench run --costs`, and workers take jobs by the same rule. What runs
cost is a calibration, as `wcordbench plan` makes one: results/calibration.json, which
benchmarks/plan_check.py measures on a CPU.
"""

from __future__ import annotations

import random
from typing import Any

from common import defined, write
from plan_check import Kept, calibration

from wcordbench.cli.run import _cost as by_macs
from wcordbench.suite import Run
from wcordbench.suite.plan import Cost, Job, cohorts
from wcordbench.suite.schedule import arrange, lower_bound, simulate

GPUS = [1, 8, 64, 512]
#: how many times faster than the measured core a GPU is taken to be: an assumption that makes
#: hours readable; it scales all times alike and changes no ratio
FACTOR = 40.0


def sharper_bound(jobs: list[Job], workers: int) -> float:
    """A bound that also counts what no order avoids.

    To be over by then, a cohort needs parts, and each a teacher's pass; and until the first
    teacher is there, only teachers and plain students train.
    """
    done = {run: job.cost for job in jobs for run in job.runs if job.after is None}
    teachers = {job.after for job in jobs if job.after is not None}
    first = min(done[teacher] for teacher in teachers)
    begun = sum(
        min(job.cost, first) if teachers & set(job.runs) else job.cost
        for job in jobs
        if job.after is None
    )
    idle = max(0.0, workers * first - begun)
    end = lower_bound(jobs, workers)
    while True:
        work = idle
        for job in jobs:
            ready = 0.0 if job.after is None else done[job.after]
            own = sum(c.own for c in job.costs)
            shared, most = (f(c.shared for c in job.costs) for f in (min, max))
            parts = -(-own // max(end - ready - shared, 1e-9))
            work += own + most + shared * max(0.0, parts - 1)
        if work / workers <= end:
            return end
        end *= 1.001


def uneven(order: list[Job], workers: int) -> float:
    """The mean makespan when every job takes up to a fifth more or less than expected."""
    draws = random.Random(0)
    made = [
        simulate(order, workers, [job.cost * draws.uniform(0.8, 1.2) for job in order]).makespan
        for _ in range(5)
    ]
    return sum(made) / len(made)


def beyond(value: float, least: float) -> str:
    """By how much, in percent; sums in another order may be less by a rounding."""
    return f"{max(0.0, value / least - 1):.1%}"


def row(jobs: list[Job], usual: list[Job], workers: int) -> dict[str, Any]:
    """One schedule, simulated; ``usual``: cohorts with the costs that ``run`` knows."""
    order = arrange(jobs, workers)
    made, bound = simulate(order, workers), lower_bound(jobs, workers)
    work = sum(job.cost for job in jobs)
    takes = {run: cost for job in jobs for run, cost in zip(job.runs, job.costs, strict=True)}
    guessed = arrange(usual, workers)
    lasts = [Job(job.runs, costs=tuple(takes[run] for run in job.runs)).cost for job in guessed]
    hours = 3600.0
    return {
        "GPUs": workers,
        "jobs": len(order),
        "makespan (h)": f"{made.makespan / hours:.1f}",
        "lower bound (h)": f"{bound / hours:.1f}",
        "bound by": "work" if bound <= 1.0001 * work / workers else "a chain",
        "over bound": beyond(made.makespan, bound),
        "over sharper bound": beyond(made.makespan, sharper_bound(jobs, workers)),
        "utilisation": f"{made.busy / workers / made.makespan:.1%}",
        "extra work": beyond(made.busy, work),
        "makespan, ±20% (h)": f"{uneven(order, workers) / hours:.1f}",
        "makespan, run's order (h)": f"{simulate(guessed, workers, lasts).makespan / hours:.1f}",
    }


def main() -> None:
    cells = [c for name in ("cifar100", "cifar100_cross") for c in defined(name)]
    runs = list(dict.fromkeys(c.run for c in cells))
    teachers = {r.teacher for r in runs if r.teacher}
    measured = calibration(Kept("calibration", 0), cells)

    def cost(run: Run) -> Cost:
        core = measured.cost(run)
        return Cost(core.own / FACTOR, core.shared / FACTOR)

    jobs, usual = cohorts(runs, cost), cohorts(runs, by_macs)
    rows = []
    for workers in GPUS:
        rows.append(row(jobs, usual, workers))
        print(*rows[-1].values(), flush=True)
    write(
        "scaling",
        "The paper's whole suite on 1 to 512 GPUs, simulated",
        rows,
        [
            f"suites/cifar100.yaml and cifar100_cross.yaml together: 13 pairs, 28 methods, 5 seeds;"
            f" {len(runs)} runs, {len(teachers)} of them teachers. What runs cost is"
            " calibration.json (by `python benchmarks/plan_check.py`, on one core), all divided by"
            f" {FACTOR:.0f}: that factor to a GPU is an assumption,"
            " which changes no ratio. *Lower bound*: all work shared evenly, or a teacher and its"
            " longest student. *Sharper bound*: with the teacher's passes of the parts that a"
            " cohort must have to be over in time, and the time in which no student's teacher is"
            " there. *Extra work*: of splitting. *±20%*: mean of 5 draws of every job's time."
            " *run's order*: arranged by multiply-accumulates, as `wcordbench run` does without"
            " --costs, with the same costs."
            " By `python benchmarks/scaling.py`, simulated on:",
        ],
    )


if __name__ == "__main__":
    main()
