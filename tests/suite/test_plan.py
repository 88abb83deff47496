"""Cohorts: which runs train together, in which order, over how many workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcordbench.suite import Run, Suite, expand
from wcordbench.suite.plan import Job, balance, cohorts

Load = Callable[[dict[str, Any]], Suite]


def runs_of(suite: Suite) -> list[Run]:
    return list(dict.fromkeys(c.run for c in expand(suite)))


def describe(job: Job) -> tuple[list[str], str | None]:
    names = [
        f"{r.config['model']} {r.config['method']['name']} {r.config['seed']}" for r in job.runs
    ]
    return names, job.after and job.after.config["model"]


def test_runs_of_a_teacher_and_a_seed_train_together(base: dict[str, Any], load: Load) -> None:
    base["pairs"] = base["pairs"][:1]
    jobs = [describe(j) for j in cohorts(runs_of(load(base)))]
    assert jobs[0] == (["resnet14 student 3"], None)  # the teacher
    assert sorted(jobs[1:]) == sorted(
        [
            (["resnet8 kd 0", "resnet8 crd+kd 0", "resnet8 ab 0"], "resnet14"),
            (["resnet8 kd 1", "resnet8 crd+kd 1", "resnet8 ab 1"], "resnet14"),
            (["resnet8 student 0"], None),  # need not wait for the teacher
            (["resnet8 student 1"], None),
        ]
    )


def test_a_plain_student_joins_a_cohort_whose_teacher_is_there(
    base: dict[str, Any], load: Load
) -> None:
    base["pairs"] = base["pairs"][:1]
    todo = [r for r in runs_of(load(base)) if r.config["model"] != "resnet14"]  # trained before
    jobs = cohorts(todo)
    assert [len(j.runs) for j in jobs] == [4, 4]
    assert all(j.after is not None and j.after.config["model"] == "resnet14" for j in jobs)


def test_students_of_one_teacher_share_a_cohort(base: dict[str, Any], load: Load) -> None:
    base["pairs"] = [
        {"teacher": "resnet14", "student": "resnet8"},
        {"teacher": "resnet14", "student": "wrn_16_1"},
    ]
    base["seeds"] = [5]
    base["methods"] = ["kd", "ab"]
    jobs = cohorts(runs_of(load(base)))
    assert [len(j.runs) for j in jobs] == [1, 4]


@pytest.mark.parametrize(
    "override",
    [{"epochs": 9}, {"batch_size": 32}, {"augment": {"flip": True}}, {"precision": "bf16"}],
)
def test_what_changes_the_batches_parts_a_cohort(
    override: dict[str, Any], base: dict[str, Any], load: Load
) -> None:
    base["pairs"], base["seeds"] = base["pairs"][:1], [0]
    base["methods"] = ["kd", {"name": "ab", "train": override}]
    assert [len(j.runs) for j in cohorts(runs_of(load(base)))] == [1, 1, 1]


@pytest.mark.parametrize("override", [{"learning_rate": 0.1}, {"weight_decay": 0.1}])
def test_what_does_not_change_the_batches_keeps_it(
    override: dict[str, Any], base: dict[str, Any], load: Load
) -> None:
    base["pairs"], base["seeds"] = base["pairs"][:1], [0]
    base["methods"] = ["kd", {"name": "ab", "train": override}]
    assert [len(j.runs) for j in cohorts(runs_of(load(base)))] == [1, 2]


def test_a_student_that_is_a_teacher_comes_first(base: dict[str, Any], load: Load) -> None:
    base["seeds"] = [0]
    base["methods"] = ["student", "kd"]
    base["pairs"] = [
        {"teacher": "resnet20", "student": "resnet14"},
        {"teacher": "resnet14", "student": "resnet8"},
    ]
    jobs = cohorts(runs_of(load(base)))
    order = {run: i for i, job in enumerate(jobs) for run in job.runs}
    assert len(order) == sum(len(j.runs) for j in jobs) == len(runs_of(load(base)))
    for job in jobs:
        if job.after is not None:
            assert all(order[job.after] < order[run] for run in job.runs)


# --- any runs -------------------------------------------------------------------


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
@given(runs=any_runs(), workers=st.integers(1, 9))
def test_every_run_is_planned_once(runs: list[Run], workers: int) -> None:
    jobs = cohorts(runs)
    split = balance(jobs, workers)
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
    given_runs = [r for job in jobs for r in job.runs]
    teachers = [r for r in given_runs if any(j.after == r for j in jobs)]
    assert given_runs[: len(teachers)] == teachers


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5), workers=st.integers(1, 9))
def test_balance_leaves_no_worker_idle_that_could_help(sizes: list[int], workers: int) -> None:
    teacher = make("t", 0, 1, None, "student")
    jobs = [
        Job(tuple(make("s", seed, 2, teacher, str(i)) for i in range(size)), teacher)
        for seed, size in enumerate(sizes)
    ]
    split = balance(jobs, workers)
    if workers == 1:
        assert split == jobs  # a split would only cost
    loads = [0.0] * workers
    for job in sorted(split, key=lambda j: -j.cost):
        loads[loads.index(min(loads))] += job.cost
    could_split = any(len(j.runs) > 1 for j in split)
    assert max(loads) <= 1.1 * sum(loads) / workers + 1e-9 or not could_split
    assert len(split) <= sum(sizes)
