"""What is left to do, added up from jobs with known costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wcordbench.suite import Run, Suite, expand
from wcordbench.suite.forecast import EPOCH, RECORD, forecast, remaining
from wcordbench.suite.plan import Cost, cohorts
from wcordbench.suite.schedule import arrange

Load = Callable[[dict[str, Any]], Suite]


def cost(run: Run) -> Cost:
    return Cost(10.0, 4.0) if run.config["teacher"] else Cost(6.0, 0.0)


def sizes(run: Run) -> tuple[float, float]:
    return 100.0, 300.0


@pytest.fixture
def suite(base: dict[str, Any], load: Load) -> Suite:
    base["pairs"] = [
        {"teacher": "resnet14", "student": "resnet8"}, {"teacher": "resnet20", "student": "resnet8"}
    ]  # fmt: skip
    base["methods"], base["seeds"] = ["student", "kd", "crd"], [0, 1]
    return load(base)


def test_rows_and_pairs_add_up_to_the_work(suite: Suite) -> None:
    cells = expand(suite)
    jobs = cohorts((c.run for c in cells), cost)
    found = forecast(cells, arrange(jobs, 1), 1, sizes)
    # 2 teachers, 2 plain students under both pairs, 2 pairs × 2 methods × 2 seeds
    assert found.work == found.seconds == pytest.approx(2 * 6 + 2 * 6 + 4 * (2 * 10 + 4))
    for parts in (found.rows, found.pairs):
        assert sum(p.seconds for p in parts.values()) == pytest.approx(found.work)
    assert {row: part.runs for row, part in found.rows.items()} == {
        "Teacher": 2, "Student": 2, "KD": 4, "CRD": 4,
    }  # fmt: skip
    assert found.rows["KD"].seconds == pytest.approx(4 * 12)
    assert [part.runs for part in found.pairs.values()] == [7, 7]
    assert found.disk.weights == 12 * 100 and found.disk.records == 12 * (RECORD + 10 * EPOCH)
    assert found.disk.checkpoints == 2 * 300  # of the cohort that trains


def test_more_workers_end_sooner_and_hold_more_checkpoints(suite: Suite) -> None:
    cells = expand(suite)
    jobs = cohorts((c.run for c in cells), cost)
    one, four = (forecast(cells, arrange(jobs, n), n, sizes) for n in (1, 4))
    assert four.seconds < 0.4 * one.seconds and four.work >= one.work
    assert four.disk.checkpoints > one.disk.checkpoints


def test_what_is_done_is_left_out(suite: Suite) -> None:
    cells = expand(suite)
    left = [c.run for c in cells if c.method is not None and c.method.name == "crd"]
    found = forecast(cells, cohorts(left, cost), 1, sizes)
    assert list(found.rows) == ["CRD"] and found.work == pytest.approx(4 * 14)
    assert forecast(cells, [], 1, sizes).seconds == 0


def test_a_run_of_which_half_is_done_costs_half() -> None:
    assert remaining(Cost(8, 4), 0.5) == Cost(4, 2)
