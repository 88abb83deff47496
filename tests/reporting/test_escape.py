"""Labels come out as they are, wherever they are printed."""

from __future__ import annotations

import csv
import io
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from wcordbench.errors import UserError
from wcordbench.reporting.compare import against
from wcordbench.reporting.escape import csv_cell, from_csv, latex
from wcordbench.reporting.plot_curves import curves
from wcordbench.reporting.render import render
from wcordbench.reporting.render_compare import render as render_compared
from wcordbench.reporting.report import _embedded
from wcordbench.reporting.table import Entry, Table
from wcordbench.results.store import Store
from wcordbench.results.summary import Summary
from wcordbench.suite import Suite, expand, load_suite
from wcordbench.suite.base import plain

SUITE = """
name: labels
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 2, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}, {teacher: resnet20, student: resnet8}]
methods: [student, kd]
"""
printable = st.text(min_size=1, max_size=30).map(plain).filter(lambda t: t and t.isprintable())
ODD = ["[1] a", "*b*", "a | b", "_x_", "<b>&amp;</b>", "$x$", "`c`", "\\", "\\|", "=1+1", "-2",
       "+3", "@x", "'=1", "''", "--x", "~~y~~", "a_b", "#1", "1. z", "![i](u)", ":tada:", "τ ≥ 0.5",
       "中文", "é ñ ř", "100%", "{}", "^", '"', "Ｗ", "ﬁ", "🎉", "http://a_b_.c"]  # fmt: skip


def table(labels: list[str]) -> Table:
    rows = [(label, [Entry(Summary((1.0,), 1, seeds=(0,)))]) for label in labels]
    entries = [Entry(Summary((2.0,), 1, seeds=(0,)), notes=(1,))]
    text = Table(labels[0], "m", ["t"], ["s"], [("Teacher", entries), *rows], [labels[0]])
    return replace(text, labels=[labels[-1]], remarks=[labels[0]])


def cells(text: str) -> list[list[str]]:
    """A Markdown document's tables, as a reader sees them."""
    rows: list[list[str]] = []
    inside = False
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "tr_open":
            rows.append([])
        inside = token.type != "table_close" and (inside or token.type == "table_open")
        if token.type == "inline" and inside:
            inner = token.children or []
            plain = ("text", "text_special", "html_inline", "strong_open", "strong_close")
            assert {t.type for t in inner} <= set(plain)
            rows[-1].append("".join(t.content for t in inner))
    return rows


@settings(max_examples=200, deadline=None)
@given(printable)
@pytest.mark.parametrize("_", [0])
def test_any_label_survives_markdown(_: int, label: str) -> None:
    _in_markdown(label)


@pytest.mark.parametrize("label", ODD)
def test_odd_labels_survive_markdown(label: str) -> None:
    _in_markdown(label)


def _in_markdown(label: str) -> None:
    rows = cells(render(table([label, "KD"]), "markdown"))
    assert [row[0] for row in rows[1:4]] == ["Teacher", label, "KD"]
    assert all(len(row) == 2 for row in rows[:4])
    compared = against(table([label, "KD"]), "KD")
    rows = cells(render_compared(compared, "markdown", "not judged", 0.5, 0.95))
    assert label in [row[0] for row in rows]


@settings(max_examples=200, deadline=None)
@given(printable)
@example("'=1")
@example("-1")
def test_any_label_survives_csv_and_is_no_formula(label: str) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table([label, "KD"]), "csv"))))
    assert from_csv(rows[1]["row"]) == label
    assert rows[1]["row"][0] not in "=+-@\t\r"
    assert rows[1]["mean"] == "1.0"


def test_numbers_of_a_csv_stay_numbers() -> None:
    assert [csv_cell(v) for v in (-0.5, 3, None, True)] == [-0.5, 3, None, True]
    assert csv_cell("=1+1") == "'=1+1"


@given(printable)
def test_latex_is_ascii_and_balanced(label: str) -> None:
    text = latex(label)
    assert text.isascii() and "\n" not in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert re.sub(r"\\[$]", "", text).count("$") % 2 == 0


