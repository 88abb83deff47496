"""Rows against a baseline and against the published numbers."""

from __future__ import annotations

import pytest
from scipy import stats

from wcordbench.errors import UserError
from wcordbench.reporting.compare import (
    against,
    baseline_of,
    judged,
    not_judged,
    verdicts,
)
from wcordbench.reporting.table import build
from wcordbench.results.store import Store
from wcordbench.suite import Suite, expand, load_suite

from .test_table import PAIR, SUITES, entry, finish, full, store

__all__ = ["full", "store"]  # fixtures

CRD = [71.0, 71.2, 71.4, 71.1, 71.3]


def test_cells_are_compared_with_the_baseline_of_their_column(full: Suite, store: Store) -> None:
    other = "vgg13->vgg8"
    scores = {
        ("CRD", PAIR): CRD,
        ("KD", PAIR): [x - d for x, d in zip(CRD, (0.9, 1.0, 1.1, 0.95, 1.05), strict=True)],
        ("WCoRD", PAIR): [71.3, 71.0, 71.5, 71.15, 71.2],
        ("FitNet", PAIR): [60.0],
        ("KD", other): [73.0, 73.1],
    }
    finish(store, full, scores)
    table = against(build(full, expand(full), store, None), "CRD")
    kd, wcord, fitnet = (entry(table, row).versus for row in ("KD", "WCoRD", "FitNet"))
    assert (kd.mark, wcord.mark, fitnet.mark) == ("‡", "", "")
    assert kd.mean == pytest.approx(-1.0)
    assert table.remarks[-1] == (
        "† above, ‡ below CRD at the 5% level: paired t tests over common seeds, corrected for the"
        " 2 comparisons of each pair (Holm). 2 cells not tested against CRD: fewer than two seeds"
        " in common, or the same difference in each."
    )
    ps = [stats.ttest_rel(scores[row, PAIR], CRD).pvalue for row in ("KD", "WCoRD")]
    assert (kd.p, wcord.p) == (pytest.approx(ps[0]), pytest.approx(ps[1]))
    assert kd.adjusted == pytest.approx(2 * ps[0])
    assert (fitnet.seeds, fitnet.p) == ((0,), None)
    assert entry(table, "CRD").versus is None
    assert entry(table, "KD", other).versus is None  # no baseline there
    assert table.baseline == "CRD"


def test_verdicts_name_the_teacher(full: Suite, store: Store) -> None:
    finish(
        store,
        full,
        {
            ("Teacher", PAIR): [72.74],
            ("CRD", PAIR): [71.0, 71.2, 71.3, 71.1, 71.2],
            ("WCoRD", PAIR): [x - 1 for x in CRD],
            ("KD", PAIR): [70.7],
        },
    )
    table = judged(build(full, expand(full), store, None))
    found = {row: str(v) for row, column, v in verdicts(table)}
    assert found == {
        "CRD": "reproduced; teacher 0.40 above published",
        "WCoRD": "below; teacher 0.40 above published",
        "KD": "undecided, no deviation is known, at least 2 seeds needed;"
        " teacher 0.40 above published",
    }
    assert not_judged(full) is None


@pytest.mark.parametrize(
    ("suite", "why"),
    [
        ("cifar100_cpu", "the protocol is not the published one"),
        ("digits", "none are of this dataset"),
        ("privileged_cpu", "none are of this dataset"),
    ],
)
def test_what_is_not_comparable_is_not_judged(suite: str, why: str, store: Store) -> None:
    loaded = load_suite(SUITES / f"{suite}.yaml")
    assert why in str(not_judged(loaded))
    assert not list(verdicts(judged(build(loaded, expand(loaded), store, None))))


def test_the_baseline_is_found_by_key_or_label() -> None:
    suite = load_suite(SUITES / "cifar100_cpu.yaml")
    assert baseline_of(suite) == baseline_of(suite, "crd") == baseline_of(suite, "CRD") == "CRD"
    assert baseline_of(suite, "WCoRD (dual)") == "WCoRD (dual)"
    with pytest.raises(UserError, match=r"is several rows; .*: 'WCoRD', 'WCoRD \(dual\)'"):
        baseline_of(suite, "wcord")
    with pytest.raises(UserError, match="'cdr' is not in the suite; did you mean 'crd'"):
        baseline_of(suite, "cdr")
    assert baseline_of(load_suite(SUITES / "privileged_cpu.yaml")) == "Student"
    neither = load_suite(SUITES / "cifar100_cpu.yaml", ["methods=[kd]"])
    with pytest.raises(UserError, match="has neither crd nor student"):
        baseline_of(neither)


def test_each_pair_is_a_family_of_its_own(full: Suite, store: Store) -> None:
    other = "vgg13->vgg8"
    low = [70.1, 70.4, 70.3, 70.2, 70.6]
    scores = {("CRD", p): CRD for p in (PAIR, other)} | {("KD", p): low for p in (PAIR, other)}
    finish(store, full, scores | {("FitNet", other): [x - 0.3 for x in low[::-1]]})
    table = against(build(full, expand(full), store, None), "CRD")
    alone, beside = (entry(table, "KD", pair).versus for pair in (PAIR, other))
    assert alone.adjusted == alone.p == beside.p
    assert beside.adjusted > beside.p
    assert "corrected for the 1 to 2 comparisons of each pair (Holm)" in table.remarks[-1]
