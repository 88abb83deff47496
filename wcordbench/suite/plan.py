"""What to train in which order: teachers first, runs grouped into cohorts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from wcordbench.suite.runs import Run


@dataclass(frozen=True)
class Job:
    """A cohort, and the run that must be done before it: its teacher's."""

    runs: tuple[Run, ...]
    after: Run | None = None

    @property
    def cost(self) -> float:
        """Rough relative cost, for balancing: the students, and one pass of the teacher."""
        epochs = float(self.runs[0].config["train"]["epochs"])
        return epochs * (len(self.runs) + (0.7 if self.after else 0.0))


def cohorts(runs: Iterable[Run]) -> list[Job]:
    """Group runs that share dataset, teacher, seed and the shape of the schedule.

    Runs without a teacher (the plain student) join a cohort of their seed that sees the same
    batches, unless its teacher is itself yet to be trained: then they need not wait for it.
    Teachers come first.
    """
    runs = list(dict.fromkeys(runs))
    teachers = {run.teacher for run in runs if run.teacher is not None and run.teacher in runs}
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda r: r.config["teacher"] is None):
        batches, teacher = _batches(run), json.dumps(run.config["teacher"])
        home = batches + teacher
        if run in teachers:
            home = "teacher" + run.id
        elif run.config["teacher"] is None:
            home = next(
                (
                    key
                    for key, group in groups.items()
                    if key.startswith(batches) and group[0].teacher not in teachers
                ),
                home,
            )
        groups.setdefault(home, []).append(run)
    jobs = [
        Job(tuple(group), next((r.teacher for r in group if r.teacher is not None), None))
        for group in groups.values()
    ]
    return sorted(jobs, key=lambda j: j.runs[0] not in teachers)


def _batches(run: Run) -> str:
    """Equal for runs that see the same batches at the same step."""
    c = run.config
    t = c["train"]
    shape = [
        c["dataset"], c.get("view"), c["seed"],
        t["epochs"], t["batch_size"], t["augment"], t["precision"],
    ]  # fmt: skip
    return json.dumps(shape, sort_keys=True)


def balance(jobs: list[Job], workers: int) -> list[Job]:
    """Split the largest cohorts until no worker would idle for long at the end.

    A split costs one more pass of the teacher, so it is made only while the longest worker
    has over 10% more to do than the average and a cohort is left to split.
    """
    jobs = list(jobs)
    while jobs:
        loads = [0.0] * workers
        for job in sorted(jobs, key=lambda j: -j.cost):
            loads[loads.index(min(loads))] += job.cost
        largest = max((j for j in jobs if len(j.runs) > 1), key=lambda j: j.cost, default=None)
        if largest is None or max(loads) <= 1.10 * sum(loads) / workers:
            break
        half = len(largest.runs) // 2
        at = jobs.index(largest)
        halves = [largest.runs[:half], largest.runs[half:]]
        jobs[at : at + 1] = [
            Job(part, next((r.teacher for r in part if r.teacher is not None), None))
            for part in halves
        ]
    return jobs
