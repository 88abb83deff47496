"""Tables as text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from wcordbench.reporting.published import Number
from wcordbench.reporting.table import Entry, Table

FORMATS = ("text", "markdown", "latex", "csv", "json")

#: Names as the paper prints them; an architecture that is not here keeps its own.
_NAMES = {
    "wrn_40_2": "WRN-40-2", "wrn_40_1": "WRN-40-1", "wrn_16_2": "WRN-16-2",
    "wrn_16_1": "WRN-16-1", "mobilenetv2": "MobileNetV2", "shufflenetv1": "ShuffleNetV1",
    "shufflenetv2": "ShuffleNetV2",
}  # fmt: skip


def render(table: Table, form: str) -> str:
    """A table in one of :data:`FORMATS`."""
    return _RENDERERS[form](table)


def number(mean: float, std: float | None) -> str:
    """Mean ± deviation, where there is one."""
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _plain(entry: Entry, bold: Callable[[str], str]) -> str:
    """A cell in words that text and Markdown share."""
    summary = entry.summary
    if summary is None or (summary.mean is None and not summary.undefined and not summary.failures):
        text = "–"
    elif summary.undefined is not None:
        text = "N/A"
    elif summary.mean is None:
        text = "failed"
    else:
        text = number(summary.mean, summary.std)
        if entry.best:
            text = bold(text)
        if not summary.complete:
            text += f" (n={len(summary.values)})"
    if entry.versus is not None and entry.versus.mark:
        text += f" {entry.versus.mark}"
    if entry.note is not None:
        text += f" [{entry.note}]"
    if entry.published is not None:
        text += f" [{number(entry.published.mean, entry.published.std)}]"
    return text


def signed(value: float) -> str:
    """A difference with its sign; a true minus, which no font draws as short as a hyphen."""
    return f"{value:+.2f}".replace("-", "−")


def cell_text(entry: Entry) -> str:
    """A cell in words, without emphasis."""
    return _plain(entry, str)


def _grid(table: Table, bold: Callable[[str], str]) -> list[list[str]]:
    ranks = table.ranks
    grid = []
    for name, entries in table.rows:
        line = [name, *(_plain(e, bold) for e in entries)]
        for column in table.compared:
            delta = entries[column].delta
            line.append("" if delta is None else signed(delta))
        if ranks:
            line.append(f"{ranks[name]:.1f}" if name in ranks else "")
        grid.append(line)
    return grid


def _headers(table: Table) -> tuple[list[str], list[str]]:
    """The teachers' line and the students' line: the pairs, their Δ to the published, the rank."""
    teachers, students = list(map(printed, table.teachers)), list(map(printed, table.students))
    teachers += [f"Δ {teachers[c]}" for c in table.compared]
    students += [f"Δ {students[c]}" for c in table.compared]
    rank = ["Mean rank"] if table.ranks else []
    return [*teachers, *rank], [*students, *("" for _ in rank)]


def _below(table: Table) -> list[str]:
    notes = [f"[{i}] {note}." for i, note in enumerate(table.notes, 1)]
    return [*notes, *_remarks(table)]


def _remarks(table: Table) -> list[str]:
    remarks = list(table.remarks)
    if table.compared:
        remarks.append("Δ: ours minus published, in points.")
    if table.ranks:
        remarks.append(
            "Mean rank: the method's place by mean in a column (1 is best), averaged over the"
            " columns it has a number in."
        )
    return remarks


def _text(table: Table) -> str:
    teachers, students = _headers(table)
    header = [["Teacher network", *teachers], ["Student network", *students]]
    grid = _grid(table, lambda s: f"{s} *")
    body = tabulate([*header, *grid], tablefmt="simple", disable_numparse=True)
    lines = body.splitlines()
    lines.insert(3, lines[0])
    below = [*_below(table), "* best of the column among the students."]
    return "\n".join([table.title, table.metric, "", *lines, "", *below])


def _markdown(table: Table) -> str:
    header = ["Teacher<br>Student"]
    header += [f"{t}<br>{s}" if s else t for t, s in zip(*_headers(table), strict=True)]
    body = tabulate(
        _grid(table, lambda s: f"**{s}**"), header, tablefmt="github", disable_numparse=True
    )
    below = [f"{line}  " for line in _below(table)]
    return "\n".join([f"**{table.title}** · {table.metric}", "", body, "", *below]).rstrip()


_MARKS = {"†": r"\dagger", "‡": r"\ddagger"}
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "×": r"$\times$", "–": "--", "→": r"$\to$", "λ": r"$\lambda$",
    "Δ": r"$\Delta$", "−": r"$-$", "†": r"$\dagger$", "‡": r"$\ddagger$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX."""
    return "".join(_ESCAPES.get(c, c) for c in text)


def _latex_number(mean: float, std: float | None) -> str:
    return escape(number(mean, std))