def test_latex_rows_begin_with_no_option_and_captions_have_no_paragraph() -> None:
    text = render(table(["[1] x", "*y"]), "latex")
    assert "{}[1] x &" in text and "{}*y &" in text
    broken = replace(table(["a", "b"]), title="Two\n\nparagraphs")
    assert "Two paragraphs" in render(broken, "latex")
    assert latex("--x <a|b>") == r"-{}-x \textless{}a\textbar{}b\textgreater{}"
    assert latex("τ é 中") == r"$\tau$ \'{e} \texttt{U+4E2D}"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a TeX")
def test_latex_of_two_hundred_random_labels_compiles(tmp_path: Path) -> None:
    draw = random.Random(0)
    pools = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x400), (0x2000, 0x2300), (0x20, 0x30000)]
    labels = list(ODD)
    while len(labels) < 200:
        low, high = draw.choice(pools)
        text = plain("".join(chr(draw.randrange(low, high)) for _ in range(draw.randint(1, 12))))
        if text and text.isprintable():
            labels.append(text)
    tables = [render(table(labels[i : i + 25]), "latex") for i in range(0, 200, 25)]
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "doc.tex").write_text("\n\n".join([head, *tables, r"\end{document}"]), "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:].decode("latin-1")


def read(tmp_path: Path, *overrides: str) -> Suite:
    (tmp_path / "s.yaml").write_text(SUITE, encoding="utf-8")
    return load_suite(tmp_path / "s.yaml", overrides)


def test_a_label_that_begins_with_an_underscore_is_in_the_legend(tmp_path: Path) -> None:
    suite, store = read(tmp_path, "methods.1={name: kd, label: _hidden $x$}"), Store(tmp_path)
    for cell in expand(suite):
        folder = store.folder(cell.run)
        folder.begin(cell.run)
        folder.write_metrics([{"epoch": e, "test_top1": 10.0 + e} for e in range(2)])
    out = io.BytesIO()
    curves(suite, expand(suite), store, out)
    assert "_hidden $x$" in out.getvalue().decode()


def test_a_label_that_looks_like_a_name_in_a_picture_is_left_alone() -> None:
    svg = '<svg><g id="a"><text>id="b" url(#c)</text></g><use href="#a"/></svg>'
    page = str(_embedded(svg, 3))
    assert 'id="p3-a"' in page and '"#p3-a"' in page and '>id="b" url(#c)<' in page


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("Student", "is 'Student', the name of the method 'student'"),
        ("  student ", "is 'student', the name of the method 'student'"),
        ("CRD + KD", r"is 'CRD \+ KD', the name of the method 'crd\+kd'"),
        ("Teacher", "is 'Teacher', the row of the teachers"),
        ("ｔｅａｃｈｅｒ", "is 'Teacher', the row of the teachers"),
        ("   ", "is blank"),
        ("", "is blank"),
    ],
)
def test_no_label_takes_the_name_of_another_row(tmp_path: Path, label: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, f"methods.1={{name: kd, label: {label!r}}}")


def test_labels_are_stripped_and_told_apart_after_that(tmp_path: Path) -> None:
    suite = read(tmp_path, "methods.1={name: kd, label: '  KD\n at  8 '}")
    assert suite.methods[1].title == "KD at 8"
    with pytest.raises(UserError, match=r"'KD' is methods\.1's row already"):
        read(tmp_path, "methods=[student, kd, {name: kd, temperature: 8, label: 'KD '}]")
    assert read(tmp_path, "methods.1={name: kd, label: kd}").methods[1].title == "kd"


def test_a_plugin_does_not_take_the_name_of_another_method(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from wcordbench.methods.base import Method\n"
        "from wcordbench.registry import register_method\n\n\n"
        '@register_method("mine", title="Student")\n'
        'class Mine(Method):\n    """Another."""\n'
    )
    with pytest.raises(UserError, match="'Student' is another method's title too; give the row"):
        read(tmp_path, "plugins=[mine.py]", "methods=[kd, mine]")
    read(tmp_path, "plugins=[mine.py]", "methods=[kd, {name: mine, label: Mine}]")
