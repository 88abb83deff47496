"""What a table must not leave unsaid: rows of a sweep, seeds of a rank, options of a pair."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.reporting.plot_table import NOT_ALIKE, PUBLISHED, dot_plot
from wcordbench.reporting.table import Table, build
from wcordbench.results.store import Store
from wcordbench.suite import Suite, expand, load_suite

from .test_table import SUITES, finish

ROOT = SUITES.parent
PAIRS = ("resnet56->resnet20", "resnet110->resnet20")


def suite_of(*overrides: str) -> Suite:
    pairs = (
        "pairs=[{teacher: resnet56, student: resnet20}, {teacher: resnet110, student: resnet20}]"
    )
    return load_suite(SUITES / "cifar100.yaml", [pairs, *overrides])


def table_of(suite: Suite, folder: Path, scores: dict[tuple[str, str], list[float]]) -> Table:
    store = Store(folder)
    finish(store, suite, scores)
    return build(suite, expand(suite), store, None)


# --- sweeps ---------------------------------------------------------------------

SWEPT = (
    "methods=[{name: wcord, lambda1: {sweep: [0, 0.1]}},"
    " {name: wcord, critic: {sweep: [dual, posterior]}}]"
)


def test_a_sweep_over_words_is_not_left_out(tmp_path: Path) -> None:
    """The wide layout shows numbers alone, and so is not the default of such a suite."""
    suite = load_suite(SUITES / "digits_kd.yaml", [SWEPT])
    (pair,) = (p.name for p in suite.pairs)
    rows = {(m.title, pair): [60.0 + i] for i, m in enumerate(suite.methods)}
    finish(Store(tmp_path), suite, rows)
    arguments = [
        "table",
        str(SUITES / "digits_kd.yaml"),
        "--set",
        SWEPT,
        "--results",
        str(tmp_path),
    ]
    for form in ("text", "csv", "latex", "markdown", "json"):
        shown = CliRunner().invoke(app, [*arguments, "--format", form]).output
        for title, _ in rows:
            assert title in shown.replace(r"\_", "_").replace("$", ""), (form, title)
    wide = CliRunner().invoke(app, [*arguments, "--layout", "wide"]).output
    assert "Not in this layout: WCoRD (critic = dual), WCoRD (critic = posterior);" in wide
    only = [*arguments, "--method", "wcord", "--set", SWEPT.replace("dual, posterior", "dual, nce")]
    assert "WCoRD (critic = dual)" in CliRunner().invoke(app, only).output


def test_a_failed_value_of_a_sweep_says_why(tmp_path: Path) -> None:
    sweep = "methods=[{name: wcord, lambda1: {sweep: [0, 0.1]}}]"
    suite = load_suite(SUITES / "digits_kd.yaml", [sweep])
    store = Store(tmp_path)
    for cell in expand(suite):
        store.folder(cell.run).begin(cell.run)
        store.folder(cell.run).fail("diverged", "the loss became nan in epoch 3")
    for form, mark in (("text", "failed [1]"), ("latex", "failed$^{1}$")):
        arguments = ["table", str(SUITES / "digits_kd.yaml"), "--set", sweep, "--format", form]
        shown = CliRunner().invoke(app, [*arguments, "--results", str(tmp_path)]).output
        assert mark in shown and "[1] 8 failed: the loss became nan in epoch 3." in shown


# --- the best and the ranks -----------------------------------------------------


def test_a_cell_with_fewer_seeds_is_neither_best_nor_ranked(tmp_path: Path) -> None:
    """One lucky seed, or the survivors of a divergence, are not put before five seeds."""
    scores = {}
    for pair in PAIRS:
        scores["CRD", pair] = [71.0, 71.2, 71.4, 71.1, 71.3]
        scores["KD", pair] = [70.0, 70.2, 70.4, 70.1, 70.3]
        scores["WCoRD", pair] = [76.9]
    scores["WCoRD", PAIRS[1]] = [70.5] * 5
    table = table_of(suite_of("methods=[kd, crd, wcord]"), tmp_path, scores)
    best = {name: [e.best for e in entries] for name, entries in table.rows}
    assert best == {"Teacher": [False] * 2, "KD": [False] * 2, "CRD": [True] * 2,
                    "WCoRD": [False] * 2}  # fmt: skip
    assert {n: str(r) for n, r in table.ranks.items()} == {
        "KD": "2.5", "CRD": "1.0", "WCoRD": "2.0 (n=1)",
    }  # fmt: skip


# --- options of a pair ----------------------------------------------------------

OWN = (
    "pairs=[{teacher: resnet56, student: resnet20, methods: {kd: {options: {temperature: 1.0}},"
    " crd: {epochs: 220}}}, {teacher: resnet110, student: resnet20}]"
)


def test_options_of_one_pair_are_named(tmp_path: Path) -> None:
    """A row of two methods is said to be one; another protocol of a cell has its footnote."""
    suite = suite_of(OWN, "methods=[student, kd, crd]")
    said = " ".join(table_of(suite, tmp_path, {}).remarks)
    assert "With other options from pair to pair, as the suite says: KD." in said
    one = build(suite, [c for c in expand(suite) if c.pair.name == PAIRS[0]], Store(tmp_path), None)
    assert "With other options" not in " ".join(one.remarks)


# --- published numbers in a plot ------------------------------------------------


def test_a_published_number_of_another_configuration_is_drawn_as_such(tmp_path: Path) -> None:
    scores = {("KD", PAIRS[0]): [70.0, 70.2]}
    for overrides, label in (((), PUBLISHED), (("train.batch_size=128",), NOT_ALIKE)):
        suite = suite_of("methods=[kd, crd]", *overrides)
        store = Store(tmp_path / label.replace(" ", "_"))
        finish(store, suite, scores)
        table = build(suite, expand(suite), store, "published")
        out = tmp_path / "x.svg"
        dot_plot(table, out)
        shown = [line.strip() for line in out.read_text().splitlines() if "published" in line]
        assert any(f"-- {label} --" in line or f">{label}<" in line for line in shown), shown
        assert any(NOT_ALIKE in line for line in shown) == (label == NOT_ALIKE)


# --- the rule of docs/wcord.md --------------------------------------------------


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/readings.py."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("readings", ROOT / "benchmarks" / "readings.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("common", None)
    return module


def test_a_reading_with_a_failed_run_does_not_count(readings: ModuleType) -> None:
    nce = {0: 40.0, 1: 41.0, 2: 42.0}
    scores = {"nce": nce, "dual": {0: 43.0, 1: 44.1}, "infonce": {0: 41.0, 1: 42.1, 2: 43.0}}
    kept = readings.whole(scores, [0, 1, 2])
    assert kept.keys() == {"nce", "infonce"}
    assert readings.decision(kept).startswith("infonce has the highest mean; the interval")
    assert "excludes 0; infonce becomes the default." in readings.decision(kept)
    assert "corrected for 1 comparison (Holm) is 0.0" in readings.decision(kept)
    others = {f"reading {i}": {0: 40.0, 1: 40.0 + i, 2: 42.0} for i in range(2, 8)}
    many = readings.decision({**kept, **others, "infonce": {0: 43.0, 1: 45.6, 2: 44.6}})
    assert many.endswith("Only the uncorrected interval changes the default."), many
    close = {"nce": nce, "infonce": {0: 39.0, 1: 42.0, 2: 43.0}}
    assert "contains 0; nce stays the default." in readings.decision(close)
    assert readings.decision({"nce": nce, "dual": {0: 1.0, 1: 2.0, 2: 3.0}}) == (
        "nce has the highest mean and stays the default."
    )
    with pytest.raises(SystemExit, match="nce does not have all seeds"):
        readings.whole({"nce": {0: 40.0}, "dual": nce}, [0, 1, 2])
