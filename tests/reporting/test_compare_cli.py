"""``wcordbench compare`` and ``table --significance`` and ``--best-epoch``."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app, main
from wcordbench.results.store import Store
from wcordbench.suite import load_suite

from .test_table import PAIR, finish

ROOT = Path(__file__).parents[2]
FULL, CPU, AUC = (
    ROOT / "suites" / f"{n}.yaml" for n in ("cifar100", "cifar100_cpu", "privileged_cpu")
)
COMMITTED = ("--results", str(ROOT / "results"))


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def published(tmp_path: Path) -> Store:
    """The full protocol's suite with made-up results."""
    store = Store(tmp_path / "results")
    scores = {
        ("Teacher", PAIR): [72.1],
        ("CRD", PAIR): [71.0, 71.2, 71.4, 71.1, 71.3],
        ("WCoRD", PAIR): [71.9, 72.3, 72.4, 72.2, 72.3],
        ("KD", PAIR): [70.7],
        ("CRD+KD", PAIR): [71.3, 72.1],
    }
    finish(store, load_suite(FULL), scores)
    return store


def test_the_committed_results_against_crd() -> None:
    text = run("compare", CPU, *COMMITTED)
    assert "resnet56 → resnet20: methods minus CRD (36.88 ± 0.12)" in text
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert rows["KD"].split() == [
        "KD", "43.12", "±", "0.41", "3", "+6.24", "+5.52", "to", "+6.95", "0.0007", "0.0042", "†",
    ]  # fmt: skip
    assert "‡" not in rows["WCoRD"] and "†" not in rows["WCoRD"]
    assert "corrected for the 6 comparisons (Holm)" in text
    assert text.endswith(
        "No verdicts on the published numbers: the protocol is not the published one.\n"
    )


def test_every_footnote_is_of_something_shown() -> None:
    """The teachers' row is not here, and the baseline is in the heading."""
    for baseline in ("crd", "WCoRD (dual)"):
        text = run("compare", CPU, *COMMITTED, "--baseline", baseline)
        *_, lines = text.split("\n\n")
        above = text.removesuffix(lines)
        assert "Teacher: another protocol: 10 epochs in place of 4 epochs." in lines.splitlines()
        noted = [line.split()[0] for line in lines.splitlines() if line.startswith("[")]
        assert noted == ["[2]"] and "34.35 ± 0.34 [2]" in above


def test_fewer_comparisons_are_corrected_for_less() -> None:
    text = run("compare", CPU, *COMMITTED, "--method", "KD", "--baseline", "wcord+kd")
    assert "corrected for the 1 comparison (Holm)" in text
    (row,) = (line for line in text.splitlines() if line.startswith("KD "))
    p, adjusted = row.split()[-2:]
    assert p == adjusted


def test_verdicts_in_every_format(published: Store) -> None:
    chosen = ("compare", FULL, "--results", published.root, "--pair", PAIR)
    text = run(*chosen)
    below = text.partition("ours minus published")[2]
    rows = {line.split("  ")[0]: line for line in below.splitlines()}
    assert rows["CRD"].endswith("reproduced; teacher 0.24 below published")
    assert rows["WCoRD"].endswith("above; teacher 0.24 below published")
    assert "undecided, no deviation is known, at least 2 seeds needed" in rows["KD"]
    assert "71.16 ± 0.17" in rows["CRD"]
    assert "more seeds needed; teacher" in rows["CRD+KD"]
    assert "Verdicts: reproduced where the 95% interval" in text
    assert "| WCoRD    | 5       |" in run(*chosen, "--format", "markdown")
    records = json.loads(run(*chosen, "--format", "json"))["comparisons"]
    wcord = next(r for r in records if r["row"] == "WCoRD")
    assert wcord["verdict"] == "above"
    assert wcord["teacher_delta"] == pytest.approx(-0.24)
    assert wcord["delta_low"] > 0
    assert wcord["mark"] == "†"
    rows_csv = list(csv.DictReader(io.StringIO(run(*chosen, "--format", "csv"))))
    assert [r["row"] for r in rows_csv] == [r["row"] for r in records]
    assert float(next(r for r in rows_csv if r["row"] == "WCoRD")["p_holm"]) == wcord["p_holm"]


def test_margin_and_confidence_change_the_verdict(published: Store) -> None:
    chosen = ("compare", FULL, "--results", published.root, "--method", "CRD", "--baseline", "crd")
    assert "reproduced; teacher" in run(*chosen)
    text = run(*chosen, "--margin", "0.1", "--confidence", "0.99")
    assert "99% interval" in text
    assert "undecided, 100 seeds would not do" in text


