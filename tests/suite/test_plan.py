"""Cohorts: which runs train together, in which order, over how many workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wcordbench.suite import Run, Suite, expand
from wcordbench.suite.plan import Cost, Job, cohorts

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


def test_a_size_cuts_cohorts_for_good(base: dict[str, Any], load: Load) -> None:
    base["pairs"], base["seeds"] = base["pairs"][:1], [0]
    base["methods"] = ["kd", "crd", "at", "sp", "cc"]
    jobs = cohorts(runs_of(load(base)), size=2)
    assert [len(j.runs) for j in jobs] == [1, 2, 2, 1] and all(j.whole for j in jobs)
    assert [j.after for j in jobs] == [None] + [jobs[0].runs[0]] * 3


def test_a_job_costs_its_runs_and_once_what_they_share(base: dict[str, Any], load: Load) -> None:
    base["pairs"], base["seeds"] = base["pairs"][:1], [0]
    base["methods"] = ["kd", "ab"]
    base["train"]["first_stage"] = {"epochs": 5, "learning_rate": 0.1}
    teacher, students = cohorts(runs_of(load(base)))
    assert teacher.costs == (Cost(10, 0),)
    assert students.costs == (Cost(10, 7), Cost(15, 0.7 * 15)) and students.cost == 25 + 10.5
    assert students.part([0]).cost == 17 and students.part([0]).after == students.after
    own = cohorts(runs_of(load(base)), lambda _: Cost(1, 2))
    assert [j.cost for j in own] == [3, 4]
