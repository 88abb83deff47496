"""Tables as text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from tabulate import tabulate

from wcordbench.reporting.escape import markdown, one_line
from wcordbench.reporting.latex import latex
from wcordbench.reporting.parts import (
    cell_text,
    csv_text,
    notes_of,
    number_record,
    pair_record,
    printed,
    remarks_of,
    signed,
    summary_record,
    versus,
)
from wcordbench.reporting.table import Table
from wcordbench.results.size import Size

FORMATS = ("text", "markdown", "latex", "csv", "json")


def render(table: Table, form: str) -> str:
    """A table in one of :data:`FORMATS`."""
    return _RENDERERS[form](table)


def one_text(texts: Mapping[str, str], form: str) -> str:
    """The texts of a table's rules as one in the same format.

    In CSV a first column says the rule; in JSON each table is under its rule's name.

    Args:
        texts: by rule; of a single one, its text as it is.
        form: one of :data:`FORMATS`.
    """
    if len(texts) == 1:
        return next(iter(texts.values()))
    if form == "json":
        tables = {rule: json.loads(text) for rule, text in texts.items()}
        return json.dumps(tables, indent=1, ensure_ascii=False)
    if form != "csv":
        return "\n\n".join(texts.values())
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    for number, (rule, text) in enumerate(texts.items()):
        header, *rows = csv.reader(io.StringIO(text))  # escaped already
        lines.writerows([["epoch", *header]] * (number == 0))
        lines.writerows([rule, *row] for row in rows)
    return out.getvalue().rstrip("\n")


def _grid(table: Table, bold: Callable[[str], str], say: Callable[[str], str]) -> list[list[str]]:
    ranks = table.ranks
    grid = []
    for name, entries in table.rows:
        line = [say(name), *(cell_text(e, bold) for e in entries)]
        for column in table.compared:
            delta = entries[column].delta
            line.append("" if delta is None else signed(delta))
        line += [str(entries[column].size or "") for column in table.sized]
        if ranks:
            line.append(str(ranks[name]) if name in ranks else "")
        grid.append(line)
    return grid


def _headers(table: Table) -> tuple[list[str], list[str]]:
    """The teachers' line and the students' line: the pairs, their Δ to the published, the rank."""
    teachers, students = list(map(printed, table.teachers)), list(map(printed, table.students))
    teachers += [f"Δ {teachers[c]}" for c in table.compared]
    students += [f"Δ {students[c]}" for c in table.compared]
    teachers += [f"Size {teachers[c]}" for c in table.sized]
    students += [f"Size {students[c]}" for c in table.sized]
    rank = ["Mean rank"] if table.ranks else []
    return [*teachers, *rank], [*students, *("" for _ in rank)]


def _labels(table: Table) -> list[str]:
    """The pairs' labels, in the line below the students'."""
    labels = [*table.labels, *(table.labels[c] for c in (*table.compared, *table.sized))]
    return labels + [""] * bool(table.ranks)


def _below(table: Table, say: Callable[[str], str]) -> list[str]:
    notes = [f"[{i}] {say(note)}." for i, note in enumerate(table.notes, 1)]
    return [*notes, *map(say, remarks_of(table))]


def _text(table: Table) -> str:
    teachers, students = _headers(table)
    header = [["Teacher network", *teachers], ["Student network", *students]]
    if table.labels:
        header.append(["Pair", *_labels(table)])
    grid = _grid(table, lambda s: f"{s} *", one_line)
    body = tabulate([*header, *grid], tablefmt="simple", disable_numparse=True)
    lines = body.splitlines()
    lines.insert(1 + len(header), lines[0])
    below = [*_below(table, one_line), "* best of the column among the students."]
    return "\n".join([table.title, table.metric, "", *lines, "", *below])


def _markdown(table: Table) -> str:
    header = ["Teacher<br>Student"]
    labels = _labels(table) if table.labels else itertools.repeat("")
    columns = zip(*_headers(table), labels, strict=False)
    header += ["<br>".join(map(markdown, filter(None, column))) for column in columns]
    body = tabulate(
        _grid(table, lambda s: f"**{s}**", markdown),
        header,
        tablefmt="github",
        disable_numparse=True,
    )
    below = [f"{line}  " for line in _below(table, markdown)]
    title, metric = markdown(table.title), markdown(table.metric)
    return "\n".join([f"**{title}** · {metric}", "", body, "", *below]).rstrip()


def _records(table: Table) -> list[dict[str, Any]]:
    records = []
    ranks = table.ranks
    for name, entries in table.rows:
        for column, entry in enumerate(entries):
            records.append(
                {
                    **pair_record(table, column),
                    "row": name,
                    **summary_record(entry),
                    "best": entry.best,
                    **number_record(entry.published),
                    "delta": entry.delta,
                    "mean_rank": ranks[name].mean if name in ranks else None,
                    "rank_columns": ranks[name].columns if name in ranks else None,
                    "notes": notes_of(table, entry),
                    **(versus(table, entry) if table.baseline is not None else {}),
                    **(
                        entry.size._asdict()
                        if entry.size is not None
                        else dict.fromkeys(Size._fields)
                        if table.sized
                        else {}
                    ),
                }
            )
    return records


def _json(table: Table) -> str:
    value = {
        "title": table.title,
        "metric": table.metric,
        "remarks": remarks_of(table),
        "cells": _records(table),
    }
    return json.dumps(value, indent=1, ensure_ascii=False)


_RENDERERS: dict[str, Callable[[Table], str]] = {
    "text": _text, "markdown": _markdown, "latex": latex, "json": _json,
    "csv": lambda table: csv_text(_records(table)),
}  # fmt: skip

__all__ = ["FORMATS", "cell_text", "one_text", "printed", "render"]
