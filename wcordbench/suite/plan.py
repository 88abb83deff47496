"""What to train together: runs grouped into cohorts, and what each is expected to cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from wcordbench.suite.runs import Run


@dataclass(frozen=True)
class Cost:
    """What a run is expected to cost one worker, in seconds or any other unit.

    Attributes:
        own: of the run itself, whatever trains beside it.
        shared: what it needs once, however many runs of its cohort need it as well: drawing
            the batches, the teacher's pass, starting a worker.
    """

    own: float
    shared: float


Costs = Callable[[Run], Cost]


def by_epochs(run: Run) -> Cost:
    """The cost where nothing is known of the networks: epochs, a teacher's pass as 0.7 of one."""
    count = epochs(run)
    return Cost(count, 0.7 * count if run.config["teacher"] else 0.0)


def epochs(run: Run) -> int:
    """How many epochs a run trains for, those of a first stage included."""
    return int(run.config["train"]["epochs"]) + first_epochs(run)


def first_epochs(run: Run) -> int:
    """How many of its epochs are a first stage's."""
    return int(run.config["train"].get("first_stage", {}).get("epochs", 0))


@dataclass(frozen=True)
class Job:
    """A cohort, and the run that must be done before it: its teacher's.

    Attributes:
        runs: what trains together.
        after: the teacher's run, if it is trained by the suite.
        costs: of every run, in the same order; by their epochs where not given.
        whole: the user has said how large it is: it is not to be split.
    """

    runs: tuple[Run, ...]
    after: Run | None = None
    costs: tuple[Cost, ...] = field(default=(), compare=False, repr=False)
    whole: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.costs:
            object.__setattr__(self, "costs", tuple(map(by_epochs, self.runs)))

    @property
    def cost(self) -> float:
        """What one worker needs for it."""
        return sum(c.own for c in self.costs) + max(c.shared for c in self.costs)

    def part(self, places: Sequence[int], whole: bool = False) -> Job:
        """A job of some of its runs, by their places."""
        runs = tuple(self.runs[i] for i in places)
        after = next((r.teacher for r in runs if r.teacher is not None), None)
        return Job(runs, after if self.after else None, tuple(self.costs[i] for i in places), whole)


def cohorts(runs: Iterable[Run], costs: Costs = by_epochs, size: int | None = None) -> list[Job]:
    """Group runs that share dataset, teacher, seed and the shape of the schedule.

    Runs without a teacher (the plain student) join a cohort of their seed that sees the same
    batches, unless its teacher is itself yet to be trained: then they need not wait for it.
    Teachers come first.

    Args:
        runs: what is to be trained.
        costs: what each is expected to cost.
        size: the most runs in a cohort; None groups all that can be, for
            :func:`wcordbench.suite.schedule.arrange` to split as the workers want it.
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
        Job(
            tuple(group),
            next((r.teacher for r in group if r.teacher is not None), None),
            tuple(map(costs, group)),
        )
        for group in groups.values()
    ]
    if size is not None:
        jobs = [
            job.part(range(start, min(start + size, len(job.runs))), whole=True)
            for job in jobs
            for start in range(0, len(job.runs), size)
        ]
    return sorted(jobs, key=lambda j: j.runs[0] not in teachers)


def _batches(run: Run) -> str:
    """Equal for runs that see the same batches at the same step."""
    c = run.config
    t = c["train"]
    shape = [
        c["dataset"], c.get("view"), c["seed"],
        t["epochs"], t["batch_size"], t["augment"], t["precision"], t.get("mixup"), t.get("cutmix"),
    ]  # fmt: skip
    return json.dumps(shape, sort_keys=True)
