"""A table's rows against a baseline, and against the published numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wcordbench.errors import UserError
from wcordbench.registry import nearest
from wcordbench.reporting import published
from wcordbench.reporting.table import Entry, Table
from wcordbench.results.statistics import CONFIDENCE, MARGIN, Verdict, holm, paired, verdict
from wcordbench.suite.runs import expand
from wcordbench.suite.schema import Suite


def baseline_of(suite: Suite, name: str | None = None) -> str:
    """The title of the row to compare with.

    Args:
        suite: the suite.
        name: a method's key or label; None for CRD, or else the plain student.

    Raises:
        UserError: the suite has no such method, or several of that key.
    """
    if name is None:
        keys = {m.name: m.title for m in reversed(suite.methods)}
        name = keys.get("crd") or keys.get("student")
        if name is None:
            raise UserError(
                f"suite {suite.name!r} has neither crd nor student; name one of its methods with"
                " --baseline"
            )
    titles = [m.title for m in suite.methods]
    if name in titles:
        return name
    found = [m.title for m in suite.methods if m.name == name]
    if len(found) > 1:
        shown = ", ".join(map(repr, found))
        raise UserError(f"--baseline {name!r} is several rows; name one by its label: {shown}")
    if not found:
        known = dict.fromkeys(n for m in suite.methods for n in (m.name, m.title))
        raise UserError(f"--baseline {name!r} is not in the suite{nearest(name, known)}")
    return found[0]


def against(table: Table, baseline: str, confidence: float = CONFIDENCE) -> Table:
    """The table with every student's cell compared with the baseline's of its column.

    Args:
        table: from :func:`wcordbench.reporting.table.build`.
        baseline: a row of it, see :func:`baseline_of`.
        confidence: of the intervals; 1 minus it is the level of the marks.

    Returns:
        The same table whose entries have ``versus``; p-values are corrected for the number of
        comparisons in their column, and a remark says what the marks mean.
    """
    base = dict(table.rows)[baseline]

    def compared(name: str, column: int, entry: Entry) -> Entry:
        ours, theirs = entry.summary, base[column].summary
        if name in ("Teacher", baseline) or ours is None or theirs is None:
            return entry
        return replace(entry, versus=paired(ours.by_seed, theirs.by_seed, confidence))

    rows = [
        (name, [compared(name, column, entry) for column, entry in enumerate(entries)])
        for name, entries in table.rows
    ]
    families = [_correct([entries for _, entries in rows], c) for c in range(len(base))]
    have = [
        entry
        for name, entries in rows
        if name not in ("Teacher", baseline)
        for entry in entries
        if entry.summary is not None and entry.summary.values
    ]
    legend = _legend(baseline, families, len(have) - sum(families), confidence)
    return replace(table, rows=rows, baseline=baseline, remarks=[*table.remarks, legend])


def _correct(rows: list[list[Entry]], column: int) -> int:
    """Correct a column's p-values in place, and count them."""
    cells = [
        (entries, versus, versus.p)
        for entries in rows
        if (versus := entries[column].versus) is not None and versus.p is not None
    ]
    adjusted = holm([p for *_, p in cells])
    for (entries, versus, _), corrected in zip(cells, adjusted, strict=True):
        entries[column] = replace(entries[column], versus=replace(versus, adjusted=corrected))
    return len(cells)


def _legend(baseline: str, families: list[int], untested: int, confidence: float) -> str:
    """What the marks mean, and how many cells could not have one."""
    parts = []
    sizes = sorted({size for size in families if size})
    if sizes:
        most = _counted(sizes[-1], "comparison")
        counted = most if len(sizes) == 1 else f"{sizes[0]} to {most}"
        where = " of each pair" * (len(families) > 1)
        parts.append(
            f"† above, ‡ below {baseline} at the {100 * (1 - confidence):g}% level: paired t tests"
            f" over common seeds, corrected for the {counted}{where} (Holm)."
        )
    if untested:
        parts.append(
            f"{_counted(untested, 'cell')} not tested against {baseline}: fewer than two seeds in"
            " common, or the same difference in each."
        )
    return " ".join(parts) or f"Nothing is there to compare with {baseline}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def judged(table: Table, margin: float = MARGIN, confidence: float = CONFIDENCE) -> Table:
    """The table with a verdict in every student's cell that stands beside a published number.

    Args:
        table: see :func:`wcordbench.reporting.table.build`. Only numbers of a cell's very
            configuration, and of images that are public, judge it.
        margin, confidence: see :func:`wcordbench.results.statistics.verdict`.
    """
    teachers = dict(table.rows)["Teacher"]

    def of(column: int, entry: Entry) -> Verdict | None:
        number, summary = entry.published, entry.summary
        if number is None or summary is None or not summary.values:
            return None
        if not entry.alike or number.protocol in published.NOT_PUBLIC:
            return None
        return verdict(
            summary.values,
            number.mean,
            number.std,
            published.SEEDS,
            margin=margin,
            confidence=confidence,
            teacher=teachers[column].delta,
        )

    rows = [
        (
            name,
            [
                entry if name == "Teacher" else replace(entry, verdict=of(column, entry))
                for column, entry in enumerate(entries)
            ],
        )
        for name, entries in table.rows
    ]
    return replace(table, rows=rows)


def verdicts(table: Table) -> Iterator[tuple[str, int, Verdict]]:
    """Row, column and verdict of every judged cell."""
    for name, entries in table.rows:
        for column, entry in enumerate(entries):
            if entry.verdict is not None:
                yield name, column, entry.verdict


def not_judged(suite: Suite) -> str | None:
    """Why a suite's results are not judged by the published numbers, as a sentence.

    None where some are: their whole configuration is the published one but for the seeds.
    """
    cells = expand(suite.model_copy(update={"seeds": suite.seeds[:1]}))
    found = [b for cell in cells if (b := published.beside(cell, suite.metric)) is not None]
    found = [b for b in found if b.differences is not None]
    if any(b.alike and b.number.protocol not in published.NOT_PUBLIC for b in found):
        return None
    if any(b.number.protocol in published.NOT_PUBLIC for b in found):
        return f"No verdicts on the published numbers. {published.PRIVILEGED_REMARK}"
    if found:
        return "No verdicts on the published numbers: the protocol is not the published one."
    return "No verdicts on published numbers: none are of this dataset, task and metric."


def rule(margin: float = MARGIN, confidence: float = CONFIDENCE) -> str:
    """What verdicts mean, as a sentence."""
    percent = f"{100 * confidence:g}%"
    return (
        f"Verdicts: reproduced where the {percent} interval of ours minus published lies within"
        f" ±{margin:g} points; else above or below where it excludes 0; else undecided. Each alone"
        f" is right in about {percent} of cases, given both teachers. A deviation that is not"
        " known, of a single seed or not printed, is taken to be the other side's, and more are"
        " wrong where it is larger."
    )


__all__ = ["against", "baseline_of", "judged", "not_judged", "rule", "verdicts"]
