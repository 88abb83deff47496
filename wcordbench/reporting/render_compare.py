"""Comparisons with a baseline and verdicts, as text, Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from wcordbench.reporting.compare import rule
from wcordbench.reporting.escape import markdown, one_line
from wcordbench.reporting.parts import (
    csv_text,
    heading,
    number,
    number_record,
    pair_record,
    signed,
    versus,
)
from wcordbench.reporting.remarks import IN_BRACKETS
from wcordbench.reporting.table import Entry, Table
from wcordbench.results.statistics import Interval

FORMATS = ("text", "markdown", "csv", "json")


def render(
    table: Table, form: str, not_judged: str | None, margin: float, confidence: float
) -> str:
    """A compared and, where it can be, judged table in one of :data:`FORMATS`.

    Args:
        table: see :func:`wcordbench.reporting.compare.against` and ``judged``.
        form: one of :data:`FORMATS`.
        not_judged: why there are no verdicts, None where there are.
        margin, confidence: that it was judged with.
    """
    if form == "csv":
        return csv_text(_records(table))
    remarks = [r for r in table.remarks if r != IN_BRACKETS]
    remarks.append(not_judged or rule(margin, confidence))
    if form == "json":
        value = {
            "title": table.title,
            "metric": table.metric,
            "baseline": table.baseline,
            "confidence": confidence,
            "margin": margin,
            "notes": table.notes,
            "remarks": remarks,
            "comparisons": _records(table),
        }
        return json.dumps(value, indent=1, ensure_ascii=False)
    say, end = (markdown, "  ") if form == "markdown" else (one_line, "")
    title = f"**{say(table.title)}**" if end else say(table.title)
    parts = [f"{title}{end}\n{say(table.metric)}"]
    for column in range(len(table.students)):
        parts += _pair(table, column, confidence, "github" if end else "simple", say)
    below = [*_notes(table, say), *map(say, remarks)]
    return "\n\n".join([*parts, "\n".join(line + end for line in below)])


def _notes(table: Table, say: Callable[[str], str]) -> list[str]:
    """The footnotes; those of the teachers alone, whose row is not here, under their name."""
    marked = {n for name, of in table.rows if name != "Teacher" for e in of for n in e.notes}
    return [
        f"{f'[{i}]' if i in marked else 'Teacher:'} {say(note)}."
        for i, note in enumerate(table.notes, 1)
    ]


def _pair(
    table: Table, column: int, confidence: float, style: str, say: Callable[[str], str]
) -> list[str]:
    """A pair's headings and its tables."""
    parts = []
    for title, header, rows in grids(table, column, confidence):
        said = [[say(row[0]), *row[1:]] for row in rows]
        parts += [say(title), tabulate(said, header, tablefmt=style, disable_numparse=True)]
    pair = say(heading(table, column))
    return parts or [f"{pair}: nothing is done yet."]


def grids(
    table: Table, column: int, confidence: float
) -> list[tuple[str, list[str], list[list[Any]]]]:
    """A pair's comparisons, then its verdicts: each a heading, a header and rows of text.

    Empty where nothing is done.
    """
    pair = heading(table, column)
    within = f"{100 * confidence:g}% interval"
    compared: list[list[Any]] = []
    judged: list[list[Any]] = []
    for name, entries in table.rows:
        entry = entries[column]
        summary = entry.summary
        if name == "Teacher" or summary is None or summary.mean is None:
            continue
        ours = number(summary.mean, summary.std) + _marks(entry)
        if table.baseline is not None and name != table.baseline:
            compared.append([name, ours, *_versus(entry)])
        if entry.verdict is not None and entry.published is not None:
            published = number(entry.published.mean, entry.published.std)
            found = entry.verdict
            delta = [signed(found.difference), _interval(found.interval)]
            judged.append([name, len(summary.values), ours, published, *delta, str(found)])
    parts: list[tuple[str, list[str], list[list[Any]]]] = []
    if table.baseline is not None and (compared or judged):
        entry = dict(table.rows)[table.baseline][column]
        base, shown = entry.summary, "not done yet"
        if base is not None and base.mean is not None:
            shown = number(base.mean, base.std) + _marks(entry)
        header = ["Method", "Mean", "Common seeds", "Difference", within, "p", "p (Holm)", ""]
        parts.append((f"{pair}: methods minus {table.baseline} ({shown})", header, compared))
    if judged:
        header = ["Method", "Seeds", "Ours", "Published", "Difference", within, "Verdict"]
        parts.append((f"{pair}: ours minus published", header, judged))
    return parts


def _marks(entry: Entry) -> str:
    return f" [{', '.join(map(str, entry.notes))}]" if entry.notes else ""


def _versus(entry: Entry) -> list[Any]:
    found = entry.versus
    if found is None:
        return [0, "–", "–", "–", "–", ""]
    ps = ["–" if p is None else _p(p) for p in (found.p, found.adjusted)]
    return [len(found.seeds), signed(found.mean), _interval(found.interval), *ps, found.mark]


def _interval(found: Interval | None) -> str:
    return "–" if found is None else f"{signed(found.low)} to {signed(found.high)}"


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _records(table: Table) -> list[dict[str, Any]]:
    records = []
    for name, entries in table.rows:
        for column, entry in enumerate(entries):
            if name == "Teacher":
                continue
            summary, found = entry.summary, entry.verdict
            within = found.interval if found else None
            records.append(
                {
                    **pair_record(table, column),
                    "row": name,
                    "mean": summary.mean if summary else None,
                    "std": summary.std if summary else None,
                    "seeds": len(summary.values) if summary else 0,
                    **versus(table, entry),
                    **number_record(entry.published),
                    "delta": entry.delta,
                    "delta_low": within.low if within else None,
                    "delta_high": within.high if within else None,
                    "verdict": found.kind if found else None,
                    "seeds_needed": found.needed if found else None,
                    "borrowed_deviation": found.borrowed if found else None,
                    "teacher_delta": found.teacher if found else None,
                }
            )
    return records


__all__ = ["FORMATS", "grids", "render"]
