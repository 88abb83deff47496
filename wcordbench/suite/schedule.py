"""Which job starts when: the order over several workers, and what it comes to."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from wcordbench.suite.plan import Job
from wcordbench.suite.runs import Run


@dataclass(frozen=True)
class Timeline:
    """Jobs on workers, in the unit of their costs.

    Attributes:
        makespan: when the last job ends.
        busy: the sum of what all workers did.
        starts: when each job starts, in the order of the jobs.
    """

    makespan: float
    busy: float
    starts: tuple[float, ...]


def simulate(
    jobs: Sequence[Job], workers: int, durations: Sequence[float] | None = None
) -> Timeline:
    """What executors do with an order of jobs: a free worker takes the first that can start.

    Args:
        jobs: in their order; a teacher that is in none of them is taken to be there.
        workers: how many.
        durations: of the jobs; by default what they are expected to cost.
    """
    lasts = [job.cost for job in jobs] if durations is None else durations
    runs = {run for job in jobs for run in job.runs}
    ready: list[int] = []  # in their order, so also a heap
    waiting: dict[Run, list[int]] = {}
    for number, job in enumerate(jobs):
        waits = job.after is not None and job.after in runs
        (waiting.setdefault(job.after, []) if waits else ready).append(number)  # type: ignore[arg-type]
    starts = [0.0] * len(jobs)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            number = heapq.heappop(ready)
            starts[number] = now
            heapq.heappush(running, (now + lasts[number], number))
        now, number = heapq.heappop(running)
        for run in jobs[number].runs:
            for released in waiting.pop(run, ()):
                heapq.heappush(ready, released)
    for numbers in waiting.values():
        raise ValueError(f"{jobs[numbers[0]].runs[0].name} waits for a run that waits for it")
    return Timeline(now, sum(lasts), tuple(starts))


def lower_bound(jobs: Sequence[Job], workers: int) -> float:
    """No schedule is shorter: all the work shared evenly, or a teacher and its longest student.

    Args:
        jobs: whole cohorts, which share as much as can be shared.
        workers: how many.
    """
    alone = {
        run: cost.own + cost.shared
        for job in jobs
        for run, cost in zip(job.runs, job.costs, strict=True)
    }
    chains = [cost + alone.get(run.teacher, 0.0) for run, cost in alone.items()]  # type: ignore[arg-type]
    return max(sum(job.cost for job in jobs) / workers, max(chains, default=0.0))


def arrange(jobs: Sequence[Job], workers: int) -> list[Job]:
    """The order in which workers take jobs, cohorts split so that none idles at the end.

    Teachers come first, those with the most to do after them before others. The rest is laid
    out forwards, see :func:`_layout`, towards an end that bisection makes as early as it can
    be. Since no worker idles there while a job can start, the order of the planned starts is
    enough: while durations are as expected, :func:`simulate`'s rule makes the same schedule of it.

    Args:
        jobs: cohorts, see :func:`wcordbench.suite.plan.cohorts`.
        workers: how many run at a time.

    Returns:
        The same runs. Jobs that the user has sized stay as they are, longest first.
    """
    tails: dict[Run, float] = {}
    for job in jobs:
        if job.after is not None:
            tails[job.after] = max(tails.get(job.after, 0.0), job.cost)
    first = [job for job in jobs if not tails.keys().isdisjoint(job.runs)]
    first.sort(key=lambda job: -(job.cost + max(tails.get(run, 0.0) for run in job.runs)))
    rest = [job for job in jobs if tails.keys().isdisjoint(job.runs)]
    best = [*first, *sorted(rest, key=lambda job: -job.cost)]
    if not rest or any(job.whole for job in rest):
        return best
    free = [0.0] * workers  # when each worker is done with the teachers
    done: dict[Run, float] = {}
    for job in first:
        worker = free.index(min(free))
        free[worker] += job.cost
        done |= dict.fromkeys(job.runs, free[worker])
    shortest, low = simulate(best, workers).makespan, lower_bound(jobs, workers)
    for _ in range(14):
        if shortest <= 1.001 * low:
            break
        end = (low + shortest) / 2
        planned = _layout(rest, end, free, done)
        if planned is not None:
            order = [*first, *planned]
            made = simulate(order, workers).makespan
            if made < shortest:
                best, shortest = order, made
                continue
        low = end
    return best


@dataclass
class _Cohort:
    """What is left of a cohort while it is laid out.

    Attributes:
        job: all of it.
        ready: when its teacher is there.
        left: places of the runs that have no part yet. Those that need most of the cohort (a
            first stage) are together, so that few parts pay for it; long ones before short.
    """

    job: Job
    ready: float
    left: list[int] = field(init=False)

    def __post_init__(self) -> None:
        costs = self.job.costs
        self.left = sorted(range(len(costs)), key=lambda i: (-costs[i].shared, -costs[i].own))
        self.shared = max(cost.shared for cost in costs)
        self._sum()

    def _sum(self) -> None:
        owns = [self.job.costs[i].own for i in self.left]
        self.own, self.least = sum(owns), self.shared + min(owns, default=0.0)

    def take(self, room: float, beyond: float) -> Job | None:
        """A part that fills a time as well as its runs can; None if none fits.

        Args:
            room: the time.
            beyond: a longer one that must not be exceeded, where one run more comes nearer.
        """
        chosen: list[int] = []
        others: list[int] = []
        shared = own = 0.0
        for i in self.left:
            cost = self.job.costs[i]
            if own + cost.own + max(shared, cost.shared) <= room:
                chosen.append(i)
                own, shared = own + cost.own, max(shared, cost.shared)
            else:
                others.append(i)
        if others and room < beyond:
            cost = self.job.costs[others[-1]]
            longer = own + cost.own + max(shared, cost.shared)
            if longer <= beyond and (not chosen or longer - room < room - own - shared):
                chosen.append(others.pop())
        if not chosen:
            return None
        self.left = others
        self._sum()
        return self.job.part(sorted(chosen))


def _layout(
    jobs: Sequence[Job], end: float, free: Sequence[float], done: dict[Run, float]
) -> list[Job] | None:
    """Parts of jobs that are all over by ``end``, by their starts; None if that is too early.

    A worker that becomes free takes as much of one cohort as fits before the end: few, long
    parts, since every one costs a pass of the teacher. But where a teacher is still training,
    enough workers take parts that are over when it is done (the cheapest to split), so that
    its students find workers; and where there is less work than workers until then, it is
    divided among them, unless the passes of the teacher would take most of that time.

    Args:
        jobs: cohorts.
        end: when all must be over.
        free: when each worker can begin.
        done: when each teacher is there; others are from the beginning.
    """
    cohorts = [_Cohort(job, 0.0 if job.after is None else done.get(job.after, 0.0)) for job in jobs]
    workers = list(free)
    heapq.heapify(workers)
    heading: dict[float, int] = {}  # workers that will be free when a teacher is done
    planned = []
    while workers and (cohorts := [c for c in cohorts if c.left]):
        now = heapq.heappop(workers)
        ready = [c for c in cohorts if c.ready <= now]
        later = sorted({c.ready for c in cohorts if c.ready > now})
        idle = 1 + workers.count(now)
        work = sum(c.own + c.shared for c in ready)
        target = end
        until = later[0] - now if later else 0.0
        if 0 < work <= idle * until and 2 * max(c.shared for c in ready) <= until:
            target = now + work / idle
        else:
            for time in reversed(later):
                wanted = sum(_workers(c, end) for c in cohorts if c.ready == time)
                if heading.get(time, 0) < wanted and any(now + c.least <= time for c in ready):
                    heading[time] = heading.get(time, 0) + 1
                    target = time
                    break
        sign = 1 if target < end else -1
        ready.sort(key=lambda c: (sign * c.shared, -c.own))
        parts = (c.take(target - now, end - now) for c in ready)
        part = next((p for p in parts if p is not None), None)
        if part is not None:
            planned.append(part)
            heapq.heappush(workers, now + part.cost)
        elif later:
            heapq.heappush(workers, later[0])
    return None if any(c.left for c in cohorts) else planned


def _workers(cohort: _Cohort, end: float) -> float:
    """How many workers a cohort needs from when its teacher is there to be over by ``end``."""
    room = end - cohort.ready - cohort.shared
    return cohort.own / room if room > 0 else len(cohort.left)