def latex_cell(entry: Entry) -> str:
    """A cell as LaTeX."""
    summary = entry.summary
    if summary is not None and summary.undefined is not None:
        text = "N/A"
    elif summary is not None and summary.mean is not None:
        text = _latex_number(summary.mean, summary.std)
        if entry.best:
            text = rf"\textbf{{{text}}}"
        if not summary.complete:
            text += rf"\,{{\scriptsize($n$={len(summary.values)})}}"
    else:
        text = "failed" if summary is not None and summary.failures else "--"
    if entry.versus is not None and entry.versus.mark:
        text += rf"$^{{{_MARKS[entry.versus.mark]}}}$"
    if entry.note is not None:
        text += rf"$^{{{entry.note}}}$"
    if entry.published is not None:
        text += rf" {{\scriptsize[{_latex_number(entry.published.mean, entry.published.std)}]}}"
    return text


def _latex(table: Table) -> str:
    compared, ranks = table.compared, table.ranks

    def row(name: str, entries: list[Entry]) -> str:
        deltas = [entries[c].delta for c in compared]
        cells = [escape(name), *map(latex_cell, entries)]
        cells += ["" if d is None else escape(signed(d)) for d in deltas]
        if ranks:
            cells.append(f"{ranks[name]:.1f}" if name in ranks else "")
        return latex_line(cells)

    pairs, groups = len(table.teachers), []
    if compared:
        first = 2 + pairs
        groups = [
            latex_line(
                ["", rf"\multicolumn{{{pairs}}}{{c}}{{Ours [published]}}",
                 rf"\multicolumn{{{len(compared)}}}{{c}}{{$\Delta$ to published}}",
                 *([""] if ranks else [])]
            ),
            rf"  \cmidrule(lr){{2-{1 + pairs}}}"
            rf" \cmidrule(lr){{{first}-{first + len(compared) - 1}}}",
        ]  # fmt: skip
    teachers = [*table.teachers, *(table.teachers[c] for c in compared)]
    students = [*table.students, *(table.students[c] for c in compared)]
    rank = ["Mean rank"] if ranks else []
    above = [row for row in table.rows if row[0] in ("Teacher", "Student")]
    methods = [row for row in table.rows if row not in above]
    notes = [f"$^{{{i}}}$ {escape(note)}." for i, note in enumerate(table.notes, 1)]
    caption = " ".join([f"{escape(table.title)}: {escape(table.metric)}.", *notes])
    caption += " " + " ".join(map(escape, _remarks(table)))
    body = [
        *groups,
        latex_line(["Teacher", *(escape(printed(t)) for t in teachers), *rank]),
        latex_line(["Student", *(escape(printed(s)) for s in students), *("" for _ in rank)]),
        r"\midrule",
        *(row(name, entries) for name, entries in above),
        r"\midrule",
        *(row(name, entries) for name, entries in methods),
    ]
    return latex_table(caption.strip(), f"l{'c' * (len(teachers) + len(rank))}", body)


def latex_line(cells: list[str]) -> str:
    """A row of a LaTeX table."""
    return "  " + " & ".join(cells) + r" \\"


def latex_table(caption: str, columns: str, body: list[str]) -> str:
    """A floating table that is never wider than the page.

    Args:
        caption: LaTeX.
        columns: of the tabular.
        body: its lines, between the outer rules.
    """
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _records(table: Table) -> list[dict[str, Any]]:
    records = []
    ranks = table.ranks
    for name, entries in table.rows:
        for teacher, student, entry in zip(table.teachers, table.students, entries, strict=True):
            s, p = entry.summary, entry.published
            records.append(
                {
                    "teacher": teacher,
                    "student": student,
                    "row": name,
                    "mean": s.mean if s else None,
                    "std": s.std if s else None,
                    "seeds": len(s.values) if s else 0,
                    "wanted": s.wanted if s else 0,
                    "undefined": s.undefined if s else None,
                    "failed": len(s.failures) if s else 0,
                    "best": entry.best,
                    **number_record(p),
                    "delta": entry.delta,
                    "mean_rank": ranks.get(name),
                    **(versus(table, entry) if table.baseline is not None else {}),
                }
            )
    return records


def versus(table: Table, entry: Entry) -> dict[str, Any]:
    """The comparison of a cell with its table's baseline, as CSV and JSON name it."""
    found = entry.versus
    within = found.interval if found else None
    return {
        "baseline": table.baseline,
        "common_seeds": len(found.seeds) if found else 0,
        "difference": found.mean if found else None,
        "difference_low": within.low if within else None,
        "difference_high": within.high if within else None,
        "p": found.p if found else None,
        "p_holm": found.adjusted if found else None,
        "mark": found.mark if found else "",
    }


def number_record(number: Number | None) -> dict[str, Any]:
    """A published number, as CSV and JSON name its parts."""
    return {
        "published_mean": number.mean if number else None,
        "published_std": number.std if number else None,
        "published_source": number.source if number else None,
    }


def csv_text(records: list[dict[str, Any]]) -> str:
    """Records of the same keys as CSV with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip("\n")


def _json(table: Table) -> str:
    value = {
        "title": table.title,
        "metric": table.metric,
        "remarks": _remarks(table),
        "cells": _records(table),
    }
    return json.dumps(value, indent=1, ensure_ascii=False)


def printed(model: str) -> str:
    """An architecture's name as the papers print it."""
    return _NAMES.get(model, model)


_RENDERERS: dict[str, Callable[[Table], str]] = {
    "text": _text, "markdown": _markdown, "latex": _latex, "json": _json,
    "csv": lambda table: csv_text(_records(table)),
}  # fmt: skip
