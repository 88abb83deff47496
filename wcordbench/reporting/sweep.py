"""A sweep's table, laid out as the paper's second: one column a value of the parameter."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from tabulate import tabulate

from wcordbench.reporting.escape import latex as escape
from wcordbench.reporting.escape import markdown, one_line
from wcordbench.reporting.latex import latex_cell, latex_line, latex_table
from wcordbench.reporting.parts import cell_text, csv_text, notes_of, summary_record, versus
from wcordbench.reporting.published import Number
from wcordbench.reporting.remarks import IN_BRACKETS
from wcordbench.reporting.table import Entry, Table
from wcordbench.suite.schema import Pair, Suite

#: How the papers write an option.
SYMBOLS = {"lambda1": "λ1", "lambda2": "λ2"}
_LATEX_SYMBOLS = {"lambda1": r"$\lambda_1$", "lambda2": r"$\lambda_2$"}


@dataclass(frozen=True)
class Sweep:
    """One method of one pair at every value of one parameter.

    Attributes:
        pair: of the suite.
        method: its title.
        parameter: as the suite names it.
        values: as the suite lists them.
        entries: one a value.
        column: of the table, from 0.
    """

    pair: Pair
    method: str
    parameter: str
    values: tuple[float, ...]
    entries: tuple[Entry, ...]
    column: int

    @property
    def published(self) -> tuple[Number | None, ...]:
        """The published numbers that the table shows, one a value."""
        return tuple(entry.published for entry in self.entries)

    @property
    def symbol(self) -> str:
        """The parameter as the papers write it."""
        return SYMBOLS.get(self.parameter, self.parameter)


def sweeps(suite: Suite, table: Table) -> list[Sweep]:
    """The sweeps of one parameter over numbers that a suite's table holds."""
    rows = dict(table.rows)
    groups: dict[tuple[int, str], list[tuple[float, str]]] = {}
    for title, swept in suite.swept.items():
        if len(swept.values) == 1 and title in rows:
            name, value = swept.values[0]
            if isinstance(value, int | float) and not isinstance(value, bool):
                groups.setdefault((swept.number, name), []).append((value, title))
    specs = {m.title: m for m in suite.methods}
    found = []
    for (_, parameter), points in groups.items():
        first = specs[points[0][1]]
        label = "+".join(e.meta.get("title", e.name) for e in first.entries())
        if first.label is not None:
            label = first.label.rpartition(" (")[0]
        for pair in suite.pairs:
            if pair.name not in table.names:
                continue
            at = table.names.index(pair.name)
            found.append(
                Sweep(
                    pair,
                    label,
                    parameter,
                    tuple(value for value, _ in points),
                    tuple(rows[title][at] for _, title in points),
                    at,
                )
            )
    return found


def render_sweeps(suite: Suite, table: Table, form: str) -> str | None:
    """The sweeps of a suite in one of the formats; None where it has none.

    Rows are ours and, where the table sets them beside, the published; the methods that are
    not swept are left to the other layout.
    """
    found = sweeps(suite, table)
    if not found:
        return None
    if form in ("csv", "json"):
        records = [
            {
                "teacher": s.pair.teacher.model, "student": s.pair.student,
                **({"pair": s.pair.name} if table.labels else {}), "method": s.method,
                "parameter": s.parameter, "value": value,
                **summary_record(e),
                "published_mean": p.mean if p else None,
                "notes": notes_of(table, e),
                **(versus(table, e) if table.baseline is not None else {}),
            }
            for s in found
            for value, e, p in zip(s.values, s.entries, s.published, strict=True)
        ]  # fmt: skip
        if form == "json":
            return json.dumps(
                {
                    "title": table.title, "metric": table.metric,
                    "remarks": [*filter(None, table.remarks), *_elsewhere(table, found)],
                    "sweep": records,
                },
                indent=1, ensure_ascii=False,
            )  # fmt: skip
        return csv_text(records)
    if form == "latex":
        return "\n\n".join(_latex(table, sweep) for sweep in found)
    style = {"text": "simple", "markdown": "github"}[form]
    say = markdown if form == "markdown" else one_line
    parts = []
    for sweep in found:
        grid = [["ours", *(cell_text(_alone(e, found)) for e in sweep.entries)], *_published(sweep)]
        header = [say(sweep.symbol), *(f"{v:g}" for v in sweep.values)]
        body = tabulate(grid, header, tablefmt=style, disable_numparse=True)
        parts.append(say(f"{sweep.pair.shown}, {sweep.method}") + f"\n\n{body}")
    end = "  " if form == "markdown" else ""
    lines = [say(table.title), say(table.metric), "", "\n\n".join(parts), ""]
    below = [*_remarks(table, found), *_elsewhere(table, found)]
    return "\n".join([*lines, *(say(line) + end for line in below)])


def _remarks(table: Table, found: list[Sweep]) -> list[str]:
    """The table's, but for how published numbers are shown: here they have a row."""
    remarks = [remark.removeprefix(IN_BRACKETS).strip() for remark in table.remarks]
    notes = [f"[{i}] {table.notes[n - 1]}." for n, i in _notes(found).items()]
    return [*notes, *filter(None, remarks)]


def _notes(found: list[Sweep]) -> dict[int, int]:
    """The table's footnotes that are needed, and their numbers in this layout."""
    used = sorted({n for sweep in found for e in sweep.entries for n in e.notes})
    return {n: i for i, n in enumerate(used, 1)}


def _elsewhere(table: Table, found: list[Sweep]) -> list[str]:
    """Which methods with a number have no place in this layout."""
    shown = {id(e) for sweep in found for e in sweep.entries}
    left = [
        name
        for name, entries in table.rows
        if name != "Teacher"
        and any(e.summary is not None and e.summary.values and id(e) not in shown for e in entries)
    ]
    return [f"Not in this layout: {', '.join(left)}; --layout rows shows them."] if left else []


def _alone(entry: Entry, found: list[Sweep]) -> Entry:
    """Without what the layout has other places for."""
    notes = tuple(_notes(found)[n] for n in entry.notes)
    return replace(entry, published=None, best=False, notes=notes)


def _published(sweep: Sweep) -> list[list[str]]:
    """The row of published numbers, where the table sets any beside ours."""
    if not any(e.published for e in sweep.entries):
        return []
    return [["published", *(f"{p.mean:.2f}" if p else "–" for p in sweep.published)]]


def _latex(table: Table, sweep: Sweep) -> str:
    symbol = _LATEX_SYMBOLS.get(sweep.parameter, escape(sweep.parameter))
    of = f"{sweep.pair.shown}, {sweep.method}"
    caption = [f"{table.title}, {of}: {table.metric}.", *_remarks(table, [sweep])]
    body = [
        latex_line([symbol, *(f"{v:g}" for v in sweep.values)]),
        r"\midrule",
        latex_line(["ours", *(latex_cell(_alone(e, [sweep])) for e in sweep.entries)]),
        *(latex_line(list(map(escape, row))) for row in _published(sweep)),
    ]
    return latex_table(escape(" ".join(caption)), len(sweep.values), body)


def only_swept(suite: Suite, table: Table) -> bool:
    """Whether every method of a table is in one of its sweeps, as in the paper's Table 2."""
    shown = [id(e) for sweep in sweeps(suite, table) for e in sweep.entries]
    rows = [entries for name, entries in table.rows if name != "Teacher"]
    return bool(shown) and all(id(e) in shown for entries in rows for e in entries)


__all__ = ["Sweep", "only_swept", "render_sweeps", "sweeps"]
