"""Tables as LaTeX: booktabs, and never wider than the page."""

from __future__ import annotations

from dataclasses import replace

from wcordbench.reporting.escape import latex as escape
from wcordbench.reporting.escape import latex_first
from wcordbench.reporting.parts import number, printed, remarks_of, signed
from wcordbench.reporting.remarks import IN_BRACKETS, NOT_COMPARABLE
from wcordbench.reporting.table import Entry, Table

#: more columns than these span both columns of a two-column page
_NARROW = 3
_MARKS = {"†": r"\dagger", "‡": r"\ddagger"}


def _number(mean: float, std: float | None) -> str:
    return escape(number(mean, std))


def latex_cell(entry: Entry) -> str:
    """A cell as LaTeX."""
    summary = entry.summary
    if summary is not None and summary.undefined is not None:
        text = "N/A"
    elif summary is not None and summary.mean is not None:
        text = _number(summary.mean, summary.std)
        if entry.best:
            text = rf"\textbf{{{text}}}"
        if not summary.complete:
            text += rf"\,{{\scriptsize($n$={len(summary.values)})}}"
    else:
        text = "failed" if summary is not None and summary.failures else "--"
    if entry.versus is not None and entry.versus.mark:
        text += rf"$^{{{_MARKS[entry.versus.mark]}}}$"
    if entry.notes:
        text += rf"$^{{{','.join(map(str, entry.notes))}}}$"
    if entry.published is not None:
        text += rf" {{\scriptsize[{_number(entry.published.mean, entry.published.std)}]}}"
    return text


def latex(table: Table) -> str:
    """A table as LaTeX.

    Of a wide one the published numbers go to a second table: beside ours nobody could read them.
    """
    published = any(e.published for _, entries in table.rows for e in entries)
    if len(table.students) <= _NARROW or not published:
        return _one(table)
    ours = [(name, [replace(e, published=None) for e in entries]) for name, entries in table.rows]
    remarks = [remark for remark in table.remarks if remark != IN_BRACKETS]
    return "\n\n".join([_one(replace(table, rows=ours, remarks=remarks)), _published(table)])


def _published(table: Table) -> str:
    """The published numbers of a table, each with what ours differs from it."""

    def cell(entry: Entry) -> str:
        if entry.published is None:
            return "--"
        text = _number(entry.published.mean, entry.published.std)
        return text if entry.delta is None else f"{text} ({escape(signed(entry.delta))})"

    title = f"{table.title}: published numbers, and in parentheses ours minus published, in points."
    caption = " ".join([title, *(r for r in table.remarks if NOT_COMPARABLE in r)])
    rows = [row for row in table.rows if any(e.published for e in row[1])]
    body = [
        *_head(table.teachers, table.students, table.labels),
        *(latex_line([escape(name), *map(cell, entries)]) for name, entries in rows),
    ]
    return latex_table(escape(caption), len(table.students), body)


def _head(
    teachers: list[str], students: list[str], labels: list[str], rank: bool = False
) -> list[str]:
    """The lines of networks and, where pairs have any, of labels, and the rule below them."""
    named = [latex_line(["Pair", *map(escape, labels), *[""] * rank])] if labels else []
    return [
        latex_line(["Teacher", *(escape(printed(t)) for t in teachers), *["Mean rank"] * rank]),
        latex_line(["Student", *(escape(printed(s)) for s in students), *[""] * rank]),
        *named,
        r"\midrule",
    ]


def _one(table: Table) -> str:
    compared, ranks = table.compared, table.ranks

    def row(name: str, entries: list[Entry]) -> str:
        deltas = [entries[c].delta for c in compared]
        cells = [escape(name), *map(latex_cell, entries)]
        cells += ["" if d is None else escape(signed(d)) for d in deltas]
        if ranks:
            cells.append(escape(str(ranks[name])) if name in ranks else "")
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
    labels = table.labels and [*table.labels, *(table.labels[c] for c in compared)]
    above = [row for row in table.rows if row[0] in ("Teacher", "Student")]
    methods = [row for row in table.rows if row not in above]
    notes = [f"$^{{{i}}}$ {escape(note)}." for i, note in enumerate(table.notes, 1)]
    caption = " ".join([f"{escape(table.title)}: {escape(table.metric)}.", *notes])
    caption += " " + " ".join(map(escape, remarks_of(table)))
    body = [
        *groups,
        *_head(teachers, students, labels, bool(ranks)),
        *(row(name, entries) for name, entries in above),
        r"\midrule",
        *(row(name, entries) for name, entries in methods),
    ]
    return latex_table(caption.strip(), len(teachers) + bool(ranks), body)


def latex_line(cells: list[str]) -> str:
    """A row of a LaTeX table."""
    return "  " + latex_first(" & ".join(cells)) + r" \\"


def latex_table(caption: str, columns: int, body: list[str]) -> str:
    """A floating table that is never wider than the page; a wide one spans two columns.

    Args:
        caption: LaTeX.
        columns: how many there are beside the rows' names.
        body: its lines, between the outer rules.
    """
    environment = "table" if columns <= _NARROW else "table*"
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            rf"\begin{{{environment}}}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\medskip",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'c' * columns}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\end{{{environment}}}",
        ]
    )
