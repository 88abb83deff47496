"""The order of jobs over workers, by simulation: any runs, any costs, any number of workers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcordbench.suite import Run
from wcordbench.suite.plan import Cost, Job, cohorts
from wcordbench.suite.schedule import arrange, lower_bound, simulate


def make(model: str, seed: int, epochs: int, teacher: Run | None, method: str) -> Run:
    protocol = {"epochs": epochs, "batch_size": 8, "augment": {}, "precision": "fp32"}
    return Run(
        {
            "dataset": {"name": "d"},
            "model": model,
            "method": {"name": method},
            "teacher": {"model": teacher.config["model"], "run": teacher.id} if teacher else None,
            "train": protocol,
            "seed": seed,
        },
        teacher,
    )


def suite(methods: int, seeds: int, teachers: int = 2) -> list[Run]:
    """A teacher each for so many methods and a plain student, with so many seeds."""
    known = [make(f"t{i}", 0, 2, None, "student") for i in range(teachers)]
    return [
        *known,
        *(make("s", seed, 2, None, "student") for seed in range(seeds)),
        *(
            make("s", seed, 2, teacher, str(m))
            for teacher in known
            for seed in range(seeds)
            for m in range(methods)
        ),
    ]


@st.composite
def any_runs(draw: st.DrawFn) -> list[Run]:
    models, seeds = st.sampled_from("abc"), st.integers(0, 2)
    teachers = [make(m, 0, draw(st.integers(1, 3)), None, "student") for m in "xy"]
    runs = [
        make(
            draw(models),
            draw(seeds),
            draw(st.integers(1, 3)),
            draw(st.sampled_from([None, *teachers])),
            draw(st.sampled_from(["student", "kd", "crd"])),
        )
        for _ in range(draw(st.integers(0, 12)))
    ]
    return [t for t in teachers if draw(st.booleans())] + runs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    runs=any_runs(), workers=st.integers(1, 9), size=st.sampled_from([None, None, 1, 2]),
    own=st.sampled_from([0.1, 1.0, 30.0]),
)  # fmt: skip
def test_every_run_is_planned_once(
    runs: list[Run], workers: int, size: int | None, own: float
) -> None:
    def costs(run: Run) -> Cost:
        return Cost(own * run.config["seed"] + 1, 2.0 if run.config["teacher"] else 0.5)

    jobs = cohorts(runs, costs, size)
    split = arrange(jobs, workers)
    for plan in (jobs, split):
        assert all(job.runs for job in plan)
        planned = list(itertools.chain.from_iterable(job.runs for job in plan))
        assert len(planned) == len(set(planned))
        assert set(planned) == set(runs)
    for job in split:
        # one dataset, seed and schedule; at most one teacher, which the job waits for
        assert len({(r.config["seed"], r.config["train"]["epochs"]) for r in job.runs}) == 1
        assert {r.teacher for r in job.runs if r.teacher} == ({job.after} if job.after else set())
        assert job.after not in job.runs
        assert job.costs == tuple(map(costs, job.runs))
        assert size is None or len(job.runs) <= size
    if size is not None:
        assert sorted(map(hash, split)) == sorted(map(hash, jobs))
    given_runs = [r for job in jobs for r in job.runs]
    teachers = [r for r in given_runs if any(j.after == r for j in jobs)]
    assert given_runs[: len(teachers)] == teachers
    whole = cohorts(runs, costs)
    made = simulate(split, workers)
    assert made.makespan >= lower_bound(whole, workers) - 1e-9
    assert made.busy >= sum(job.cost for job in whole) - 1e-9
    if size is None:  # splitting never makes it longer than leaving all as it is
        longest = sorted(whole, key=lambda j: (j.runs[0] not in teachers, -j.cost))
        assert workers > 1 or len(split) == len(whole)
        assert made.makespan <= max(simulate(longest, workers).makespan, made.busy) + 1e-9


def test_one_worker_splits_nothing_and_begins_with_the_teachers() -> None:
    jobs = cohorts(suite(6, 2))
    order = arrange(jobs, 1)
    assert sorted(map(hash, order)) == sorted(map(hash, jobs))
    assert [j.runs[0].config["model"] for j in order[:2]] == ["t0", "t1"]
    assert simulate(order, 1).makespan == pytest.approx(sum(j.cost for j in jobs))


@pytest.mark.parametrize("workers", [2, 3, 5, 8])
def test_no_worker_idles_at_the_end(workers: int) -> None:
    jobs = cohorts(suite(24, 3))
    made = simulate(arrange(jobs, workers), workers)
    run = 2.0  # epochs of the smallest piece of work
    assert made.makespan <= 1.05 * lower_bound(jobs, workers) + run


def test_the_teacher_with_most_to_follow_is_first() -> None:
    costs = {"t0": 1.0, "t1": 5.0, "t2": 5.0, "s": 1.0}
    runs = [r for r in suite(3, 1, 3) if not (r.teacher and r.teacher.config["model"] == "t1")]
    runs.append(make("s", 0, 2, next(r for r in runs if r.config["model"] == "t1"), "m"))
    order = arrange(cohorts(runs, lambda r: Cost(costs[r.config["model"]], 0.0)), 2)
    assert [j.runs[0].config["model"] for j in order[:3]] == ["t2", "t1", "t0"]


def test_plain_students_fill_the_time_in_which_teachers_train() -> None:
    runs = suite(4, 4, 1)
    order = arrange(cohorts(runs), 4)
    begun = [job for job, start in zip(order, simulate(order, 4).starts, strict=True) if start == 0]
    assert len(begun) == 4 and all(job.after is None for job in begun)


def test_simulated_workers_take_the_first_job_that_can_start() -> None:
    teacher = make("t", 0, 1, None, "student")
    students = [make("s", seed, 1, teacher, "kd") for seed in range(3)]
    jobs = [
        Job((students[0],), teacher, (Cost(4, 0),)), Job((teacher,), None, (Cost(2, 0),)),
        Job((students[1],), teacher, (Cost(1, 0),)),
        Job((make("p", 0, 1, None, "student"),), None, (Cost(3, 0),)),
    ]  # fmt: skip
    made = simulate(jobs, 2)
    assert made.starts == (2, 0, 3, 0) and made.makespan == 6 and made.busy == 10
    assert simulate(jobs, 2, [4, 9, 1, 3]).starts == (9, 0, 9, 0)  # the teacher took longer
    assert simulate(jobs[2:3], 1).starts == (0,)  # trained before


def test_a_teacher_that_is_its_own_student_is_no_plan() -> None:
    run = make("s", 0, 1, None, "kd")
    with pytest.raises(ValueError, match="waits for"):
        simulate([Job((run,), run)], 1)


def test_the_bound_is_the_work_or_the_longest_chain() -> None:
    jobs = cohorts(suite(24, 3))
    work = sum(j.cost for j in jobs)
    assert lower_bound(jobs, 2) == pytest.approx(work / 2)
    assert lower_bound(jobs, 500) == pytest.approx(2 + 2 + 0.7 * 2)
    assert lower_bound([], 3) == 0 and arrange([], 3) == []


def paper() -> list[Run]:
    """The shape of the paper's suite: 13 pairs of six teachers, 28 methods, 5 seeds."""
    pairs = {"wrn": 3, "r56": 1, "r110": 2, "r32x4": 3, "vgg": 2, "r50": 2}
    known = {name: make(name, 0, 240, None, "student") for name in pairs}
    students = [
        make(f"{name}-{i}", seed, 240, teacher, f"m{m}") for name, count in pairs.items()
        for i in range(count) for seed in range(5) for m in range(27) for teacher in [known[name]]
    ]  # fmt: skip
    plain = [
        make(f"{name}-{i}", seed, 240, None, "student") for name, count in pairs.items()
        for i in range(count) for seed in range(5)
    ]  # fmt: skip
    return [*known.values(), *plain, *students]


@pytest.mark.parametrize(("workers", "beyond"), [(8, 0.01), (64, 0.06)])
def test_the_papers_suite_ends_near_the_bound(workers: int, beyond: float) -> None:
    """Stated costs: a step of 2 to 4 for every method, a pass of 1 to 3, a teacher's own thrice."""
    passes = {"wrn": 1.0, "r56": 1.0, "r110": 1.5, "r32x4": 2.0, "vgg": 1.5, "r50": 3.0}

    def costs(run: Run) -> Cost:
        if run.config["model"] in passes:
            return Cost(3 * passes[run.config["model"]], 0.0)
        number = int(run.config["method"]["name"].removeprefix("m").replace("student", "0"))
        own = 2.0 + 2.0 * number / 26
        return Cost(own, passes[run.config["teacher"]["model"]] if run.config["teacher"] else 0.0)

    jobs = cohorts(paper(), costs)
    made = simulate(arrange(jobs, workers), workers)
    assert made.makespan <= (1 + beyond) * lower_bound(jobs, workers)
