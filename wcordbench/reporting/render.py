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


def _number(mean: float, std: float | None) -> str:
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
        text = _number(summary.mean, summary.std)
        if entry.best:
            text = bold(text)
        if not summary.complete:
            text += f" (n={len(summary.values)})"
    if entry.note is not None:
        text += f" [{entry.note}]"
    if entry.published is not None:
        text += f" [{_number(entry.published.mean, entry.published.std)}]"
    return text


def _signed(value: float) -> str:
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
            line.append("" if delta is None else _signed(delta))
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


_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "×": r"$\times$", "–": "--", "→": r"$\to$", "λ": r"$\lambda$",
    "Δ": r"$\Delta$", "−": r"$-$",
}  # fmt: skip


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in text)


def _latex(table: Table) -> str:
    def number(value: float, std: float | None) -> str:
        return f"{value:.2f}" + (rf" $\pm$ {std:.2f}" if std is not None else "")

    def cell(entry: Entry) -> str:
        summary = entry.summary
        if summary is not None and summary.undefined is not None:
            text = "N/A"
        elif summary is not None and summary.mean is not None:
            text = number(summary.mean, summary.std)
            if entry.best:
                text = rf"\textbf{{{text}}}"
            if not summary.complete:
                text += rf"\,{{\scriptsize($n$={len(summary.values)})}}"
        else:
            text = "failed" if summary is not None and summary.failures else "--"
        if entry.note is not None:
            text += rf"$^{{{entry.note}}}$"
        if entry.published is not None:
            text += rf" {{\scriptsize[{number(entry.published.mean, entry.published.std)}]}}"
        return text

    def line(cells: list[str]) -> str:
        return "  " + " & ".join(cells) + r" \\"

    compared, ranks = table.compared, table.ranks

    def row(name: str, entries: list[Entry]) -> str:
        deltas = [entries[c].delta for c in compared]
        cells = [_escape(name), *map(cell, entries)]
        cells += ["" if d is None else _escape(_signed(d)) for d in deltas]
        if ranks:
            cells.append(f"{ranks[name]:.1f}" if name in ranks else "")
        return line(cells)

    pairs, groups = len(table.teachers), []
    if compared:
        first = 2 + pairs
        groups = [
            line(
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
    notes = [f"$^{{{i}}}$ {_escape(note)}." for i, note in enumerate(table.notes, 1)]
    caption = " ".join([f"{_escape(table.title)}: {_escape(table.metric)}.", *notes])
    caption += " " + " ".join(map(_escape, _remarks(table)))
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{caption.strip()}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'c' * (len(teachers) + len(rank))}}}",
            r"\toprule",
            *groups,
            line(["Teacher", *(_escape(printed(t)) for t in teachers), *rank]),
            line(["Student", *(_escape(printed(s)) for s in students), *("" for _ in rank)]),
            r"\midrule",
            *(row(name, entries) for name, entries in above),
            r"\midrule",
            *(row(name, entries) for name, entries in methods),
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
                    **_published(p),
                    "delta": entry.delta,
                    "mean_rank": ranks.get(name),
                }
            )
    return records


def _published(number: Number | None) -> dict[str, Any]:
    return {
        "published_mean": number.mean if number else None,
        "published_std": number.std if number else None,
        "published_source": number.source if number else None,
    }


def _csv(table: Table) -> str:
    records = _records(table)
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
    "text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv, "json": _json,
}  # fmt: skip
