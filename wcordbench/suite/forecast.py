"""What a suite still takes: time on some workers, in total and by row and pair, and disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wcordbench.suite.plan import Cost, Job, epochs
from wcordbench.suite.runs import Cell, Run
from wcordbench.suite.schedule import simulate

#: bytes of run.json and result.json, and of an epoch in metrics.json, as in stored runs
RECORD, EPOCH = 2500, 220


@dataclass
class Part:
    """A row's or a pair's part of what is left to do.

    Attributes:
        runs: those left to train in it.
        seconds: one worker's, of a run in several rows or pairs an even share.
    """

    runs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Disk:
    """Bytes that the runs left will take.

    Attributes:
        weights, records: what they leave.
        checkpoints: at most at a time, while they train.
    """

    weights: float
    checkpoints: float
    records: float


@dataclass(frozen=True)
class Forecast:
    """What is left to do, on a number of workers.

    Attributes:
        workers: how many.
        jobs: cohorts as they are split over the workers.
        work: seconds of one worker, for all of it.
        seconds: until all is done, by simulation of the order.
        rows, pairs: parts of the work by the method's title and by the pair's name.
        disk: what it takes.
    """

    workers: int
    jobs: int
    work: float
    seconds: float
    rows: dict[str, Part]
    pairs: dict[str, Part]
    disk: Disk


def forecast(
    cells: Sequence[Cell],
    jobs: Sequence[Job],
    workers: int,
    sizes: Callable[[Run], tuple[float, float]],
) -> Forecast:
    """Add up what jobs take.

    Args:
        cells: of the suite.
        jobs: what is left, in their order, with costs in seconds.
        workers: how many run at a time.
        sizes: bytes of a run's weights and of its checkpoint.
    """
    made = simulate(jobs, workers)
    seconds = {run: share for job in jobs for run, share in _shares(job).items()}
    places = Counter(cell.run for cell in cells)
    rows: dict[str, Part] = {}
    pairs: dict[str, Part] = {}
    rows_of: dict[str, set[Run]] = {}
    for cell in cells:
        if cell.run not in seconds:
            continue
        row = "Teacher" if cell.method is None else cell.method.title
        share = seconds[cell.run] / places[cell.run]
        rows.setdefault(row, Part()).seconds += share
        rows_of.setdefault(row, set()).add(cell.run)
        part = pairs.setdefault(cell.pair.name, Part())
        part.seconds += share
        part.runs += 1
    for row, runs in rows_of.items():
        rows[row].runs = len(runs)
    spans = [
        (start, start + job.cost, sum(sizes(run)[1] for run in job.runs))
        for start, job in zip(made.starts, jobs, strict=True)
    ]
    peak = max((sum(b for s, e, b in spans if s <= at < e) for at, _, _ in spans), default=0.0)
    return Forecast(
        workers,
        len(jobs),
        made.busy,
        made.makespan,
        rows,
        pairs,
        Disk(
            sum(sizes(run)[0] for run in seconds),
            peak,
            sum(RECORD + EPOCH * epochs(run) for run in seconds),
        ),
    )


def _shares(job: Job) -> Mapping[Run, float]:
    """Each run's part of its job's seconds: its own, and of what is shared by its need of it."""
    total = sum(cost.shared for cost in job.costs)
    common = max(cost.shared for cost in job.costs)
    return {
        run: cost.own + (common * cost.shared / total if total else 0.0)
        for run, cost in zip(job.runs, job.costs, strict=True)
    }


def remaining(cost: Cost, done: float) -> Cost:
    """The cost of a run of which some fraction is done."""
    return Cost(cost.own * (1 - done), cost.shared * (1 - done))
