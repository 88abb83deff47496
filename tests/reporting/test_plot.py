"""Pictures: every kind draws, the same results give the same file, gaps are said."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.errors import UserError
from wcordbench.reporting import plot, plot_curves
from wcordbench.reporting.plot_correlation import correlation_maps
from wcordbench.reporting.plot_sweep import sweep_plot
from wcordbench.reporting.plot_table import dot_plot
from wcordbench.reporting.published import Number
from wcordbench.reporting.table import Entry, Table
from wcordbench.results.store import Store
from wcordbench.results.summary import Summary
from wcordbench.suite import expand, load_suite

ROOT = Path(__file__).parents[2]
#: pictures in docs/, the suite and the kind that they are of
DOCUMENTED = {
    "cifar100_cpu.svg": ("cifar100_cpu", "table"),
    "cifar100_cpu_curves.svg": ("cifar100_cpu", "curves"),
    "cifar100_cpu_baselines.svg": ("cifar100_cpu_baselines", "table"),
    "privileged_cpu.svg": ("privileged_cpu", "sweep", "--compare", "published"),
}


def draw(out: Path, *options: str, suite: str = "cifar100_cpu") -> None:
    arguments = ["plot", str(ROOT / "suites" / f"{suite}.yaml"), "--out", str(out), *options]
    done = CliRunner().invoke(app, [*arguments, "--results", str(ROOT / "results")])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception


def texts(svg: str) -> list[str]:
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


def width(svg: str) -> float:
    """In inches."""
    found = re.search(r'width="([\d.]+)pt"', svg)
    assert found
    return float(found[1]) / 72


def as_svg(out: io.BytesIO) -> str:
    return out.getvalue().decode()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_pictures_are_those_of_the_committed_results(
    name: str, tmp_path: Path
) -> None:
    suite, kind, *more = DOCUMENTED[name]
    draw(tmp_path / name, "--kind", kind, *more, suite=suite)
    svg = (tmp_path / name).read_text()
    assert svg == (ROOT / "docs" / name).read_text()
    assert width(svg) == pytest.approx(3.3)
    sizes = [float(x) for x in re.findall(r"font(?:-size)?: (?:[a-z0-9]+ )*([\d.]+)px", svg)]
    assert sizes and min(sizes) >= 7  # points: 72 an inch


def test_a_table_shows_teacher_gaps_and_published_values() -> None:
    ours = Summary((70.0, 71.0, 72.5), 3, seeds=(0, 1, 2))
    rows = [
        ("Teacher", [Entry(Summary((90.0,), 1), Number(72.34, None, "x"), alike=True)]),
        ("KD", [Entry(ours, Number(70.66, 0.24, "x"), alike=True)]),
        ("FSP", [Entry(Summary((), 3, undefined="channels differ"))]),
        ("FT", [Entry(Summary((), 3, failures=("nan",)))]),
        ("WCoRD (lambda1 = 0.1)", [Entry(None)]),
    ]
    out = io.BytesIO()
    dot_plot(Table("t", "Top-1", ["resnet56"], ["resnet20"], rows), out)
    shown = texts(as_svg(out))
    for text in ("N/A", "failed", "published", "mean, 95% interval", "WCoRD (λ1 = 0.1)"):
        assert text in shown
    assert "teacher 90.00, published teacher 72.34" in shown
    assert "teacher" not in shown  # its line would squeeze the students


def test_many_methods_are_spread_over_panels_that_keep_the_student(tmp_path: Path) -> None:
    draw(tmp_path / "x.svg", "--kind", "curves", suite="cifar100_cpu_baselines")
    shown = texts((tmp_path / "x.svg").read_text())
    assert shown.count("Student") == shown.count("resnet56 → resnet20") == 3
    for method in ("KD", "FitNet", "NST", "WCoRD+KD"):
        assert shown.count(method) == 1


def test_curves_are_of_the_suites_metric(tmp_path: Path) -> None:
    draw(tmp_path / "x.svg", "--kind", "curves", suite="privileged_cpu")
    assert "Test AUC (%)" in texts((tmp_path / "x.svg").read_text())


def test_a_failed_seed_is_left_out_of_a_curve_which_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, store = load_suite(ROOT / "suites" / "digits_kd.yaml"), Store(tmp_path / "results")
    cells = [c for c in expand(suite) if c.method is not None and c.method.name == "kd"][:3]
    lines: list[int] = []
    line = plot_curves._line

    def counted(axis: Any, *more: Any) -> None:
        line(axis, *more)
        lines.append(len(axis.lines[-1].get_xdata()))

    monkeypatch.setattr(plot_curves, "_line", counted)

    def write(number: int, epochs: int) -> None:
        folder = store.folder(cells[number].run)
        folder.begin(cells[number].run)
        folder.write_metrics([{"test_top1": 50.0 + e + number} for e in range(epochs)])

    def drawn() -> tuple[list[str], int]:
        plot_curves.curves(suite, cells, store, tmp_path / "x.svg")
        return texts((tmp_path / "x.svg").read_text()), lines[-1]

    write(0, 4)
    write(1, 4)
    shown, points = drawn()
    assert points == 4 and not any("left out" in t or "line ends" in t for t in shown)
    write(2, 1)
    shown, points = drawn()
    assert points == 1
    assert "a line ends at the last epoch that all of its seeds have reached" in shown
    store.folder(cells[2].run).fail("diverged", "the loss became nan in epoch 2")
    shown, points = drawn()
    assert points == 4 and "left out: 1 run whose training failed" in shown
    assert not any("line ends" in t for t in shown)
    for cell in cells[:2]:
        store.folder(cell.run).fail("diverged", "the loss became nan in epoch 2")
    with pytest.raises(UserError, match=r"no epoch is over yet \(3 failed: wcordbench status"):
        drawn()


def test_no_two_lines_of_a_panel_look_the_same() -> None:
    looks = [plot.style(n) for n in range(len(plot.COLOURS))]
    assert len({x["color"] for x in looks}) == len({x["marker"] for x in looks}) == len(looks)


def test_a_sweep_has_the_published_curve_and_what_is_not_swept(tmp_path: Path) -> None:
    draw(tmp_path / "x.svg", "--kind", "sweep", suite="privileged_cpu")
    shown = texts((tmp_path / "x.svg").read_text())
    assert not any("published" in text for text in shown)  # of other images: only where asked for
    draw(tmp_path / "x.svg", "--kind", "sweep", "--compare", "published", suite="privileged_cpu")
    shown = texts((tmp_path / "x.svg").read_text())
    for text in ("ours", "published, other images", "Student 84.06", "KD 84.65", "0.07", "0.8"):
        assert text in shown
    assert "λ1 (square-root scale)" in shown


def test_a_sweep_far_from_the_published_gets_a_panel_of_its_own(tmp_path: Path) -> None:
    suite = load_suite(ROOT / "suites" / "privileged_cpu.yaml")
    values = iter([60 + 0.1 * i for i in range(99)])
    rows = [
        (m.title, [Entry(Summary((next(values),), 1), Number(80.0 + i, None, "x"))])
        for i, m in enumerate(suite.methods)
    ]
    table = Table("t", "Test AUC (%) after the last epoch", ["resnet20"], ["resnet8x4"], rows)
    out = io.BytesIO()
    sweep_plot(suite, table, out)
    assert as_svg(out).count('<g id="axes_') == 2
    assert "published, another configuration" in texts(as_svg(out))
    assert not any("standard deviation" in text for text in texts(as_svg(out)))


def test_maps_of_correlations() -> None:
    matrix = np.array([[0.0, 0.4], [0.4, np.nan]])
    out = io.BytesIO()
    maps = {"a->b": {"KD": matrix, "CRD": matrix / 2}, "a->c": {"KD": matrix}}
    correlation_maps(maps, out)
    shown = texts(as_svg(out))
    assert shown.count("mean 0.400") == 2 and "mean 0.200" in shown
    assert shown.count("a → b") == 2 and "a → c" in shown


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_other_formats(form: str, tmp_path: Path) -> None:
    draw(tmp_path / f"x.{form}", "--kind", "sweep", suite="privileged_cpu")
    assert (tmp_path / f"x.{form}").stat().st_size > 5000


def test_what_cannot_be_drawn_is_one_sentence(tmp_path: Path) -> None:
    digits = str(ROOT / "suites" / "digits.yaml")
    cases = {
        "table": "nothing is finished",
        "curves": "no epoch is over",
        "sweep": "'digits' sweeps no parameter",
        "correlation": "nothing is finished",
    }
    for kind, reason in cases.items():
        out = ["--out", str(tmp_path / "x.svg"), "--kind", kind, "--results", str(tmp_path)]
        done = CliRunner().invoke(app, ["plot", digits, *out])
        assert isinstance(done.exception, UserError) and reason in str(done.exception)
    with pytest.raises(UserError, match="--kind 'curve' is unknown; did you mean 'curves'"):
        draw(tmp_path / "x.svg", "--kind", "curve")
    with pytest.raises(UserError, match="weights that the maps are made of, is missing; train"):
        draw(tmp_path / "x.svg", "--kind", "correlation", "--method", "wcord")
    assert not (tmp_path / "x.svg").exists()


def test_nothing_of_a_sweep_is_finished(tmp_path: Path) -> None:
    suite = load_suite(ROOT / "suites" / "privileged_cpu.yaml")
    from wcordbench.reporting.table import build

    table = build(suite, expand(suite), Store(tmp_path), None)
    with pytest.raises(UserError, match="nothing is finished yet"):
        sweep_plot(suite, table, tmp_path / "x.svg")