def test_marks_in_every_format_of_the_table() -> None:
    table = ("table", CPU, *COMMITTED, "--significance", "--format")
    assert "43.12 ± 0.41 †" in run(*table, "text")
    assert "**44.24 ± 0.60** †" in run(*table, "markdown")
    latex = run(*table, "latex")
    assert r"34.35 $\pm$ 0.34$^{\ddagger}$" in latex
    assert r"$\dagger$ above, $\ddagger$ below CRD at the 5\% level" in latex
    cells = {c["row"]: c for c in json.loads(run(*table, "json"))["cells"]}
    assert (cells["KD"]["mark"], cells["WCoRD"]["mark"], cells["CRD"]["mark"]) == ("†", "", "")
    assert cells["KD"]["p"] < cells["KD"]["p_holm"] < 0.05
    assert "p_holm" in run(*table, "csv").splitlines()[0]
    plain = run("table", CPU, *COMMITTED)
    assert "†" not in plain and "p_holm" not in run("table", CPU, *COMMITTED, "--format", "csv")


def test_marks_in_a_sweeps_layout() -> None:
    table = ("table", AUC, *COMMITTED, "--significance", "--layout", "wide", "--format")
    assert "below Student at the 5% level" in run(*table, "text")
    latex = run(*table, "latex")
    assert latex.count(r"\begin{table*}") == 1
    assert r"$\lambda_1$ & 0 & 0.05" in latex


def test_the_best_epoch_is_shown_only_when_asked_and_labelled(published: Store) -> None:
    best = run("table", CPU, *COMMITTED, "--best-epoch")
    first, second = best.splitlines()[:2]
    assert first == "CIFAR-100 at 16×16 pixels, 4 epochs (BEST epoch)"
    assert second == "BEST epoch on the test set: top-1 accuracy (%)"
    assert "Best epoch on the TEST set: not comparable" in best
    assert "BEST" not in run("table", CPU, *COMMITTED)
    full = run("table", FULL, "--results", published.root, "--best-epoch")
    assert "[71.16" not in full  # published numbers are of the last epoch


def test_both_rules_are_a_table_each() -> None:
    last, best = (run("table", CPU, *COMMITTED, "--rule", rule) for rule in ("last", "best"))
    assert run("table", CPU, *COMMITTED, "--rule", "both") == f"{last}\n{best}"
    assert best == run("table", CPU, *COMMITTED, "--best-epoch")
    assert last == run("table", CPU, *COMMITTED)
    of = json.loads(run("table", CPU, *COMMITTED, "--rule", "both", "--format", "json"))
    assert list(of) == ["last", "best"]
    assert of["best"] == json.loads(
        run("table", CPU, *COMMITTED, "--rule", "best", "--format", "json")
    )
    rows = csv.DictReader(
        io.StringIO(run("table", CPU, *COMMITTED, "--rule", "both", "--format", "csv"))
    )
    epochs = [row.pop("epoch") for row in rows]
    assert epochs == sorted(epochs, reverse=True) and set(epochs) == {"last", "best"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["compare", CPU, "--baseline", "cdr"],
            "--baseline 'cdr' is not in the suite; did you mean",
        ),
        (["compare", CPU, "--baseline", "wcord"], "is several rows"),
        (["compare", CPU, "--format", "latex"], "--format 'latex' is unknown"),
        (["compare", CPU, "--confidence", "95"], "--confidence 95 is not within 0.5 and 1"),
        (["compare", CPU, "--confidence", "nan"], "--confidence nan is not within 0.5 and 1"),
        (["compare", CPU, "--margin", "-1"], "--margin -1 is not within 0 and 100 points"),
        (["compare", CPU, "--results", "nowhere"], "nowhere does not exist; run the suite first"),
        (["table", CPU, "--baseline", "crd"], "--baseline says what --significance compares with"),
        (["table", CPU, "--rule", "bets"], "--rule 'bets' is unknown; did you mean 'best'?"),
        (["table", CPU, "--rule", "last", "--best-epoch"], "--best-epoch is --rule best, and"),
        (["table", AUC, "--rule", "both"], "only top-1 accuracy is stored for the best epoch"),
        (["table", AUC, "--best-epoch"], "only top-1 accuracy is stored for the best epoch"),
        (["table", CPU, "--best-epoch", "--compare", "published"], "nothing is published of these"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str | Path],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = arguments if "--results" in arguments else [*arguments, *COMMITTED]
    monkeypatch.setattr(sys, "argv", ["wcordbench", *map(str, given)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_comparing_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from wcordbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "compare", CPU, *COMMITTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
