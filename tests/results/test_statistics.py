"""Intervals, paired tests and verdicts, against scipy and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from wcordbench.results.statistics import Interval, Verdict, holm, interval, paired, verdict

VALUES = [71.1, 71.32, 70.95, 71.4, 71.2]
OTHERS = [71.0, 71.1, 70.99, 71.1, 71.05]


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_is_scipys(count: int, confidence: float) -> None:
    values = VALUES[:count]
    low, high = stats.t.interval(confidence, count - 1, np.mean(values), stats.sem(values))
    found = interval(values, confidence)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_paired_difference_is_scipys() -> None:
    wanted = stats.ttest_rel(VALUES, OTHERS)
    found = paired(by_seed(VALUES), by_seed(OTHERS))
    assert found is not None and found.interval is not None
    assert found.p == pytest.approx(wanted.pvalue)
    low, high = wanted.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == (pytest.approx(low), pytest.approx(high))
    assert found.mean == pytest.approx(np.mean(VALUES) - np.mean(OTHERS))


def test_only_common_seeds_are_paired() -> None:
    found = paired({0: 70.0, 3: 72.0, 2: 71.5}, {2: 71.0, 0: 70.1, 1: 99.0})
    assert found is not None
    assert found.seeds == (0, 2)
    assert found.values == (pytest.approx(-0.1), pytest.approx(0.5))
    assert paired({0: 70.0}, {1: 70.0}) is None


@pytest.mark.parametrize("values", [[70.0], [70.1, 70.1, 70.1], []])
def test_without_a_spread_there_is_no_interval(values: list[float]) -> None:
    assert interval(values) is None


def test_differences_that_are_the_same_in_every_seed_are_not_tested() -> None:
    # 71.2 - 70.2 and 71.1 - 70.1 differ in their last bits
    found = paired(by_seed([71.1, 71.2, 73.0]), by_seed([70.1, 70.2, 72.0]))
    assert found is not None
    assert (found.interval, found.p, found.mark) == (None, None, "")


def test_holm_on_a_worked_example() -> None:
    # 4·0.005, 3·0.01, 2·0.03 and, since it may not fall below that, 0.06 again
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_family_wise_error() -> None:
    rng = np.random.default_rng(0)
    ps = stats.ttest_1samp(rng.standard_normal((5, 2000, 12)), 0).pvalue
    wrong = np.mean([min(holm(list(family))) < 0.05 for family in ps])
    assert wrong < 0.065
    assert np.mean(ps.min(1) < 0.05) > 0.4  # what they would be uncorrected


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_covers_the_mean_as_often_as_it_says(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    samples = rng.normal(71.0, 0.2, (4000, seeds)).tolist()
    found = [interval(sample) for sample in samples]
    covered = np.mean([f is not None and f.low <= 71.0 <= f.high for f in found])
    assert 0.93 <= covered <= 0.97


def test_the_welch_interval_is_scipys() -> None:
    theirs = np.array(OTHERS)
    wanted = stats.ttest_ind(VALUES[:3], theirs, equal_var=False).confidence_interval(0.95)
    found = verdict(VALUES[:3], theirs.mean(), theirs.std(ddof=1), len(theirs)).interval
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


@pytest.mark.parametrize(
    ("shift", "kind"),
    [(0.0, "reproduced"), (0.2, "reproduced"), (-0.25, "reproduced"), (0.5, "above"),
     (-0.5, "below"), (3.0, "above")],
)  # fmt: skip
def test_verdicts_by_the_rule(shift: float, kind: str) -> None:
    values = [71.16 + shift + x for x in (-0.17, 0.0, 0.17, -0.1, 0.1)]
    found = verdict(values, 71.16, 0.17, 5)
    assert found.kind == kind
    assert found.difference == pytest.approx(shift)
    assert found.needed is None


def test_an_undecided_verdict_says_how_many_seeds_would_decide() -> None:
    values = [71.3, 71.9]
    found = verdict(values, 71.16, 0.17, 5)
    assert found.kind == "undecided"
    assert found.needed is not None
    # with so many seeds of the same mean and deviation it is decided, with one fewer it is not
    for more, decided in ((found.needed, True), (found.needed - 1, False)):
        count = 2 + more
        x = np.random.default_rng(0).standard_normal(count)
        x = 71.6 + np.std(values, ddof=1) * (x - x.mean()) / x.std(ddof=1)
        assert (verdict(x.tolist(), 71.16, 0.17, 5).kind != "undecided") == decided
    assert str(found) == f"undecided, about {found.needed} more seeds needed; teacher not compared"


def test_the_known_deviation_stands_in_for_the_unknown() -> None:
    alone = verdict([71.2], 71.16, 0.17, 5)
    assert alone.borrowed == "ours" and alone.interval is not None
    half = stats.t.ppf(0.975, 4) * 0.17 * math.sqrt(1 + 1 / 5)
    assert alone.interval.high - alone.interval.low == pytest.approx(2 * half)
    bare = verdict(VALUES, 71.16, None, 5)
    assert bare.borrowed == "published" and bare.interval is not None
    half = stats.t.ppf(0.975, 4) * np.std(VALUES, ddof=1) * math.sqrt(2 / 5)
    assert bare.interval.high - bare.interval.low == pytest.approx(2 * half)
    equal = verdict([71.2, 71.2], 71.16, 0.17, 5)
    assert equal.borrowed == "ours"


def test_without_any_deviation_nothing_is_decided() -> None:
    found = verdict([75.0], 71.16, None, 5)
    assert (found.kind, found.interval, found.needed) == ("undecided", None, None)
    assert str(found).startswith("undecided, no deviation is known, at least 2 seeds needed")


def test_the_teacher_is_part_of_every_verdict() -> None:
    def said(teacher: float | None) -> str:
        return str(Verdict("reproduced", 0.1, Interval(-0.1, 0.3), teacher=teacher))

    assert said(0.4) == "reproduced; teacher 0.40 above published"
    assert said(-1.234) == "reproduced; teacher 1.23 below published"
    assert said(0.001) == "reproduced; teacher as published"
    assert said(None) == "reproduced; teacher not compared"


@pytest.mark.parametrize(("true", "wrong"), [(0.0, "above below"), (0.5, "reproduced below")])
def test_verdicts_are_wrong_as_rarely_as_the_confidence_says(true: float, wrong: str) -> None:
    rng = np.random.default_rng(1)
    kinds = []
    for ours, theirs in zip(
        rng.normal(true, 0.15, (2000, 3)), rng.normal(0, 0.15, (2000, 5)), strict=True
    ):
        kinds.append(verdict(ours.tolist(), theirs.mean(), theirs.std(ddof=1), 5).kind)
    assert np.mean([kind in wrong.split() for kind in kinds]) < 0.05
