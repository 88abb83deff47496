"""Tables: layout, statistics, gaps, published numbers, every format."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wcordbench.errors import UserError
from wcordbench.reporting import published
from wcordbench.reporting.render import render
from wcordbench.reporting.sweep import render_sweeps
from wcordbench.reporting.table import Table, build
from wcordbench.results.store import Store
from wcordbench.suite import Suite, expand, load_suite

SUITES = Path(__file__).parents[2] / "suites"
COMMITTED = Store(SUITES.parent / "results")


def finish(store: Store, suite: Suite, scores: dict[tuple[str, str], list[float]]) -> None:
    """Store made-up results: (row, pair) to one score a seed."""
    for cell in expand(suite):
        row = "Teacher" if cell.method is None else cell.method.title
        values = scores.get((row, cell.pair.name), [])
        at = 0 if cell.method is None else suite.seeds.index(cell.seed)
        if at < len(values):
            folder = store.folder(cell.run)
            folder.begin(cell.run)
            folder.finish(
                {
                    "id": cell.run.id,
                    "config": cell.run.config,
                    "scores": {"top1": values[at], "top5": 90.0, "best_top1": values[at]},
                }
            )


@pytest.fixture
def full() -> Suite:
    return load_suite(SUITES / "cifar100.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


PAIR = "resnet56->resnet20"


def entry(table: Table, row: str, pair: str = PAIR) -> Any:
    teacher, student = pair.split("->")
    column = list(zip(table.teachers, table.students, strict=True)).index((teacher, student))
    return dict(table.rows)[row][column]


def test_statistics_are_over_seeds(full: Suite, store: Store) -> None:
    finish(store, full, {("CRD", PAIR): [71.0, 71.2, 71.4, 71.0, 71.4]})
    summary = entry(build(full, expand(full), store, None), "CRD").summary
    assert summary.mean == pytest.approx(71.2)
    assert summary.std == pytest.approx(0.2)  # sample standard deviation, n - 1
    assert summary.complete


def test_layout_is_the_papers(full: Suite, store: Store) -> None:
    table = build(full, expand(full), store, None)
    assert table.teachers == [
        "wrn_40_2", "wrn_40_2", "resnet56", "resnet110", "resnet110", "resnet32x4", "vgg13",
    ]  # fmt: skip
    assert table.students == [
        "wrn_16_2", "wrn_40_1", "resnet20", "resnet20", "resnet32", "resnet8x4", "vgg8",
    ]  # fmt: skip
    alone = [
        "FitNet",
        "AT",
        "SP",
        "CC",
        "VID",
        "RKD",
        "PKT",
        "AB",
        "FT",
        "FSP",
        "NST",
        "CRD",
        "WCoRD",
    ]
    names = [name for name, _ in table.rows]
    assert names == ["Teacher", "Student", "KD", *alone, *(f"{name}+KD" for name in alone)]


def test_published_numbers_stand_beside_the_full_protocol(full: Suite, store: Store) -> None:
    table = build(full, expand(full), store, None)
    assert (entry(table, "WCoRD").published.mean, entry(table, "WCoRD").published.std) == (
        71.56,
        0.13,
    )
    assert entry(table, "Teacher").published.mean == 72.34
    assert entry(table, "KD").published.mean == 70.66
    for name in ("Teacher", "Student", "KD", "CRD", "CRD+KD", "WCoRD", "WCoRD+KD"):
        assert all(e.published for e in dict(table.rows)[name]), name


def test_differences_to_the_published_numbers_have_columns_of_their_own(
    full: Suite, store: Store
) -> None:
    finish(store, full, {("KD", PAIR): [70.5, 70.7], ("CRD", PAIR): [71.0, 71.2]})
    table = build(full, expand(full), store, None)
    assert entry(table, "KD").delta == pytest.approx(70.6 - 70.66)
    assert table.compared == [table.students.index("resnet20")]
    line = next(x for x in render(table, "text").splitlines() if x.startswith("KD "))
    assert line.split()[-2:] == ["−0.06", "2.0"]
    latex = render(table, "latex")
    # of seven pairs the published numbers have a table of their own
    assert latex.count(r"\begin{table*}") == 2
    assert "[70.66]" not in latex
    assert r"70.66 ($-$0.06)" in latex
    one = [c for c in expand(full) if c.pair.name == PAIR]
    narrow = render(build(full, one, store, None), "latex")
    assert narrow.count(r"\begin{table}") == 1
    assert r"\multicolumn{1}{c}{$\Delta$ to published}" in narrow
    assert r"{\scriptsize[70.66]} " in narrow
    cell = next(c for c in json.loads(render(table, "json"))["cells"] if c["delta"] is not None)
    assert cell["delta"] == pytest.approx(cell["mean"] - cell["published_mean"])
    assert build(full, expand(full), store, "none").compared == []


def test_ranks_are_averaged_over_columns_and_shared_between_equals(
    full: Suite, store: Store
) -> None:
    other = "vgg13->vgg8"
    finish(
        store,
        full,
        {
            ("KD", PAIR): [70.0], ("CRD", PAIR): [71.0], ("WCoRD", PAIR): [71.0],
            ("KD", other): [74.0], ("CRD", other): [73.0],
        },
    )  # fmt: skip
    table = build(full, expand(full), store, None)
    assert {name: rank.mean for name, rank in table.ranks.items()} == {
        "KD": 2.0, "CRD": 1.75, "WCoRD": 1.5,
    }  # fmt: skip
    text = render(table, "text")
    ranks = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in text.splitlines()}
    assert (ranks["CRD"], ranks["WCoRD"]) == ("1.8", "1.5 (n=1)")
    assert "n: how many those are, where not all" in text
    cells = {c["row"]: c for c in json.loads(render(table, "json"))["cells"]}
    assert (cells["CRD"]["rank_columns"], cells["WCoRD"]["rank_columns"]) == (2, 1)
    one = [c for c in expand(full) if c.pair.name == PAIR]
    assert build(full, one, store, None).ranks == {}


@pytest.mark.parametrize(
    "override", ["train.epochs=239", "train.batch_size=128", "dataset.size=16",
                 "train.schedule={type: one_cycle}", "train.augment.flip=false"],
)  # fmt: skip
def test_a_reduced_schedule_is_labelled_and_not_compared(store: Store, override: str) -> None:
    suite = load_suite(SUITES / "cifar100.yaml", [override])
    table = build(suite, expand(suite), store, None)
    assert not any(e.published for _, entries in table.rows for e in entries)
    assert "Not comparable" in table.remarks[-1]
    asked = build(suite, expand(suite), store, "published")
    assert entry(asked, "WCoRD").published
    assert "NOT comparable" in asked.remarks[-1]


def test_nothing_is_published_for_digits(store: Store) -> None:
    suite = load_suite(SUITES / "digits.yaml")
    with pytest.raises(UserError, match="nothing is published"):
        build(suite, expand(suite), store, "published")


def test_the_best_student_of_a_column_is_bold(full: Suite, store: Store) -> None:
    finish(
        store,
        full,
        {("Teacher", PAIR): [99.0], ("KD", PAIR): [70.0, 70.0], ("CRD", PAIR): [71.0, 71.2]},
    )
    table = build(full, expand(full), store, None)
    assert [name for name, _ in table.rows if entry(table, name).best] == ["CRD"]
    assert "**71.10 ± 0.14**" in render(table, "markdown")
    assert r"\textbf{71.10 $\pm$ 0.14}" in render(table, "latex")


def test_results_of_different_images_are_not_set_beside_each_other_silently(
    full: Suite, store: Store
) -> None:
    finish(store, full, {("CRD", PAIR): [71.0, 71.2, 71.4], ("KD", PAIR): [70.0]})
    for folder, fingerprint in zip(store.folders(), ("a", "a", "a", "b"), strict=True):
        file = folder.path / "result.json"
        assert "fingerprints" not in " ".join(build(full, expand(full), store, None).remarks)
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "dataset_fingerprint": fingerprint}))
    text = render(build(full, expand(full), store, None), "text")
    assert "NOT comparable with each other: the dataset's images were changed" in text
    assert "2 fingerprints" in text


def test_missing_partial_failed_and_undefined_are_told_apart(full: Suite, store: Store) -> None:
    finish(store, full, {("KD", PAIR): [70.0, 70.2]})
    for cell in expand(full):
        if cell.pair.name == PAIR and cell.method is not None:
            folder = store.folder(cell.run)
            if cell.method.name == "crd":
                folder.begin(cell.run)
                folder.fail("diverged", "the loss became nan in epoch 3")
            if cell.method.name == "wcord":
                folder.begin(cell.run)
                folder.fail("undefined", "channels differ")
    table = build(full, expand(full), store, "none")
    text = render(table, "text")
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "70.10 ± 0.14 (n=2)" in lines["KD"]
    assert "failed [1]" in lines["CRD"]
    assert "N/A [2]" in lines["WCoRD"]
    assert "[1] 5 failed: the loss became nan in epoch 3." in text
    assert "[2] N/A: channels differ." in text
    latex = render(table, "latex")
    assert "failed$^{1}$" in latex
    assert "N/A$^{2}$" in latex


def test_formats_agree(full: Suite, store: Store) -> None:
    finish(store, full, {("CRD", PAIR): [71.0, 71.2]})
    table = build(full, expand(full), store, None)
    cells = json.loads(render(table, "json"))["cells"]
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(cells) == len(rows) == 29 * 7
    ours = next(c for c in cells if c["row"] == "CRD" and c["student"] == "resnet20")
    theirs = next(r for r in rows if r["row"] == "CRD" and r["student"] == "resnet20")
    assert ours["mean"] == float(theirs["mean"]) == pytest.approx(71.1)
    assert ours["published_mean"] == 71.16
    assert ours["seeds"] == 2
    assert ours["wanted"] == 5


def test_latex_is_booktabs_and_balanced(full: Suite, store: Store) -> None:
    latex = render(build(full, expand(full), store, None), "latex")
    for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{table*}", r"\caption{"):
        assert command in latex
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in body} == {7}  # nothing is finished: no Δ, no rank
    assert "_" not in latex.replace(r"\_", "")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a TeX")
def test_latex_compiles_and_fits_the_page(store: Store, tmp_path: Path) -> None:
    full = load_suite(SUITES / "cifar100.yaml", ["methods=[student, crd, wcord+kd]"])
    columns = [(m.title, p.name) for m in full.methods for p in full.pairs]
    finish(store, full, {column: [70.0, 71.25] for column in columns})
    names = ("cifar100_cpu_baselines", "privileged_cpu")
    suites = [(full, store), *((load_suite(SUITES / f"{n}.yaml"), COMMITTED) for n in names)]
    parts = []
    for suite, of in suites:
        table = build(suite, expand(suite), of, None)
        parts += [render(table, "latex"), render_sweeps(suite, table, "latex") or ""]
    text = "\n".join(parts)
    (tmp_path / "doc.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        f"\n{text}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_a_tampered_result_is_refused(full: Suite, store: Store) -> None:
    finish(store, full, {("CRD", PAIR): [71.0]})
    cell = next(c for c in expand(full) if c.method and c.method.name == "crd" and c.seed == 0
                and c.pair.name == PAIR)  # fmt: skip
    file = store.folder(cell.run).path / "result.json"
    file.write_text(file.read_text().replace('"epochs": 240', '"epochs": 2'))
    with pytest.raises(UserError, match="was changed after it was written"):
        build(full, expand(full), store, None)


def test_published_numbers_are_the_papers() -> None:
    numbers = published.numbers()
    assert len(numbers) >= 150
    (number,) = numbers["vgg13", "vgg8", "wcord+kd"]
    assert (number.mean, number.std, number.source) == (74.72, 0.13, "WCoRD supplement")
    assert published.numbers("auc")


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    code = (
        "import sys; sys.argv = ['wcordbench', 'table', sys.argv[1], '--results', sys.argv[2]]\n"
        "from wcordbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
        "assert 'scipy' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, SUITES / "digits.yaml", tmp_path / "results"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "WCoRD+KD" in done.stdout
