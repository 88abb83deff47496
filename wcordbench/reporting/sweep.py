"""A sweep's table, laid out as the paper's second: one column a value of the parameter."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from tabulate import tabulate

from wcordbench.reporting.escape import latex as escape
from wcordbench.reporting.escape import markdown, one_line
from wcordbench.reporting.latex import latex_cell, latex_line, latex_table
from wcordbench.reporting.parts import cell_text, csv_text, versus
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
                "mean": e.summary.mean if e.summary else None,
                "std": e.summary.std if e.summary else None,
                "seeds": len(e.summary.values) if e.summary else 0,
                "published_mean": p.mean if p else None,
                **(versus(table, e) if table.baseline is not None else {}),
            }
            for s in found
            for value, e, p in zip(s.values, s.entries, s.published, strict=True)
        ]  # fmt: skip
        if form == "json":
            return json.dumps(
                {"title": table.title, "metric": table.metric, "sweep": records},
                indent=1, ensure_ascii=False,
            )  # fmt: skip
        return csv_text(records)
    if form == "latex":
        return "\n\n".join(_latex(table, sweep) for sweep in found)
    style = {"text": "simple", "markdown": "github"}[form]
    say = markdown if form == "markdown" else one_line
    parts = []
    for sweep in found:
        grid = [["ours", *(cell_text(_alone(e)) for e in sweep.entries)], *_published(sweep)]
        header = [say(sweep.symbol), *(f"{v:g}" for v in sweep.values)]
        body = tabulate(grid, header, tablefmt=style, disable_numparse=True)
        parts.append(say(f"{sweep.pair.shown}, {sweep.method}") + f"\n\n{body}")
    end = "  " if form == "markdown" else ""
    lines = [say(table.title), say(table.metric), "", "\n\n".join(parts), ""]
    return "\n".join([*lines, *(say(line) + end for line in _remarks(table))])


def _remarks(table: Table) -> list[str]:
    """The table's, but for how published numbers are shown: here they have a row."""
    remarks = [remark.removeprefix(IN_BRACKETS).strip() for remark in table.remarks]
    return [remark for remark in remarks if remark]


def _alone(entry: Entry) -> Entry:
    """Without what the layout has other places for, or none."""
    return replace(entry, published=None, notes=(), best=False)


def _published(sweep: Sweep) -> list[list[str]]:
    """The row of published numbers, where the table sets any beside ours."""
    if not any(e.published for e in sweep.entries):
        return []
    return [["published", *(f"{p.mean:.2f}" if p else "–" for p in sweep.published)]]


def _latex(table: Table, sweep: Sweep) -> str:
    symbol = _LATEX_SYMBOLS.get(sweep.parameter, escape(sweep.parameter))
    of = f"{sweep.pair.shown}, {sweep.method}"
    caption = [f"{table.title}, {of}: {table.metric}.", *_remarks(table)]
    body = [
        latex_line([symbol, *(f"{v:g}" for v in sweep.values)]),
        r"\midrule",
        latex_line(["ours", *(latex_cell(_alone(e)) for e in sweep.entries)]),
        *(latex_line(list(map(escape, row))) for row in _published(sweep)),
    ]
    return latex_table(escape(" ".join(caption)), len(sweep.values), body)


def only_swept(suite: Suite) -> bool:
    """Whether a suite is a sweep of one parameter and nothing else, as the paper's Table 2."""
    swept = suite.swept
    return bool(swept) and all(
        m.title in swept and len(swept[m.title].values) == 1 for m in suite.methods
    )


__all__ = ["Sweep", "only_swept", "render_sweeps", "sweeps"]
